//! `leasehold cli` and `leasehold top` as programs, against a running server.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::thread;

use crate::support::memcached;
use crate::support::served;
use crate::support::served::{scratch, start};
use crate::terminal::Terminal;
use leasehold::server::Server;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

/// The output of a program.
#[derive(Debug)]
struct Run {
    code: i32,
    errors: String,
    text: String,
}

fn run(program: &str, arguments: &[&str], input: &[u8]) -> Run {
    let mut child = Command::new(env!("CARGO_BIN_EXE_leasehold"))
        .arg(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    // A program that does not read its input may have ended already.
    let _ = child.stdin.take().expect("it is piped").write_all(input);
    let output = child.wait_with_output().expect("it ends");
    let text = |bytes| String::from_utf8(bytes).expect("it is text");
    Run {
        code: output.status.code().expect("by itself"),
        errors: text(output.stderr),
        text: text(output.stdout),
    }
}

/// Runs one command, and checks its output and exit code.
#[track_caller]
fn check(server: &Server, words: &[&str], expected: &str, code: i32) {
    let address = server.address().to_string();
    let run = run("cli", &[&[&address[..]], words].concat(), b"<page>");
    assert_eq!((&run.text[..], run.code, &run.errors[..]), (expected, code, ""), "{words:?}");
}

/// Runs a script, and checks its output and exit code.
#[track_caller]
fn play(server: &Server, script: &str, expected: &str, code: i32) {
    let run = run("cli", &[&server.address().to_string()], script.as_bytes());
    assert_eq!((&run.text[..], run.code), (expected, code), "{script}: {}", run.errors);
}

#[test]
fn a_command_prints_its_reply_and_sets_the_exit_code() {
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
    check(&server, &["quit"], "", 0);
    check(&server, &["stats", "nonsense"], "ERROR\n", 2);
    server.stop();
}

#[test]
fn invalid_commands_and_options_fail_before_asking() {
    let server = start("");
    let address = server.address().to_string();
    let fails = |arguments: &[&str], why: &str| {
        let run = run("cli", arguments, b"");
        assert!(run.code == 2 && run.text.is_empty() && run.errors.contains(why), "{run:?}");
    };
    fails(&[&address, "set", "k", "0", "0"], "set <key> <flags> <exptime> <value>");
    fails(&[&address, "set", "k", "0", "60", "hello", "world"], "set <key> <flags> <exptime> <value>");
    fails(&[&address, "get", "a\r\nflush_all"], "only a value");
    fails(&["--user", "ann", "get", "a"], "--password-file");
    fails(&["--ca", "/nowhere/ca.pem", "get", "a"], "/nowhere/ca.pem");
    fails(&["nowhere:port", "get", "a"], "host:port");
    server.stop();
    fails(&[&address, "get", "a"], &format!("cannot connect to {address}: "));
}

#[test]
fn scripts_run_to_their_end() {
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
    // After a wrong length the rest of the script could be anything.
    play(&server, "set a 0 0 3\nfour\nflush_all\n", "", 2);
    play(&server, "get a\nset a\nflush_all\n", "\n", 2);
    server.stop();
}

#[test]
fn json_output_has_one_object_per_reply() {
    let server = start("");
    let script = "set a 7 0 \"hi\"\nget a b\nlease-get b\nstats leases\nmn\n";
    let run = run("cli", &[&server.address().to_string(), "--json"], script.as_bytes());
    let answers: Vec<Value> = run.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((run.code, answers.len()), (1, 5), "{run:?}");
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
fn users_authenticate_with_a_password_file() {
    let [users, right, wrong] = ["console-users", "console-right", "console-wrong"].map(scratch);
    fs::write(&users, "ann:secret\n").unwrap();
    fs::write(&right, "secret\n").unwrap();
    fs::write(&wrong, "guess").unwrap();
    let server = start(&format!("-Y {}", users.display()));
    let address = server.address().to_string();
    let ask = |file: &std::path::Path| {
        let file = file.display().to_string();
        run("cli", &[&address, "--user", "ann", "--password-file", &file, "mn"], b"")
    };
    assert_eq!(ask(&right).text, "MN\n");
    let refused = ask(&wrong);
    assert_eq!(refused.code, 2);
    assert_eq!(refused.errors, "leasehold cli: authentication failed: CLIENT_ERROR authentication failure\n");
    check(&server, &["mn"], "CLIENT_ERROR unauthenticated\n", 2);
    // It printed an empty table, as if nothing were wrong.
    for form in ["--once", "--json"] {
        let refused = run("top", &[&address, "--interval", "0.1", form], b"");
        assert_eq!((refused.code, &refused.text[..]), (2, ""));
        assert_eq!(refused.errors, "leasehold top: authentication failed: CLIENT_ERROR unauthenticated\n");
    }
    server.stop();
    [users, right, wrong].iter().for_each(|file| fs::remove_file(file).unwrap());
}

#[test]
fn unix_sockets_are_given_by_their_path() {
    let socket = scratch("console-socket");
    let mut process = served::Process::start(&format!("-s {}", socket.display()));
    process.logged("listening on");
    let run = run("cli", &[&socket.display().to_string(), "mn"], b"");
    assert_eq!((&run.text[..], run.code), ("MN\n", 0), "{}", run.errors);
    process.signal(Signal::SIGTERM);
    assert_eq!(process.exit_code(), 0);
    fs::remove_file(socket).unwrap();
}

#[test]
fn a_closed_connection_and_a_garbled_reply_are_errors() {
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
    let closed = run("cli", &[&address, "get", "a"], b"");
    assert!(
        closed.code == 2 && closed.errors.contains("closed the connection before it answered"),
        "{closed:?}"
    );
    assert!(closed.errors.contains("the outcome is unknown"), "{closed:?}");
    let garbled = run("cli", &[&address, "get", "a"], b"");
    assert!(garbled.code == 2 && garbled.errors.contains("does not speak"), "{garbled:?}");
    server.join().unwrap();
}

#[test]
fn top_prints_one_report_without_a_terminal() {
    let server = start("");
    check(&server, &["set", "k", "0", "0", "v"], "STORED\n", 0);
    let address = server.address().to_string();
    let table = run("top", &[&address, "--interval", "0.1"], b"");
    assert_eq!(table.code, 0, "{}", table.errors);
    assert!(
        table.text.starts_with(&format!("{address}  leasehold {}, up ", env!("CARGO_PKG_VERSION"))),
        "{}",
        table.text
    );
    let line = |name: &str| table.text.lines().find(|line| line.starts_with(name)).expect(name);
    assert_eq!(
        line("traffic stores").split_whitespace().collect::<Vec<_>>(),
        ["traffic", "stores", "0", "1"]
    );
    assert!(
        line("leases stale not served").ends_with(" 0") && line("server memory limit").ends_with("64 MiB")
    );

    let json = run("top", &[&address, "--interval", "0.1", "--json"], b"");
    let json: Value = serde_json::from_str(&json.text).unwrap();
    assert_eq!(json["figures"]["stores"], json!({"per_second": 0.0, "total": 1}));
    assert!(json["seconds"].as_f64().unwrap() >= 0.1);
    server.stop();
    let stopped = run("top", &[&address], b"");
    assert!(
        stopped.code == 2
            && stopped.errors.starts_with(&format!("leasehold top: cannot connect to {address}: ")),
        "{stopped:?}"
    );
    for interval in ["0", "nan", "1e300", "soon"] {
        let run = run("top", &["--interval", interval], b"");
        assert!(run.code == 2 && run.errors.contains("a number from 0.1 to 86400"), "{run:?}");
    }
}

/// Figures that memcached does not report are left out.
#[test]
fn both_programs_work_with_memcached() {
    let Some(mut memcached) = memcached::Memcached::start("") else { return };
    let address = memcached.connect().peer_addr().unwrap().to_string();
    let reply = |words: &[&str]| run("cli", &[&[&address[..]], words].concat(), b"").text;
    assert_eq!(reply(&["set", "k", "0", "0", "v"]), "STORED\n");
    assert_eq!(reply(&["get", "k"]), "v\n");
    assert_eq!(reply(&["lease-get", "k"]), "ERROR\n");
    let table = run("top", &[&address, "--interval", "0.1"], b"").text;
    assert!(table.starts_with(&format!("{address}  memcached 1.")), "{table}");
    assert!(table.contains("traffic stores") && !table.contains("leases"), "{table}");
}

#[test]
fn a_closed_pipe_ends_the_output_without_an_error() {
    let server = start("");
    let mut child = Command::new(env!("CARGO_BIN_EXE_leasehold"))
        .args(["cli", &server.address().to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    drop(child.stdout.take());
    child.stdin.take().expect("it is piped").write_all(b"stats\n").expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    assert_eq!((output.status.code(), &output.stderr[..]), (Some(0), &b""[..]));
    server.stop();
}

/// Runs the examples in docs/terminal.md in a shell.
#[test]
fn documented_examples_print_the_documented_output() {
    let server = start("");
    let programs = format!("{} cli {}", env!("CARGO_BIN_EXE_leasehold"), server.address());
    let text = include_str!("../../docs/terminal.md");
    let blocks = text.split("```console\n").skip(1).map(|rest| rest.split("```").next().unwrap_or_default());
    let mut played = 0;
    for example in blocks.flat_map(|block| block.split("$ ").skip(1)) {
        let (line, expected) = example.split_once('\n').expect("a line");
        let line = line.replace("leasehold cli", &programs);
        let output = Command::new("sh").args(["-c", &line]).output().expect("a shell");
        assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{line}");
        played += 1;
    }
    assert!(played >= 8, "{played}");
    server.stop();
}

#[test]
fn the_prompt_edits_completes_and_keeps_a_history() {
    let server = start("");
    let address = server.address();
    let state = scratch("console-state");
    let mut terminal =
        Terminal::start(&format!("cli {address}"), &[("XDG_STATE_HOME", &state.display().to_string())]);
    let prompt = format!("{address}> ");
    terminal.shows(&prompt);
    terminal.types("set page:1 0 60 \"{\\\"a\\\":[1]}\"\r");
    terminal.shows("STORED");
    // Completion knows the key that was used, and the commands.
    terminal.shows(&prompt);
    terminal.types("get pa\t\r");
    terminal.shows("{\r\n  \"a\": [\r\n    1\r\n  ]\r\n}\r\n");
    terminal.types("set two 0 0 7\r");
    terminal.shows("value> ");
    terminal.types("one\r");
    terminal.shows("value> ");
    terminal.types("two\r");
    terminal.shows("STORED");
    terminal.types("lease-get user:7\r");
    terminal.shows("load the value, then lease-set user:7");
    terminal.types("watch mutations\r");
    terminal.shows("OK");
    check(&server, &["set", "seen", "0", "0", "v"], "STORED\n", 0);
    terminal.shows("key=seen status=stored");
    terminal.signal(Signal::SIGINT);
    terminal.shows("canceled");
    terminal.shows(&prompt);
    terminal.types("help touch\r");
    terminal.shows("set a new expiry time");
    terminal.types("set page:1 0 60\r");
    terminal.shows("the value in quotes, or its length");
    // Ctrl-C discards the line. Before the prompt is shown, the line discipline would handle it.
    terminal.shows(&prompt);
    terminal.types("get nonsense\x03");
    terminal.shows(LEFT_LINE);
    terminal.shows(&prompt);
    terminal.types("mn\r");
    terminal.shows("MN");
    terminal.shows(&prompt);
    // Ctrl-D exits.
    terminal.types("\x04");
    assert_eq!(terminal.exit_code(), 0);
    let history = fs::read_to_string(state.join("leasehold/history")).unwrap();
    let lines: Vec<_> = history.lines().collect();
    let typed =
        ["set page:1 0 60 \"\"", "get page:1", "set two 0 0 7", "lease-get user:7", "watch mutations", "mn"];
    assert_eq!(lines, typed);
    fs::remove_dir_all(state).unwrap();
    server.stop();
}

/// The shell was left without echo.
#[test]
fn a_terminated_prompt_restores_the_terminal() {
    let server = start("");
    let state = scratch("console-terminated").display().to_string();
    let line = format!("cli {}", server.address());
    let mut terminal = Terminal::start(&line, &[("XDG_STATE_HOME", &state)]);
    terminal.shows("> ");
    terminal.types("z");
    terminal.shows("z");
    assert!(!terminal.echoes(), "the editor does it");
    terminal.signal(Signal::SIGTERM);
    assert_eq!(terminal.exit_code(), 143);
    assert!(terminal.echoes());
    server.stop();
}

#[test]
fn the_prompt_reconnects_to_a_restarted_server() {
    let mut first = served::Process::start("-p -1");
    let address = first.address();
    let state = scratch("console-again").display().to_string();
    let mut terminal = Terminal::start(&format!("cli {address}"), &[("XDG_STATE_HOME", &state)]);
    terminal.types("mn\r");
    terminal.shows("MN");
    first.signal(Signal::SIGTERM);
    assert_eq!(first.exit_code(), 0);
    terminal.types("get a\r");
    terminal.shows("cannot connect");
    let mut second = served::Process::start(&format!("-p {}", address.port()));
    second.logged("listening on");
    terminal.types("get a\r");
    terminal.shows("no value");
    second.signal(Signal::SIGTERM);
    assert_eq!(second.exit_code(), 0);
    let mut third = served::Process::start(&format!("-p {}", address.port()));
    third.logged("listening on");
    terminal.types("get a\r");
    terminal.shows("the server closed the connection; reconnected");
    terminal.shows("no value");
    terminal.types("quit\r");
    assert_eq!(terminal.exit_code(), 0);
    fs::remove_dir_all(state).unwrap();
}

#[test]
fn top_takes_the_whole_terminal_and_gives_it_back() {
    let server = start("");
    let address = server.address();
    let start = || Terminal::start(&format!("top {address} --interval 0.1"), &[]);
    let mut terminal = start();
    terminal.shows(ENTER);
    terminal.shows("stale");
    terminal.types("\t");
    terminal.shows("no policies");
    terminal.types("p");
    terminal.shows("paused");
    terminal.types("q");
    terminal.shows(LEAVE);
    assert_eq!(terminal.exit_code(), 0);

    let mut terminal = start();
    terminal.shows("stale");
    server.stop();
    terminal.shows("trying");
    terminal.signal(Signal::SIGTERM);
    terminal.shows(LEAVE);
    assert_eq!(terminal.exit_code(), 0);
}

/// Sent when the editor finishes or discards a line: the end of bracketed paste.
const LEFT_LINE: &str = "\x1b[?2004l";
/// Sent when a program enters and leaves the alternate screen.
const ENTER: &str = "\x1b[?1049h";
const LEAVE: &str = "\x1b[?1049l";
