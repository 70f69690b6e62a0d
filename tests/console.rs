//! `leasehold cli` and `leasehold top` as programs, against a server that runs.

#![cfg(all(feature = "bench", feature = "console", feature = "server"))]

mod served;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::thread;

use leasehold::server::Server;
use serde_json::{Value, json};
use served::{scratch, start};

/// What a program has said.
#[derive(Debug)]
struct Told {
    code: i32,
    errors: String,
    text: String,
}

fn told(program: &str, arguments: &[&str], input: &[u8]) -> Told {
    let mut child = Command::new(env!("CARGO_BIN_EXE_leasehold"))
        .arg(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    // Whoever does not read it may have ended already.
    let _ = child.stdin.take().expect("it is piped").write_all(input);
    let output = child.wait_with_output().expect("it ends");
    let text = |bytes| String::from_utf8(bytes).expect("it is text");
    Told {
        code: output.status.code().expect("by itself"),
        errors: text(output.stderr),
        text: text(output.stdout),
    }
}

/// Asks one thing, and checks what is said and the exit code.
#[track_caller]
fn check(server: &Server, words: &[&str], expected: &str, code: i32) {
    let address = server.address().to_string();
    let told = told("cli", &[&[&address[..]], words].concat(), b"<page>");
    assert_eq!((&told.text[..], told.code, &told.errors[..]), (expected, code, ""), "{words:?}");
}

/// Plays a script, and checks likewise.
#[track_caller]
fn play(server: &Server, script: &str, expected: &str, code: i32) {
    let told = told("cli", &[&server.address().to_string()], script.as_bytes());
    assert_eq!((&told.text[..], told.code), (expected, code), "{script}: {}", told.errors);
}

#[test]
fn a_command_is_asked_and_its_exit_code_tells() {
    let server = start("");
    check(&server, &["set", "k", "0", "60", "hello world"], "STORED\n", 0);
    check(&server, &["get", "k"], "hello world\n", 0);
    check(&server, &["get", "k", "nothing"], "hello world\n", 1);
    check(&server, &["get", "nothing"], "", 1);
    check(&server, &["add", "k", "0", "0", "12"], "NOT_STORED\n", 1);
    check(&server, &["set", "n", "0", "0", "12"], "STORED\n", 0);
    check(&server, &["incr", "n", "1"], "13\n", 0);
    check(&server, &["set", "page", "0", "-1", "-"], "STORED\n", 0);
    check(&server, &["set", "page", "0", "0", "-"], "STORED\n", 0);
    check(&server, &["get", "page"], "<page>\n", 0);
    check(&server, &["delete", "k", "noreply"], "", 0);
    check(&server, &["delete", "k"], "NOT_FOUND\n", 1);
    check(&server, &["invalidate", "prefix", "product:"], "INVALIDATED 1\n", 0);
    check(&server, &["nonsense"], "ERROR\n", 2);
    check(&server, &["stats", "nonsense"], "ERROR\n", 2);
    server.stop();
}

#[test]
fn what_cannot_be_asked_is_told() {
    let server = start("");
    let address = server.address().to_string();
    let complains = |arguments: &[&str], why: &str| {
        let told = told("cli", arguments, b"");
        assert!(told.code == 2 && told.text.is_empty() && told.errors.contains(why), "{told:?}");
    };
    complains(&[&address, "set", "k", "0", "0"], "set <key> <flags> <exptime> <value>");
    complains(&[&address, "get", "a\r\nflush_all"], "no word");
    complains(&["--user", "ann", "get", "a"], "--password-file");
    complains(&["--ca", "/nowhere/ca.pem", "get", "a"], "/nowhere/ca.pem");
    complains(&["nowhere:port", "get", "a"], "host:port");
    server.stop();
    complains(&[&address, "get", "a"], "no connection");
}

#[test]
fn scripts_are_played_to_the_end() {
    let server = start("");
    play(
        &server,
        "set a 0 0 5\nEND\r\n\nset b 0 0 \"b\"\r\n\nget a\nget b\n",
        "STORED\nSTORED\nEND\r\n\nb\n",
        0,
    );
    play(&server, "get nothing\nget b", "b\n", 1);
    play(&server, "nonsense\nget b\nquit\nget a\n", "ERROR\nb\n", 2);
    play(&server, "ms m \"x\" q\nmg m v q\nmg nothing v q\nset a 0 0 0\n\nget a\n", "VA 1\nx\nSTORED\n\n", 0);
    // What follows could be anything.
    play(&server, "set a 0 0 3\nfour\nflush_all\n", "", 2);
    play(&server, "get a\nset a\nflush_all\n", "\n", 2);
    server.stop();
}

#[test]
fn json_is_one_object_an_answer() {
    let server = start("");
    let script = "set a 7 0 \"hi\"\nget a b\nlease-get b\nstats leases\nmn\n";
    let told = told("cli", &[&server.address().to_string(), "--json"], script.as_bytes());
    let answers: Vec<Value> = told.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((told.code, answers.len()), (1, 5), "{told:?}");
    assert_eq!(answers[0], json!({"command": "set a 7 0 2", "status": "STORED"}));
    let values = json!([{"key": "a", "flags": 7, "bytes": 2, "value": "hi"}]);
    assert_eq!(answers[1], json!({"command": "get a b", "status": "END", "values": values}));
    assert_eq!(answers[2]["values"][0]["lease"], "granted");
    assert!(answers[2]["values"][0]["token"].as_str().unwrap().parse::<u64>().unwrap() > 1);
    assert_eq!(answers[3]["stats"]["lease_granted"], 1);
    assert_eq!(answers[4], json!({"command": "mn", "status": "MN"}));
    server.stop();
}

#[test]
fn users_are_let_in_by_a_file() {
    let [users, right, wrong] = ["console-users", "console-right", "console-wrong"].map(scratch);
    fs::write(&users, "ann:secret\n").unwrap();
    fs::write(&right, "secret\n").unwrap();
    fs::write(&wrong, "guess").unwrap();
    let server = start(&format!("-Y {}", users.display()));
    let address = server.address().to_string();
    let ask = |file: &std::path::Path| {
        let file = file.display().to_string();
        told("cli", &[&address, "--user", "ann", "--password-file", &file, "mn"], b"")
    };
    assert_eq!(ask(&right).text, "MN\n");
    let refused = ask(&wrong);
    assert_eq!(refused.code, 2);
    assert_eq!(refused.errors, "leasehold cli: not let in: CLIENT_ERROR authentication failure\n");
    check(&server, &["mn"], "CLIENT_ERROR unauthenticated\n", 2);
    server.stop();
    [users, right, wrong].iter().for_each(|file| fs::remove_file(file).unwrap());
}

#[test]
fn sockets_have_paths() {
    let socket = scratch("console-socket");
    let mut process = served::Process::start(&format!("-s {}", socket.display()));
    process.logged("listening on");
    let told = told("cli", &[&socket.display().to_string(), "mn"], b"");
    assert_eq!((&told.text[..], told.code), ("MN\n", 0), "{}", told.errors);
    process.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(process.exit_code(), 0);
    fs::remove_file(socket).unwrap();
}

#[test]
fn a_server_that_hangs_up_is_told_of() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.read_exact(&mut [0; 7]).unwrap();
        drop(stream);
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"VALUE a 0 many\r\n").unwrap();
        stream.read_exact(&mut [0; 7]).unwrap();
    });
    let closed = told("cli", &[&address, "get", "a"], b"");
    assert!(closed.code == 2 && closed.errors.contains("hung up before it answered"), "{closed:?}");
    let garbled = told("cli", &[&address, "get", "a"], b"");
    assert!(garbled.code == 2 && garbled.errors.contains("does not speak"), "{garbled:?}");
    server.join().unwrap();
}
