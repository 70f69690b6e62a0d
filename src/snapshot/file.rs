//! The file of a snapshot (`-e`): locked by one process, written under a temporary name and renamed, loaded
//! once.
//!
//! A file serves for one start: it is removed when it is loaded, so that items that are deleted afterwards
//! do not come back after a crash.
//!
//! The file is never written while the cache is in use.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufReader, BufWriter, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::{LoadError, SaveError};
use super::format::{self, Loaded, MAGIC};
use super::progress::{DeadlinePassed, Step};
use crate::cache::{Cache, Config};
use crate::clock::Now;

/// Writes all live items to a file atomically; returns how many. `watch` may abort it.
///
/// # Errors
/// If it cannot be written, or not in time; then there is no file.
pub fn save(
    cache: &Cache,
    path: &Path,
    now: Now,
    watch: impl FnMut(Step) -> Result<(), DeadlinePassed>,
) -> Result<u64, SaveError> {
    let (file, unfinished) = create(path, UNFINISHED)?;
    let written = format::write(cache, BufWriter::new(file), now, watch);
    let saved = written.and_then(|items| Ok(fs::rename(&unfinished, path).map(|()| items)?));
    saved.map_err(|error| {
        let _ = fs::remove_file(&unfinished);
        match error {
            SaveError::Io(error) => SaveError::Io(named(&error, path)),
            SaveError::TimedOut => SaveError::TimedOut,
        }
    })
}

/// Checks that a file can be written there, at the start rather than at the end. Another process may write
/// the file at the same time.
///
/// # Errors
/// If it cannot be written.
pub fn probe(path: &Path) -> io::Result<()> {
    let (_, probed) = create(path, PROBE)?;
    fs::remove_file(probed)
}

/// As [`probe`]; also checks that this many bytes fit.
///
/// # Errors
/// If they do not fit.
pub fn has_room(path: &Path, bytes: u64) -> io::Result<()> {
    let (file, probed) = create(path, PROBE)?;
    fs::remove_file(probed)?;
    let folder = rustix::fs::fstatvfs(file)?;
    let free = folder.f_bavail.saturating_mul(folder.f_frsize);
    if bytes <= free {
        return Ok(());
    }
    let why = format!("the items take {bytes} bytes, but only {free} are free");
    Err(named(&io::Error::new(io::ErrorKind::StorageFull, why), path))
}

/// Creates a temporary file next to that one, readable by its owner only; also returns its name.
fn create(path: &Path, end: &str) -> io::Result<(File, PathBuf)> {
    let name = beside(path, end);
    // It may be the leftover of a killed process, or a foreign link, whose target must not be written.
    let _ = fs::remove_file(&name);
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&name);
    Ok((file.map_err(|error| named(&error, path))?, name))
}

fn named(error: &io::Error, path: &Path) -> io::Error {
    io::Error::new(error.kind(), format!("cannot write {}: {error}", path.display()))
}

/// Waits until no other process has the lock, and holds it until this process ends: otherwise a process
/// that is still writing would bring deleted items back. Removes the unfinished file of a killed process.
///
/// # Errors
/// If the other process does not end, or the file cannot be locked.
#[expect(clippy::disallowed_methods, reason = "waits for another process before serving")]
pub fn lock(path: &Path) -> io::Result<File> {
    let name = beside(path, LOCK);
    let named =
        |error: io::Error| io::Error::new(error.kind(), format!("cannot lock {}: {error}", name.display()));
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&name);
    let file = file.map_err(named)?;
    for round in 0..LOCK_ROUNDS {
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
        std::thread::sleep(LOCK_ROUND);
    }
    Err(named(io::Error::other("another process uses it")))
}

fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

/// An open snapshot.
pub struct OpenSnapshot {
    bytes: u64,
    file: BufReader<File>,
    path: PathBuf,
}

