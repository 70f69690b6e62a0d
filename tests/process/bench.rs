//! The load generator against servers that count, too: what it says it has asked is what they have heard.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::thread;

use crate::support::served::{Client, eventually, scratch, start};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// What it has said.
struct Told {
    code: i32,
    errors: String,
    json: Value,
}

fn bench(server: impl ToString, flags: &str) -> Told {
    let output = Command::new(env!("CARGO_BIN_EXE_leasehold"))
        .args(["bench", &server.to_string(), "--json", "-"])
        .args(flags.split_whitespace())
        .output()
        .expect("the binary starts");
    Told {
        code: output.status.code().expect("it ends by itself"),
        errors: String::from_utf8(output.stderr).expect("it is text"),
        json: serde_json::from_slice(&output.stdout).unwrap_or_default(),
    }
}

impl Told {
    fn round(&self) -> &Value {
        &self.json["servers"][0]["rounds"][0]
    }

    fn requests(&self, verb: &str) -> u64 {
        self.count("verbs", "verb", verb, "requests")
    }

    fn outcome(&self, outcome: &str) -> u64 {
        self.count("outcomes", "outcome", outcome, "count")
    }

    fn count(&self, list: &str, key: &str, name: &str, figure: &str) -> u64 {
        let entries = self.round()[list].as_array().expect("a list");
        entries
            .iter()
            .find(|entry| entry[key] == name)
            .map_or(0, |entry| entry[figure].as_u64().expect("a number"))
    }
}

#[test]
fn it_has_asked_what_the_server_has_heard() {
    let server = start("");
    let told = bench(server.address(), "-n 10000 -K 500 -c 7 -t 2 -P 16 -m get=6,set=3,delete=1 -s 1-3000");
    assert_eq!((told.code, &told.errors[..]), (0, ""));
    let mut client = Client::connect(server.address());
    let (gets, sets, deletes) = (told.requests("get"), told.requests("set"), told.requests("delete"));
    assert_eq!(gets + sets + deletes, 10_000);
    assert_eq!(client.stat("cmd_get"), gets);
    assert_eq!(client.stat("cmd_set"), 500 + sets, "each key was stored once before");
    assert_eq!(client.stat("get_hits"), told.outcome("hits"));
    assert_eq!(client.stat("get_misses"), told.outcome("misses"));
    assert_eq!(client.stat("delete_hits"), told.outcome("deleted"));
    assert_eq!(client.stat("delete_misses"), told.outcome("not found"));
    server.stop();
}

#[test]
fn many_keys_are_got_and_missed_at_once() {
    let server = start("");
    let told = bench(server.address(), "-n 1000 -K 100 -c 3 -k 50 -m get -p sequential -s 0");
    assert_eq!((told.code, told.outcome("hits"), told.outcome("misses")), (0, 50_000, 0));
    Client::connect(server.address()).check("delete bench:000000000000000007", &["DELETED"]);
    let told = bench(server.address(), "-n 1000 -K 100 -c 3 -k 50 -m get -p sequential --no-preload");
    assert_eq!((told.code, told.outcome("hits"), told.outcome("misses")), (0, 49_500, 500));
    server.stop();
}

#[test]
fn keys_may_be_short() {
    let server = start("");
    let told = bench(server.address(), "-n 1000 -K 10 --key-bytes 1 -c 2 -P 5 -m get,set,lease");
    assert_eq!((told.code, told.outcome("misses")), (0, 0), "{}", told.errors);
    assert_eq!(Client::connect(server.address()).stat("curr_items"), 10);
    server.stop();
}

#[test]
fn leases_are_filled() {
    let server = start("");
    let flags = "-n 1000 -K 1000 -c 5 -P 4 -m lease -p sequential --no-preload";
    let told = bench(server.address(), flags);
    let of = |told: &Told| ["leases granted", "filled", "hits"].map(|outcome| told.outcome(outcome));
    assert_eq!((told.code, of(&told)), (0, [1_000, 1_000, 0]));
    assert_eq!((told.requests("lease-get"), told.requests("lease-set")), (1_000, 1_000));
    let told = bench(server.address(), flags);
    assert_eq!((told.code, of(&told)), (0, [0, 0, 1_000]));
    let mut client = Client::connect(server.address());
    assert_eq!((client.stat("lease_granted"), client.stat("lease_filled")), (1_000, 1_000));

    let told = bench(server.address(), "-n 2000 -K 1 -c 8 -m lease=1,delete=1 --load-ms 1");
    let fills = told.outcome("filled") + told.outcome("fills refused");
    assert_eq!((told.code, told.outcome("leases granted")), (0, fills));
    server.stop();
}

