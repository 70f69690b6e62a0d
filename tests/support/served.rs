//! A server with its sockets, in this process or in its own, and a client that talks to it.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use clap::Parser;
use leasehold::options::Options;
use leasehold::server::Server;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Longer than anything here takes; a test that comes near it hangs.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A client that reads only when the test asks it to.
pub struct Client<S = TcpStream>(pub BufReader<S>);

impl Client {
    pub fn connect(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).expect("the server listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout is legal");
        Client(BufReader::new(stream))
    }
}

impl<S: Read + Write> Client<S> {
    pub fn send(&mut self, bytes: &[u8]) {
        self.0.get_mut().write_all(bytes).expect("the server takes it");
    }

    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("the server answers in time");
        line
    }

    /// Sends a line, and checks the lines that come back.
    #[track_caller]
    pub fn check(&mut self, sent: &str, expected: &[&str]) {
        self.send(format!("{sent}\r\n").as_bytes());
        for line in expected {
            assert_eq!(self.line(), format!("{line}\r\n"), "in answer to {sent}");
        }
    }

    #[track_caller]
    pub fn is_closed(&mut self) {
        match self.0.read(&mut [0]) {
            Ok(0) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            other => panic!("the server should have closed: {other:?}"),
        }
    }

    pub fn stat(&mut self, name: &str) -> u64 {
        self.stat_of("stats", name)
    }

    pub fn stat_of(&mut self, command: &str, name: &str) -> u64 {
        self.send(format!("{command}\r\n").as_bytes());
        let mut found = None;
        loop {
            let line = self.line();
            match line.split_whitespace().collect::<Vec<_>>()[..] {
                ["END"] => return found.expect("the statistic exists"),
                ["STAT", stat, value] if stat == name => found = value.parse().ok(),
                _ => {}
            }
        }
    }
}

/// Repeats a check until it succeeds.
#[track_caller]
#[expect(clippy::disallowed_methods, reason = "the deadline that ends a hang")]
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "{what}");
        std::thread::yield_now();
    }
}

pub fn start(flags: &str) -> Server {
    let line = format!("leasehold -p -1 -t 2 {flags}");
    let options = Options::try_parse_from(line.split_whitespace()).expect("legal flags");
    Server::start(options).expect("the server starts")
}

/// The server in its own process.
pub struct Process {
    pub child: Child,
    log: BufReader<std::process::ChildStderr>,
}

impl Process {
    pub fn start(flags: &str) -> Process {
        Process::start_with(flags, &[])
    }

    pub fn start_with(flags: &str, environment: &[(&str, &str)]) -> Process {
        let mut command = Command::new(env!("CARGO_BIN_EXE_leasehold"));
        command.args(flags.split_whitespace()).envs(environment.iter().copied());
        Process::of(command)
    }

    pub fn of(mut command: Command) -> Process {
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the binary starts");
        let log = BufReader::new(child.stderr.take().expect("it is piped"));
        Process { child, log }
    }

    /// Reads its log up to the first line with `text`.
    pub fn logged(&mut self, text: &str) -> String {
        let mut line = String::new();
        while !line.contains(text) {
            line.clear();
            assert!(self.log.read_line(&mut line).expect("a log is text") > 0, "it never logged {text}");
        }
        line
    }

    /// The rest of its log, up to its end.
    pub fn rest_of_log(&mut self) -> String {
        let mut text = String::new();
        self.log.read_to_string(&mut text).expect("a log is text");
        text
    }

    pub fn address(&mut self) -> SocketAddr {
        let line = self.logged("listening on 127.0.0.1:");
        let name = line.split_whitespace().find(|word| word.starts_with("127.0.0.1:")).expect("its address");
        name.parse().expect("an address")
    }

    /// Its admin address, from the log.
    pub fn admin(&mut self) -> SocketAddr {
        let line = self.logged("admin at http://");
        let name = line.trim_end().trim_end_matches('/').rsplit('/').next().expect("its address");
        name.parse().expect("an address")
    }

    /// The resident memory of the process.
    pub fn resident_bytes(&self) -> usize {
        let path = format!("/proc/{}/statm", self.child.id());
        let statm = std::fs::read_to_string(path).expect("Linux has it");
        let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok());
        pages.expect("its second field") * 4096
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).expect("it runs");
    }

    pub fn exit_code(mut self) -> i32 {
        let status = self.child.wait().expect("it is ours");
        status.code().expect("it ended by itself")
    }
}

/// Ends the server if the test fails before doing so.
impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A snapshot file for one test, removed with its lock and socket when dropped.
pub struct SnapshotFile(pub PathBuf);

impl SnapshotFile {
    pub fn new(name: &str) -> SnapshotFile {
        SnapshotFile(scratch(name))
    }

    pub fn beside(&self, end: &str) -> PathBuf {
        let mut name = self.0.as_os_str().to_owned();
        name.push(end);
        name.into()
    }

    pub fn socket(&self) -> PathBuf {
        self.beside(".leasehold-handover")
    }

    pub fn flags(&self) -> String {
        format!("-p -1 -m 8 -t 2 -e {}", self.0.display())
    }

    pub fn successor(&self, more: &str) -> Process {
        Process::start(&format!("handover {} {more}", self.flags()))
    }

    /// Connects as a successor would, sends `hello`, and returns the connection.
    pub fn talk(&self, hello: &str) -> BufReader<UnixStream> {
        // A server logs its address before it listens there.
        let mut stream = None;
        eventually("a server listens there", || {
            stream = UnixStream::connect(self.socket()).ok();
            stream.is_some()
        });
        let mut stream = stream.expect("it is connected");
        stream.write_all(hello.as_bytes()).expect("it reads");
        BufReader::new(stream)
    }
}

impl Drop for SnapshotFile {
    fn drop(&mut self) {
        for end in ["", ".leasehold-lock", ".leasehold-handover"] {
            let _ = std::fs::remove_file(self.beside(end));
        }
    }
}

pub fn scratch(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    path
}