impl OpenSnapshot {
    /// # Errors
    /// If it does not exist, is foreign or cannot be opened.
    pub fn open(path: &Path) -> Result<OpenSnapshot, LoadError> {
        // A pipe or a device cannot hold a snapshot, and opening one might block for ever.
        let bytes = match fs::metadata(path)? {
            found if !found.is_file() => return Err(LoadError::Foreign),
            found if found.len() == 0 => return Err(LoadError::Missing),
            found => found.len(),
        };
        let mut file = BufReader::new(File::open(path)?);
        let mut magic = [0; MAGIC.len()];
        if file.read_exact(&mut magic).is_err() || !format::is_known(&magic) {
            return Err(LoadError::Foreign);
        }
        Ok(OpenSnapshot { bytes, file, path: path.to_owned() })
    }

    /// A cache with its items. `watch` may abort it.
    ///
    /// # Errors
    /// If the file cannot be loaded; then no part of it is.
    pub fn load(
        &mut self,
        config: Config,
        max_gap: Option<Duration>,
        now: Now,
        watch: impl FnMut(Step) -> Result<(), DeadlinePassed>,
    ) -> Result<(Cache, Loaded), LoadError> {
        format::read(&mut self.file, self.bytes, config, max_gap, now, watch)
    }

    /// Removes the file, valid or not, before an item of it can be deleted: it serves for one start. Until
    /// the server accepts requests, the file stays for the next process.
    pub fn remove(self) -> io::Result<()> {
        fs::remove_file(self.path)
    }
}

