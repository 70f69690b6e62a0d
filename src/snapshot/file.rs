//! The items of a cache in a file, from one process to the next (`-e`).
//!
//! | bytes | what |
//! |---|---|
//! | 16 | `leasehold items4` |
//! | 8 | when it was written, in seconds since 1970 |
//! | 8 | the last point of the void clock |
//! | 8 | when a delayed flush is due, in seconds since 1970; 0 for none |
//! | 8 | what keys were hashed with |
//! | guards | 1, hash (8), end (8) of a hold-off; 2, end (8) of a hold-off of all; 3, length of a key (1), key, version (8), end (8) of a version's memory |
//! | 1 | 0, where a guard would begin |
//! | items | length of the key (1), flags (4), exptime (8), `as_of` (8), unique (8), length of the value (4), key, tags (each behind its length), 0, value |
//! | 1 | 0, where a key's length would be |
//! | 8 | check sum of all that, by SipHash |
//!
//! All numbers are little-endian, all times those of the wall clock. A file is good for one start: whoever loads it
//! removes it, so that what was loaded once and then deleted does not come back after a crash.
//!
//! Deliberately absent: a file that is written while the cache is in use.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::hash::Hasher;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use siphasher::sip::SipHasher13;

use super::progress::{Late, Step};
use crate::cache::{Cache, Config, Draft, Entry, Former, Guard, KEY_BYTES_MAX, Seq, TagList};
use crate::clock::Now;

/// What was in a file.
#[derive(Debug)]
pub struct Kept {
    /// Seconds since it was written; `None` if the wall clock stood later then than now.
    pub gap: Option<Duration>,
    /// Items loaded. Those whose time has passed, or that found no room, are not among them.
    pub items: u64,
}

/// Why a file was not loaded.
#[derive(Debug)]
pub enum Unfit {
    /// Bytes of it are missing or wrong.
    Damaged,
    /// It was not written by a server like this one.
    Foreign,
    /// More time passed since it was written than was allowed, or nobody knows how much.
    Late(Option<Duration>),
    /// There is none.
    Missing,
    /// To load it takes longer than was allowed.
    Slow,
    /// The system does not give it out.
    Unreadable(io::Error),
}

/// Why no file was written.
#[derive(Debug)]
pub enum Unsaved {
    /// The system does not take it.
    Failed(io::Error),
    /// It takes longer than was allowed.
    Slow,
}

impl From<Late> for Unfit {
    fn from(Late: Late) -> Self {
        Unfit::Slow
    }
}

impl From<io::Error> for Unsaved {
    fn from(error: io::Error) -> Self {
        Unsaved::Failed(error)
    }
}

impl From<Late> for Unsaved {
    fn from(Late: Late) -> Self {
        Unsaved::Slow
    }
}

impl From<Unsaved> for io::Error {
    fn from(unsaved: Unsaved) -> Self {
        match unsaved {
            Unsaved::Failed(error) => error,
            Unsaved::Slow => io::Error::other("to write the items takes too long"),
        }
    }
}

impl From<io::Error> for Unfit {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Unfit::Missing,
            io::ErrorKind::UnexpectedEof => Unfit::Damaged,
            _ => Unfit::Unreadable(error),
        }
    }
}

/// Writes all live items to a file, which is there at once and whole; returns how many. `watch` may end it.
///
/// # Errors
/// If it cannot be written, or not in time; then there is none.
pub fn save(
    cache: &Cache,
    path: &Path,
    now: Now,
    watch: impl FnMut(Step) -> Result<(), Late>,
) -> Result<u64, Unsaved> {
    let (file, unfinished) = create(path, UNFINISHED)?;
    let written = write(cache, file, now, watch);
    let saved = written.and_then(|items| Ok(fs::rename(&unfinished, path).map(|()| items)?));
    saved.map_err(|unsaved| {
        let _ = fs::remove_file(&unfinished);
        match unsaved {
            Unsaved::Failed(error) => Unsaved::Failed(named(&error, path)),
            Unsaved::Slow => Unsaved::Slow,
        }
    })
}

