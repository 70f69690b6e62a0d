//! `leasehold handover`: one server after another on the same sockets.

use std::future::Future;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::support::served;
use crate::support::served::{Client, PATIENCE, Process, SnapshotFile, scratch};
use leasehold::client::{self, Config, Error};
use nix::sys::signal::Signal;
use tokio::task::JoinSet;

/// The former server noticed that it could not write its snapshot only after it had stopped serving, and all
/// values were lost.
#[test]
fn a_server_that_cannot_write_its_snapshot_keeps_serving() {
    let (folder, moved) = (scratch("room"), scratch("room-moved"));
    std::fs::create_dir(&folder).unwrap();
    let flags = |folder: &Path| format!("-p -1 -m 8 -t 2 -e {}", folder.join("items").display());
    let mut former = Process::start(&flags(&folder));
    let mut client = Client::connect(former.address());
    client.check("set kept 0 0 5\r\nvalue", &["STORED"]);
    std::fs::rename(&folder, &moved).unwrap();
    let mut successor = Process::start(&format!("handover {}", flags(&moved)));
    assert!(successor.rest_of_log().contains("it refuses; its log says why"));
    assert_eq!(successor.exit_code(), 71);
    former.logged("a handover was given up, serving on");
    client.check("get kept", &["VALUE kept 0 5", "value", "END"]);
    std::fs::rename(&moved, &folder).unwrap();
    former.signal(Signal::SIGTERM);
    assert_eq!(former.exit_code(), 0);
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn the_next_server_gets_the_sockets_and_items_but_no_leases() {
    let (snapshot, pid_file, socket) =
        (SnapshotFile::new("over"), scratch("over-pid"), scratch("over-socket"));
    let mut former = Process::start(&format!("{} -P {}", snapshot.flags(), pid_file.display()));
    let address = former.address();
    let mut client = Client::connect(address);
    client.check("set kept 7 0 5\r\nvalue", &["STORED"]);
    client.check("set gone 0 0 1\r\nv", &["STORED"]);
    client.check("delete gone", &["DELETED"]);
    client.send(b"lease-get other\r\n");
    let token = client.line().split(' ').nth(2).expect("a token").to_owned();
    assert_eq!((client.line(), client.line()), ("\r\n".into(), "END\r\n".into()));
    let mode = std::fs::metadata(snapshot.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let mut next = snapshot.successor(&format!("-P {}", pid_file.display()));
    next.logged("has handed over");
    former.logged("takes over");
    assert_eq!(former.exit_code(), 0);
    client.is_closed();
    let mut client = Client::connect(address);
    client.check("get kept gone", &["VALUE kept 7 5", "value", "END"]);
    client.check(&format!("lease-set other {token} 0 0 1\r\nv"), &["NOT_STORED"]);
    served::eventually("its own pid file", || {
        std::fs::read_to_string(&pid_file).is_ok_and(|text| text == format!("{}\n", next.child.id()))
    });
    assert!(!snapshot.0.exists(), "what is deleted from now on must not come back after a crash");

    // A second handover, to other sockets: sockets that no flag names are closed, new ones are bound.
    let mut last =
        Process::start(&format!("handover -m 8 -s {} -e {}", socket.display(), snapshot.0.display()));
    assert!(last.logged("not listening on").contains(&address.to_string()));
    last.logged("has handed over");
    assert_eq!(next.exit_code(), 0);
    let mut client = Client(BufReader::new(UnixStream::connect(&socket).unwrap()));
    client.check("get kept", &["VALUE kept 7 5", "value", "END"]);
    assert!(TcpStream::connect(address).is_err());
    last.signal(Signal::SIGTERM);
    assert_eq!(last.exit_code(), 0);
    assert!(!snapshot.socket().exists(), "the handover socket is removed");
    std::fs::remove_file(socket).unwrap();
}

/// A process that connected and said nothing made every handover wait for ten seconds, and another ten for
/// each further one.
#[test]
fn silent_connections_do_not_delay_a_handover() {
    let snapshot = SnapshotFile::new("over-silent");
    let mut former = Process::start(&snapshot.flags());
    // Once it answers, it also listens for a successor.
    Client::connect(former.address()).check("version", &["VERSION 1.6.45"]);
    let silent: Vec<_> = (0..20).map(|_| snapshot.talk("")).collect();
    let half: Vec<_> = (0..2).map(|_| snapshot.talk("leasehold handover 1\n")).collect();
    let mut next = snapshot.successor("");
    next.logged("has handed over");
    let log = former.rest_of_log();
    assert!(log.contains("takes over") && !log.contains("given up"), "{log}");
    drop((silent, half));
    next.signal(Signal::SIGTERM);
    assert_eq!((former.exit_code(), next.exit_code()), (0, 0));
}

/// The admin address was in use until the former server ended, so the next one could not start.
#[test]
fn the_admin_socket_is_handed_over_and_never_serves_memcached() {
    let snapshot = SnapshotFile::new("over-admin");
    let mut former = Process::start(&format!("{} --admin 127.0.0.1:0", snapshot.flags()));
    let (address, admin) = (former.address(), former.admin());
    let healthy = |admin: SocketAddr| {
        let mut stream = TcpStream::connect(admin).unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.ends_with("\r\n\r\nok\n"), "{answer}");
    };
    healthy(admin);
    let mut next = snapshot.successor(&format!("--admin {admin}"));
    next.logged("has handed over");
    assert_eq!(former.exit_code(), 0);
    healthy(admin);

    // Without --admin the admin socket is closed, and not served as a memcached socket.
    let mut last = Process::start(&format!("handover -m 8 -e {}", snapshot.0.display()));
    last.logged("has handed over");
    assert_eq!(next.exit_code(), 0);
    Client::connect(address).check("version", &["VERSION 1.6.45"]);
    assert!(TcpStream::connect(admin).is_err());
    last.signal(Signal::SIGTERM);
    assert_eq!(last.exit_code(), 0);
}

#[test]
fn a_failed_handover_leaves_the_former_server_serving() {
    let snapshot = SnapshotFile::new("wrong");
    let mut alone = snapshot.successor("");
    alone.logged("cannot take over from the server that uses");
    assert_eq!(alone.exit_code(), 71);
    let mut former = Process::start(&snapshot.flags());
    let address = former.address();
    let mut client = Client::connect(address);
    client.check("set k 0 0 1\r\nv", &["STORED"]);

    for (flags, code) in [("-c 0", 1), ("-I 1000", 64), ("-Y /no/such/file", 1), ("-l 999.1.1.1", 71)] {
        assert_eq!(snapshot.successor(flags).exit_code(), code, "{flags}");
    }
    let mut without = Process::start("handover -p -1");
    without.logged("needs the -e");
    assert_eq!(without.exit_code(), 71);

    // A successor that receives the sockets and cannot bind another one.
    let occupied = TcpListener::bind("127.0.0.1:0").unwrap();
    let more = format!("-l 127.0.0.1,127.0.0.1:{}", occupied.local_addr().unwrap().port());
    assert_eq!(snapshot.successor(&more).exit_code(), 71);
    former.logged("a handover was given up, serving on: it did not take them");

    drop(snapshot.talk("leasehold handover 1\n"));
    former.logged("a handover was given up");
    let mut received = String::new();
    snapshot.talk("leasehold handover 999\n").read_to_string(&mut received).unwrap();
    assert_eq!(received, "");
    former.logged("unknown request");
    let mut endless = snapshot.talk(&"x".repeat(100_000));
    let _ = endless.read_to_string(&mut received);
    former.logged("unknown request");

    client.check("get k", &["VALUE k 0 1", "v", "END"]);
    let mut next = snapshot.successor("");
    next.logged("has handed over");
    assert_eq!(former.exit_code(), 0);
    Client::connect(address).check("get k", &["VALUE k 0 1", "v", "END"]);
    next.signal(Signal::SIGTERM);
    assert_eq!(next.exit_code(), 0);
}

#[test]
fn a_successor_that_dies_after_the_takeover_loses_no_items() {
    let snapshot = SnapshotFile::new("dies");
    let mut former = Process::start(&snapshot.flags());
    let address = former.address();
    Client::connect(address).check("set k 0 0 1\r\nv", &["STORED"]);
    let mut talk = snapshot.talk("leasehold handover 1\n");
    let mut offer = String::new();
    talk.read_line(&mut offer).unwrap();
    assert_eq!(offer, "sockets 0 -\n");
    talk.get_mut().write_all(b"take 1 60000\n").unwrap();
    drop(talk);
    former.logged("saved to");
    assert_eq!(former.exit_code(), 0);
    let mut next = Process::start(&snapshot.flags());
    Client::connect(next.address()).check("get k", &["VALUE k 0 1", "v", "END"]);
    next.signal(Signal::SIGTERM);
    assert_eq!(next.exit_code(), 0);
}

/// Here the test is the former server.
#[test]
fn a_handover_that_takes_too_long_begins_with_an_empty_cache() {
    let snapshot = SnapshotFile::new("long");
    for (sent, is_late, logged) in [
        ("kept 1\n", false, "loaded from"),
        ("kept 1\n", true, "took longer than --handover-max-gap"),
        ("", true, "took longer than --handover-max-gap"),
        ("empty the disk is full\n", false, "left nothing: the disk is full"),
    ] {
        let mut writer = Process::start(&snapshot.flags());
        Client::connect(writer.address()).check("set k 0 0 1\r\nv", &["STORED"]);
        writer.signal(Signal::SIGUSR1);
        assert_eq!(writer.exit_code(), 0);

        let listener = UnixListener::bind(snapshot.socket()).unwrap();
        let max_gap = if is_late { 0 } else { 600 };
        let mut next = snapshot.successor(&format!("--handover-max-gap {max_gap}"));
        let (mut talk, line) = succeeded(&listener);
        assert_eq!(line, format!("take {} {}\n", next.child.id(), max_gap * 1000));
        if is_late {
            a_moment();
        }
        talk.get_mut().write_all(sent.as_bytes()).unwrap();
        drop((talk, listener));
        let address = next.address();
        next.logged(logged);
        let expected: &[&str] = if logged == "loaded from" { &["VALUE k 0 1", "v", "END"] } else { &["END"] };
        Client::connect(address).check("get k", expected);
        next.signal(Signal::SIGTERM);
        assert_eq!(next.exit_code(), 0);
        let _ = std::fs::remove_file(&snapshot.0);
    }
}

/// Plays the former server up to `take`, which it returns. It passes no socket, so the next server binds its
/// own.
fn succeeded(listener: &UnixListener) -> (BufReader<UnixStream>, String) {
    let (stream, _) = listener.accept().expect("the next server connects");
    let (mut talk, mut line) = (BufReader::new(stream), String::new());
    talk.read_line(&mut line).expect("the next server asks");
    talk.get_mut().write_all(b"sockets 0 -\n").expect("the next server reads");
    line.clear();
    talk.read_line(&mut line).expect("the next server takes over");
    (talk, line)
}

/// Waits for a few milliseconds.
#[expect(clippy::disallowed_methods, reason = "the time that is measured is another process's")]
fn a_moment() {
    let start = std::time::Instant::now();
    served::eventually("time passes", || start.elapsed() > Duration::from_millis(3));
}

#[test]
fn a_snapshot_that_cannot_be_written_is_reported_as_empty() {
    let snapshot = SnapshotFile::new("unwritten");
    let mut former = Process::start(&snapshot.flags());
    Client::connect(former.address()).check("set k 0 0 1\r\nv", &["STORED"]);
    // A folder in place of the file that is written.
    std::fs::create_dir(snapshot.beside(".leasehold-new")).unwrap();
    let mut talk = snapshot.talk("leasehold handover 1\n");
    let mut line = String::new();
    talk.read_line(&mut line).unwrap();
    talk.get_mut().write_all(b"take 1 60000\n").unwrap();
    line.clear();
    talk.read_line(&mut line).unwrap();
    assert!(line.starts_with("empty cannot write "), "{line}");
    assert_eq!(former.exit_code(), 0);
    std::fs::remove_dir(snapshot.beside(".leasehold-new")).unwrap();
}

/// A successor ignored signals while it waited for the former server, and while it loaded. Here the test is
/// the former server.
#[test]
fn a_signal_stops_a_successor_that_waits_for_values() {
    let (snapshot, pid_file) = (SnapshotFile::new("stopped"), scratch("stopped-pid"));
    for (signal, name) in [(Signal::SIGTERM, "SIGTERM"), (Signal::SIGINT, "SIGINT")] {
        let listener = UnixListener::bind(snapshot.socket()).unwrap();
        let mut next = snapshot.successor(&format!("--handover-max-gap 600 -P {}", pid_file.display()));
        let (mut talk, mut line) = succeeded(&listener);
        assert!(line.starts_with("take "), "{line}");
        next.signal(signal);
        next.logged(&format!("stopping: {name}, before serving started"));
        assert_eq!(next.exit_code(), 0);
        line.clear();
        assert_eq!(talk.read_line(&mut line).unwrap(), 0, "the connection is closed: {line}");
        std::fs::remove_file(snapshot.socket()).unwrap();
        assert!(!pid_file.exists() && !snapshot.0.exists());
    }
}

/// A signal ends it like any server that has not started yet. Here the test is the former server, which keeps
/// serving.
#[test]
fn a_signal_before_the_takeover_leaves_the_former_server_serving() {
    let snapshot = SnapshotFile::new("stopped-early");
    let listener = UnixListener::bind(snapshot.socket()).unwrap();
    let mut next = snapshot.successor("");
    let mut talk = BufReader::new(listener.accept().unwrap().0);
    talk.read_line(&mut String::new()).unwrap();
    next.signal(Signal::SIGTERM);
    assert_eq!(next.child.wait().unwrap().signal(), Some(Signal::SIGTERM as i32));
    assert_eq!(talk.read_line(&mut String::new()).unwrap(), 0);
}

/// Clients that reconnect and retry through several handovers: no operation fails, no stored value is lost,
/// and no deleted value returns.
#[test]
fn handovers_under_load_fail_no_operation_and_lose_no_value() {
    let snapshot = SnapshotFile::new("load");
    // The clients use the cache as a store: they set absent values although deletes are under way.
    let mut server = Process::start(&format!("{} --implicit-leases off", snapshot.flags()));
    let address = server.address();
    let progress = Arc::new(Progress::default());
    let clients = std::thread::spawn({
        let progress = Arc::clone(&progress);
        move || load(address, &progress)
    });
    for _ in 0..HANDOVERS {
        progress.advance();
        let mut next = snapshot.successor("--implicit-leases off");
        next.logged("has handed over");
        let former = std::mem::replace(&mut server, next);
        assert_eq!(former.exit_code(), 0);
    }
    progress.advance();
    progress.is_done.store(true, Ordering::Relaxed);
    clients.join().expect("no operation failed");
    server.signal(Signal::SIGTERM);
    assert_eq!(server.exit_code(), 0);
}

/// The progress of the clients.
#[derive(Default)]
struct Progress {
    is_done: AtomicBool,
    operations: AtomicU64,
}

impl Progress {
    /// Waits until more operations have succeeded.
    fn advance(&self) {
        let before = self.operations.load(Ordering::Relaxed);
        served::eventually("clients make progress", || {
            self.operations.load(Ordering::Relaxed) > before + 500
        });
    }
}

const HANDOVERS: usize = 5;

/// Runs several clients until the end.
#[tokio::main(flavor = "current_thread")]
async fn load(address: SocketAddr, progress: &Arc<Progress>) {
    let mut tasks = JoinSet::new();
    for number in 0..4 {
        let config =
            Config { timeout: PATIENCE, retry_pause_max: Duration::from_millis(50), ..Config::default() };
        let client = client::Client::new(vec![address.to_string().parse().expect("an address")], config);
        tasks.spawn(work(client, number, Arc::clone(progress)));
    }
    tasks.join_all().await;
}

/// Stores, reads and deletes values of this task's own.
async fn work(client: client::Client, number: usize, progress: Arc<Progress>) {
    let mut values: Vec<Option<String>> = vec![None; 40];
    let mut round: u64 = 0;
    while !progress.is_done.load(Ordering::Relaxed) {
        round += 1;
        let place = (round * 7 % 40) as usize;
        let (key, value) = (format!("{number}:{place}"), format!("value {round} of {number}"));
        let found = surely(&progress, || client.get(&key)).await;
        assert_eq!(
            found.map(|value| String::from_utf8(value.data.to_vec()).expect("it was text")),
            values[place],
            "{key}"
        );
        if round.is_multiple_of(3) {
            surely(&progress, || client.delete(&key)).await;
            values[place] = None;
        } else {
            assert!(surely(&progress, || client.set(&key, value.clone(), Duration::ZERO)).await);
            values[place] = Some(value);
        }
    }
}

/// Retries a request whose connection was lost; any other error is a failure.
async fn surely<T, F: Future<Output = Result<T, Error>>>(progress: &Progress, ask: impl Fn() -> F) -> T {
    loop {
        match ask().await {
            Ok(answer) => {
                progress.operations.fetch_add(1, Ordering::Relaxed);
                return answer;
            }
            Err(Error::Down { .. } | Error::Lost { .. }) => {}
            Err(failed) => panic!("{failed}"),
        }
    }
}

#[test]
fn a_path_too_long_for_a_socket_is_logged_as_a_warning() {
    let name = "x".repeat(100);
    let snapshot = SnapshotFile::new(&name);
    let mut server = Process::start(&snapshot.flags());
    server.address();
    server.logged("no other server can take over");
    server.signal(Signal::SIGTERM);
    assert_eq!(server.exit_code(), 0);
    assert!(!Path::new(&snapshot.socket()).exists());
}