#[test]
fn meta_commands_and_cycles_are_understood() {
    let server = start("--implicit-leases off");
    let told = bench(server.address(), "-n 3000 -K 50 -c 2 -P 8 -m mg=2,ms=1,md=1 -p zipf:0.99");
    assert_eq!(told.code, 0, "{}", told.errors);
    assert_eq!(told.requests("mg"), told.outcome("hits") + told.outcome("misses"));
    assert_eq!(told.requests("ms"), told.outcome("stored"));
    assert_eq!(told.requests("md"), told.outcome("deleted") + told.outcome("not found"));
    let told = bench(server.address(), "-n 100 -K 100 -c 1 -P 10 -m cycle -p sequential");
    assert_eq!((told.code, told.outcome("deleted"), told.outcome("filled")), (0, 100, 100));
    server.stop();
}

#[test]
fn an_open_loop_sends_what_is_due() {
    let server = start("");
    let told = bench(server.address(), "-n 2000 -r 200000 -c 10 -P 2 -m get -K 10");
    assert_eq!((told.code, told.outcome("hits")), (0, 2_000));
    assert_eq!(told.round()["unsent_batches"], 0);
    server.stop();
}

#[test]
fn servers_are_compared() {
    let servers = [start(""), start("")];
    let [first, second] = [&servers[0], &servers[1]].map(|server| server.address());
    let output = Command::new(env!("CARGO_BIN_EXE_leasehold"))
        .args(["bench", "--compare", &format!("{first},{second}"), "--rounds", "2"])
        .args("-n 100 -K 10 -m get".split_whitespace())
        .output()
        .expect("the binary starts");
    let table = String::from_utf8(output.stdout).expect("it is text");
    assert!(table.contains(&format!("\n{first} ")) && table.contains(&format!("\n{second} ")), "{table}");
    for address in [first, second] {
        assert_eq!(Client::connect(address).stat("cmd_get"), 200, "two rounds each");
    }
    servers.into_iter().for_each(leasehold::server::Server::stop);
}

/// All finished rounds were lost if a server had gone by the next one.
#[test]
fn what_was_measured_until_a_server_goes_is_told() {
    let (server, gone) = (start(""), fake("END\r\n"));
    let flags =
        format!("--compare {},{gone} --rounds 3 -n 1 -c 1 -m get --no-preload --json -", server.address());
    let output = Command::new(env!("CARGO_BIN_EXE_leasehold"))
        .arg("bench")
        .args(flags.split_whitespace())
        .output()
        .expect("the binary starts");
    let report: Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
    let rounds = |nth: usize| report["servers"][nth]["rounds"].as_array().expect("a list").len();
    assert_eq!((output.status.code(), rounds(0), rounds(1)), (Some(1), 2, 1));
    let failure = report["failure"].as_str().expect("a sentence");
    assert!(failure.starts_with(&format!("{gone}: ")), "{failure}");
    assert_eq!(String::from_utf8_lossy(&output.stderr), format!("{failure}\n"));
    server.stop();
}

#[test]
fn wrong_answers_are_told_by_the_exit_code() {
    let server = start("-I 1k");
    let told = bench(server.address(), "-n 10 -K 10 -m set -s 5000 --no-preload");
    assert_eq!((told.code, told.outcome("server errors")), (1, 10));
    Client::connect(server.address()).check("set bench:000000000000000000 0 0 5\r\nwrong", &["STORED"]);
    let told = bench(server.address(), "-n 10 -K 1 -m get --no-preload");
    assert_eq!((told.code, told.outcome("wrong values")), (1, 10));
    assert!(told.errors.contains("10 wrong answers"), "{}", told.errors);
    // Else all of them would be missed, and nobody would know why.
    let told = bench(server.address(), "-n 10 -K 7 -m get -s 5000");
    assert_eq!(told.code, 1);
    assert!(told.errors.contains("refused to store 7 of 7 values"), "{}", told.errors);
    server.stop();
}

