//! Programs at a terminal, and what they show there.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};

use crate::support::served;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{LocalFlags, tcgetattr};
use nix::unistd::Pid;

/// A program at a terminal of 80 by 24.
pub struct Terminal {
    child: Child,
    master: File,
    /// Output that no check has consumed yet.
    shown: String,
}

impl Terminal {
    pub fn start(line: &str, environment: &[(&str, &str)]) -> Terminal {
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(Some(&size), None).expect("there are terminals");
        let end = || Stdio::from(pty.slave.try_clone().expect("it is open"));
        let child = Command::new(env!("CARGO_BIN_EXE_leasehold"))
            .args(line.split_whitespace())
            .env("TERM", "xterm")
            .envs(environment.iter().copied())
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .expect("the binary starts");
        Terminal { child, master: File::from(pty.master), shown: String::new() }
    }

    pub fn types(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).expect("the program reads");
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

/// Ends the program if the test fails before doing so.
impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
