//! The server over real sockets: what only shows between a client, the system and the process.

#![cfg(feature = "server")]

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use clap::Parser;
use leasehold::server::{Options, Server};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Longer than anything here takes; a test that comes near it hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// One client, which reads as little or as much as a test tells it to.
struct Client<S = TcpStream>(BufReader<S>);

impl Client {
    fn connect(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).expect("the server listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout is legal");
        Client(BufReader::new(stream))
    }
}

impl<S: Read + Write> Client<S> {
    fn send(&mut self, bytes: &[u8]) {
        self.0.get_mut().write_all(bytes).expect("the server takes it");
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("the server answers in time");
        line
    }

    /// Sends a line, and checks the lines that come back.
    #[track_caller]
    fn check(&mut self, sent: &str, expected: &[&str]) {
        self.send(format!("{sent}\r\n").as_bytes());
        for line in expected {
            assert_eq!(self.line(), format!("{line}\r\n"), "in answer to {sent}");
        }
    }

    #[track_caller]
    fn is_closed(&mut self) {
        match self.0.read(&mut [0]) {
            Ok(0) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            other => panic!("the server should have closed: {other:?}"),
        }
    }

    fn stat(&mut self, name: &str) -> u64 {
        self.stat_of("stats", name)
    }

    fn stat_of(&mut self, command: &str, name: &str) -> u64 {
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

/// Asks until it is so.
#[track_caller]
#[expect(clippy::disallowed_methods, reason = "the deadline that ends a hang")]
fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "{what}");
        std::thread::yield_now();
    }
}

fn start(flags: &str) -> Server {
    let line = format!("leasehold -p -1 -t 2 {flags}");
    let options = Options::try_parse_from(line.split_whitespace()).expect("legal flags");
    Server::start(options).expect("the server starts")
}

/// The server as a process of its own.
struct Process {
    child: Child,
    log: BufReader<std::process::ChildStderr>,
}

impl Process {
    fn start(flags: &str) -> Process {
        let mut child = Command::new(env!("CARGO_BIN_EXE_leasehold"))
            .args(flags.split_whitespace())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let log = BufReader::new(child.stderr.take().expect("it is piped"));
        Process { child, log }
    }

    /// Reads its log up to the first line with `text`.
    fn logged(&mut self, text: &str) -> String {
        let mut line = String::new();
        while !line.contains(text) {
            line.clear();
            assert!(self.log.read_line(&mut line).expect("a log is text") > 0, "it never logged {text}");
        }
        line
    }

    fn address(&mut self) -> SocketAddr {
        let line = self.logged("listening on 127.0.0.1:");
        let name = line.split_whitespace().find(|word| word.starts_with("127.0.0.1:")).expect("its address");
        name.parse().expect("an address")
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).expect("it runs");
    }

    fn exit_code(mut self) -> i32 {
        let status = self.child.wait().expect("it is ours");
        status.code().expect("it ended by itself")
    }
}

fn scratch(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    path
}

#[test]
fn replies_come_in_order_at_any_depth() {
    let server = start("");
    let mut client = Client::connect(server.address());
    let requests: String = (0..5_000).map(|n| format!("set k{n} {n} 0 1\r\nv\r\nget k{n}\r\n")).collect();
    client.send(requests.as_bytes());
    for n in 0..5_000 {
        for expected in ["STORED", &format!("VALUE k{n} {n} 1"), "v", "END"] {
            assert_eq!(client.line().trim_end(), expected);
        }
    }
    server.stop();
}

#[test]
fn a_connection_too_many_is_told_so() {
    let server = start("-c 2");
    let mut first = Client::connect(server.address());
    let mut second = Client::connect(server.address());
    first.check("get a", &["END"]);
    second.check("get a", &["END"]);
    let mut third = Client::connect(server.address());
    assert_eq!(third.line(), "ERROR Too many open connections\r\n");
    third.is_closed();
    assert_eq!(first.stat("rejected_connections"), 1);

    drop(second);
    eventually("the second is gone", || first.stat("curr_connections") == 1);
    Client::connect(server.address()).check("get a", &["END"]);
    server.stop();
}

