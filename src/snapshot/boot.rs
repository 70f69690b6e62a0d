//! The cache that a server starts with, and the snapshot that it writes at the end.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::error::LoadError;
use super::file::{self, OpenSnapshot};
use super::format::Loaded;
use super::progress::Progress;
use crate::cache::Cache;
use crate::clock::Clock;
use crate::options::Options;
use crate::process::systemd;

/// A cache, and the destination of its items at the end.
pub struct Boot {
    pub(crate) cache: Cache,
    /// The clock behind the times in the cache.
    pub(crate) clock: Clock,
    pub(crate) file: Option<SnapshotFile>,
}

/// The file of `-e`.
pub(crate) struct SnapshotFile {
    /// The snapshot that was loaded, until it is removed.
    found: Option<OpenSnapshot>,
    /// Whether the file may be written; a foreign file may not.
    is_ours: bool,
    /// Held as long as this lives: the next process waits until the file is complete.
    _lock: File,
    path: PathBuf,
}

impl Boot {
    /// Loads the snapshot, if a file is named.
    ///
    /// # Errors
    /// If that file is unusable.
    pub fn resume(options: &Options) -> io::Result<Boot> {
        let clock = Clock::system();
        let Some(path) = &options.memory_file else {
            return Ok(Boot { cache: Cache::new(options.cache()), clock, file: None });
        };
        let lock = file::lock(path)?;
        file::probe(path)?;
        Ok(Boot::load(path, lock, options, clock, None))
    }

    /// Loads the snapshot that another process has just written, within the deadline (monotonic
    /// milliseconds).
    ///
    /// # Errors
    /// If the file is unusable.
    pub(crate) fn load_before(
        path: &Path,
        options: &Options,
        clock: Clock,
        deadline: u64,
    ) -> io::Result<Boot> {
        let lock = file::lock(path)?;
        Ok(Boot::load(path, lock, options, clock, Some(deadline)))
    }

    /// An empty cache, and the file for its snapshot.
    ///
    /// # Errors
    /// If the file is unusable.
    pub(crate) fn empty(path: &Path, options: &Options, clock: Clock) -> io::Result<Boot> {
        let lock = file::lock(path)?;
        let file = SnapshotFile { found: None, is_ours: true, _lock: lock, path: path.to_owned() };
        Ok(Boot { cache: Cache::new(options.cache()), clock, file: Some(file) })
    }

    /// Loads the file within the deadline (monotonic milliseconds); otherwise starts empty.
    fn load(path: &Path, lock: File, options: &Options, clock: Clock, deadline: Option<u64>) -> Boot {
        let mut progress = Progress::new(&clock, deadline, systemd::extend_timeout);
        let max_gap = options.restart_max_gap();
        let (found, loaded) = match OpenSnapshot::open(path) {
            Err(error) => (None, Err(error)),
            Ok(mut found) => {
                let watch = |step| progress.at(step);
                let loaded = found.load(options.cache(), max_gap, clock.now(), watch);
                (Some(found), loaded)
            }
        };
        let path = path.to_owned();
        match loaded {
            Ok((cache, Loaded { gap, items })) => {
                let gap = gap.map_or("unknown, as the clock went back".to_owned(), |gap| format!("{gap:?}"));
                tracing::info!(
                    items,
                    gap,
                    "loaded from {}; deletes since it was written are unknown",
                    path.display()
                );
                Boot { cache, clock, file: Some(SnapshotFile { found, is_ours: true, _lock: lock, path }) }
            }
            Err(error) => {
                log_load_error(&error, &path);
                let is_ours = !matches!(error, LoadError::Foreign | LoadError::Unreadable(_));
                let file = SnapshotFile { found, is_ours, _lock: lock, path };
                Boot { cache: Cache::new(options.cache()), clock, file: Some(file) }
            }
        }
    }

    /// Removes the loaded file: from now on its items may be deleted. A process that stops earlier leaves
    /// the file to the next one.
    pub(crate) fn start_serving(mut self, options: &Options) -> Boot {
        let Some(file) = &mut self.file else { return self };
        if let Some(Err(error)) = file.found.take().map(OpenSnapshot::remove) {
            log_load_error(&LoadError::Unreadable(error), &file.path);
            file.is_ours = false;
            self.cache = Cache::new(options.cache());
        }
        self
    }
}

impl SnapshotFile {
    /// Writes all items, if allowed, within the deadline (monotonic milliseconds); returns how many. Calls
    /// `sign` about once a second.
    pub(crate) fn save(
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
        let saved = file::save(cache, &self.path, clock.now(), |step| progress.at(step));
        let items = saved.map_err(io::Error::from)?;
        tracing::info!(items, "saved to {}", self.path.display());
        Ok(items)
    }

    /// Checks that all items can be written, before the server stops for it.
    pub(crate) fn has_room(&self, cache: &Cache) -> io::Result<()> {
        if self.is_ours { file::has_room(&self.path, cache.counts().bytes) } else { Ok(()) }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

fn log_load_error(error: &LoadError, path: &Path) {
    let path = path.display();
    match error {
        LoadError::Damaged => tracing::error!("{path} is damaged: starting with an empty cache"),
        LoadError::Foreign => {
            tracing::error!(
                "{path} is not a snapshot: starting with an empty cache, and not saving it at the end"
            );
        }
        LoadError::TooOld(gap) => {
            tracing::warn!(?gap, "{path} is older than --restart-max-gap: starting with an empty cache");
        }
        LoadError::Missing => tracing::info!("{path} does not exist yet: starting with an empty cache"),
        LoadError::TimedOut => {
            tracing::warn!(
                "loading {path} took longer than --handover-max-gap: starting with an empty cache"
            );
        }
        LoadError::Unreadable(error) => {
            tracing::error!(
                "cannot read {path}: {error}; starting with an empty cache, and not saving it at the end"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cache::{Draft, Mode};

    /// Writes a snapshot with one item there, like a server that ends; returns the options for the next
    /// server.
    fn write_snapshot(path: &Path) -> Options {
        let options =
            Options::try_parse_from(["leasehold", "-m", "8", "-e", path.to_str().unwrap()]).unwrap();
        let Boot { cache, clock, file } = Boot::resume(&options).unwrap().start_serving(&options);
        let key = cache.key(b"k").unwrap();
        cache.store(&key, Mode::Set, Draft::new("v"), &mut cache.session(), clock.now());
        file.unwrap().save(&cache, &clock, None, || ()).unwrap();
        options
    }

    fn scratch(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("leasehold-{name}-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        folder
    }

    /// A load used to remove the file at once. A process that then received a signal ended without serving:
    /// all items were lost.
    #[test]
    fn a_loaded_file_stays_until_the_server_accepts_requests() {
        let folder = scratch("begun");
        let path = folder.join("items");
        let options = write_snapshot(&path);
        for _ in ["stopped early", "stopped early again"] {
            let loaded = Boot::resume(&options).unwrap();
            assert_eq!(loaded.cache.counts().items, 1);
            drop(loaded);
            assert!(path.exists());
        }
        let served = Boot::resume(&options).unwrap().start_serving(&options);
        assert_eq!((served.cache.counts().items, path.exists()), (1, false));
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn items_of_a_file_that_cannot_be_removed_are_not_served() {
        let folder = scratch("stays");
        let options = write_snapshot(&folder.join("items"));
        let loaded = Boot::resume(&options).unwrap();
        std::fs::remove_dir_all(folder).unwrap();
        let served = loaded.start_serving(&options);
        assert_eq!((served.cache.counts().items, served.file.unwrap().is_ours), (0, false));
    }
}
