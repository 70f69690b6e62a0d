//! The server below systemd, which a test plays: sockets that it holds, and what it is told.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::support::served::{Client, Memory, PATIENCE, Process, scratch};
use nix::sys::signal::Signal;

/// Starts the server with sockets of ours as systemd would: from descriptor 3 on.
fn activated(flags: &str, listener: OwnedFd, environment: &[(&str, &str)]) -> Process {
    let mut command = Command::new("sh");
    command
        .args([
            "-c",
            "LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" \"$@\" 3<&0 </dev/null",
            env!("CARGO_BIN_EXE_leasehold"),
        ])
        .args(flags.split_whitespace())
        .envs(environment.iter().copied())
        .stdin(Stdio::from(listener));
    Process::of(command)
}

#[test]
fn sockets_of_systemd_are_served_and_outlive_a_restart() {
    let memory = Memory::new("activated");
    let flags = format!("-m 8 -e {}", memory.0.display());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut server = activated(&flags, listener.try_clone().unwrap().into(), &[]);
    let told = server.logged("listening on");
    assert!(told.contains(&format!("{address} (inherited socket")), "{told}");
    Client::connect(address).check("set k 0 0 1\r\nv", &["STORED"]);
    server.signal(Signal::SIGUSR1);
    assert_eq!(server.exit_code(), 0);
    // Who comes in between waits.
    let mut early = Client::connect(address);
    early.send(b"get k\r\n");
    let next = activated(&flags, listener.into(), &[]);
    assert_eq!([early.line(), early.line(), early.line()], ["VALUE k 0 1\r\n", "v\r\n", "END\r\n"]);
    next.signal(Signal::SIGTERM);
    assert_eq!(next.exit_code(), 0);

    let path = scratch("activated-socket");
    let mut server = activated("-m 8", UnixListener::bind(&path).unwrap().into(), &[]);
    Client(BufReader::new(UnixStream::connect(&path).unwrap())).check("version", &["VERSION 1.6.45"]);
    server.signal(Signal::SIGTERM);
    assert!(
        server.logged("listening on").contains(path.to_str().unwrap()),
        "it said that it listens on nothing"
    );
    assert_eq!(server.exit_code(), 0);
    std::fs::remove_file(path).unwrap();

    let file = std::fs::File::open("/dev/null").unwrap();
    assert_eq!(activated("-m 8", file.into(), &[]).exit_code(), 71);
}

/// Where systemd is told of the server.
struct Notified {
    path: PathBuf,
    socket: UnixDatagram,
}

impl Notified {
    fn bind(name: &str) -> Notified {
        let path = scratch(name);
        let socket = UnixDatagram::bind(&path).expect("nobody else is there");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout is legal");
        Notified { path, socket }
    }

    fn variable(&self) -> (&str, &str) {
        ("NOTIFY_SOCKET", self.path.to_str().expect("a path of ours is text"))
    }

    fn heard(&self) -> String {
        let mut bytes = [0; 100];
        let length = self.socket.recv(&mut bytes).expect("it is told in time");
        String::from_utf8(bytes[..length].to_vec()).expect("it is text").trim_end().to_owned()
    }

    fn until(&self, what: &str) {
        while self.heard() != what {}
    }
}

impl Drop for Notified {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

#[test]
fn systemd_hears_of_the_start_the_end_and_every_handover() {
    let (memory, notified) = (Memory::new("notified"), Notified::bind("notify"));
    let (heard, until) = (|| notified.heard(), |what: &str| notified.until(what));
    let watched = [notified.variable(), ("WATCHDOG_USEC", "900000")];
    let mut former = Process::start_with(&memory.flags(), &watched);
    assert_eq!(heard(), "READY=1");
    assert_eq!(heard(), "WATCHDOG=1");
    former.address();
    let next = Process::start_with(&format!("handover {}", memory.flags()), &watched[..1]);
    until(&format!("MAINPID={}", next.child.id()));
    until("READY=1");
    assert_eq!(heard(), "WATCHDOG=1", "it has been told by the former server how often");
    assert_eq!(former.exit_code(), 0);
    next.signal(Signal::SIGTERM);
    until("STOPPING=1");
    assert_eq!(next.exit_code(), 0);
}

/// The watchdog killed a server that took longer than `WatchdogSec` over its values, and the unit's time to start ended
/// long loads.
#[test]
fn systemd_is_asked_for_patience_while_values_are_written_and_loaded() {
    let (memory, notified) = (Memory::new("patience"), Notified::bind("patience-notify"));
    let [told_of] = [notified.variable()];
    let mut former = Process::start_with(&memory.flags(), &[told_of]);
    assert_eq!(notified.heard(), "READY=1");
    Client::connect(former.address()).check("set k 0 0 1\r\nv", &["STORED"]);
    former.signal(Signal::SIGUSR1);
    assert_eq!([notified.heard(), notified.heard()], ["STOPPING=1", PATIENT]);
    assert_eq!(former.exit_code(), 0);

    let mut former = Process::start_with(&memory.flags(), &[told_of]);
    assert_eq!(notified.heard(), PATIENT, "its start loads values");
    notified.until("READY=1");
    former.address();

    // Here the test is the next server, which is to tell systemd: nobody listens to the former one any more.
    let told = memory.talk("leasehold handover 1\ntake 4711 60000\n").lines().map(Result::unwrap);
    assert_eq!(told.collect::<Vec<_>>(), ["sockets 0 -", "writing", "kept 1"]);
    assert_eq!(former.exit_code(), 0);
    assert_eq!(notified.heard(), "MAINPID=4711");

    // And here the former one.
    let listener = UnixListener::bind(memory.socket()).unwrap();
    let mut next = Process::start_with(&format!("handover {}", memory.flags()), &[told_of]);
    let mut talk = BufReader::new(listener.accept().unwrap().0);
    for said in ["sockets 0 -\n", "writing\nwriting\nkept 1\n"] {
        talk.read_line(&mut String::new()).unwrap();
        talk.get_mut().write_all(said.as_bytes()).unwrap();
    }
    for _ in ["writing", "writing", "loading"] {
        assert_eq!(notified.heard(), PATIENT);
    }
    assert_eq!(notified.heard(), "READY=1");
    Client::connect(next.address()).check("get k", &["VALUE k 0 1", "v", "END"]);
    next.signal(Signal::SIGTERM);
    assert_eq!(next.exit_code(), 0);
}

const PATIENT: &str = "WATCHDOG=1\nEXTEND_TIMEOUT_USEC=30000000";
