//! `leasehold bench stale` against servers that keep their promises and servers that break them.
//!
//! No test depends on speed: the server in the test sees the expected event, and the test then ends the run.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::support::memcached::Memcached;
use crate::support::served::{eventually, scratch, start};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

fn command(flags: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_leasehold"));
    command.args(["bench", "stale"]).args(flags.split_whitespace());
    command
}

fn output(flags: &str) -> Output {
    command(flags).output().expect("the binary starts")
}

/// Completes a run without errors and wrong values; returns its report.
#[track_caller]
fn clean(server: impl ToString, flags: &str) -> Value {
    let server = server.to_string();
    let output = output(&format!("{server} -d 0.3 -w 0.1 --json - {flags}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), &*errors), (Some(0), ""), "{server} {flags}");
    let report: Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
    let round = &report["servers"][0]["rounds"][0];
    assert_eq!((&round["errors"], &round["wrong_values"]), (&0.into(), &0.into()), "{server} {flags}");
    report
}

#[test]
fn leases_and_own_connections_have_no_stale_reads() {
    let server = start("");
    let address = server.address();
    let storm = "--fail-on-stale --deletes 2000 --load-ms 0-2";
    for invalidate in ["delete", "noreply", "tag", "prefix"] {
        for workload in ["storm", "fifo", "one"] {
            let flags = format!("{storm} --workload {workload} --invalidate {invalidate}");
            let report = clean(format!("lease://{address}"), &flags);
            assert_eq!(report["servers"][0]["stale_reads"], 0);
        }
    }
    clean(address, &format!("{storm} --workload own"));
    clean(format!("lease://{address}"), &format!("{storm} --flush 0.01 --noise -s 1-3000"));
    server.stop();
}

/// Stale reads are counted by other tests; here the program must understand every answer.
#[test]
fn every_option_works_with_leasehold() {
    let server = start("");
    for flags in [
        "--workload lifo --invalidate tag",
        "--workload fifo --invalidate prefix --noise",
        "--workload one --invalidate noreply --burst 10",
        "--workload lifo --writers-apart --through 0.5",
        "--workload addresses --connections lifo:2 --flush 0.05",
        "--workload mix-never30 --tail 0.5 --never-keys 0.5 -p hot:0.1:0.9 -s lognormal:200:1 --seed 7",
    ] {
        clean(server.address(), &format!("{flags} --deletes 500"));
    }
    server.stop();
}

#[test]
fn memcached_can_be_measured() {
    let Some(mut memcached) = Memcached::start("") else { return println!("skipped: no memcached") };
    let address = memcached.connect().peer_addr().expect("it is connected");
    for flags in ["", "--invalidate noreply --through 0.5", "-c fifo:3 --flush 0.05"] {
        clean(address, &format!("{flags} --deletes 500"));
    }
}

#[test]
fn several_servers_can_be_compared() {
    let servers = [start(""), start("")];
    let [first, second] = [&servers[0], &servers[1]].map(|server| server.address());
    let output = output(&format!("--compare lease://{first},{second} --rounds 2 -d 0.1 -w 0 --workload one"));
    let table = String::from_utf8(output.stdout).expect("it is text");
    assert_eq!(output.status.code(), Some(0), "{table}");
    assert!(table.starts_with("64 workers, 20 keys, uniform, 60 writes/s, "), "{table}");
    assert!(table.contains(&format!("\nlease://{first} ")), "{table}");
    assert!(table.contains(&format!("\n{second} ")), "{table}");
    servers.into_iter().for_each(leasehold::server::Server::stop);
}

#[test]
fn a_server_that_ignores_deletes_has_stale_reads() {
    let server = Fake::start(Fault::IgnoresDeletes);
    // One connection carries everything, so that "answered before" is the order on it.
    let run = Interrupted::start(&server, "-K 1 --workers 2 -c one --deletes 500");
    eventually("stale values are served", || server.broken.load(Ordering::Relaxed) > 100);
    let (code, errors, report) = run.end();
    let round = &report["servers"][0]["rounds"][0];
    assert_eq!((code, &errors[..], &report["cut_short"]), (130, "", &true.into()), "{report}");
    assert!(round["stale_reads"].as_u64() > Some(0) && round["wrong_values"] == 0, "{report}");
    assert!(round["longest_stale_ms"].as_f64() > Some(0.0), "{report}");

    let run = Interrupted::start(&server, "-K 1 --workers 2 -c one --deletes 500 --fail-on-stale");
    let before = server.broken.load(Ordering::Relaxed);
    eventually("stale values are served", || server.broken.load(Ordering::Relaxed) > before + 100);
    let (code, errors, report) = run.end();
    assert_eq!(code, 1, "{report}");
    assert!(errors.ends_with(" stale reads\n"), "{errors}");
}

#[test]
fn values_of_other_keys_are_wrong_answers() {
    let server = Fake::start(Fault::MixesKeys);
    let run = Interrupted::start(&server, "-K 5 --workers 2 -c one --deletes 1");
    eventually("values are mixed up", || server.broken.load(Ordering::Relaxed) > 10);
    let (code, errors, report) = run.end();
    assert_eq!(code, 1, "{report}");
    assert!(errors.ends_with(" wrong answers\n"), "{errors}");
    assert!(report["servers"][0]["rounds"][0]["wrong_values"].as_u64() > Some(0), "{report}");
}

#[test]
fn a_failed_delete_is_an_error_and_promises_nothing() {
    let server = Fake::start(Fault::RefusesDeletes);
    let run = Interrupted::start(&server, "-K 1 --workers 2 -c one --deletes 500");
    eventually("deletes are refused", || server.broken.load(Ordering::Relaxed) > 10);
    let (code, _, report) = run.end();
    let round = &report["servers"][0]["rounds"][0];
    assert_eq!((code, &round["stale_reads"], &round["deletes"]), (1, &0.into(), &0.into()), "{report}");
    assert!(round["errors"].as_u64() > Some(0), "{report}");
}

#[test]
fn invalid_options_are_refused() {
    for (flags, why) in [
        ("redis://127.0.0.1:1 --invalidate tag", "does not support --invalidate tag: use delete"),
        ("--workers 1 --addresses 2", "1 workers cannot share 2 addresses: use more workers"),
        ("--never 2", "invalid share 2: expected 0 to 1"),
        ("--load-ms 5-1", "invalid range 5-1: expected the shorter time first"),
        ("-c pool", "invalid connections pool: expected own, one, lifo:NUM or fifo:NUM"),
        ("--deletes 0", "invalid number 0: expected more than 0"),
        ("lease://redis://a:1", "expected HOST:PORT, redis://HOST:PORT or lease://HOST:PORT"),
        ("--workload nonsense", "possible values: storm"),
        ("127.0.0.1:1", "127.0.0.1:1: Connection refused"),
    ] {
        let output = output(flags);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{flags}: {errors}");
        assert!(errors.contains(why), "{flags}: {errors}");
    }
}

/// A run that lasts until it is interrupted.
struct Interrupted {
    child: Child,
    json: PathBuf,
}

impl Interrupted {
    fn start(server: &Fake, flags: &str) -> Interrupted {
        let json = scratch(&format!("stale-{}.json", server.address.port()));
        let line = format!("{} -d 3600 -w 0 --load-ms 0-1 --json {} {flags}", server.address, json.display());
        let child = command(&line).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        Interrupted { child: child.expect("the binary starts"), json }
    }

    /// Interrupts it; returns its exit code, its errors, and its report.
    fn end(self) -> (i32, String, Value) {
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGINT).expect("it runs");
        let output = self.child.wait_with_output().expect("it is ours");
        let report = fs::read(&self.json).expect("it is written");
        fs::remove_file(&self.json).expect("it is there");
        let errors = String::from_utf8(output.stderr).expect("it is text");
        let code = output.status.code().expect("it ends by itself");
        (code, errors, serde_json::from_slice(&report).expect("it is JSON"))
    }
}

/// A server with get, set and delete that does one thing wrong.
struct Fake {
    address: SocketAddr,
    /// The number of times a client could see that.
    broken: Arc<AtomicU64>,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Fault {
    /// Answers deletes, and keeps the first value of each key.
    IgnoresDeletes,
    /// Answers every get with the value that was stored last.
    MixesKeys,
    /// Answers deletes with an error.
    RefusesDeletes,
}

/// The values of a fake server.
#[derive(Default)]
struct Values {
    /// Answered deletes of each key.
    deletes: HashMap<String, u64>,
    last: Option<(String, Vec<u8>)>,
    values: HashMap<String, Vec<u8>>,
}

impl Fake {
    fn start(fault: Fault) -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
        let (address, broken) = (listener.local_addr().expect("it is bound"), Arc::default());
        let (values, counted) = (Arc::new(Mutex::new(Values::default())), Arc::clone(&broken));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (values, counted) = (Arc::clone(&values), Arc::clone(&counted));
                thread::spawn(move || serve(stream, fault, &values, &counted));
            }
        });
        Fake { address, broken }
    }
}

