//! `leasehold cli`: runs one command, commands from a file, or an interactive session.

use std::env;
use std::ffi::{OsStr, OsString};
use std::future;
use std::io::{self, BufRead, ErrorKind, IsTerminal, Read};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use tokio::runtime::{Builder, Runtime};

use super::connect::Connect;
use super::history::History;
use super::link::{Link, Ready, Trouble};
use super::printer::{Form, Printer};
use super::prompt::{Input, Prompt};
use super::request::{Mistake, Request, Value, help};
use super::verdict::Verdict;

/// Send commands to a server: one command, those on the standard input, or those typed at a prompt.
///
/// Commands are those of the protocol. In place of the length of a value you can write the value itself in
/// quotes; as an argument of COMMAND it needs no quotes, and - stands for the standard input. Exits with 0
/// if something was found or done, 1 for a miss or a refused store, 2 for errors. See docs/terminal.md for
/// details.
#[derive(Debug, Parser)]
#[command(name = "cli")]
pub struct Cli {
    /// HOST:PORT, or the path of a Unix socket [default: 127.0.0.1:11211]
    server: Option<OsString>,

    /// Command to send; without one, commands are read from a prompt or a pipe
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,

    /// Print one JSON object for each answer
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    connect: Connect,
}

/// An interactive session or a script.
struct Runner {
    form: Form,
    link: Link,
    /// Whether Ctrl-C cancels the current command instead of ending the program.
    may_cancel: bool,
    runtime: Runtime,
}

/// The reason why the program ends early.
enum Failure {
    Mistake(Mistake),
    Trouble(Trouble),
}

impl Cli {
    /// The subcommand, from its flags to its exit code.
    pub fn main(self) -> ExitCode {
        let verdict = self.run().unwrap_or_else(|failure| match failure {
            // The reader has closed the pipe, as `head` does.
            Failure::Trouble(Trouble::Output(error)) if error.kind() == ErrorKind::BrokenPipe => {
                Verdict::Done
            }
            failure => {
                eprintln!("leasehold cli: {failure}");
                Verdict::Failed
            }
        });
        verdict.code().into()
    }

    fn run(mut self) -> Result<Verdict, Failure> {
        // The first word is a server if it cannot be a command.
        let is_server = |word: &OsStr| word.as_encoded_bytes().iter().any(|byte| matches!(byte, b':' | b'/'));
        let (server, first) = match self.server.take() {
            Some(word) if is_server(&word) => (Some(word), None),
            first => (None, first),
        };
        let words: Vec<_> = first.into_iter().chain(self.command).map(OsString::into_vec).collect();
        let is_typed = words.is_empty() && io::stdin().is_terminal();
        let form = match (self.json, io::stdout().is_terminal()) {
            (true, _) => Form::Json,
            (false, false) => Form::Plain,
            (false, true) => Form::Pretty,
        };
        let target = self.connect.target(server.as_deref())?;
        let name = target.server.to_string();
        let runtime = Builder::new_current_thread().enable_all().build().map_err(Trouble::Setup)?;
        let mut runner = Runner { form, link: Link::new(target), may_cancel: is_typed, runtime };
        if is_typed {
            runner.converse(&name)
        } else if words.is_empty() {
            runner.play(&mut io::stdin().lock())
        } else {
            runner.ask(&Request::argued(&words, standard_input)?).map_err(Failure::from)
        }
    }
}

impl Runner {
    /// Sends a command and prints the answer. A canceled command counts as missed.
    fn ask(&mut self, request: &Request) -> Result<Verdict, Trouble> {
        let (link, may_cancel) = (&mut self.link, self.may_cancel);
        let mut printer = Printer::new(self.form, request);
        let mut receive = |entry| printer.print(entry, &mut io::stdout());
        let answered = async {
            if link.ready().await? == Ready::Again {
                eprintln!("the server closed the connection; reconnected");
            }
            link.ask(request, &mut receive).await
        };
        let answered = self.runtime.block_on(async {
            tokio::select! {
                answered = answered => Some(answered),
                () = canceled(may_cancel) => None,
            }
        });
        match answered {
            Some(answered) => answered?,
            None => {
                eprintln!("canceled; the connection is closed, and its leases are released");
                return Ok(Verdict::Missed);
            }
        }
        printer.end(&mut io::stdout()).map_err(Trouble::Output)
    }

