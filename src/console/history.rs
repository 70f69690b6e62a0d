//! The history of typed lines across sessions: `$XDG_STATE_HOME/leasehold/history`, readable by its owner
//! only.
//!
//! Each line is appended at once, so that concurrent sessions lose nothing. A history that cannot be read
//! or written is silently ignored.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;

/// A file of lines.
pub(super) struct History(Option<PathBuf>);

impl History {
    /// The location, given the values of `XDG_STATE_HOME` and `HOME`.
    pub(super) fn new(state: Option<PathBuf>, home: Option<PathBuf>) -> History {
        let state = state.filter(|path| path.is_absolute());
        let state = state.or_else(|| Some(home.filter(|path| path.is_absolute())?.join(".local/state")));
        History(state.map(|state| state.join("leasehold/history")))
    }

    /// The newest lines, oldest first. If the file has grown too long, it is truncated to them.
    pub(super) fn lines(&self) -> Vec<String> {
        let Some(path) = &self.0 else { return Vec::new() };
        let text = fs::read_to_string(path).unwrap_or_default();
        let lines: Vec<_> = text.lines().map(str::to_owned).collect();
        let newest = lines[lines.len().saturating_sub(LINES_LOADED)..].to_vec();
        if lines.len() > LINES_MAX {
            // A new file is created, so that a hard link or another program's open file stays unchanged.
            let _ = fs::remove_file(path);
            self.append(&newest.join("\n"));
        }
        newest
    }

    pub(super) fn append(&self, line: &str) {
        let Some(path) = &self.0 else { return };
        if let Some(folder) = path.parent() {
            let _ = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
        }
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path);
        let _ = file.and_then(|mut file| file.write_all(format!("{line}\n").as_bytes()));
    }
}

const LINES_LOADED: usize = 1_000;
/// The length at which the next start truncates the file.
const LINES_MAX: usize = 2_000;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_history_is_readable_by_its_owner_only() {
        let state = std::env::temp_dir().join(format!("leasehold-history-{}", std::process::id()));
        let history = History::new(Some(state.clone()), None);
        assert!(history.lines().is_empty());
        history.append("get a");
        history.append("get b");
        assert_eq!(history.lines(), ["get a", "get b"]);
        let path = state.join("leasehold/history");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

        (0..LINES_MAX).for_each(|nth| history.append(&format!("get {nth}")));
        assert_eq!(history.lines().len(), LINES_LOADED);
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), LINES_LOADED);
        assert_eq!(history.lines()[LINES_LOADED - 1], "get 1999");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::remove_dir_all(state).unwrap();
    }

    #[test]
    fn the_history_is_in_the_state_folder() {
        let place = |state: Option<&str>, home: Option<&str>| {
            History::new(state.map(PathBuf::from), home.map(PathBuf::from)).0
        };
        assert_eq!(place(Some("/state"), Some("/home/ann")), Some("/state/leasehold/history".into()));
        let home = Some("/home/ann/.local/state/leasehold/history".into());
        assert_eq!(place(None, Some("/home/ann")), home);
        assert_eq!(place(Some("relative"), Some("/home/ann")), home);
        assert_eq!(place(None, None), None);
    }
}