/// Serves one client until it hangs up.
fn serve(stream: TcpStream, fault: Fault, values: &Mutex<Values>, broken: &AtomicU64) {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    while reader.read_line(&mut line).is_ok_and(|bytes| bytes > 0) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let mut values = values.lock().expect("no thread panics while holding it");
        let reply = match words[..] {
            ["get", key] => values.get(fault, key, broken),
            ["set", key, _, _, bytes] => {
                let mut value = vec![0; bytes.parse::<usize>().expect("a length") + 2];
                reader.read_exact(&mut value).expect("the value follows");
                value.truncate(value.len() - 2);
                values.values.entry(key.to_owned()).or_insert_with(|| value.clone());
                values.last = Some((key.to_owned(), value));
                b"STORED\r\n".to_vec()
            }
            ["delete", _] if fault == Fault::RefusesDeletes => {
                broken.fetch_add(1, Ordering::Relaxed);
                b"SERVER_ERROR no\r\n".to_vec()
            }
            ["delete", key] => {
                *values.deletes.entry(key.to_owned()).or_default() += 1;
                b"DELETED\r\n".to_vec()
            }
            _ => b"END\r\n".to_vec(),
        };
        if reader.get_mut().write_all(&reply).is_err() {
            return;
        }
        line.clear();
    }
}

impl Values {
    fn get(&self, fault: Fault, key: &str, broken: &AtomicU64) -> Vec<u8> {
        let found = match fault {
            Fault::MixesKeys => self.last.as_ref().map(|(owner, value)| (owner != key, value)),
            Fault::IgnoresDeletes | Fault::RefusesDeletes => {
                self.values.get(key).map(|value| (version(value) < self.deletes(key), value))
            }
        };
        let Some((is_broken, value)) = found else { return b"END\r\n".to_vec() };
        if is_broken {
            broken.fetch_add(1, Ordering::Relaxed);
        }
        let head = format!("VALUE {key} 0 {}\r\n", value.len());
        [head.as_bytes(), value, b"\r\nEND\r\n"].concat()
    }

    fn deletes(&self, key: &str) -> u64 {
        self.deletes.get(key).copied().unwrap_or_default()
    }
}

/// Versions count from 1 and each is deleted once, so a value with fewer versions than deletes is stale.
fn version(value: &[u8]) -> u64 {
    let text = std::str::from_utf8(value).expect("it is text");
    text.split(' ').nth(1).and_then(|word| word.parse().ok()).expect("a version")
}