/// The suffix of the temporary file.
const UNFINISHED: &str = ".leasehold-new";
const LOCK: &str = ".leasehold-lock";
/// Suffix of the probe.
const PROBE: &str = ".leasehold-probe";
/// How long to wait for another process that writes the file.
const LOCK_ROUNDS: u32 = 1_200;
const LOCK_ROUND: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use std::hash::Hasher;

    use siphasher::sip::SipHasher13;

    use super::*;
    use crate::cache::{Deletion, Depth, Draft, Expiry, Lookup, Mode, Reason, StoreOutcome};
    use crate::clock::Clock;

    fn until(until: u64) -> Deletion<'static> {
        Deletion { held_until: Some(until), ..Deletion::default() }
    }

    /// Changes a file, and corrects its checksum.
    fn rewrite(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = fs::read(path).unwrap();
        bytes.truncate(bytes.len() - 8);
        change(&mut bytes);
        let mut sum = SipHasher13::new();
        sum.write(&bytes);
        bytes.extend(sum.finish().to_le_bytes());
        fs::write(path, bytes).unwrap();
    }

    fn scratch(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("leasehold-{name}-{}", std::process::id()))
    }

    fn set(cache: &Cache, key: &[u8], draft: Draft, now: Now) {
        cache.store(&cache.key(key).unwrap(), Mode::Set, draft, &mut cache.session(), now);
    }

    fn at_leisure(_: Step) -> Result<(), DeadlinePassed> {
        Ok(())
    }

    /// Loads like a starting server.
    fn load(
        path: &Path,
        config: Config,
        max_gap: Option<Duration>,
        now: Now,
        watch: impl FnMut(Step) -> Result<(), DeadlinePassed>,
    ) -> Result<(Cache, Loaded), LoadError> {
        let mut found = OpenSnapshot::open(path)?;
        let loaded = found.load(config, max_gap, now, watch);
        found.remove()?;
        loaded
    }

    /// Hold-offs after a delete and the versions of rows used to be lost in a restart: for a while stale
    /// values were stored.
    #[test]
    fn hold_offs_and_versions_survive_a_restart() {
        let (old, clock, path) = saved("guards");
        let (now, mut peer) = (clock.now(), old.session());
        let held = |cache: &Cache, key: &[u8], now| {
            let key = cache.key(key).unwrap();
            cache.lease(&key, &mut cache.session(), now, |leased| matches!(leased, Lookup::Busy { .. }))
        };
        let newer = |cache: &Cache, version, now| {
            let draft = Draft { version: Some(version), ..Draft::new("row") };
            let key = cache.key(b"row").unwrap();
            cache.store(&key, Mode::Set, draft, &mut cache.session(), now)
        };
        old.delete(&old.key(b"removed").unwrap(), &until(now.after(Duration::from_secs(60))), &mut peer, now);
        assert!(matches!(newer(&old, 5, now), StoreOutcome::Stored { .. }));
        assert_eq!(newer(&old, 4, now), StoreOutcome::Outdated);
        save(&old, &path, now, at_leisure).unwrap();

        let next = Now { millis: 0, unix: now.unix + 10 };
        let (cache, _) = load(&path, Config::default(), None, next, at_leisure).unwrap();
        assert!(held(&cache, b"removed", next) && !held(&cache, b"other", next));
        let (last, expired) =
            (next.after(Duration::from_millis(49_999)), next.after(Duration::from_secs(52)));
        let at = |millis| Now { millis, unix: next.unix + millis / 1000 };
        assert!(held(&cache, b"removed", at(last)) && !held(&cache, b"removed", at(expired)));
        assert_eq!(newer(&cache, 4, next), StoreOutcome::Outdated);
        assert!(matches!(newer(&cache, 5, next), StoreOutcome::Stored { .. }));
    }

    /// A client repeats a fill that a restart interrupted. The key was invalidated before, or may have been
    /// since.
    #[test]
    fn a_fill_after_a_restart_is_refused_if_its_key_was_invalidated() {
        let (old, clock, path) = saved("misses");
        let now = clock.now();
        let missed = [&b"deleted"[..], b"kept"];
        for key in missed {
            let (mut reader, key) = (old.session(), old.key(key).unwrap());
            assert!(old.get(&key, &mut reader, now, |_| ()).is_none());
        }
        old.delete(&old.key(b"deleted").unwrap(), &Deletion::default(), &mut old.session(), now);
        save(&old, &path, now, at_leisure).unwrap();

        let (cache, _) = load(&path, Config::default(), None, now, at_leisure).unwrap();
        let store = |key: &[u8], now| {
            let key = cache.key(key).unwrap();
            cache.store(&key, Mode::Set, Draft::new("old"), &mut cache.session(), now)
        };
        let mut other = cache.session();
        assert_eq!(store(b"deleted", now), StoreOutcome::Refused(Reason::Closed));
        assert!(matches!(store(b"never missed", now), StoreOutcome::Stored { .. }));
        clock.advance(Duration::from_secs(5));
        assert_eq!(store(b"deleted", clock.now()), StoreOutcome::Refused(Reason::Late));
        cache.delete(&cache.key(b"kept").unwrap(), &Deletion::default(), &mut other, clock.now());
        assert_eq!(store(b"kept", clock.now()), StoreOutcome::Refused(Reason::Late));
        assert!(
            matches!(store(b"deleted", clock.now()), StoreOutcome::Stored { .. }),
            "one load, one refusal"
        );
    }

    /// A snapshot of the previous version contains no misses, so that any key may have been missed.
    #[test]
    fn the_previous_format_is_read_and_fills_are_refused_for_a_second() {
        let (old, clock, path) = saved("former");
        save(&old, &path, clock.now(), at_leisure).unwrap();
        rewrite(&path, |bytes| bytes[..16].copy_from_slice(b"leasehold items4"));
        let (cache, loaded) = load(&path, Config::default(), None, clock.now(), at_leisure).unwrap();
        let (key, mut peer) = (cache.key(b"any").unwrap(), cache.session());
        let mut store = |now| cache.store(&key, Mode::Set, Draft::new("v"), &mut peer, now);
        assert_eq!((loaded.items, store(clock.now())), (3, StoreOutcome::Refused(Reason::Closed)));
        clock.advance(Duration::from_secs(2));
        assert!(matches!(store(clock.now()), StoreOutcome::Stored { .. }));
    }

    /// It had other keys in caches with another `-m`, so that nobody knows which keys it stands for.
    #[test]
    fn a_closed_cell_of_a_former_server_stands_for_all_keys() {
        let (old, clock, path) = saved("former-cell");
        save(&old, &path, clock.now(), at_leisure).unwrap();
        let end = (clock.now().unix + 2) * 1000;
        let guard = [&[6][..], &7_u64.to_le_bytes(), &end.to_le_bytes()].concat();
        rewrite(&path, |bytes| _ = bytes.splice(48..48, guard));
        let (cache, _) = load(&path, Config::default(), None, clock.now(), at_leisure).unwrap();
        for name in [&b"any"[..], b"other"] {
            let key = cache.key(name).unwrap();
            let store = |now| cache.store(&key, Mode::Set, Draft::new("v"), &mut cache.session(), now);
            assert_eq!(store(clock.now()), StoreOutcome::Refused(Reason::Closed));
        }
    }

    /// Each restart added a second to what was held off, and to a flush that was not due yet.
    #[test]
    fn any_number_of_restarts_prolongs_nothing() {
        let (mut cache, clock, path) = saved("again");
        let start = clock.now();
        let (held_until, due) = (start.millis + 5_017, start.millis + 3_301);
        cache.delete(&cache.key(b"h").unwrap(), &until(held_until), &mut cache.session(), start);
        cache.invalidate_all(Some(due), Depth::Hard, &mut cache.session(), start);
        for _ in 0..20 {
            clock.advance(Duration::from_millis(37));
            save(&cache, &path, clock.now(), at_leisure).unwrap();
            cache = load(&path, Config::default(), None, clock.now(), at_leisure).unwrap().0;
        }
        let held = cache.inspect(&cache.key(b"h").unwrap(), clock.now(), |report| report.held_off_until);
        assert_eq!((held, cache.flush_due()), (Some(held_until), Some(due)));
    }

    /// The next process has less memory, and fewer shards.
    #[test]
    fn hold_offs_that_found_no_place_are_preserved_and_hold_few_other_keys_off() {
        const KEYS: u64 = 70_000;
        let (old, clock, path) = saved("all-guards");
        let now = clock.now();
        let is_held_off = |cache: &Cache, n: u64, now| {
            let bytes = n.to_le_bytes();
            let key = cache.key(&bytes).unwrap();
            cache.inspect(&key, now, |report| report.held_off_until.is_some())
        };
        for n in 0..KEYS {
            let key = n.to_le_bytes();
            old.delete(&old.key(&key).unwrap(), &until(now.millis + 5_000), &mut old.session(), now);
        }
        let shared = old.counts().hold_offs_shared;
        assert!(shared > 1_000 && shared < KEYS / 2, "{shared}");
        save(&old, &path, now, at_leisure).unwrap();
        let smaller = Config { memory_bytes: 32 << 20, ..Config::default() };
        let (cache, _) = load(&path, smaller, None, now, at_leisure).unwrap();
        assert!((0..KEYS).all(|n| is_held_off(&old, n, now) && is_held_off(&cache, n, now)));
        let others = |cache: &Cache| (KEYS..KEYS + 20_000).filter(|n| is_held_off(cache, *n, now)).count();
        // At most one cell of 65,536 for each that found no place.
        assert!(others(&old) < 2_500 && others(&cache) < 9_000, "{}, {}", others(&old), others(&cache));
        clock.advance(Duration::from_secs(7));
        assert!(!(0..KEYS).any(|n| is_held_off(&old, n, clock.now())));
    }

    /// Value, flags, unique and expiry of a key.
    fn found(cache: &Cache, key: &[u8], now: Now) -> Option<(Vec<u8>, u32, u64, u64)> {
        cache.peek(&cache.key(key).unwrap(), now, |value| {
            (value.bytes.to_vec(), value.flags, value.unique, value.expiry.to_unix(now))
        })
    }

    /// A cache as old as its clock, with a few items, and its snapshot file.
    fn saved(name: &str) -> (Cache, Clock, PathBuf) {
        let (clock, cache) = (Clock::manual(), Cache::with_seed(Config::default(), [7; 32]));
        clock.advance(Duration::from_secs(1_000));
        let now = clock.now();
        set(&cache, b"first", Draft { flags: 7, ..Draft::new("1") }, now);
        set(&cache, b"any \0\xff", Draft { unique: Some(5), ..Draft::new(&[9; 300_000]) }, now);
        let soon = Expiry::after(Duration::from_secs(60), now);
        set(&cache, b"soon", Draft { expiry: soon, ..Draft::new("") }, now);
        set(&cache, b"first", Draft { flags: 8, ..Draft::new("2") }, now);
        set(&cache, b"removed", Draft::new("3"), now);
        cache.delete(&cache.key(b"removed").unwrap(), &Deletion::default(), &mut cache.session(), now);
        let path = scratch(name);
        assert_eq!(save(&cache, &path, now, at_leisure).unwrap(), 3);
        (cache, clock, path)
    }

    #[test]
    fn items_are_restored_with_their_expiry() {
        let (old, clock, path) = saved("back");
        // The next process's monotonic time starts over, thirty seconds later by the wall clock.
        let now = Now { millis: 5, unix: clock.now().unix + 30 };
        let (cache, loaded) =
            load(&path, Config::default(), Some(Duration::from_secs(30)), now, at_leisure).unwrap();
        assert_eq!((loaded.items, loaded.gap), (3, Some(Duration::from_secs(30))));
        for key in [&b"first"[..], b"any \0\xff", b"removed"] {
            assert_eq!(found(&cache, key, now), found(&old, key, clock.now()));
        }
        let at = |seconds: u64| Now { millis: seconds * 1000, unix: now.unix + seconds };
        assert!(found(&cache, b"soon", at(29)).is_some() && found(&cache, b"soon", at(32)).is_none());
        assert!(cache.last_seq() == old.last_seq(), "the logical clock continues");
        let unique = found(&cache, b"first", now).unwrap().2;
        let done = cache.store(
            &cache.key(b"first").unwrap(),
            Mode::Cas(unique),
            Draft::new("3"),
            &mut cache.session(),
            now,
        );
        assert!(
            matches!(done, crate::cache::StoreOutcome::Stored { .. }),
            "uniques read before the restart stay valid"
        );
        assert!(!path.exists(), "a file serves for one start");
    }

    #[test]
    fn expired_and_flushed_items_are_not_restored() {
        let (old, clock, path) = saved("gap");
        old.invalidate_all(
            Some(clock.now().after(Duration::from_secs(100))),
            Depth::Hard,
            &mut old.session(),
            clock.now(),
        );
        save(&old, &path, clock.now(), at_leisure).unwrap();
        let now = Now { millis: 0, unix: clock.now().unix + 61 };
        let (cache, loaded) = load(&path, Config::default(), None, now, at_leisure).unwrap();
        assert_eq!((loaded.items, found(&cache, b"soon", now)), (2, None));
        assert!(found(&cache, b"first", now).is_some());
        assert!(found(&cache, b"first", Now { millis: 39_000, unix: now.unix + 39 }).is_none());
    }

    #[test]
    fn a_gap_above_the_limit_or_of_unknown_length_is_refused() {
        let minute = Duration::from_secs(60);
        for (later, max, is_fit) in
            [(60, Some(minute), true), (61, Some(minute), false), (9_999_999, None, true)]
        {
            let (_, clock, path) = saved("late");
            let now = Now { millis: 0, unix: clock.now().unix + later };
            assert_eq!(load(&path, Config::default(), max, now, at_leisure).is_ok(), is_fit, "{later} s");
            assert!(!path.exists());
        }
        let (_, clock, path) = saved("early");
        let before = Now { millis: 0, unix: clock.now().unix - 1 };
        assert!(matches!(
            load(&path, Config::default(), Some(minute), before, at_leisure),
            Err(LoadError::TooOld(None))
        ));
    }

    #[test]
    fn a_load_or_save_past_its_deadline_leaves_no_file() {
        let (cache, clock, path) = saved("slow");
        let until = |doing: &'static str| {
            move |step: Step| if step.doing == doing { Err(DeadlinePassed) } else { Ok(()) }
        };
        for doing in ["checking items", "loading items"] {
            save(&cache, &path, clock.now(), at_leisure).unwrap();
            let loaded = load(&path, Config::default(), None, clock.now(), until(doing));
            assert!(matches!(loaded, Err(LoadError::TimedOut)) && !path.exists(), "{doing}");
        }
        assert!(matches!(save(&cache, &path, clock.now(), until("writing items")), Err(SaveError::TimedOut)));
        assert!(!path.exists() && !beside(&path, UNFINISHED).exists());
    }

    /// A daemon that started while its predecessor was still writing used to remove that file: all items
    /// were lost.
    #[test]
    fn the_unfinished_file_of_a_running_process_is_not_removed() {
        let path = scratch("written");
        let (_, unfinished) = create(&path, UNFINISHED).unwrap();
        probe(&path).unwrap();
        assert!(unfinished.exists());
        lock(&path).unwrap();
        assert!(!unfinished.exists(), "its writer has ended, or it would hold the lock");
        fs::remove_file(beside(&path, LOCK)).unwrap();
    }

    /// A process that was killed while loading had already removed the file: all items were lost.
    #[test]
    fn a_process_killed_while_loading_leaves_the_file() {
        let (_, clock, path) = saved("killed");
        let watch = |_| {
            assert!(path.exists());
            Ok(())
        };
        load(&path, Config::default(), None, clock.now(), watch).unwrap();
        assert!(!path.exists(), "removed before an item of it can be deleted");
    }

    #[test]
    fn loading_and_saving_report_progress() {
        let (cache, clock, path) = saved("progress");
        let mut steps = Vec::new();
        let mut watch = |step: Step| {
            steps.push(step);
            Ok(())
        };
        save(&cache, &path, clock.now(), &mut watch).unwrap();
        load(&path, Config::default(), None, clock.now(), &mut watch).unwrap();
        steps.reverse();
        steps.dedup_by_key(|step| step.doing);
        let ends: Vec<_> = steps.iter().map(|step| (step.doing, step.done, step.total)).collect();
        assert_eq!(ends, [("loading items", 0, 0), ("checking items", 0, 0), ("writing items", 3, 3)]);
    }

    #[test]
    fn a_damaged_file_is_refused() {
        let (clock, cache, path) = (Clock::manual(), Cache::new(Config::default()), scratch("damaged"));
        set(&cache, b"key", Draft::new("value"), clock.now());
        save(&cache, &path, clock.now(), at_leisure).unwrap();
        let whole = fs::read(&path).unwrap();
        let check = |bytes: &[u8], what: &str| {
            fs::write(&path, bytes).unwrap();
            let error = load(&path, Config::default(), None, clock.now(), at_leisure)
                .map(|(_, loaded)| loaded)
                .expect_err(what);
            let is_foreign = bytes.get(..MAGIC.len()) != Some(MAGIC);
            assert_eq!(matches!(error, LoadError::Foreign), is_foreign, "{what}: {error:?}");
            assert_eq!(path.exists(), is_foreign, "{what}: a foreign file stays");
        };
        for at in 1..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            check(&bytes, &format!("byte {at}"));
            check(&whole[..at], &format!("the first {at}"));
        }
        fs::write(&path, b"").unwrap();
        let empty = load(&path, Config::default(), None, clock.now(), at_leisure).map(|(_, loaded)| loaded);
        assert!(matches!(empty, Err(LoadError::Missing)), "an empty file");
        check(b"#!/bin/sh\necho this is another program's\n", "a script");
        fs::remove_file(&path).unwrap();
        assert!(matches!(
            load(&path, Config::default(), None, clock.now(), at_leisure),
            Err(LoadError::Missing)
        ));
    }
}