fn write(
    cache: &Cache,
    file: File,
    now: Now,
    mut watch: impl FnMut(Step) -> Result<(), Late>,
) -> Result<u64, Unsaved> {
    let mut file = Summed::new(BufWriter::new(file));
    let flush_unix =
        cache.flush_due().map_or(0, |due| now.unix + due.saturating_sub(now.millis).div_ceil(1000));
    file.write_all(MAGIC)?;
    let Former { hash_seed, last } = cache.former();
    for number in [now.unix, last.number(), flush_unix, hash_seed] {
        file.write_all(&number.to_le_bytes())?;
    }
    let mut piece = Vec::new();
    cache.guards(now, |guard| write_guard(&mut piece, &guard, now));
    piece.push(0);
    let total = cache.counts().items;
    let (mut items, mut next) = (0, Some(0));
    while let Some(from) = next {
        next = cache.list(from, now, |entry| {
            write_item(&mut piece, &entry, now);
            items += 1;
        });
        file.write_all(&piece)?;
        piece.clear();
        watch(Step { doing: "writing items", done: items, total, unit: "items" })?;
    }
    file.write_all(&[0])?;
    let sum = file.sum.finish();
    file.inner.write_all(&sum.to_le_bytes())?;
    file.inner.flush()?;
    Ok(items)
}

/// Makes sure that a file can be written there: better to know it at the start than at the end. Another process may
/// write the file meanwhile.
///
/// # Errors
/// If it cannot.
pub fn probe(path: &Path) -> io::Result<()> {
    let (_, probed) = create(path, PROBED)?;
    fs::remove_file(probed)
}

/// As [`probe`], and whether so many bytes find room there.
///
/// # Errors
/// If they do not.
pub fn has_room(path: &Path, bytes: u64) -> io::Result<()> {
    let (file, probed) = create(path, PROBED)?;
    fs::remove_file(probed)?;
    let folder = rustix::fs::fstatvfs(file)?;
    let free = folder.f_bavail.saturating_mul(folder.f_frsize);
    if bytes <= free {
        return Ok(());
    }
    let why = format!("the items take {bytes} bytes, and {free} are free");
    Err(named(&io::Error::new(io::ErrorKind::StorageFull, why), path))
}

/// A file beside that one, for its owner's eyes only, and its name.
fn create(path: &Path, end: &str) -> io::Result<(File, PathBuf)> {
    let name = beside(path, end);
    // What a process that was killed has left, or a link that somebody laid there: never what it leads to.
    let _ = fs::remove_file(&name);
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&name);
    Ok((file.map_err(|error| named(&error, path))?, name))
}

fn named(error: &io::Error, path: &Path) -> io::Error {
    io::Error::new(error.kind(), format!("cannot write {}: {error}", path.display()))
}

/// Waits until no other process holds the file, and holds it until this one ends: else one that is still writing would
/// bring back what was deleted since. What one that was killed has written is thrown away.
///
/// # Errors
/// If the other one does not end, or there can be no lock.
#[expect(clippy::disallowed_methods, reason = "another process is waited for, before anybody is served")]
pub fn hold(path: &Path) -> io::Result<File> {
    let name = beside(path, LOCK);
    let named =
        |error: io::Error| io::Error::new(error.kind(), format!("cannot lock {}: {error}", name.display()));
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&name);
    let file = file.map_err(named)?;
    for round in 0..HOLD_ROUNDS {
        match file.try_lock() {
            Ok(()) => {
                let _ = fs::remove_file(beside(path, UNFINISHED));
                return Ok(file);
            }
            Err(TryLockError::Error(error)) => return Err(named(error)),
            Err(TryLockError::WouldBlock) if round == 0 => {
                tracing::info!("waiting for the process that uses {}", path.display());
            }
            Err(TryLockError::WouldBlock) => {}
        }
        std::thread::sleep(HOLD_ROUND);
    }
    Err(named(io::Error::other("another process uses it")))
}

fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

/// Ends are rounded up: nobody's stale value comes in for a part of a second.
fn write_guard(piece: &mut Vec<u8>, guard: &Guard, now: Now) {
    let end = |seconds: u64| (now.unix + seconds + 1).to_le_bytes();
    let end_ms = |until: u64| end(until.saturating_sub(now.millis).div_ceil(1000));
    match guard {
        Guard::AllHeldOff { until } => {
            piece.push(ALL_HELD_OFF);
            piece.extend(end_ms(*until));
        }
        Guard::HeldOff { hash, until } => {
            piece.push(HELD_OFF);
            piece.extend(hash.to_le_bytes());
            piece.extend(end_ms(*until));
        }
        Guard::Version { key, until, version } => {
            piece.push(VERSION);
            piece.push(u8::try_from(key.bytes.len()).expect("a key has at most 250 bytes"));
            piece.extend(key.bytes);
            piece.extend(version.to_le_bytes());
            piece.extend(end(until.saturating_sub(now.seconds()).into()));
        }
    }
}

