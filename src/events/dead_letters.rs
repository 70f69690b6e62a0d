//! The file for dead letters: one line of JSON for each.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::delivery::letter::Letter;

/// The file of one source, and the one before it.
#[derive(Debug)]
pub struct DeadLetters {
    bytes_max: u64,
    path: PathBuf,
}

impl DeadLetters {
    /// A file that is replaced once it has so many bytes; the one before is kept beside it as `PATH.1`.
    pub fn new(path: PathBuf, bytes_max: u64) -> Self {
        DeadLetters { bytes_max, path }
    }

    /// Appends a letter.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&self, letter: &Letter) -> io::Result<()> {
        let mut line = serde_json::to_vec(letter)?;
        line.push(b'\n');
        let mut file = self.open()?;
        if file.metadata()?.len().saturating_add(line.len() as u64) > self.bytes_max {
            fs::rename(&self.path, self.former())?;
            file = self.open()?;
        }
        file.write_all(&line)
    }

    /// Where the file goes that was replaced.
    fn former(&self) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(".1");
        name.into()
    }

    /// Letters have rows of the database in them, so only the server's user may read them.
    fn open(&self) -> io::Result<File> {
        OpenOptions::new().create(true).append(true).mode(0o600).open(&self.path)
    }
}

/// All letters of a file.
///
/// # Errors
/// A sentence with the line that cannot be read.
pub fn read(path: &Path) -> Result<Vec<Letter>, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let letter = |(nth, line)| {
        serde_json::from_str(line).map_err(|error| format!("{}:{}: {error}", path.display(), nth + 1))
    };
    lines.map(letter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(error: &str) -> Letter {
        Letter {
            at: 1,
            error: error.to_owned(),
            event: None,
            payload: Some(b"{".to_vec().into()),
            position: None,
            rule: None,
            source: "db".to_owned(),
            subject: None,
        }
    }

    #[test]
    fn a_full_file_is_replaced_and_the_one_before_is_kept() {
        let folder = std::env::temp_dir().join(format!("leasehold-letters-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("dead.jsonl");
        let letters = DeadLetters::new(path.clone(), 200);
        for error in ["one", "two", "three", "four", "five"] {
            letters.write(&letter(error)).unwrap();
        }
        let errors =
            |path: &Path| read(path).unwrap().into_iter().map(|letter| letter.error).collect::<Vec<_>>();
        let (last, before) = (errors(&path), errors(&folder.join("dead.jsonl.1")));
        assert_eq!(last.last().map(String::as_str), Some("five"));
        assert!(before.len() + last.len() >= 3 && fs::metadata(&path).unwrap().len() <= 200);
        fs::write(&path, "{}\n").unwrap();
        assert!(read(&path).unwrap_err().contains("dead.jsonl:1: missing field"));
        fs::remove_dir_all(folder).unwrap();
    }
}
