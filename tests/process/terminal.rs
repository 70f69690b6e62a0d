//! Programs at a terminal, and what they show there.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, Stdio};

use crate::support::served;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{OpenptyResult, Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{LocalFlags, tcgetattr};
use nix::unistd::Pid;

/// A program at a terminal of 80 by 24.
pub struct Terminal {
    child: Child,
    /// The keyboard: the terminal itself, or a pipe.
    input: File,
    master: File,
    /// Output that no check has consumed yet.
    shown: String,
}

impl Terminal {
    /// The program reads what is typed at the terminal.
    pub fn start(line: &str, environment: &[(&str, &str)]) -> Terminal {
        let pty = terminal();
        let (stdin, input) = (pty.slave.try_clone(), pty.master.try_clone());
        let (stdin, input) = (stdin.expect("it is open"), input.expect("it is open"));
        Terminal::of(pty, stdin.into(), input.into(), line, environment)
    }

    /// The program reads a pipe, but writes to the terminal: without a prompt, without echo.
    pub fn start_piped(line: &str) -> Terminal {
        let (stdin, input) = io::pipe().expect("there are pipes");
        Terminal::of(terminal(), stdin.into(), File::from(OwnedFd::from(input)), line, &[])
    }

    fn of(
        pty: OpenptyResult,
        stdin: Stdio,
        input: File,
        line: &str,
        environment: &[(&str, &str)],
    ) -> Terminal {
        let end = || Stdio::from(pty.slave.try_clone().expect("it is open"));
        let child = Command::new(env!("CARGO_BIN_EXE_leasehold"))
            .args(line.split_whitespace())
            .env("TERM", "xterm")
            .envs(environment.iter().copied())
            .stdin(stdin)
            .stdout(end())
            .stderr(end())
            .spawn()
            .expect("the binary starts");
        Terminal { child, input, master: File::from(pty.master), shown: String::new() }
    }

    pub fn types(&mut self, keys: &str) {
        self.input.write_all(keys.as_bytes()).expect("the program reads");
    }

    /// Reads until the output contains `text`, and consumes it up to there.
    #[track_caller]
    pub fn shows(&mut self, text: &str) {
        while !self.shown.contains(text) {
            assert!(self.read(), "it does not show {text:?}, but {:?}", self.shown);
        }
        let end = self.shown.find(text).expect("it is there") + text.len();
        self.shown.drain(..end);
    }

    /// Reads until the output has this many lines, and consumes them.
    #[track_caller]
    pub fn lines(&mut self, count: usize) -> Vec<String> {
        while self.shown.matches('\n').count() < count {
            assert!(self.read(), "it does not show {count} lines, but {:?}", self.shown);
        }
        let end = self.shown.match_indices('\n').map(|(at, _)| at + 1).take(count).last().unwrap_or(0);
        self.shown.drain(..end).collect::<String>().lines().map(without_style).collect()
    }

    /// Output after the end of the input, which nobody has consumed, until the program ends.
    #[track_caller]
    pub fn rest(mut self) -> String {
        self.input = File::open("/dev/null").expect("it is everywhere");
        self.exit_code();
        std::mem::take(&mut self.shown)
    }

    /// Waits for more output; `false` if the program has ended.
    #[track_caller]
    fn read(&mut self) -> bool {
        let mut ready = [PollFd::new(self.master.as_fd(), PollFlags::POLLIN)];
        let patience = PollTimeout::try_from(served::PATIENCE).expect("it is short");
        assert!(
            poll(&mut ready, patience).expect("it can be waited for") > 0,
            "nothing after {:?}",
            self.shown
        );
        let mut bytes = [0; 4096];
        let read = self.master.read(&mut bytes).unwrap_or(0);
        self.shown += &String::from_utf8_lossy(&bytes[..read]);
        read > 0
    }

    pub fn echoes(&self) -> bool {
        tcgetattr(&self.master).expect("it is a terminal").local_flags.contains(LocalFlags::ECHO)
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).expect("it runs");
    }

    #[track_caller]
    pub fn exit_code(&mut self) -> i32 {
        while self.read() {}
        self.child.wait().expect("it is ours").code().expect("it ended by itself")
    }
}

fn terminal() -> OpenptyResult {
    let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
    openpty(Some(&size), None).expect("there are terminals")
}

/// The text of a line, without colors and the like.
fn without_style(line: &str) -> String {
    let mut parts = line.split("\x1b[");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + part.split_once('m').expect("only styles are used").1)
}

/// Ends the program if the test fails before doing so.
impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