#[test]
fn who_does_not_read_is_not_read_from_and_holds_nobody_up() {
    let server = start("");
    let mut deaf = Client::connect(server.address());
    let value = "v".repeat(500_000);
    deaf.check(&format!("set big 0 0 500000\r\n{value}"), &["STORED"]);
    // Five gigabytes of replies, if anybody took them.
    deaf.send("get big\r\n".repeat(10_000).as_bytes());

    let mut other = Client::connect(server.address());
    other.check("get nothing", &["END"]);
    for _ in 0..100 {
        other.check("set a 0 0 1\r\n1", &["STORED"]);
    }
    assert!(resident_bytes() < 256 << 20, "{} bytes", resident_bytes());
    for _ in 0..20 {
        for expected in ["VALUE big 0 500000", &value, "END"] {
            assert_eq!(deaf.line().trim_end(), expected);
        }
    }
    server.stop();
}

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux tells");
    let pages: usize =
        statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("its second field");
    pages * 4096
}

#[test]
fn an_idle_connection_is_closed() {
    let server = start("--idle-timeout 1");
    Client::connect(server.address()).is_closed();
    assert_eq!(Client::connect(server.address()).stat("idle_kicks"), 1);
    server.stop();
}

#[test]
fn a_waiting_reader_is_woken_by_the_fill() {
    let server = start("");
    let (mut holder, mut waiter) = (Client::connect(server.address()), Client::connect(server.address()));
    holder.send(b"lease-get k\r\n");
    let token = holder.line().split(' ').nth(2).expect("a token").to_owned();
    waiter.send(b"lease-wait 60000 k\r\n");
    let mut observer = Client::connect(server.address());
    eventually("it waits", || observer.stat("lease_waits") == 1);
    holder.send(format!("lease-set k {token} 7 0 3\r\nabc\r\n").as_bytes());
    for expected in ["VALUE k 7 3", "abc", "END"] {
        assert_eq!(waiter.line().trim_end(), expected);
    }
    server.stop();
}

#[test]
fn a_waiting_reader_inherits_the_lease_of_a_holder_who_leaves() {
    let server = start("");
    let (mut holder, mut waiter) = (Client::connect(server.address()), Client::connect(server.address()));
    holder.send(b"lease-get other k\r\n");
    assert!(holder.line().starts_with("LVALUE other "));
    assert_eq!(holder.line(), "\r\n");
    // Only now it holds the lease of k, whichever thread serves whom first.
    assert!(holder.line().starts_with("LVALUE k "));
    waiter.send(b"lease-wait 60000 k\r\n");
    let mut observer = Client::connect(server.address());
    eventually("it waits", || observer.stat("lease_waits") == 1);
    drop(holder);
    let line = waiter.line();
    let token: u64 = line.split(' ').nth(2).and_then(|token| token.parse().ok()).expect("a token");
    assert!(line.starts_with("LVALUE k ") && token > 1, "{line}");
    server.stop();
}

/// A connection that waited for a lease was deaf: it kept its own leases, and its place among the connections, until
/// the wait was over, though its peer had long gone.
#[test]
fn a_holder_who_hangs_up_while_waiting_frees_its_leases() {
    let server = start("");
    let (mut other, mut quitter) = (Client::connect(server.address()), Client::connect(server.address()));
    other.send(b"lease-get theirs\r\n");
    assert!(other.line().starts_with("LVALUE theirs "));
    assert_eq!((other.line(), other.line()), ("\r\n".to_owned(), "END\r\n".to_owned()));
    quitter.send(b"lease-get own\r\nlease-wait 60000 theirs\r\nget early\r\n");
    assert!(quitter.line().starts_with("LVALUE own "));
    eventually("it waits", || other.stat("lease_waits") == 1);
    drop(quitter);
    eventually("it is gone", || other.stat("curr_connections") == 1);
    other.send(b"lease-get own\r\n");
    let line = other.line();
    assert!(line.starts_with("LVALUE own ") && !line.starts_with("LVALUE own 1 "), "{line}");
    server.stop();
}