fn write_item(piece: &mut Vec<u8>, entry: &Entry, now: Now) {
    let value = entry.value;
    piece.push(u8::try_from(entry.key.len()).expect("a key has at most 250 bytes"));
    piece.extend(value.flags.to_le_bytes());
    piece.extend(value.expiry.to_unix(now).to_le_bytes());
    piece.extend(entry.as_of.number().to_le_bytes());
    piece.extend(value.unique.to_le_bytes());
    piece.extend(u32::try_from(value.bytes.len()).expect("a value has at most 1 GiB").to_le_bytes());
    piece.extend(entry.key);
    for tag in value.tags {
        piece.push(u8::try_from(tag.len()).expect("a tag has at most 250 bytes"));
        piece.extend(tag);
    }
    piece.push(0);
    piece.extend(value.bytes);
}

/// A file of ours that was found.
pub struct Found {
    bytes: u64,
    file: BufReader<File>,
    path: PathBuf,
}

impl Found {
    /// # Errors
    /// If there is none, or it is foreign or cannot be opened.
    pub fn open(path: &Path) -> Result<Found, Unfit> {
        // Nor does a pipe or a device hold items; to open one might never end.
        let bytes = match fs::metadata(path)? {
            found if !found.is_file() => return Err(Unfit::Foreign),
            found if found.len() == 0 => return Err(Unfit::Missing),
            found => found.len(),
        };
        let mut file = BufReader::new(File::open(path)?);
        let mut magic = [0; MAGIC.len()];
        if file.read_exact(&mut magic).is_err() || magic != *MAGIC {
            return Err(Unfit::Foreign);
        }
        Ok(Found { bytes, file, path: path.to_owned() })
    }

    /// A cache with its items. `watch` may end it.
    ///
    /// # Errors
    /// If the file is not fit to be loaded; nothing of it is.
    pub fn load(
        &mut self,
        config: Config,
        max_gap: Option<Duration>,
        now: Now,
        watch: impl FnMut(Step) -> Result<(), Late>,
    ) -> Result<(Cache, Kept), Unfit> {
        read(&mut self.file, self.bytes, config, max_gap, now, watch)
    }

    /// Removes it, fit or not, before anything of it can be deleted: it is good for one start. Until somebody is served it
    /// is there for whoever is next.
    pub fn spend(self) -> io::Result<()> {
        fs::remove_file(self.path)
    }
}

/// A cache with the items of a file of so many bytes.
fn read(
    file: &mut (impl Read + Seek),
    bytes: u64,
    config: Config,
    max_gap: Option<Duration>,
    now: Now,
    mut watch: impl FnMut(Step) -> Result<(), Late>,
) -> Result<(Cache, Kept), Unfit> {
    verify(file, bytes, &mut watch)?;
    file.seek(SeekFrom::Start(MAGIC.len() as u64))?;
    let [saved_unix, last, flush_unix, hash_seed] =
        [number(file)?, number(file)?, number(file)?, number(file)?];
    let gap = now.unix.checked_sub(saved_unix).map(Duration::from_secs);
    if max_gap.is_some_and(|max| gap.is_none_or(|gap| gap > max)) {
        return Err(Unfit::Late(gap));
    }
    let cache = Cache::after(config, Former { hash_seed, last: Seq::new(last).ok_or(Unfit::Damaged)? });
    while read_guard(file, &cache, now)? {}
    let (mut items, mut done) = (0, 0);
    while let Some(read) = read_item(file, &cache, now, &mut items)? {
        done += read;
        if done % WATCH_EVERY < read {
            watch(megabytes("loading items", done, bytes))?;
        }
    }
    watch(megabytes("loading items", bytes, bytes))?;
    if flush_unix > 0 {
        let due = now.after(Duration::from_secs(flush_unix.saturating_sub(now.unix)));
        cache.flush_all(Some(due), &mut cache.peer(), now);
    }
    Ok((cache, Kept { gap, items }))
}