    /// Sends all commands of the script; returns the worst verdict.
    fn play(&mut self, script: &mut dyn BufRead) -> Result<Verdict, Failure> {
        let (mut worst, mut line) = (Verdict::Done, Vec::new());
        while read_line(script, &mut line)? {
            match &line[..] {
                b"" => continue,
                b"quit" => break,
                _ => {}
            }
            let mut request = Request::typed(&line)?;
            if let Value::Announced(bytes) = request.value {
                request.give(block(script, bytes)?)?;
            }
            worst = worst.max(self.ask(&request)?);
        }
        Ok(worst)
    }

    /// Sends typed commands until Ctrl-D.
    fn converse(&mut self, server: &str) -> Result<Verdict, Failure> {
        self.runtime.block_on(self.link.ready())?;
        let path = |name| env::var_os(name).map(PathBuf::from);
        let prompt = Prompt::new(History::new(path("XDG_STATE_HOME"), path("HOME")));
        let mut prompt = prompt.map_err(|error| Trouble::Output(io::Error::other(error)))?;
        loop {
            let line = match prompt.read(&format!("{server}> ")) {
                Input::Canceled => continue,
                Input::Left => return Ok(Verdict::Done),
                Input::Line(line) => line,
            };
            match line.split_whitespace().collect::<Vec<_>>()[..] {
                [] => {}
                ["help"] => print!("{}", help(None)),
                ["help", name, ..] => print!("{}", help(Some(name))),
                ["exit" | "quit"] => return Ok(Verdict::Done),
                _ => self.answer(&line, &mut prompt),
            }
        }
    }

    fn answer(&mut self, line: &str, prompt: &mut Prompt) {
        let done = Request::typed(line.as_bytes()).map_err(Failure::from).and_then(|mut request| {
            prompt.remember(&request);
            if let Value::Announced(bytes) = request.value {
                let Some(value) = typed_value(prompt, bytes) else { return Ok(()) };
                request.give(value)?;
            }
            self.ask(&request)?;
            Ok(())
        });
        if let Err(failure) = done {
            eprintln!("{failure}");
        }
    }
}

/// Never completes if canceling is not allowed.
async fn canceled(may_cancel: bool) {
    if !may_cancel || tokio::signal::ctrl_c().await.is_err() {
        future::pending().await
    }
}

/// Reads lines until they make up the announced number of bytes; `None` if the user cancels.
fn typed_value(prompt: &mut Prompt, bytes: usize) -> Option<Vec<u8>> {
    let mut value = Vec::new();
    while value.len() < bytes {
        let Input::Line(line) = prompt.read("value> ") else { return None };
        if !value.is_empty() {
            value.push(b'\n');
        }
        value.extend_from_slice(line.as_bytes());
    }
    Some(value)
}

/// Reads the next line without its end; returns `false` at the end of the input.
fn read_line(script: &mut dyn BufRead, line: &mut Vec<u8>) -> Result<bool, Mistake> {
    line.clear();
    let bytes = script.read_until(b'\n', line).map_err(|_| Mistake::Input)?;
    line.truncate(line.trim_ascii_end().len());
    Ok(bytes > 0)
}

/// Reads a data block of a script, which ends with a line end.
fn block(script: &mut dyn BufRead, bytes: usize) -> Result<Vec<u8>, Mistake> {
    let (mut value, mut rest) = (Vec::new(), Vec::new());
    script.take(bytes as u64).read_to_end(&mut value).map_err(|_| Mistake::Input)?;
    script.read_until(b'\n', &mut rest).map_err(|_| Mistake::Input)?;
    let excess = rest.strip_suffix(b"\n").unwrap_or(&rest);
    let excess = excess.strip_suffix(b"\r").unwrap_or(excess);
    value.extend_from_slice(excess);
    Ok(value)
}

fn standard_input() -> io::Result<Vec<u8>> {
    let mut value = Vec::new();
    io::stdin().lock().read_to_end(&mut value)?;
    Ok(value)
}

impl From<Mistake> for Failure {
    fn from(mistake: Mistake) -> Failure {
        Failure::Mistake(mistake)
    }
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Failure {
        Failure::Trouble(trouble)
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self {
            Failure::Mistake(mistake) => mistake.fmt(f),
            Failure::Trouble(Trouble::Closed) => {
                write!(f, "{}: the outcome is unknown", Trouble::Closed)
            }
            Failure::Trouble(trouble) => trouble.fmt(f),
        }
    }
}