/// What arrived while a request waited was answered, and missing in `bytes_read`.
#[test]
fn who_says_no_more_while_waiting_is_answered_at_once() {
    let server = start("");
    let (mut holder, mut waiter) = (Client::connect(server.address()), Client::connect(server.address()));
    let (granted, waits, early) = ("lease-get k\r\n", "lease-wait 60000 k\r\n", "get early\r\n");
    holder.send(granted.as_bytes());
    assert!(holder.line().starts_with("LVALUE k "));
    assert_eq!((holder.line(), holder.line()), ("\r\n".to_owned(), "END\r\n".to_owned()));
    waiter.send(waits.as_bytes());
    let mut asked = 0;
    eventually("it waits", || {
        asked += 1;
        holder.stat("lease_waits") == 1
    });
    waiter.send(early.as_bytes());
    waiter.0.get_ref().shutdown(std::net::Shutdown::Write).expect("it is open");
    for expected in ["LVALUE k 1 0 0", "", "END", "END"] {
        assert_eq!(waiter.line().trim_end(), expected);
    }
    waiter.is_closed();
    let sent = granted.len() + waits.len() + early.len() + (asked + 1) * "stats\r\n".len();
    assert_eq!(holder.stat("bytes_read"), sent as u64);
    server.stop();
}

#[test]
fn a_large_value_goes_in_and_out_whole() {
    let server = start("-I 8m");
    let mut client = Client::connect(server.address());
    let value: String = (0..8 << 20).map(|n| char::from(b'a' + (n % 23) as u8)).collect();
    client.check(&format!("set big 0 0 {}\r\n{value}", value.len()), &["STORED"]);
    client.check("get big", &[&format!("VALUE big 0 {}", value.len()), &value, "END"]);
    client.check(
        &format!("set big 0 0 {}\r\n{value}v", value.len() + 1),
        &["SERVER_ERROR object too large for cache"],
    );
    client.check("get big", &["END"]);
    server.stop();
}

#[test]
fn what_is_no_text_is_told_so_and_closed() {
    let server = start("");
    let cases: [(&[u8], &str); 4] = [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", "CLIENT_ERROR TLS is not spoken on this port\r\n"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "CLIENT_ERROR this is a memcached port, not a web server\r\n"),
        (&[b'x'; 100_000], "CLIENT_ERROR line too long\r\n"),
        (
            b"\x80\x00\x00\x01k",
            "CLIENT_ERROR the binary protocol is not spoken here, use the text protocol\r\n",
        ),
    ];
    for (sent, expected) in cases {
        let mut client = Client::connect(server.address());
        client.send(sent);
        assert_eq!(client.line(), expected);
        client.0.get_ref().shutdown(std::net::Shutdown::Write).expect("it is open on our side");
        client.is_closed();
    }
    server.stop();
}

#[test]
fn expired_memory_comes_back_without_anyone_asking() {
    let server = start("");
    let mut client = Client::connect(server.address());
    let sets: String = (0..10_000).map(|n| format!("set k{n} 0 1 1 noreply\r\nv\r\n")).collect();
    client.send(sets.as_bytes());
    client.check("version", &["VERSION 1.6.45"]);
    eventually("all bytes are back", || client.stat("bytes") == 0);
    assert_eq!((client.stat("curr_items"), client.stat("expired_unfetched")), (0, 10_000));
    server.stop();
}