/// Reads the whole file once, and believes its check sum alone.
fn verify(
    file: &mut (impl Read + Seek),
    bytes: u64,
    watch: &mut impl FnMut(Step) -> Result<(), Late>,
) -> Result<(), Unfit> {
    file.seek(SeekFrom::Start(0))?;
    let summed = bytes.saturating_sub(SUM_BYTES);
    let (mut sum, mut done) = (Summed::new(io::sink()), 0);
    while done < summed {
        let piece = WATCH_EVERY.min(summed - done);
        done += io::copy(&mut file.by_ref().take(piece), &mut sum)?;
        watch(megabytes("checking items", done, bytes))?;
    }
    let is_right = number(file)? == sum.sum.finish();
    is_right.then_some(()).ok_or(Unfit::Damaged)
}

fn megabytes(doing: &'static str, done: u64, total: u64) -> Step {
    Step { doing, done: done >> 20, total: total >> 20, unit: "MiB" }
}

/// Brings one guard back; `false` behind the last one.
fn read_guard(file: &mut impl Read, cache: &Cache, now: Now) -> Result<bool, Unfit> {
    let [kind] = array(file)?;
    let left = |end: u64| Duration::from_secs(end.saturating_sub(now.unix));
    let mut bytes = [0; KEY_BYTES_MAX];
    let guard = match kind {
        0 => return Ok(false),
        ALL_HELD_OFF => Guard::AllHeldOff { until: now.after(left(number(file)?)) },
        HELD_OFF => Guard::HeldOff { hash: number(file)?, until: now.after(left(number(file)?)) },
        VERSION => {
            let key = cache.key(read_key(file, &mut bytes)?).ok_or(Unfit::Damaged)?;
            let (version, left) = (number(file)?, left(number(file)?).as_secs());
            let until = u64::from(now.seconds()) + left;
            Guard::Version { key, until: u32::try_from(until).unwrap_or(u32::MAX), version }
        }
        _ => return Err(Unfit::Damaged),
    };
    cache.guard(guard, now);
    Ok(true)
}

/// A key behind its length.
fn read_key<'k>(file: &mut impl Read, bytes: &'k mut [u8; KEY_BYTES_MAX]) -> Result<&'k [u8], Unfit> {
    let [length] = array(file)?;
    let key = bytes.get_mut(..length.into()).ok_or(Unfit::Damaged)?;
    file.read_exact(key)?;
    Ok(key)
}

/// Brings one item back, and tells how many bytes it took (but for its tags); `None` behind the last one.
fn read_item(file: &mut impl Read, cache: &Cache, now: Now, items: &mut u64) -> Result<Option<u64>, Unfit> {
    let [key_bytes] = array(file)?;
    if key_bytes == 0 {
        return Ok(None);
    }
    let flags = u32::from_le_bytes(array(file)?);
    let [exptime, as_of, unique] = [number(file)?, number(file)?, number(file)?];
    let value_bytes = u32::from_le_bytes(array(file)?) as usize;
    let mut key = [0; KEY_BYTES_MAX];
    let key = key.get_mut(..key_bytes.into()).ok_or(Unfit::Damaged)?;
    file.read_exact(key)?;
    let tags = read_tags(file)?;
    let mut value = vec![0; value_bytes];
    file.read_exact(&mut value)?;
    let as_of = Seq::new(as_of).filter(|as_of| *as_of <= cache.last_seq());
    let (key, as_of) = cache.key(key).zip(as_of).ok_or(Unfit::Damaged)?;
    let chosen = Some(unique).filter(|unique| *unique != as_of.number());
    let draft = Draft::until(value.into(), flags, exptime, now).map(|draft| Draft {
        tags: tags.tags(),
        unique: chosen,
        ..draft
    });
    *items += u64::from(draft.is_some_and(|draft| cache.restore(&key, draft, as_of, now)));
    Ok(Some(ITEM_BYTES + u64::from(key_bytes) + value_bytes as u64))
}

/// Tags, each behind its length, up to a length of 0.
fn read_tags(file: &mut impl Read) -> Result<TagList, Unfit> {
    let mut tags = Vec::new();
    while let [bytes @ 1..=u8::MAX] = array(file)? {
        let mut tag = vec![0; bytes.into()];
        file.read_exact(&mut tag)?;
        tags.push(tag);
    }
    TagList::new(tags.iter().map(Vec::as_slice)).ok_or(Unfit::Damaged)
}

