//! The server under systemd, which the test plays: socket activation and notifications.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::support::served::{Client, PATIENCE, Process, SnapshotFile, scratch};
use nix::sys::signal::Signal;

/// Starts the server with the test's socket as descriptor 3, as systemd does.
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
fn inherited_sockets_are_served_and_survive_a_restart() {
    let snapshot = SnapshotFile::new("activated");
    let flags = format!("-m 8 -e {}", snapshot.0.display());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut server = activated(&flags, listener.try_clone().unwrap().into(), &[]);
    let line = server.logged("listening on");
    assert!(line.contains(&format!("{address} (inherited socket")), "{line}");
    Client::connect(address).check("set k 0 0 1\r\nv", &["STORED"]);
    server.signal(Signal::SIGUSR1);
    assert_eq!(server.exit_code(), 0);
    // A client that connects in between waits.
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
        "the log names the inherited path"
    );
    assert_eq!(server.exit_code(), 0);
    std::fs::remove_file(path).unwrap();

    let file = std::fs::File::open("/dev/null").unwrap();
    assert_eq!(activated("-m 8", file.into(), &[]).exit_code(), 71);
}

/// The socket on which systemd receives notifications.
struct NotifySocket {
    path: PathBuf,
    socket: UnixDatagram,
}

impl NotifySocket {
    fn bind(name: &str) -> NotifySocket {
        let path = scratch(name);
        let socket = UnixDatagram::bind(&path).expect("the path is free");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout is legal");
        NotifySocket { path, socket }
    }

    fn variable(&self) -> (&str, &str) {
        ("NOTIFY_SOCKET", self.path.to_str().expect("a path of ours is text"))
    }

    fn receive(&self) -> String {
        let mut bytes = [0; 100];
        let length = self.socket.recv(&mut bytes).expect("a notification arrives in time");
        String::from_utf8(bytes[..length].to_vec()).expect("it is text").trim_end().to_owned()
    }

    fn until(&self, what: &str) {
        while self.receive() != what {}
    }
}

impl Drop for NotifySocket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

#[test]
fn systemd_is_notified_of_start_stop_and_handover() {
    let (snapshot, notified) = (SnapshotFile::new("notified"), NotifySocket::bind("notify"));
    let (receive, until) = (|| notified.receive(), |what: &str| notified.until(what));
    let watched = [notified.variable(), ("WATCHDOG_USEC", "900000")];
    let mut former = Process::start_with(&snapshot.flags(), &watched);
    assert_eq!(receive(), "READY=1");
    assert_eq!(receive(), "WATCHDOG=1");
    former.address();
    let next = Process::start_with(&format!("handover {}", snapshot.flags()), &watched[..1]);
    until(&format!("MAINPID={}", next.child.id()));
    until("READY=1");
    assert_eq!(receive(), "WATCHDOG=1", "the former server passed on the interval");
    assert_eq!(former.exit_code(), 0);
    next.signal(Signal::SIGTERM);
    until("STOPPING=1");
    assert_eq!(next.exit_code(), 0);
}

/// The watchdog killed a server that wrote its values for longer than `WatchdogSec`, and the start timeout of
/// the unit ended long loads.
#[test]
fn systemd_timeouts_are_extended_while_values_are_written_and_loaded() {
    let (snapshot, notified) = (SnapshotFile::new("patience"), NotifySocket::bind("patience-notify"));
    let variable = notified.variable();
    let mut former = Process::start_with(&snapshot.flags(), &[variable]);
    assert_eq!(notified.receive(), "READY=1");
    Client::connect(former.address()).check("set k 0 0 1\r\nv", &["STORED"]);
    former.signal(Signal::SIGUSR1);
    assert_eq!([notified.receive(), notified.receive()], ["STOPPING=1", EXTENDED]);
    assert_eq!(former.exit_code(), 0);

    let mut former = Process::start_with(&snapshot.flags(), &[variable]);
    assert_eq!(notified.receive(), EXTENDED, "its start loads values");
    notified.until("READY=1");
    former.address();

    // Here the test is the next server, which notifies systemd from then on instead of the former one.
    let lines = snapshot.talk("leasehold handover 1\ntake 4711 60000\n").lines().map(Result::unwrap);
    assert_eq!(lines.collect::<Vec<_>>(), ["sockets 0 -", "writing", "kept 1"]);
    assert_eq!(former.exit_code(), 0);
    assert_eq!(notified.receive(), "MAINPID=4711");

    // Here the test is the former server.
    let listener = UnixListener::bind(snapshot.socket()).unwrap();
    let mut next = Process::start_with(&format!("handover {}", snapshot.flags()), &[variable]);
    let mut talk = BufReader::new(listener.accept().unwrap().0);
    for sent in ["sockets 0 -\n", "writing\nwriting\nkept 1\n"] {
        talk.read_line(&mut String::new()).unwrap();
        talk.get_mut().write_all(sent.as_bytes()).unwrap();
    }
    for _ in ["writing", "writing", "loading"] {
        assert_eq!(notified.receive(), EXTENDED);
    }
    assert_eq!(notified.receive(), "READY=1");
    Client::connect(next.address()).check("get k", &["VALUE k 0 1", "v", "END"]);
    next.signal(Signal::SIGTERM);
    assert_eq!(next.exit_code(), 0);
}

const EXTENDED: &str = "WATCHDOG=1\nEXTEND_TIMEOUT_USEC=30000000";
