//! The format of a snapshot: encodes and decodes items, without touching files.
//!
//! | bytes | content |
//! |---|---|
//! | 16 | `leasehold items8` |
//! | 8 | when it was written, in seconds since 1970 |
//! | 8 | the last sequence number of the logical clock |
//! | 8 | when a delayed flush is due, in milliseconds since 1970; 0 for none |
//! | 8 | the seed of the key hashes |
//! | guards | each begins with its kind (1); the table below |
//! | 1 | 0, where a guard would begin |
//! | items | length of the key (1), flags (4), expiry in sixteenths of a second since 1970 (8), 0 for never;
//! `as_of` (8), unique (8), length of the value (4), key, tags (each after its length), 0, value |
//! | 1 | 0, where a key's length would be |
//! | 8 | checksum of all of the above, by SipHash |
//!
//! | kind | guard | content |
//! |---|---|---|
//! | 1 | hold-off of a key | hash (8), end (8) |
//! | 2 | hold-off of all keys, in former formats | end (8) |
//! | 3 | version of a row, in `items4` | length of the key (1), key, version (8), end (8) |
//! | 4 | version of a row | hash of the key (8), version (8), end (8) |
//! | 5 | misses of a key | hash (8), end (8), unanswered misses (2), those of them before an invalidation (2)
//! |
//! | 6 | keys that share a cell with this one may have been missed, in files of servers whose cells depended
//! on `-m`: it stands for all keys | hash (8), end (8) |
//! | 7 | hold-off of the keys that share a cell with this one | hash (8), end (8) |
//! | 8 | position of a source of events | its name and the identity of its log, each after its length (2);
//! offset (8) |
//! | 9 | keys that share a cell of the smallest size with this one may have been missed | hash (8), end (8) |
//!
//! Former formats are read, too: `leasehold items6`, and `leasehold items4`, which contains no misses: any
//! key may have been missed.
//!
//! All numbers are little-endian, all times those of the wall clock. Ends are in milliseconds since 1970,
//! those of versions in seconds. Former formats have seconds everywhere.

use std::hash::Hasher;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::time::Duration;

use siphasher::sip::SipHasher13;

use super::error::{LoadError, SaveError};
use super::positions::{self, POSITION};
use super::progress::{DeadlinePassed, Step};
use crate::cache::{
    Cache, Config, Depth, Draft, Entry, Expiry, Guard, KEY_BYTES_MAX, KeyHash, Lineage, Seq, TagList,
};
use crate::clock::Now;

/// The result of loading a file.
#[derive(Debug)]
pub struct Loaded {
    /// The age of the file; `None` if the wall clock was set back since.
    pub gap: Option<Duration>,
    /// Loaded items, without those that have expired or did not fit.
    pub items: u64,
}

