//! The prompt: line editing with completion, a hint of the command's form, and history.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::io;
use std::process;
use std::thread;

use ratatui::crossterm::style::Stylize;
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::{Hint, Hinter};
use rustyline::history::MemHistory;
use rustyline::validate::Validator;
use rustyline::{CompletionType, Config, Context, Editor, Helper};
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

use super::history::History;
use super::request::Request;
use super::verbs::{VERBS, Verb};

/// A prompt.
pub(super) struct Prompt {
    editor: Editor<Known, MemHistory>,
    history: History,
}

/// The user's input.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Input {
    /// Ctrl-C: the line is discarded.
    Canceled,
    /// Ctrl-D, or the terminal was closed.
    Left,
    Line(String),
}

/// Words for completion.
#[derive(Default)]
struct Known {
    /// Keys used in this session.
    keys: BTreeSet<String>,
}

/// The rest of the command's form, shown as a hint.
struct Form(String);

impl Prompt {
    pub(super) fn new(history: History) -> Result<Prompt, ReadlineError> {
        restore_on_sigterm()?;
        let config = Config::builder().completion_type(CompletionType::List).max_history_size(HISTORY_MAX)?;
        let config = config.history_ignore_dups(true)?.build();
        let typed = MemHistory::with_config(&config);
        let mut editor = Editor::with_history(config, typed)?;
        editor.set_helper(Some(Known::default()));
        for line in history.lines() {
            editor.add_history_entry(line)?;
        }
        Ok(Prompt { editor, history })
    }

    pub(super) fn read(&mut self, prompt: &str) -> Input {
        match self.editor.readline(prompt) {
            Ok(line) => Input::Line(line),
            Err(ReadlineError::Interrupted) => Input::Canceled,
            Err(_) => Input::Left,
        }
    }

    /// Adds a command to the history, without its value, and remembers its keys.
    pub(super) fn remember(&mut self, request: &Request) {
        let line = request.for_history();
        if self.editor.add_history_entry(&line).unwrap_or(false) {
            self.history.append(&line);
        }
        let Some(known) = self.editor.helper_mut() else { return };
        for key in request.keys().filter_map(|key| str::from_utf8(key).ok()) {
            if known.keys.len() < KEYS_MAX {
                known.keys.insert(key.to_owned());
            }
        }
    }
}

/// The line editor changes the terminal's mode. On SIGTERM, the mode is restored before the program ends.
fn restore_on_sigterm() -> io::Result<()> {
    let found = tcgetattr(io::stdin())?;
    let runtime = Builder::new_current_thread().enable_io().build()?;
    let mut terminate = runtime.block_on(async { signal(SignalKind::terminate()) })?;
    thread::spawn(move || {
        runtime.block_on(terminate.recv());
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &found);
        println!("{END_BRACKETED_PASTE}");
        process::exit(EXIT_TERMINATED)
    });
    Ok(())
}

impl Known {
    /// The start of the word at the end of `line`, and its possible completions.
    fn candidates(&self, line: &str) -> (usize, Vec<String>) {
        let start = line.rfind(' ').map_or(0, |space| space + 1);
        let (before, begun) = line.split_at(start);
        let words: Vec<_> = before.split_whitespace().collect();
        let names = || VERBS.iter().map(|verb| verb.name).chain(LOCAL).collect();
        let all: Vec<&str> = match words[..] {
            [] => names(),
            ["help"] => names(),
            ["stats", "detail"] => vec!["dump", "off", "on"],
            ["lru_crawler", "metadump" | "mgdump"] => vec!["all"],
            ["watch", ..] => Verb::find(b"watch").map_or(Vec::new(), |verb| verb.choices.to_vec()),
            ["invalidate", "soft"] => vec!["all", "key", "prefix", "tag"],
            ["invalidate", .., "key"] => self.keys.iter().map(String::as_str).collect(),
            [name] if Verb::find(name.as_bytes()).is_some_and(|verb| !verb.choices.is_empty()) => {
                Verb::find(name.as_bytes()).map_or(Vec::new(), |verb| verb.choices.to_vec())
            }
            [name, ..] => match Verb::find(name.as_bytes()).and_then(Verb::first_key) {
                Some(first) if words.len() >= first => self.keys.iter().map(String::as_str).collect(),
                _ => Vec::new(),
            },
        };
        let fitting = all.into_iter().filter(|word| word.starts_with(begun));
        (start, fitting.map(|word| format!("{word} ")).collect())
    }
}

impl Completer for Known {
    type Candidate = String;

    fn complete(&self, line: &str, at: usize, _: &Context) -> rustyline::Result<(usize, Vec<String>)> {
        Ok(self.candidates(&line[..at]))
    }
}

impl Hinter for Known {
    type Hint = Form;

    fn hint(&self, line: &str, at: usize, _: &Context) -> Option<Form> {
        if at < line.len() || !line.ends_with(' ') {
            return None;
        }
        let mut words = line.split_whitespace();
        let verb = Verb::find(words.next()?.as_bytes())?;
        let rest: Vec<_> = verb.form.split(' ').skip(words.count()).collect();
        (!rest.is_empty()).then(|| Form(rest.join(" ")))
    }
}

impl Hint for Form {
    fn display(&self) -> &str {
        &self.0
    }

    /// Hints are not completed.
    fn completion(&self) -> Option<&str> {
        None
    }
}

impl Highlighter for Known {
    fn highlight_hint<'h>(&self, hint: &'h str) -> Cow<'h, str> {
        Cow::Owned(hint.dim().to_string())
    }
}

impl Validator for Known {}

impl Helper for Known {}

/// The exit code that shells report for a program ended by SIGTERM.
const EXIT_TERMINATED: i32 = 128 + 15;
/// Ends xterm's bracketed paste mode, which the editor starts.
const END_BRACKETED_PASTE: &str = "\x1b[?2004l";
/// Commands of the prompt itself.
const LOCAL: [&str; 2] = ["help", "quit"];
const HISTORY_MAX: usize = 1_000;
const KEYS_MAX: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, expected: &[&str]) {
        let keys = ["page:1", "page:2", "user:7"].map(str::to_owned);
        let (_, found) = Known { keys: keys.into() }.candidates(line);
        assert_eq!(found.iter().map(|word| word.trim_end()).collect::<Vec<_>>(), expected, "{line}");
    }

    #[test]
    fn commands_and_keys_are_completed() {
        check("lease-", &["lease-get", "lease-set", "lease-wait"]);
        check("he", &["help"]);
        check("help inc", &["incr"]);
        check("stats p", &["policies"]);
        check("stats detail o", &["off", "on"]);
        check("watch fetchers m", &["mutations"]);
        check("invalidate soft p", &["prefix"]);
        check("invalidate key user", &["user:7"]);
        check("get page", &["page:1", "page:2"]);
        check("get user:7 page:2", &["page:2"]);
        check("gat 60 u", &["user:7"]);
        check("gat u", &[]);
        check("nonsense u", &[]);
    }

    #[test]
    fn the_form_is_shown_while_typing() {
        let history = MemHistory::new();
        let hint =
            |line: &str| Known::default().hint(line, line.len(), &Context::new(&history)).map(|form| form.0);
        assert_eq!(hint("set k ").as_deref(), Some("<flags> <exptime> <value>"));
        assert_eq!(hint("get "), Some("<key>*".to_owned()));
        assert_eq!(hint("set k"), None);
        assert_eq!(hint("touch k 5 "), None);
    }
}