#[test]
fn a_lower_limit_is_reached_while_everybody_is_served() {
    let server = start("-m 64 -I 8m");
    let mut client = Client::connect(server.address());
    let value = "v".repeat(1_000);
    for n in 0..50_000 {
        client.send(format!("set k{n} 0 0 1000 noreply\r\n{value}\r\n").as_bytes());
    }
    client.check("version", &["VERSION 1.6.45"]);
    assert!(client.stat_of("stats memory", "charged_bytes") > 50 << 20);

    client.check("cache_memlimit 8", &["OK"]);
    assert_eq!(
        (client.stat("limit_maxbytes"), client.stat_of("stats settings", "maxbytes")),
        (8 << 20, 8 << 20)
    );
    let (mut other, mut n) = (Client::connect(server.address()), 0);
    eventually("the limit is reached", || {
        n += 1;
        other.check(&format!("set new{n} 0 0 1\r\nv"), &["STORED"]);
        other.check(&format!("get new{n}"), &[&format!("VALUE new{n} 0 1"), "v", "END"]);
        client.stat_of("stats memory", "charged_bytes") <= 8 << 20
    });
    assert!(client.stat("evictions") > 30_000);

    let half = "v".repeat(4 << 20);
    client.check(&format!("set big 0 0 {}\r\n{half}", half.len()), &["STORED"]);
    let evictions = client.stat("evictions");
    client.check(
        &format!("set other 0 0 {}\r\n{half}v", half.len() + 1),
        &["SERVER_ERROR out of memory storing object"],
    );
    client.check("get other", &["END"]);
    assert_eq!(client.stat("evictions"), evictions, "nobody has to go for what cannot be stored");
    server.stop();
}

#[test]
fn without_evictions_what_finds_no_room_is_refused() {
    let server = start("-m 8 -M");
    let mut client = Client::connect(server.address());
    let value = "v".repeat(10_000);
    let mut stored = 0;
    loop {
        client.send(format!("set k{stored} 0 0 10000\r\n{value}\r\n").as_bytes());
        match client.line().trim_end() {
            "STORED" => stored += 1,
            refused => break assert_eq!(refused, "SERVER_ERROR out of memory storing object"),
        }
    }
    assert!((500..840).contains(&stored), "{stored} in 8 MiB");
    assert_eq!((client.stat("curr_items"), client.stat("evictions")), (stored, 0));
    client.check("get k0", &["VALUE k0 0 10000", &value, "END"]);
    assert!(client.stat("store_no_memory") > 0);

    client.check("cache_memlimit 16", &["OK"]);
    client.check(&format!("set more 0 0 10000\r\n{value}"), &["STORED"]);
    client.check("cache_memlimit 8", &["OK"]);
    client.check("get more", &["VALUE more 0 10000", &value, "END"]);
    assert_eq!(client.stat("evictions"), 0, "a lower limit throws nothing out either");
    server.stop();
}

/// It said more than memcached 1.6.45 says, whose line clients compare.
#[test]
fn a_number_that_finds_no_room_is_refused_in_memcacheds_words() {
    let server = start("-m 8 -M");
    let mut client = Client::connect(server.address());
    // With one digit more each of them needs another place.
    for key in 0..64 {
        client.check(&format!("set number{key:04} 0 0 6\r\n999999"), &["STORED"]);
    }
    let mut nth = 0;
    for bytes in [10_000, 1_000, 100, 0] {
        let (value, mut refused) = ("v".repeat(bytes), 0);
        while refused < 200 {
            client.send(format!("set k{nth} 0 0 {bytes}\r\n{value}\r\n").as_bytes());
            refused = if client.line() == "STORED\r\n" { 0 } else { refused + 1 };
            nth += 1;
        }
    }
    let refused = (0..64).any(|key| {
        client.send(format!("incr number{key:04} 1\r\n").as_bytes());
        client.line() == "SERVER_ERROR out of memory\r\n"
    });
    assert!(refused);
    server.stop();
}

#[test]
fn a_unix_socket_is_served() {
    let path = scratch("socket");
    let server = start(&format!("-s {} -a 600", path.display()));
    let stream = UnixStream::connect(&path).expect("the server listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout is legal");
    Client(BufReader::new(stream)).check("get a", &["END"]);
    server.stop();
}