/// Writes the guards and all live items; returns the number of items. `watch` may abort it.
pub(super) fn write(
    cache: &Cache,
    out: impl Write,
    now: Now,
    mut watch: impl FnMut(Step) -> Result<(), DeadlinePassed>,
) -> Result<u64, SaveError> {
    let mut file = Checksummed::new(out);
    let flush_unix = cache.flush_due().map_or(0, |due| unix_ms(due, now));
    file.write_all(MAGIC)?;
    let Lineage { hash_seed, last } = cache.lineage();
    for number in [now.unix, last.number(), flush_unix, hash_seed] {
        file.write_all(&number.to_le_bytes())?;
    }
    let mut piece = Vec::new();
    cache.guards(now, |guard| write_guard(&mut piece, &guard, now));
    cache.positions().iter().for_each(|(source, position)| positions::write(&mut piece, source, position));
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

/// A monotonic time in milliseconds since 1970: both clocks begin their seconds together.
fn unix_ms(millis: u64, now: Now) -> u64 {
    (now.unix * 1000 + millis).saturating_sub(now.millis / 1000 * 1000)
}

/// The monotonic time of such a number, or now if that has passed.
fn from_unix_ms(unix: u64, now: Now) -> u64 {
    (unix + now.millis / 1000 * 1000).saturating_sub(now.unix * 1000).max(now.millis)
}

/// Versions end at a whole second, rounded up, so that no old one is stored in its last fraction.
fn write_guard(piece: &mut Vec<u8>, guard: &Guard, now: Now) {
    let end = |seconds: u64| (now.unix + seconds + 1).to_le_bytes();
    let end_ms = |until: u64| unix_ms(until, now).to_le_bytes();
    match guard {
        Guard::HeldOff { hash, until } | Guard::CellHeldOff { hash, until } => {
            piece.push(if matches!(guard, Guard::HeldOff { .. }) { HELD_OFF } else { CELL_HELD_OFF });
            piece.extend(hash.bits().to_le_bytes());
            piece.extend(end_ms(*until));
        }
        Guard::Version { hash, until, version } => {
            piece.push(VERSION);
            piece.extend(hash.bits().to_le_bytes());
            piece.extend(version.to_le_bytes());
            piece.extend(end(until.saturating_sub(now.seconds()).into()));
        }
        Guard::Missed { hash, until, lapsed, lapsed_old } => {
            piece.push(MISSED);
            piece.extend(hash.bits().to_le_bytes());
            piece.extend(end_ms(*until));
            piece.extend(lapsed.to_le_bytes());
            piece.extend(lapsed_old.to_le_bytes());
        }
        Guard::CellMissed { hash, until } => {
            piece.push(CELL_MISSED);
            piece.extend(hash.bits().to_le_bytes());
            piece.extend(end_ms(*until));
        }
        // Only loading a former format creates these. The first becomes one of each cell, and the other ends
        // within a second.
        Guard::AllHeldOff { .. } | Guard::AllMissed { .. } => {}
    }
}

fn write_item(piece: &mut Vec<u8>, entry: &Entry, now: Now) {
    let value = entry.value;
    piece.push(u8::try_from(entry.key.len()).expect("a key has at most 250 bytes"));
    piece.extend(value.flags.to_le_bytes());
    piece.extend(value.expiry.to_unix_ticks(now).to_le_bytes());
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

/// A cache with the items of a file of this many bytes.
pub(super) fn read(
    file: &mut (impl Read + Seek),
    bytes: u64,
    config: Config,
    max_gap: Option<Duration>,
    now: Now,
    mut watch: impl FnMut(Step) -> Result<(), DeadlinePassed>,
) -> Result<(Cache, Loaded), LoadError> {
    verify(file, bytes, &mut watch)?;
    file.seek(SeekFrom::Start(0))?;
    let magic = array(file)?;
    let units = if magic == *MAGIC { Units::Fine } else { Units::Seconds };
    let [saved_unix, last, flush_unix, hash_seed] =
        [number(file)?, number(file)?, number(file)?, number(file)?];
    let gap = now.unix.checked_sub(saved_unix).map(Duration::from_secs);
    if max_gap.is_some_and(|max| gap.is_none_or(|gap| gap > max)) {
        return Err(LoadError::TooOld(gap));
    }
    let cache = Cache::after(config, Lineage { hash_seed, last: Seq::new(last).ok_or(LoadError::Damaged)? });
    while read_guard(file, units, &cache, now)? {}
    if magic == *MAGIC_WITHOUT_MISSES {
        cache.guard(Guard::AllMissed { until: now.after(LOAD_TIME) }, now);
    }
    let (mut items, mut done) = (0, 0);
    while let Some(read) = read_item(file, units, &cache, now, &mut items)? {
        done += read;
        if done % WATCH_EVERY < read {
            watch(megabytes("loading items", done, bytes))?;
        }
    }
    watch(megabytes("loading items", bytes, bytes))?;
    if flush_unix > 0 {
        let due = units.time(flush_unix, now);
        cache.invalidate_all(Some(due), Depth::Hard, &mut cache.internal_session(), now);
    }
    Ok((cache, Loaded { gap, items }))
}

/// The units of times in a file.
#[derive(Clone, Copy)]
enum Units {
    /// Milliseconds, and sixteenths of a second for items.
    Fine,
    /// Seconds, in former formats.
    Seconds,
}

impl Units {
    /// The monotonic time of a number, in milliseconds.
    fn time(self, unix: u64, now: Now) -> u64 {
        match self {
            Units::Fine => from_unix_ms(unix, now),
            Units::Seconds => from_unix_ms(unix.saturating_mul(1000), now),
        }
    }

    fn expiry(self, unix: u64, now: Now) -> Expiry {
        match self {
            Units::Fine => Expiry::from_unix_ticks(unix, now),
            Units::Seconds => Expiry::from_unix(unix, now),
        }
    }
}

/// Reads the whole file once, and verifies its checksum.
fn verify(
    file: &mut (impl Read + Seek),
    bytes: u64,
    watch: &mut impl FnMut(Step) -> Result<(), DeadlinePassed>,
) -> Result<(), LoadError> {
    file.seek(SeekFrom::Start(0))?;
    let summed = bytes.saturating_sub(SUM_BYTES);
    let (mut sum, mut done) = (Checksummed::new(io::sink()), 0);
    while done < summed {
        let piece = WATCH_EVERY.min(summed - done);
        done += io::copy(&mut file.by_ref().take(piece), &mut sum)?;
        watch(megabytes("checking items", done, bytes))?;
    }
    let is_right = number(file)? == sum.sum.finish();
    is_right.then_some(()).ok_or(LoadError::Damaged)
}

fn megabytes(doing: &'static str, done: u64, total: u64) -> Step {
    Step { doing, done: done >> 20, total: total >> 20, unit: "MiB" }
}

/// Restores one guard; returns `false` after the last one.
fn read_guard(file: &mut impl Read, units: Units, cache: &Cache, now: Now) -> Result<bool, LoadError> {
    let [kind] = array(file)?;
    let left = |end: u64| Duration::from_secs(end.saturating_sub(now.unix));
    let mut bytes = [0; KEY_BYTES_MAX];
    let guard = match kind {
        0 => return Ok(false),
        ALL_HELD_OFF => Guard::AllHeldOff { until: units.time(number(file)?, now) },
        CELL_HELD_OFF => {
            Guard::CellHeldOff { hash: KeyHash::new(number(file)?), until: units.time(number(file)?, now) }
        }
        HELD_OFF => {
            Guard::HeldOff { hash: KeyHash::new(number(file)?), until: units.time(number(file)?, now) }
        }
        VERSION | VERSION_OF_KEY => {
            let hash = match kind {
                VERSION => KeyHash::new(number(file)?),
                _ => cache.key(read_key(file, &mut bytes)?).ok_or(LoadError::Damaged)?.hash(),
            };
            let (version, left) = (number(file)?, left(number(file)?).as_secs());
            let until = u64::from(now.seconds()) + left;
            Guard::Version { hash, until: u32::try_from(until).unwrap_or(u32::MAX), version }
        }
        MISSED => Guard::Missed {
            hash: KeyHash::new(number(file)?),
            until: units.time(number(file)?, now),
            lapsed: u16::from_le_bytes(array(file)?),
            lapsed_old: u16::from_le_bytes(array(file)?),
        },
        POSITION => {
            positions::read(file, cache)?;
            return Ok(true);
        }
        CELL_MISSED => {
            Guard::CellMissed { hash: KeyHash::new(number(file)?), until: units.time(number(file)?, now) }
        }
        FORMER_CELL_MISSED => {
            let _: u64 = number(file)?;
            Guard::AllMissed { until: units.time(number(file)?, now) }
        }
        _ => return Err(LoadError::Damaged),
    };
    cache.guard(guard, now);
    Ok(true)
}

/// Reads a key with its length.
fn read_key<'k>(file: &mut impl Read, bytes: &'k mut [u8; KEY_BYTES_MAX]) -> Result<&'k [u8], LoadError> {
    let [length] = array(file)?;
    let key = bytes.get_mut(..length.into()).ok_or(LoadError::Damaged)?;
    file.read_exact(key)?;
    Ok(key)
}