#[test]
fn what_is_no_answer_ends_it() {
    for (said, told_of) in [
        ("HELLO\r\n", "HELLO"),
        ("STORED\r\n", "Stored"),
        ("VALUE k 0 1\r\nv", "Block"),
        ("END\r\nEND\r\n", "END"),
    ] {
        let told = bench(fake(said), "-n 1 -c 1 -m get --no-preload");
        assert_eq!(told.code, 1, "{said}");
        assert!(told.errors.contains(told_of), "{}", told.errors);
    }
    let address = fake("");
    let told = bench(address, "-n 1 -c 1 -m get --no-preload");
    assert_eq!((told.code, told.errors), (1, format!("{address}: it has closed a connection\n")));
}

/// `leasehold bench 2>&1 | head` panicked.
#[test]
fn who_cannot_even_complain_fails_as_others_do() {
    let full = || std::fs::File::create("/dev/full").expect("Linux has it");
    let status = Command::new(env!("CARGO_BIN_EXE_leasehold"))
        .args(["bench", &fake("").to_string()])
        .args("-n 1 -c 1 -m get --no-preload --progress".split_whitespace())
        .stdout(full())
        .stderr(full())
        .status()
        .expect("the binary starts");
    assert_eq!(status.code(), Some(1));
}

/// The first SIGINT.
#[test]
fn what_was_measured_until_it_is_cut_short_is_told() {
    let (server, json) = (start(""), scratch("cut-short.json"));
    let address = server.address();
    for flags in ["", "-r 100 -m lease=1,delete=1 --load-ms 5", "-n 1000000000"] {
        let mut client = Client::connect(address);
        client.check("stats reset", &["RESET"]);
        let bench = interruptible(address, &format!("-K 10 -w 0 --json {} {flags}", json.display()));
        // More than its fifty connections ask at once: some have been answered.
        eventually("it is at work", || client.stat("cmd_get") + client.stat("cmd_lease_get") > 60);
        interrupt(&bench);
        let output = bench.wait_with_output().expect("it is ours");
        let table = String::from_utf8(output.stdout).expect("it is text");
        assert_eq!(output.status.code(), Some(130), "{flags}: {table}");
        assert!(table.starts_with("Cut short"), "{flags}: {table}");
        let told: Value =
            serde_json::from_slice(&std::fs::read(&json).expect("it is written")).expect("JSON");
        assert_eq!(told["cut_short"], true);
        assert!(told["servers"][0]["rounds"][0]["requests"].as_u64() > Some(0), "{flags}: {told}");
    }
    std::fs::remove_file(json).expect("it is there");
    server.stop();
}

/// It waited for answers under way, for ten seconds, and then told nothing: people stop it when the server stalls.
#[test]
fn a_server_that_has_stalled_is_not_waited_for() {
    let (address, stalled) = stalling();
    let json = scratch("stalled.json");
    let bench = interruptible(address, &format!("-c 1 -m get -w 0 --no-preload --json {}", json.display()));
    let _stream = stalled.join().expect("it has answered once");
    interrupt(&bench);
    let output = bench.wait_with_output().expect("it is ours");
    assert_eq!(output.status.code(), Some(130));
    let told: Value = serde_json::from_slice(&std::fs::read(&json).expect("it is written")).expect("JSON");
    assert_eq!(told["servers"][0]["rounds"][0]["requests"], 1, "{told}");
    std::fs::remove_file(json).expect("it is there");
}

/// A server that answers one request, and hears another one; its thread ends then, and its connection never does.
fn stalling() -> (SocketAddr, thread::JoinHandle<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    let address = listener.local_addr().expect("it is bound");
    let stalled = thread::spawn(move || {
        let mut stream = BufReader::new(listener.accept().expect("it is called").0);
        stream.read_line(&mut String::new()).expect("it is asked");
        stream.get_mut().write_all(b"END\r\n").expect("it is heard");
        stream.read_line(&mut String::new()).expect("it is asked again");
        stream.into_inner()
    });
    (address, stalled)
}

/// A run that fails emptied what an earlier one had told, and one that could not print panicked.
#[test]
fn results_are_replaced_by_results_and_whoever_cannot_print_them_says_so() {
    let (server, json) = (start(""), scratch("kept.json"));
    std::fs::write(&json, "of yesterday, and longer than nothing").expect("it can be written");
    let told = bench(fake(""), &format!("-n 1 -c 1 -m get --no-preload --json {}", json.display()));
    assert_eq!(told.code, 1);
    assert!(std::fs::read_to_string(&json).expect("it is there").starts_with("of yesterday"));
    let output = Command::new(env!("CARGO_BIN_EXE_leasehold"))
        .args(["bench", &server.address().to_string(), "-n", "1", "-K", "1", "-c", "1", "--json"])
        .arg(&json)
        .stdout(std::fs::File::create("/dev/full").expect("Linux has it"))
        .output()
        .expect("the binary starts");
    let errors = String::from_utf8(output.stderr).expect("it is text");
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(errors.contains("cannot write the standard output: No space left"), "{errors}");
    let told: Value = serde_json::from_slice(&std::fs::read(&json).expect("it is there")).expect("JSON");
    assert_eq!(told["cut_short"], false);
    std::fs::remove_file(json).expect("it is there");
    server.stop();
}