fn number(file: &mut impl Read) -> io::Result<u64> {
    array(file).map(u64::from_le_bytes)
}

fn array<const N: usize>(file: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// A writer, and the check sum of what was written.
struct Summed<W> {
    inner: W,
    sum: SipHasher13,
}

impl<W> Summed<W> {
    fn new(inner: W) -> Self {
        Summed { inner, sum: SipHasher13::new() }
    }
}

impl<W: Write> Write for Summed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.sum.write(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

const MAGIC: &[u8; 16] = b"leasehold items4";
/// What guards begin with.
const HELD_OFF: u8 = 1;
const ALL_HELD_OFF: u8 = 2;
const VERSION: u8 = 3;
const SUM_BYTES: u64 = 8;
/// What an item takes beside its key, tags and value.
const ITEM_BYTES: u64 = 34;
/// Bytes between two looks at how long it takes.
const WATCH_EVERY: u64 = 1 << 20;
/// Behind the file's name: while it is written, and what is locked.
const UNFINISHED: &str = ".leasehold-new";
const LOCK: &str = ".leasehold-lock";
/// And while it is tried whether it could be.
const PROBED: &str = ".leasehold-probe";
/// For how long another process may take to write it.
const HOLD_ROUNDS: u32 = 1_200;
const HOLD_ROUND: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::{Expiry, HOLDOFFS_MAX, Leased, Mode, Store};
    use crate::clock::Clock;

    fn scratch(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("leasehold-{name}-{}", std::process::id()))
    }

    fn set(cache: &Cache, key: &[u8], draft: Draft, now: Now) {
        cache.store(&cache.key(key).unwrap(), Mode::Set, draft, &mut cache.peer(), now);
    }

    fn at_leisure(_: Step) -> Result<(), Late> {
        Ok(())
    }

    /// As a server that begins.
    fn load(
        path: &Path,
        config: Config,
        max_gap: Option<Duration>,
        now: Now,
        watch: impl FnMut(Step) -> Result<(), Late>,
    ) -> Result<(Cache, Kept), Unfit> {
        let mut found = Found::open(path)?;
        let loaded = found.load(config, max_gap, now, watch);
        found.spend()?;
        loaded
    }

    /// A delete that held its key off until the replicas had followed, and the versions of rows, were forgotten: for that time
    /// stale values came in.
    #[test]
    fn what_kept_stale_values_out_still_does() {
        let (old, clock, path) = kept("guards");
        let (now, mut peer) = (clock.now(), old.peer());
        let held = |cache: &Cache, key: &[u8], now| {
            let key = cache.key(key).unwrap();
            cache.lease(&key, &mut cache.peer(), now, |leased| matches!(leased, Leased::Busy { .. }))
        };
        let newer = |cache: &Cache, version, now| {
            let draft = Draft { version: Some(version), ..Draft::new("row") };
            let key = cache.key(b"row").unwrap();
            cache.store(&key, Mode::Set, draft, &mut cache.peer(), now)
        };
        old.delete(&old.key(b"gone").unwrap(), Some(now.after(Duration::from_secs(60))), &mut peer, now);
        assert!(matches!(newer(&old, 5, now), Store::Stored { .. }));
        assert_eq!(newer(&old, 4, now), Store::Outdated);
        save(&old, &path, now, at_leisure).unwrap();

        let next = Now { millis: 0, unix: now.unix + 10 };
        let (cache, _) = load(&path, Config::default(), None, next, at_leisure).unwrap();
        assert!(held(&cache, b"gone", next) && !held(&cache, b"other", next));
        let (last, over) = (next.after(Duration::from_millis(49_999)), next.after(Duration::from_secs(52)));
        let at = |millis| Now { millis, unix: next.unix + millis / 1000 };
        assert!(held(&cache, b"gone", at(last)) && !held(&cache, b"gone", at(over)));
        assert_eq!(newer(&cache, 4, next), Store::Outdated);
        assert!(matches!(newer(&cache, 5, next), Store::Stored { .. }));
    }

    #[test]
    fn a_whole_part_that_is_held_off_holds_all_off() {
        let (old, clock, path) = kept("all-guards");
        let now = clock.now();
        for n in 0..HOLDOFFS_MAX as u64 * 256 {
            let key = n.to_le_bytes();
            old.delete(&old.key(&key).unwrap(), Some(now.millis + 5_000), &mut old.peer(), now);
        }
        save(&old, &path, now, at_leisure).unwrap();
        let (cache, _) = load(&path, Config::default(), None, now, at_leisure).unwrap();
        let key = cache.key(b"any").unwrap();
        assert!(cache.lease(&key, &mut cache.peer(), now, |leased| matches!(leased, Leased::Busy { .. })));
    }

    /// Value, flags, unique and end of a key.
    fn found(cache: &Cache, key: &[u8], now: Now) -> Option<(Vec<u8>, u32, u64, u64)> {
        cache.peek(&cache.key(key).unwrap(), now, |value| {
            (value.bytes.to_vec(), value.flags, value.unique, value.expiry.to_unix(now))
        })
    }

    /// A cache as old as its clock, with a few items, and the file that it leaves.
    fn kept(name: &str) -> (Cache, Clock, PathBuf) {
        let (clock, cache) = (Clock::manual(), Cache::with_seed(Config::default(), [7; 32]));
        clock.advance(Duration::from_secs(1_000));
        let now = clock.now();
        set(&cache, b"first", Draft { flags: 7, ..Draft::new("1") }, now);
        set(&cache, b"any \0\xff", Draft { unique: Some(5), ..Draft::new(&[9; 300_000]) }, now);
        let soon = Expiry::after(Duration::from_secs(60), now);
        set(&cache, b"soon", Draft { expiry: soon, ..Draft::new("") }, now);
        set(&cache, b"first", Draft { flags: 8, ..Draft::new("2") }, now);
        set(&cache, b"gone", Draft::new("3"), now);
        cache.delete(&cache.key(b"gone").unwrap(), None, &mut cache.peer(), now);
        let path = scratch(name);
        assert_eq!(save(&cache, &path, now, at_leisure).unwrap(), 3);
        (cache, clock, path)
    }

    #[test]
    fn items_come_back_as_they_were_and_end_when_they_would_have() {
        let (old, clock, path) = kept("back");
        // The next process's own time begins anew, thirty seconds later on the wall.
        let now = Now { millis: 5, unix: clock.now().unix + 30 };
        let (cache, kept) =
            load(&path, Config::default(), Some(Duration::from_secs(30)), now, at_leisure).unwrap();
        assert_eq!((kept.items, kept.gap), (3, Some(Duration::from_secs(30))));
        for key in [&b"first"[..], b"any \0\xff", b"gone"] {
            assert_eq!(found(&cache, key, now), found(&old, key, clock.now()));
        }
        let at = |seconds: u64| Now { millis: seconds * 1000, unix: now.unix + seconds };
        assert!(found(&cache, b"soon", at(29)).is_some() && found(&cache, b"soon", at(32)).is_none());
        assert!(cache.last_seq() == old.last_seq(), "what comes is newer than all that was");
        let unique = found(&cache, b"first", now).unwrap().2;
        let done = cache.store(
            &cache.key(b"first").unwrap(),
            Mode::Cas(unique),
            Draft::new("3"),
            &mut cache.peer(),
            now,
        );
        assert!(
            matches!(done, crate::cache::Store::Stored { .. }),
            "a unique that was read before the restart"
        );
        assert!(!path.exists(), "it is good for one start");
    }

    #[test]
    fn what_ends_in_the_gap_or_is_flushed_after_it_does_not_come_back() {
        let (old, clock, path) = kept("gap");
        old.flush_all(Some(clock.now().after(Duration::from_secs(100))), &mut old.peer(), clock.now());
        save(&old, &path, clock.now(), at_leisure).unwrap();
        let now = Now { millis: 0, unix: clock.now().unix + 61 };
        let (cache, kept) = load(&path, Config::default(), None, now, at_leisure).unwrap();
        assert_eq!((kept.items, found(&cache, b"soon", now)), (2, None));
        assert!(found(&cache, b"first", now).is_some());
        assert!(found(&cache, b"first", Now { millis: 39_000, unix: now.unix + 39 }).is_none());
    }

    #[test]
    fn a_gap_that_is_too_long_or_unknown_is_refused_where_it_is_bounded() {
        let minute = Duration::from_secs(60);
        for (later, max, is_fit) in
            [(60, Some(minute), true), (61, Some(minute), false), (9_999_999, None, true)]
        {
            let (_, clock, path) = kept("late");
            let now = Now { millis: 0, unix: clock.now().unix + later };
            assert_eq!(load(&path, Config::default(), max, now, at_leisure).is_ok(), is_fit, "{later} s");
            assert!(!path.exists());
        }
        let (_, clock, path) = kept("early");
        let before = Now { millis: 0, unix: clock.now().unix - 1 };
        assert!(matches!(
            load(&path, Config::default(), Some(minute), before, at_leisure),
            Err(Unfit::Late(None))
        ));
    }

    #[test]
    fn what_takes_too_long_leaves_nothing() {
        let (cache, clock, path) = kept("slow");
        let until =
            |doing: &'static str| move |step: Step| if step.doing == doing { Err(Late) } else { Ok(()) };
        for doing in ["checking items", "loading items"] {
            save(&cache, &path, clock.now(), at_leisure).unwrap();
            let loaded = load(&path, Config::default(), None, clock.now(), until(doing));
            assert!(matches!(loaded, Err(Unfit::Slow)) && !path.exists(), "{doing}");
        }
        assert!(matches!(save(&cache, &path, clock.now(), until("writing items")), Err(Unsaved::Slow)));
        assert!(!path.exists() && !beside(&path, UNFINISHED).exists());
    }

    /// A daemon that was started while its forerunner still wrote removed what that one had written: all items were lost.
    #[test]
    fn what_another_process_writes_stays_until_that_one_is_gone() {
        let path = scratch("written");
        let (_, unfinished) = create(&path, UNFINISHED).unwrap();
        probe(&path).unwrap();
        assert!(unfinished.exists());
        hold(&path).unwrap();
        assert!(!unfinished.exists(), "whoever wrote it would still hold the lock");
        fs::remove_file(beside(&path, LOCK)).unwrap();
    }

    /// A process that was killed while it loaded had removed the file first: all items were lost.
    #[test]
    fn whoever_is_killed_while_it_loads_leaves_all_to_the_next() {
        let (_, clock, path) = kept("killed");
        let watch = |_| {
            assert!(path.exists());
            Ok(())
        };
        load(&path, Config::default(), None, clock.now(), watch).unwrap();
        assert!(!path.exists(), "before anything of it can be deleted");
    }

    #[test]
    fn it_is_told_how_far_it_has_come() {
        let (cache, clock, path) = kept("told");
        let mut told = Vec::new();
        let mut watch = |step: Step| {
            told.push(step);
            Ok(())
        };
        save(&cache, &path, clock.now(), &mut watch).unwrap();
        load(&path, Config::default(), None, clock.now(), &mut watch).unwrap();
        told.reverse();
        told.dedup_by_key(|step| step.doing);
        let ends: Vec<_> = told.iter().map(|step| (step.doing, step.done, step.total)).collect();
        assert_eq!(ends, [("loading items", 0, 0), ("checking items", 0, 0), ("writing items", 3, 3)]);
    }

    #[test]
    fn a_damaged_file_is_refused_wherever_the_damage_is() {
        let (clock, cache, path) = (Clock::manual(), Cache::new(Config::default()), scratch("damaged"));
        set(&cache, b"key", Draft::new("value"), clock.now());
        save(&cache, &path, clock.now(), at_leisure).unwrap();
        let whole = fs::read(&path).unwrap();
        let check = |bytes: &[u8], what: &str| {
            fs::write(&path, bytes).unwrap();
            let unfit = load(&path, Config::default(), None, clock.now(), at_leisure)
                .map(|(_, kept)| kept)
                .expect_err(what);
            let is_foreign = bytes.get(..MAGIC.len()) != Some(MAGIC);
            assert_eq!(matches!(unfit, Unfit::Foreign), is_foreign, "{what}: {unfit:?}");
            assert_eq!(path.exists(), is_foreign, "{what}: what is foreign stays");
        };
        for at in 1..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            check(&bytes, &format!("byte {at}"));
            check(&whole[..at], &format!("the first {at}"));
        }
        fs::write(&path, b"").unwrap();
        let empty = load(&path, Config::default(), None, clock.now(), at_leisure).map(|(_, kept)| kept);
        assert!(matches!(empty, Err(Unfit::Missing)), "nobody's file");
        check(b"#!/bin/sh\necho this is somebody else's\n", "a script");
        fs::remove_file(&path).unwrap();
        assert!(matches!(load(&path, Config::default(), None, clock.now(), at_leisure), Err(Unfit::Missing)));
    }
}
