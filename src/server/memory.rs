//! The cache that a server begins with, and what it leaves to the next.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::Options;
use super::handover::{Control, Left, Predecessor};
use super::keep::{self, Kept, Unfit};
use super::notify;
use super::progress::Progress;
use crate::cache::Cache;
use crate::clock::Clock;

/// A cache, and where its items go at the end.
pub struct Memory {
    pub(super) cache: Cache,
    /// By which the times in the cache are told.
    pub(super) clock: Clock,
    pub(super) file: Option<MemoryFile>,
}

/// The file of `-e`.
pub(super) struct MemoryFile {
    /// Whether it may be written: somebody else's file may not.
    is_ours: bool,
    /// Held as long as this lives: whoever comes next waits until the file is whole.
    _lock: File,
    path: PathBuf,
}

impl Memory {
    /// With what a former server has left, if there is a file to leave it in.
    ///
    /// # Errors
    /// If that file cannot be used.
    pub fn resumed(options: &Options) -> io::Result<Memory> {
        let clock = Clock::system();
        let Some(path) = &options.memory_file else {
            return Ok(Memory { cache: Cache::new(options.cache()), clock, file: None });
        };
        let lock = keep::hold(path)?;
        keep::probe(path)?;
        Ok(Memory::loaded(path, lock, options, clock, None))
    }

    /// With what the predecessor leaves, if nobody was without a server for too long then.
    ///
    /// # Errors
    /// If it does not stop, or the file cannot be used.
    ///
    /// # Panics
    /// If the options name no memory file, beside which it was found.
    pub fn taken_over(predecessor: Predecessor, options: &Options) -> io::Result<Memory> {
        let clock = Clock::system();
        let path = options.memory_file.as_ref().expect("it was found beside its memory file");
        let (pid, max_gap, since) = (predecessor.pid, options.safety.handover_max_gap(), clock.now());
        let left = predecessor.take(max_gap)?;
        let lock = keep::hold(path)?;
        let memory = match left {
            Left::Items | Left::Unsaid => {
                Memory::loaded(path, lock, options, clock.clone(), Some(since.after(max_gap)))
            }
            Left::Empty(why) => {
                tracing::warn!("beginning with an empty cache: process {pid} left nothing: {why}");
                let file = MemoryFile { is_ours: true, _lock: lock, path: path.clone() };
                Memory { cache: Cache::new(options.cache()), clock: clock.clone(), file: Some(file) }
            }
        };
        let gap_ms = clock.now().millis - since.millis;
        tracing::info!(gap_ms, "process {pid} has handed over; nobody was served in between");
        Ok(memory)
    }

    /// With what is in the file, if that is loaded by the deadline (monotonic milliseconds).
    fn loaded(path: &Path, lock: File, options: &Options, clock: Clock, deadline: Option<u64>) -> Memory {
        let mut progress = Progress::new(&clock, deadline, notify::going_on);
        let max_gap = options.restart_max_gap();
        let loaded = keep::load(path, options.cache(), max_gap, clock.now(), |step| progress.at(step));
        let path = path.to_owned();
        match loaded {
            Ok((cache, Kept { gap, items })) => {
                let gap = gap.map_or("unknown, for the clock went back".to_owned(), |gap| format!("{gap:?}"));
                tracing::info!(
                    items,
                    gap,
                    "loaded from {}; what was deleted meanwhile is not",
                    path.display()
                );
                Memory { cache, clock, file: Some(MemoryFile { is_ours: true, _lock: lock, path }) }
            }
            Err(unfit) => {
                tell_unfit(&unfit, &path);
                let is_ours = !matches!(unfit, Unfit::Foreign | Unfit::Unreadable(_));
                let file = MemoryFile { is_ours, _lock: lock, path };
                Memory { cache: Cache::new(options.cache()), clock, file: Some(file) }
            }
        }
    }
}

impl MemoryFile {
    /// Writes all items, if it may, by the deadline (monotonic milliseconds); returns how many. Those who wait are given a
    /// sign that it goes on.
    pub(super) fn save(
        &self,
        cache: &Cache,
        clock: &Clock,
        deadline: Option<u64>,
        sign: impl FnMut(),
    ) -> io::Result<u64> {
        if !self.is_ours {
            return Ok(0);
        }
        let mut progress = Progress::new(clock, deadline, sign);
        let saved = keep::save(cache, &self.path, clock.now(), |step| progress.at(step));
        let items = saved.map_err(io::Error::from)?;
        tracing::info!(items, "kept in {}", self.path.display());
        Ok(items)
    }

    /// Whether all items could be written: better known before nobody serves any more than after.
    pub(super) fn has_room(&self, cache: &Cache) -> io::Result<()> {
        if self.is_ours { keep::has_room(&self.path, cache.counts().bytes) } else { Ok(()) }
    }

    /// Where the next server may ask for this one's place. It can do without.
    pub(super) fn control(&self) -> Option<Control> {
        let control = Control::bind(&self.path);
        control.inspect_err(|error| tracing::warn!("no other server can take over: {error}")).ok()
    }
}

fn tell_unfit(unfit: &Unfit, path: &Path) {
    let path = path.display();
    match unfit {
        Unfit::Damaged => tracing::error!("{path} is damaged: beginning with an empty cache"),
        Unfit::Foreign => {
            tracing::error!(
                "{path} is no file of ours: beginning with an empty cache, and keeping nothing at the end"
            );
        }
        Unfit::Late(gap) => {
            tracing::warn!(?gap, "{path} is older than --restart-max-gap: beginning with an empty cache");
        }
        Unfit::Missing => tracing::info!("{path} is not there yet: beginning with an empty cache"),
        Unfit::Slow => {
            tracing::warn!(
                "to load {path} took longer than --handover-max-gap: beginning with an empty cache"
            );
        }
        Unfit::Unreadable(error) => {
            tracing::error!(
                "{path} cannot be read: {error}; beginning with an empty cache, and keeping nothing at the end"
            );
        }
    }
}