/// Restores one item, and returns its bytes without tags; `None` after the last one.
fn read_item(
    file: &mut impl Read,
    units: Units,
    cache: &Cache,
    now: Now,
    items: &mut u64,
) -> Result<Option<u64>, LoadError> {
    let [key_bytes] = array(file)?;
    if key_bytes == 0 {
        return Ok(None);
    }
    let flags = u32::from_le_bytes(array(file)?);
    let [expiry, as_of, unique] = [number(file)?, number(file)?, number(file)?];
    let value_bytes = u32::from_le_bytes(array(file)?) as usize;
    let mut key = [0; KEY_BYTES_MAX];
    let key = key.get_mut(..key_bytes.into()).ok_or(LoadError::Damaged)?;
    file.read_exact(key)?;
    let tags = read_tags(file)?;
    let mut value = vec![0; value_bytes];
    file.read_exact(&mut value)?;
    let as_of = Seq::new(as_of).filter(|as_of| *as_of <= cache.last_seq());
    let (key, as_of) = cache.key(key).zip(as_of).ok_or(LoadError::Damaged)?;
    let chosen = Some(unique).filter(|unique| *unique != as_of.number());
    let expiry = units.expiry(expiry, now);
    let draft = Draft::until(value.into(), flags, expiry);
    let draft = Draft { tags: tags.tags(), unique: chosen, ..draft };
    *items += u64::from(expiry != Expiry::PAST && cache.restore(&key, draft, as_of, now));
    Ok(Some(ITEM_BYTES + u64::from(key_bytes) + value_bytes as u64))
}

