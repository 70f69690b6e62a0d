//! One server after another on the same sockets: `leasehold handover`.

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
use crate::support::served::{Client, Memory, PATIENCE, Process, scratch};
use leasehold::client::{self, Config, Error};
use nix::sys::signal::Signal;
use tokio::task::JoinSet;

/// It was learned only when nobody served any more that there was nowhere to leave the values, and all were lost.
#[test]
fn who_cannot_leave_its_values_serves_on() {
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
fn the_next_server_has_the_sockets_and_the_items_and_no_lease() {
    let (memory, pid_file, socket) = (Memory::new("over"), scratch("over-pid"), scratch("over-socket"));
    let mut former = Process::start(&format!("{} -P {}", memory.flags(), pid_file.display()));
    let address = former.address();
    let mut client = Client::connect(address);
    client.check("set kept 7 0 5\r\nvalue", &["STORED"]);
    client.check("set gone 0 0 1\r\nv", &["STORED"]);
    client.check("delete gone", &["DELETED"]);
    client.send(b"lease-get other\r\n");
    let token = client.line().split(' ').nth(2).expect("a token").to_owned();
    assert_eq!((client.line(), client.line()), ("\r\n".into(), "END\r\n".into()));
    let mode = std::fs::metadata(memory.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let mut next = memory.successor(&format!("-P {}", pid_file.display()));
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
    assert!(!memory.0.exists(), "what is deleted from now on must not come back after a crash");

    // And once more, to other places: what no flag names is closed, what is new is bound.
    let mut last =
        Process::start(&format!("handover -m 8 -s {} -e {}", socket.display(), memory.0.display()));
    assert!(last.logged("not listening on").contains(&address.to_string()));
    last.logged("has handed over");
    assert_eq!(next.exit_code(), 0);
    let mut client = Client(BufReader::new(UnixStream::connect(&socket).unwrap()));
    client.check("get kept", &["VALUE kept 7 5", "value", "END"]);
    assert!(TcpStream::connect(address).is_err());
    last.signal(Signal::SIGTERM);
    assert_eq!(last.exit_code(), 0);
    assert!(!memory.socket().exists(), "nobody listens there any more");
    std::fs::remove_file(socket).unwrap();
}

/// The admin address was in use for as long as the former server lived, and the next one could not begin.
#[test]
fn the_admin_socket_is_handed_over_and_is_never_served_as_another() {
    let memory = Memory::new("over-admin");
    let mut former = Process::start(&format!("{} --admin 127.0.0.1:0", memory.flags()));
    let (address, admin) = (former.address(), former.admin());
    let healthy = |admin: SocketAddr| {
        let mut stream = TcpStream::connect(admin).unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.ends_with("\r\n\r\nok\n"), "{answer}");
    };
    healthy(admin);
    let mut next = memory.successor(&format!("--admin {admin}"));
    next.logged("has handed over");
    assert_eq!(former.exit_code(), 0);
    healthy(admin);

    // All that it listens on is served; with --admin gone, that is not.
    let mut last = Process::start(&format!("handover -m 8 -e {}", memory.0.display()));
    last.logged("has handed over");
    assert_eq!(next.exit_code(), 0);
    Client::connect(address).check("version", &["VERSION 1.6.45"]);
    assert!(TcpStream::connect(admin).is_err());
    last.signal(Signal::SIGTERM);
    assert_eq!(last.exit_code(), 0);
}

#[test]
fn whatever_goes_wrong_before_the_end_leaves_the_former_server_serving() {
    let memory = Memory::new("wrong");
    let mut nobody = memory.successor("");
    nobody.logged("cannot take over from the server that uses");
    assert_eq!(nobody.exit_code(), 71);
    let mut former = Process::start(&memory.flags());
    let address = former.address();
    let mut client = Client::connect(address);
    client.check("set k 0 0 1\r\nv", &["STORED"]);

    for (flags, code) in [("-c 0", 1), ("-I 1000", 64), ("-Y /no/such/file", 1), ("-l 999.1.1.1", 71)] {
        assert_eq!(memory.successor(flags).exit_code(), code, "{flags}");
    }
    let mut without = Process::start("handover -p -1");
    without.logged("needs the -e");
    assert_eq!(without.exit_code(), 71);

    // It takes the sockets and cannot bind one more.
    let occupied = TcpListener::bind("127.0.0.1:0").unwrap();
    let more = format!("-l 127.0.0.1,127.0.0.1:{}", occupied.local_addr().unwrap().port());
    assert_eq!(memory.successor(&more).exit_code(), 71);
    former.logged("a handover was given up, serving on: it did not take them");

    drop(memory.talk("leasehold handover 1\n"));
    former.logged("a handover was given up");
    let mut heard = String::new();
    memory.talk("leasehold handover 999\n").read_to_string(&mut heard).unwrap();
    assert_eq!(heard, "");
    former.logged("unknown request");
    let mut endless = memory.talk(&"x".repeat(100_000));
    let _ = endless.read_to_string(&mut heard);
    former.logged("unknown request");

    client.check("get k", &["VALUE k 0 1", "v", "END"]);
    let mut next = memory.successor("");
    next.logged("has handed over");
    assert_eq!(former.exit_code(), 0);
    Client::connect(address).check("get k", &["VALUE k 0 1", "v", "END"]);
    next.signal(Signal::SIGTERM);
    assert_eq!(next.exit_code(), 0);
}

#[test]
fn a_successor_that_dies_after_the_end_finds_no_second_server_but_all_items() {
    let memory = Memory::new("dies");
    let mut former = Process::start(&memory.flags());
    let address = former.address();
    Client::connect(address).check("set k 0 0 1\r\nv", &["STORED"]);
    let mut talk = memory.talk("leasehold handover 1\n");
    let mut offer = String::new();
    talk.read_line(&mut offer).unwrap();
    assert_eq!(offer, "sockets 0 -\n");
    talk.get_mut().write_all(b"take 1 60000\n").unwrap();
    drop(talk);
    former.logged("saved to");
    assert_eq!(former.exit_code(), 0);
    let mut next = Process::start(&memory.flags());
    Client::connect(next.address()).check("get k", &["VALUE k 0 1", "v", "END"]);
    next.signal(Signal::SIGTERM);
    assert_eq!(next.exit_code(), 0);
}

/// Here the test is the former server.
#[test]
fn a_handover_that_takes_too_long_begins_with_an_empty_cache() {
    let memory = Memory::new("long");
    for (said, is_late, told) in [
        ("kept 1\n", false, "loaded from"),
        ("kept 1\n", true, "took longer than --handover-max-gap"),
        ("", true, "took longer than --handover-max-gap"),
        ("empty the disk is full\n", false, "left nothing: the disk is full"),
    ] {
        let mut writer = Process::start(&memory.flags());
        Client::connect(writer.address()).check("set k 0 0 1\r\nv", &["STORED"]);
        writer.signal(Signal::SIGUSR1);
        assert_eq!(writer.exit_code(), 0);

        let listener = UnixListener::bind(memory.socket()).unwrap();
        let max_gap = if is_late { 0 } else { 600 };
        let mut next = memory.successor(&format!("--handover-max-gap {max_gap}"));
        let (mut talk, line) = succeeded(&listener);
        assert_eq!(line, format!("take {} {}\n", next.child.id(), max_gap * 1000));
        if is_late {
            a_moment();
        }
        talk.get_mut().write_all(said.as_bytes()).unwrap();
        drop((talk, listener));
        let address = next.address();
        next.logged(told);
        let expected: &[&str] = if told == "loaded from" { &["VALUE k 0 1", "v", "END"] } else { &["END"] };
        Client::connect(address).check("get k", expected);
        next.signal(Signal::SIGTERM);
        assert_eq!(next.exit_code(), 0);
        let _ = std::fs::remove_file(&memory.0);
    }
}

/// Plays the former server up to `take`, which it returns. It gives no socket: then the next one binds its own.
fn succeeded(listener: &UnixListener) -> (BufReader<UnixStream>, String) {
    let (stream, _) = listener.accept().expect("it is asked");
    let (mut talk, mut line) = (BufReader::new(stream), String::new());
    talk.read_line(&mut line).expect("it is asked");
    talk.get_mut().write_all(b"sockets 0 -\n").expect("it is heard");
    line.clear();
    talk.read_line(&mut line).expect("it is told to go");
    (talk, line)
}

/// Longer than no time at all.
#[expect(clippy::disallowed_methods, reason = "the time that is measured is another process's")]
fn a_moment() {
    let start = std::time::Instant::now();
    served::eventually("time passes", || start.elapsed() > Duration::from_millis(3));
}

#[test]
fn a_server_that_cannot_write_in_time_leaves_nothing() {
    let memory = Memory::new("unwritten");
    let mut former = Process::start(&memory.flags());
    Client::connect(former.address()).check("set k 0 0 1\r\nv", &["STORED"]);
    // Nobody can write there.
    std::fs::create_dir(memory.beside(".leasehold-new")).unwrap();
    let mut talk = memory.talk("leasehold handover 1\n");
    let mut line = String::new();
    talk.read_line(&mut line).unwrap();
    talk.get_mut().write_all(b"take 1 60000\n").unwrap();
    line.clear();
    talk.read_line(&mut line).unwrap();
    assert!(line.starts_with("empty cannot write "), "{line}");
    assert_eq!(former.exit_code(), 0);
    std::fs::remove_dir(memory.beside(".leasehold-new")).unwrap();
}

/// It was deaf while it waited for the former server, and while it loaded. Here the test is the former server.
#[test]
fn a_successor_that_is_told_to_stop_waits_for_nobody() {
    let (memory, pid_file) = (Memory::new("told"), scratch("told-pid"));
    for (signal, name) in [(Signal::SIGTERM, "SIGTERM"), (Signal::SIGINT, "SIGINT")] {
        let listener = UnixListener::bind(memory.socket()).unwrap();
        let mut next = memory.successor(&format!("--handover-max-gap 600 -P {}", pid_file.display()));
        let (mut talk, mut line) = succeeded(&listener);
        assert!(line.starts_with("take "), "{line}");
        next.signal(signal);
        next.logged(&format!("stopping: {name}, before serving started"));
        assert_eq!(next.exit_code(), 0);
        line.clear();
        assert_eq!(talk.read_line(&mut line).unwrap(), 0, "it is gone: {line}");
        std::fs::remove_file(memory.socket()).unwrap();
        assert!(!pid_file.exists() && !memory.0.exists());
    }
}

/// As any server that is told to stop before it has begun. Here the test is the former server, and is never asked to go.
#[test]
fn a_successor_that_is_told_to_stop_before_it_has_the_sockets_does_not_take_them() {
    let memory = Memory::new("told-early");
    let listener = UnixListener::bind(memory.socket()).unwrap();
    let mut next = memory.successor("");
    let mut talk = BufReader::new(listener.accept().unwrap().0);
    talk.read_line(&mut String::new()).unwrap();
    next.signal(Signal::SIGTERM);
    assert_eq!(next.child.wait().unwrap().signal(), Some(Signal::SIGTERM as i32));
    assert_eq!(talk.read_line(&mut String::new()).unwrap(), 0);
}

/// Clients that reconnect and repeat, through one handover after the other: no operation fails, no value is lost that
/// was stored, and none comes back that was deleted.
#[test]
fn under_load_nothing_fails_nothing_is_lost_and_nothing_comes_back() {
    let memory = Memory::new("load");
    // Its clients use the cache as a store: a value that is absent is set whatever was invalidated.
    let mut server = Process::start(&format!("{} --implicit-leases off", memory.flags()));
    let address = server.address();
    let done = Arc::new(Done::default());
    let clients = std::thread::spawn({
        let done = Arc::clone(&done);
        move || load(address, &done)
    });
    for _ in 0..HANDOVERS {
        done.go_on();
        let mut next = memory.successor("--implicit-leases off");
        next.logged("has handed over");
        let former = std::mem::replace(&mut server, next);
        assert_eq!(former.exit_code(), 0);
    }
    done.go_on();
    done.is_over.store(true, Ordering::Relaxed);
    clients.join().expect("no operation failed");
    server.signal(Signal::SIGTERM);
    assert_eq!(server.exit_code(), 0);
}

/// What the clients have done.
#[derive(Default)]
struct Done {
    is_over: AtomicBool,
    operations: AtomicU64,
}

impl Done {
    /// Waits until some more is done.
    fn go_on(&self) {
        let before = self.operations.load(Ordering::Relaxed);
        served::eventually("clients go on", || self.operations.load(Ordering::Relaxed) > before + 500);
    }
}

const HANDOVERS: usize = 5;

/// Some clients at work.
#[tokio::main(flavor = "current_thread")]
async fn load(address: SocketAddr, done: &Arc<Done>) {
    let mut tasks = JoinSet::new();
    for number in 0..4 {
        let config =
            Config { timeout: PATIENCE, retry_pause_max: Duration::from_millis(50), ..Config::default() };
        let client = client::Client::new(vec![address.to_string().parse().expect("an address")], config);
        tasks.spawn(work(client, number, Arc::clone(done)));
    }
    tasks.join_all().await;
}

/// Stores, reads and deletes values that are this task's alone.
async fn work(client: client::Client, number: usize, done: Arc<Done>) {
    let mut values: Vec<Option<String>> = vec![None; 40];
    let mut round: u64 = 0;
    while !done.is_over.load(Ordering::Relaxed) {
        round += 1;
        let place = (round * 7 % 40) as usize;
        let (key, value) = (format!("{number}:{place}"), format!("value {round} of {number}"));
        let found = surely(&done, || client.get(&key)).await;
        assert_eq!(
            found.map(|value| String::from_utf8(value.data.to_vec()).expect("it was text")),
            values[place],
            "{key}"
        );
        if round.is_multiple_of(3) {
            surely(&done, || client.delete(&key)).await;
            values[place] = None;
        } else {
            assert!(surely(&done, || client.set(&key, value.clone(), Duration::ZERO)).await);
            values[place] = Some(value);
        }
    }
}

/// Repeats what a lost connection has left open; anything else would be a failure.
async fn surely<T, F: Future<Output = Result<T, Error>>>(done: &Done, ask: impl Fn() -> F) -> T {
    loop {
        match ask().await {
            Ok(answer) => {
                done.operations.fetch_add(1, Ordering::Relaxed);
                return answer;
            }
            Err(Error::Down { .. } | Error::Lost { .. }) => {}
            Err(failed) => panic!("{failed}"),
        }
    }
}

#[test]
fn a_path_that_is_too_long_for_a_socket_is_warned_of() {
    let name = "x".repeat(100);
    let memory = Memory::new(&name);
    let mut server = Process::start(&memory.flags());
    server.address();
    server.logged("no other server can take over");
    server.signal(Signal::SIGTERM);
    assert_eq!(server.exit_code(), 0);
    assert!(!Path::new(&memory.socket()).exists());
}
