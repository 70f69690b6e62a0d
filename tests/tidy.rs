//! The rules of ARCHITECTURE.md that a compiler does not know: which layer may name which, where waiting is allowed,
//! and how long a file and a function may be. Each break is told with file and line.

use std::fs;
use std::path::{Path, PathBuf};

/// A layer, the layers it may name, and whether it may await.
const LAYERS: [(&str, &[&str], Waits); 15] = [
    ("clock", &[], Waits::Never),
    ("protocol", &[], Waits::Never),
    ("pem", &[], Waits::Often),
    ("cache", &["clock"], Waits::Never),
    ("metrics", &["cache"], Waits::Never),
    ("command", &["cache", "clock", "metrics", "protocol"], Waits::Never),
    ("process", &["metrics", "protocol"], Waits::Often),
    ("options", &["cache", "command", "metrics", "process"], Waits::Never),
    ("snapshot", &["cache", "clock", "options", "process"], Waits::Never),
    ("handover", &["clock", "options", "process", "snapshot"], Waits::Often),
    ("bench", &["clock"], Waits::Often),
    ("client", &["clock"], Waits::Often),
    ("console", &["client", "clock", "pem", "protocol"], Waits::Often),
    ("server", SERVER, Waits::Often),
    (
        "admin",
        &["cache", "clock", "command", "metrics", "options", "process", "protocol", "server"],
        Waits::Often,
    ),
];

const SERVER: &[&str] = &[
    "cache", "clock", "command", "handover", "metrics", "options", "pem", "process", "protocol", "snapshot",
];

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 60;

#[derive(Clone, Copy, PartialEq)]
enum Waits {
    Never,
    Often,
}

struct Source {
    path: PathBuf,
    text: String,
}

impl Source {
    /// The lines before the tests that stand in the same file, numbered from 1.
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let code = self.text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        code.lines().enumerate().map(|(n, line)| (n + 1, line))
    }

    /// The layer it belongs to; the roots belong to none.
    fn layer(&self) -> Option<(&'static str, &'static [&'static str], Waits)> {
        let first = self.path.strip_prefix(root("src")).expect("it is below src").iter().next()?;
        let name = Path::new(first).file_stem()?.to_str()?;
        LAYERS.into_iter().find(|(layer, ..)| *layer == name)
    }
}

#[test]
fn layers_point_one_way() {
    check(|source, report| {
        let Some((layer, allowed, _)) = source.layer() else { return };
        for (number, line) in source.lines() {
            for (other, ..) in LAYERS {
                let names_it = line.contains(&format!("crate::{other}"));
                if names_it && other != layer && !allowed.contains(&other) {
                    report(number, format!("{layer} may not name {other}"));
                }
            }
        }
    });
}

#[test]
fn every_module_belongs_to_a_layer() {
    check(|source, report| {
        let is_root = source.path.ends_with("src/lib.rs") || source.path.starts_with(root("src/bin"));
        if source.layer().is_none() && !is_root {
            report(1, "which layer is this? ARCHITECTURE.md and tests/tidy.rs must say".to_owned());
        }
    });
}

#[test]
fn the_heart_never_waits() {
    check(|source, report| {
        let waits = source.layer().map_or(Waits::Often, |(.., waits)| waits);
        for (number, line) in source.lines() {
            let awaits = line
                .split(".await")
                .skip(1)
                .any(|rest| !rest.starts_with(|c: char| c == '_' || c.is_alphanumeric()));
            let awaits = awaits || line.contains("async ") || line.contains("tokio");
            if waits == Waits::Never && awaits {
                report(number, "nothing waits here".to_owned());
            }
        }
    });
}

#[test]
fn every_file_says_what_it_is() {
    check(|source, report| {
        if !source.text.starts_with("//! ") {
            report(1, "a module opens by saying what it is".to_owned());
        }
    });
}

#[test]
fn files_and_functions_are_short() {
    check(|source, report| {
        let lines: Vec<_> = source.lines().collect();
        if lines.len() > FILE_LINES_MAX {
            report(FILE_LINES_MAX, format!("{} lines, at most {FILE_LINES_MAX}", lines.len()));
        }
        for (start, length) in functions(&lines) {
            if length > FUNCTION_LINES_MAX {
                report(start, format!("a function of {length} lines, at most {FUNCTION_LINES_MAX}"));
            }
        }
    });
}

/// First line and length of each function, told by the indent of its first and last line.
fn functions(lines: &[(usize, &str)]) -> Vec<(usize, usize)> {
    let is_function = |line: &str| {
        let words = line.trim_start().trim_start_matches("pub").trim_start_matches("(crate)");
        words.trim_start_matches("(super)").trim_start().trim_start_matches("async ").starts_with("fn ")
    };
    let mut found = Vec::new();
    for (index, (number, line)) in lines.iter().enumerate() {
        let indent = line.len() - line.trim_start().len();
        let end = format!("{}}}", " ".repeat(indent));
        if is_function(line) && !line.ends_with([';', '}']) {
            let length = lines[index..].iter().position(|(_, line)| *line == end).unwrap_or(0);
            found.push((*number, length + 1));
        }
    }
    found
}

/// Shows every source file to `rule`; fails with all that it reports.
#[track_caller]
fn check(rule: impl Fn(&Source, &mut dyn FnMut(usize, String))) {
    let mut complaints = Vec::new();
    let mut folders = vec![root("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("src is here") {
            let path = entry.expect("it can be listed").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let source = Source { text: fs::read_to_string(&path).expect("sources are text"), path };
                rule(&source, &mut |line, why| {
                    complaints.push(format!("{}:{line}: {why}", source.path.display()));
                });
            }
        }
    }
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

fn root(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)
}