#[test]
fn a_second_signal_ends_what_the_first_one_cannot() {
    // It accepts one, and others wait to be connected.
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    let mut bench = interruptible(listener.local_addr().expect("it is bound"), "-c 1000 --no-preload");
    let _stream = listener.accept().expect("it is called");
    let mut ended = None;
    eventually("it ends", || {
        interrupt(&bench);
        ended = bench.try_wait().expect("it is ours");
        ended.is_some()
    });
    assert_eq!(ended.and_then(|status| status.signal()), Some(Signal::SIGINT as i32));
}

/// For longer than anybody waits.
fn interruptible(server: SocketAddr, flags: &str) -> Child {
    let duration = if flags.contains("-n ") { "" } else { "-d 3600" };
    Command::new(env!("CARGO_BIN_EXE_leasehold"))
        .args(["bench", &server.to_string()])
        .args(format!("{duration} {flags}").split_whitespace())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary starts")
}

fn interrupt(child: &Child) {
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).expect("it runs");
}

/// A server that answers one line with these bytes, and goes.
fn fake(said: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    let address = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("it is called");
        let mut reader = BufReader::new(stream.try_clone().expect("it can be cloned"));
        reader.read_line(&mut String::new()).expect("a line");
        stream.write_all(said.as_bytes()).expect("it is heard");
    });
    address
}

#[test]
fn nonsense_is_refused() {
    for (flags, why) in [
        ("-m lease redis://127.0.0.1:1", "does not know lease"),
        ("-K 1000 --key-bytes 2", "1000 keys take at least 3 bytes each"),
        ("-m fetch", "fetch is nothing to ask"),
        ("-c 0", "at least 1"),
        ("-c 2 -t 3", "3 threads take at least 3 connections"),
        ("-d x", "invalid"),
        ("-d 1 -n 1", "cannot be used with"),
        ("127.0.0.1:1", "127.0.0.1:1: Connection refused"),
        // Before anything is measured.
        ("--json /no/such/folder/file 127.0.0.1:1", "cannot write /no/such/folder/file: "),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_leasehold"))
            .arg("bench")
            .args(flags.split_whitespace())
            .output()
            .expect("the binary starts");
        let told = String::from_utf8(output.stderr).expect("it is text");
        assert_eq!(output.status.code(), Some(1), "{flags}: {told}");
        assert!(told.contains(why), "{flags}: {told}");
    }
}

#[test]
fn redis_is_spoken() {
    let Some(redis) = Redis::start() else { return println!("skipped: there is no redis-server") };
    let server = format!("redis://127.0.0.1:{}", redis.port);
    let told = bench(&server, "-n 5000 -K 100 -c 5 -t 2 -P 16 -m get=6,set=3,delete=1 -s 1-3000");
    assert_eq!((told.code, &told.errors[..]), (0, ""));
    assert_eq!(told.requests("get"), told.outcome("hits") + told.outcome("misses"));
    assert_eq!(told.requests("set"), told.outcome("stored"));
    assert_eq!(told.requests("delete"), told.outcome("deleted") + told.outcome("not found"));
    let told = bench(&server, "-n 200 -K 100 -c 3 -k 50 -m get -p sequential");
    assert_eq!((told.code, told.outcome("hits")), (0, 10_000));
}

struct Redis {
    child: Child,
    port: u16,
}

impl Redis {
    /// `None` if it is not installed.
    fn start() -> Option<Redis> {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
        let port = listener.local_addr().expect("it is bound").port();
        drop(listener);
        let flags = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port"];
        let child =
            Command::new("redis-server").args(flags).arg(port.to_string()).stdout(Stdio::null()).spawn();
        let mut redis = Redis { child: child.ok()?, port };
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(redis.child.try_wait().is_ok_and(|ended| ended.is_none()), "redis-server ended at once");
            thread::yield_now();
        }
        Some(redis)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