/// Reads tags, each with its length, up to a length of 0.
fn read_tags(file: &mut impl Read) -> Result<TagList, LoadError> {
    let mut tags = Vec::new();
    while let [bytes @ 1..=u8::MAX] = array(file)? {
        let mut tag = vec![0; bytes.into()];
        file.read_exact(&mut tag)?;
        tags.push(tag);
    }
    TagList::new(tags.iter().map(Vec::as_slice)).ok_or(LoadError::Damaged)
}

fn number(file: &mut impl Read) -> io::Result<u64> {
    array(file).map(u64::from_le_bytes)
}

fn array<const N: usize>(file: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// A writer that computes the checksum of the written bytes.
struct Checksummed<W> {
    inner: W,
    sum: SipHasher13,
}

impl<W> Checksummed<W> {
    fn new(inner: W) -> Self {
        Checksummed { inner, sum: SipHasher13::new() }
    }
}

impl<W: Write> Write for Checksummed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.sum.write(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Whether a file begins like a readable snapshot.
pub(super) fn is_known(magic: &[u8; 16]) -> bool {
    [MAGIC, PREVIOUS_MAGIC, MAGIC_WITHOUT_MISSES].contains(&magic)
}

pub(super) const MAGIC: &[u8; 16] = b"leasehold items8";
const PREVIOUS_MAGIC: &[u8; 16] = b"leasehold items6";
const MAGIC_WITHOUT_MISSES: &[u8; 16] = b"leasehold items4";
/// The assumed limit on loads that began before a snapshot without misses was written.
const LOAD_TIME: Duration = Duration::from_secs(1);
/// The first byte of each kind of guard.
const HELD_OFF: u8 = 1;
const ALL_HELD_OFF: u8 = 2;
const VERSION_OF_KEY: u8 = 3;
const VERSION: u8 = 4;
const MISSED: u8 = 5;
const FORMER_CELL_MISSED: u8 = 6;
const CELL_HELD_OFF: u8 = 7;
const CELL_MISSED: u8 = 9;
const SUM_BYTES: u64 = 8;
/// The bytes of an item without its key, tags and value.
const ITEM_BYTES: u64 = 34;
/// The bytes between two calls of `watch`.
const WATCH_EVERY: u64 = 1 << 20;