#[test]
fn sigterm_and_sigint_end_it_well_whatever_clients_do() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let pid_file = scratch("pid");
        let mut process = Process::start(&format!("-p -1 -P {}", pid_file.display()));
        let address = process.address();
        let (mut idle, mut deaf) = (Client::connect(address), Client::connect(address));
        idle.check("set k 0 0 1\r\nv", &["STORED"]);
        deaf.check(&format!("set big 0 0 500000\r\n{}", "v".repeat(500_000)), &["STORED"]);
        deaf.send("get big\r\n".repeat(1_000).as_bytes());
        let pid: u32 = std::fs::read_to_string(&pid_file).unwrap().trim().parse().unwrap();
        assert_eq!(pid, process.child.id());

        process.signal(signal);
        idle.is_closed();
        assert_eq!(process.exit_code(), 0);
        assert!(!pid_file.exists());
    }
}

#[test]
fn shutdown_works_where_it_is_allowed() {
    let mut forbidden = Process::start("-p -1");
    let mut client = Client::connect(forbidden.address());
    client.check("shutdown", &["SERVER_ERROR: shutdown not enabled"]);
    client.check("version", &["VERSION 1.6.45"]);
    forbidden.signal(Signal::SIGTERM);
    assert_eq!(forbidden.exit_code(), 0);

    let mut allowed = Process::start("-p -1 -A");
    Client::connect(allowed.address()).check("shutdown", &[]);
    assert_eq!(allowed.exit_code(), 0);
}

#[test]
fn nonsense_is_refused_at_the_start() {
    for flags in ["-c 0", "-t 0", "-I 1000", "-m 8 -I 5m", "--no-such-flag"] {
        assert_eq!(Process::start(flags).exit_code(), 64, "{flags}");
    }
    let server = start("");
    let mut second = Process::start(&format!("-p {}", server.address().port()));
    assert!(second.logged("ERROR").contains("cannot listen on 127.0.0.1:"));
    assert_eq!(second.exit_code(), 71);
    server.stop();
}

#[test]
fn udp_and_loopback_are_told_in_the_log() {
    let mut process = Process::start("-p -1 -U 11211");
    assert!(process.logged("UDP").contains("WARN"));
    assert!(process.logged("listening").contains("loopback only"));
    process.signal(Signal::SIGTERM);
    assert_eq!(process.exit_code(), 0);
}

#[test]
fn a_daemon_goes_on_in_the_background_as_its_user() {
    let (socket, pid_file) = (scratch("daemon-socket"), scratch("daemon-pid"));
    let flags = format!("-d -s {} -P {} -u root", socket.display(), pid_file.display());
    assert_eq!(Process::start(&flags).exit_code(), 0);

    eventually("it tells its id", || {
        std::fs::read_to_string(&pid_file).is_ok_and(|text| text.ends_with('\n'))
    });
    let pid: i32 = std::fs::read_to_string(&pid_file).unwrap().trim().parse().unwrap();
    let stream = UnixStream::connect(&socket).expect("it listened before the parent went");
    let mut client = Client(BufReader::new(stream));
    client.check("version", &["VERSION 1.6.45"]);
    kill(Pid::from_raw(pid), Signal::SIGTERM).expect("it runs");
    client.is_closed();
    eventually("it cleans up", || !pid_file.exists());
}

#[test]
fn root_becomes_another_user() {
    if !nix::unistd::geteuid().is_root() {
        return println!("skipped: only root can become somebody else");
    }
    let mut process = Process::start("-p -1 -u nobody");
    Client::connect(process.address()).check("version", &["VERSION 1.6.45"]);
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.child.id())).unwrap();
    let uid = status.lines().find(|line| line.starts_with("Uid:")).expect("Linux tells");
    assert!(!uid.split_whitespace().skip(1).any(|id| id == "0"), "{uid}");
    process.signal(Signal::SIGTERM);
    assert_eq!(process.exit_code(), 0);

    let mut process = Process::start("-p -1 -u no-such-user-here");
    assert!(process.logged("ERROR").contains("no user no-such-user-here"));
    assert_eq!(process.exit_code(), 71);
}
