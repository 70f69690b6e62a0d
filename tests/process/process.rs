//! The server as a process: flags, signals, files and exit codes.

use std::io::{BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

use crate::support::packets::Packet;
use crate::support::served::{Client, Process, eventually, scratch, start};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

#[test]
fn sigterm_and_sigint_stop_the_server_with_clients_connected() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let pid_file = scratch("pid");
        let mut process = Process::start(&format!("-p -1 -P {}", pid_file.display()));
        let address = process.address();
        let (mut idle, mut stalled) = (Client::connect(address), Client::connect(address));
        idle.check("set k 0 0 1\r\nv", &["STORED"]);
        stalled.check(&format!("set big 0 0 500000\r\n{}", "v".repeat(500_000)), &["STORED"]);
        stalled.send("get big\r\n".repeat(1_000).as_bytes());
        let pid: u32 = std::fs::read_to_string(&pid_file).unwrap().trim().parse().unwrap();
        assert_eq!(pid, process.child.id());

        process.signal(signal);
        idle.is_closed();
        assert_eq!(process.exit_code(), 0);
        assert!(!pid_file.exists());
    }
}

/// `leasehold help`, `leasehold stats` and a mistyped `tpo` started a server, which then seemed to hang.
#[test]
fn a_lone_unknown_word_is_refused_with_a_suggestion() {
    let run = |words: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_leasehold")).args(words.split(' ')).output();
        let output = output.expect("it runs");
        let texts = [output.stdout, output.stderr].map(|text| String::from_utf8(text).expect("text"));
        (output.status.code(), texts.concat())
    };
    for (word, hint) in
        [("tpo", "`leasehold top`"), ("benhc", "`leasehold bench`"), ("stats", "`leasehold help`")]
    {
        let (code, text) = run(word);
        assert_eq!(code, Some(1), "{text}");
        assert!(text.contains(word) && text.contains(hint), "{text}");
    }
    let (code, text) = run("help");
    assert!(code == Some(0) && text.contains("--memory-limit"), "{text}");

    let mut server = Process::start("serve -p -1");
    Client::connect(server.address()).check("version", &["VERSION 1.6.45"]);
    // As in memcached.
    let mut lenient = Process::start("word -p -1");
    Client::connect(lenient.address()).check("version", &["VERSION 1.6.45"]);
}

/// A second server with the same `-s` took the first one's clients away without a word.
#[test]
fn a_socket_that_a_server_answers_on_is_not_taken_over() {
    let socket = scratch("answers");
    let flags = format!("-s {}", socket.display());
    let mut first = Process::start(&flags);
    first.logged("listening on");
    let mut second = Process::start(&flags);
    second.logged("a running server uses this socket");
    assert_ne!(second.exit_code(), 0);
    let mut client = Client(BufReader::new(UnixStream::connect(&socket).expect("it listens")));
    client.check("version", &["VERSION 1.6.45"]);

    // What a killed server leaves behind is replaced.
    first.signal(Signal::SIGKILL);
    drop(first);
    let mut third = Process::start(&flags);
    third.logged("listening on");
    third.signal(Signal::SIGTERM);
    assert_eq!(third.exit_code(), 0);
}

#[test]
fn shutdown_is_refused_unless_enabled() {
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
fn invalid_options_are_refused_at_the_start() {
    let unreadable = [
        "-Y /no/such/file",
        "-c 0",
        "-c -1",
        "-t 0",
        "-R 0",
        "--no-such-flag",
        "-o nonsense",
        "-o idle_timeout",
        "-o hashpower=99",
        "-f 1.0",
        "-n 0",
        "-N 0",
        "-D",
    ];
    let unfit = ["-I 1000", "-I 1025m", "-m 8 -I 5m", "-m 1", "-p 65536", "-B http", "-Z"];
    let unfit_logins =
        ["-S", "-S -Y users -B ascii", "-Y users -B binary", "-Y users -l proto[binary]:127.0.0.1"];
    let impossible = [
        "-p -1 -l nonsense",
        "-p -1 -l 999.1.1.1",
        "-p -1 -l [::1",
        "-p -1 -l proto[proxy]:127.0.0.1",
        "-s /no/such/folder/socket",
        "-p -1 -e /no/such/folder/items",
        // A daemon could not report it later.
        "-d -p -1 -e /no/such/folder/items",
    ];
    let cases = [(1, &unreadable[..]), (64, &unfit), (64, &unfit_logins), (71, &impossible)];
    for (code, flags) in cases.into_iter().flat_map(|(code, all)| all.iter().map(move |flags| (code, flags)))
    {
        let mut process = Process::start(flags);
        assert!(!process.rest_of_log().is_empty(), "{flags}: the reason is logged");
        assert_eq!(process.exit_code(), code, "{flags}");
    }
    let server = start("");
    let mut second = Process::start(&format!("-p {}", server.address().port()));
    assert!(second.logged("ERROR").contains("cannot listen on 127.0.0.1:"));
    assert_eq!(second.exit_code(), 71);
    server.stop();
}

#[test]
fn unsupported_udp_and_loopback_only_are_logged() {
    let mut process = Process::start("-p -1 -U 11211");
    assert!(process.logged("UDP").contains("WARN"));
    assert!(process.logged("listening").contains("loopback only"));
    process.signal(Signal::SIGTERM);
    assert_eq!(process.exit_code(), 0);
}

#[test]
fn a_daemon_runs_in_the_background() {
    let (socket, pid_file) = (scratch("daemon-socket"), scratch("daemon-pid"));
    let flags = format!("-d -s {} -P {} -u root", socket.display(), pid_file.display());
    assert_eq!(Process::start(&flags).exit_code(), 0);

    eventually("the pid file is written", || {
        std::fs::read_to_string(&pid_file).is_ok_and(|text| text.ends_with('\n'))
    });
    let pid: i32 = std::fs::read_to_string(&pid_file).unwrap().trim().parse().unwrap();
    let stream = UnixStream::connect(&socket).expect("it listened before the parent exited");
    let mut client = Client(BufReader::new(stream));
    client.check("version", &["VERSION 1.6.45"]);
    kill(Pid::from_raw(pid), Signal::SIGTERM).expect("it runs");
    client.is_closed();
    eventually("the pid file is removed", || !pid_file.exists());
}

#[test]
fn a_verbose_daemon_keeps_logging() {
    let pid_file = scratch("logging-daemon-pid");
    let mut process = Process::start(&format!("-d -v -p -1 -P {}", pid_file.display()));
    assert!(process.logged("listening on").contains("Z  INFO listening on"));
    stop_daemon(process, &pid_file);
}

#[test]
fn a_daemon_logs_to_the_journal_without_timestamps() {
    let pid_file = scratch("journal-daemon-pid");
    let mut command = Command::new("sh");
    // Set as systemd does for a stream to the journal.
    command.args([
        "-c",
        "JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/2) exec \"$0\" \"$@\"",
        env!("CARGO_BIN_EXE_leasehold"),
    ]);
    command.args(["-d", "-p", "-1", "-P"]).arg(&pid_file);
    let mut process = Process::of(command);
    assert!(process.logged("listening on").starts_with(" INFO listening on"));
    stop_daemon(process, &pid_file);
}

/// Stops a daemon whose log is read.
fn stop_daemon(mut process: Process, pid_file: &Path) {
    process.logged("leasehold 0");
    eventually("the pid file is written", || {
        std::fs::read_to_string(pid_file).is_ok_and(|text| text.ends_with('\n'))
    });
    let pid = std::fs::read_to_string(pid_file).expect("it is there");
    let pid = pid.trim().parse().expect("a number");
    kill(Pid::from_raw(pid), Signal::SIGTERM).expect("it runs");
    process.logged("stopping: SIGTERM");
    assert_eq!(process.exit_code(), 0);
    eventually("the pid file is removed", || !pid_file.exists());
}

#[test]
fn an_unwritable_pid_or_port_file_is_logged_as_a_warning() {
    let ports = ("MEMCACHED_PORT_FILENAME", "/no/such/folder/ports");
    let mut process = Process::start_with("-p -1 -P /no/such/folder/pid", &[ports]);
    assert!(process.logged("cannot write /no/such/folder/ports").contains("WARN"));
    assert!(process.logged("cannot write /no/such/folder/pid").contains("WARN"));
    Client::connect(process.address()).check("version", &["VERSION 1.6.45"]);
    process.signal(Signal::SIGTERM);
    assert_eq!(process.exit_code(), 0);
}

#[test]
fn root_switches_to_another_user() {
    if !nix::unistd::geteuid().is_root() {
        return println!("skipped: only root can switch users");
    }
    let mut process = Process::start("-p -1 -u nobody");
    Client::connect(process.address()).check("version", &["VERSION 1.6.45"]);
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.child.id())).unwrap();
    let uid = status.lines().find(|line| line.starts_with("Uid:")).expect("Linux has it");
    assert!(!uid.split_whitespace().skip(1).any(|id| id == "0"), "{uid}");
    process.signal(Signal::SIGTERM);
    assert_eq!(process.exit_code(), 0);

    let mut process = Process::start("-p -1 -u no-such-user-here");
    assert!(process.logged("ERROR").contains("no user no-such-user-here"));
    assert_eq!(process.exit_code(), 67);
}

#[test]
fn help_version_and_license_begin_as_memcacheds_do() {
    for flag in ["-h", "--help", "-V", "-i", "--license"] {
        let output =
            Command::new(env!("CARGO_BIN_EXE_leasehold")).arg(flag).output().expect("the binary starts");
        let text = String::from_utf8(output.stdout).expect("help is text");
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some("memcached 1.6.45"), "{flag}");
        let own = format!("leasehold {}", env!("CARGO_PKG_VERSION"));
        assert!(lines.next().is_some_and(|line| line.starts_with(&own)), "{flag}: {text}");
        assert!(output.status.success());
    }
}

#[test]
fn options_without_effect_are_logged() {
    let flags = "-p -1 stray -C -L -f 1.5 -o ,hashpower=20,,lru_crawler,maxconns_fast, -n 48 -N 1 -m 4";
    let mut process = Process::start(flags);
    let line = process.logged("have no effect here");
    assert!(line.ends_with("here: -C, -L, -f, -n, -N, hashpower, lru_crawler, stray\n"), "{line}");
    let limit = Client::connect(process.address()).stat("limit_maxbytes");
    assert_eq!(limit, 4 << 20);
    process.signal(Signal::SIGTERM);
    assert_eq!(process.exit_code(), 0);
}

#[test]
fn the_port_file_lists_every_port() {
    let path = scratch("ports");
    let name = path.to_str().expect("a path in this folder is text");
    let process = Process::start_with("-p -1 -l 127.0.0.1,127.0.0.1", &[("MEMCACHED_PORT_FILENAME", name)]);
    eventually("the file exists", || path.exists());
    let text = std::fs::read_to_string(&path).unwrap();
    let ports: Vec<u16> =
        text.lines().filter_map(|line| line.strip_prefix("TCP INET: ")?.parse().ok()).collect();
    assert_eq!(ports.len(), 2, "{text}");
    for port in ports {
        Client::connect(([127, 0, 0, 1], port).into()).check("version", &["VERSION 1.6.45"]);
    }
    process.signal(Signal::SIGTERM);
    assert_eq!(process.exit_code(), 0);
}

/// As in memcached, `proto[…]` before an address replaces `-B` there.
#[test]
fn each_address_speaks_its_own_protocol() {
    let mut process = Process::start(
        "-p -1 -B ascii -l proto[ascii]:127.0.0.1,proto[binary]:127.0.0.1,proto[negotiating]:127.0.0.1",
    );
    let addresses = [process.address(), process.address(), process.address()];
    let noop = Packet::new(0x0a, "").bytes();
    for (address, speaks_text, speaks_binary) in
        [(addresses[0], true, false), (addresses[1], false, true), (addresses[2], true, true)]
    {
        let mut text = Client::connect(address);
        let refusal = "CLIENT_ERROR only the binary protocol is spoken here";
        text.check("version", &[if speaks_text { "VERSION 1.6.45" } else { refusal }]);
        let mut binary = Client::connect(address);
        binary.send(&noop);
        let mut first = [0];
        binary.0.read_exact(&mut first).expect("an answer");
        assert_eq!(first[0] == 0x81, speaks_binary, "{address}");
    }
    process.signal(Signal::SIGTERM);
    assert_eq!(process.exit_code(), 0);
}

#[test]
fn the_first_refused_binary_client_is_logged() {
    let mut process = Process::start("-p -1 -B ascii");
    let address = process.address();
    let mut client = Client::connect(address);
    for times in 1..=2 {
        let mut binary = Client::connect(address);
        binary.send(b"\x80\x00");
        assert!(binary.line().starts_with("CLIENT_ERROR the binary protocol"));
        binary.is_closed();
        assert_eq!(client.stat("binary_refused"), times);
    }
    assert!(process.logged("binary protocol").contains("set it to the text protocol, or start with -B auto"));
    process.signal(Signal::SIGTERM);
    assert!(!process.rest_of_log().contains("binary protocol"), "it is logged once");
    assert_eq!(process.exit_code(), 0);
}

#[test]
fn memory_is_locked_or_the_start_fails() {
    let mut process = Process::start("-p -1 -k -m 8 -t 1");
    let line = process.logged(" ");
    if line.contains("cannot lock memory (-k)") {
        return assert_eq!(process.exit_code(), 71);
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.child.id())).unwrap();
    let locked = status.lines().find(|line| line.starts_with("VmLck:")).expect("Linux has it");
    assert!(!locked.ends_with("\t       0 kB"), "{locked}");
    process.signal(Signal::SIGTERM);
    assert_eq!(process.exit_code(), 0);
}

#[test]
fn core_files_are_allowed_or_the_start_fails() {
    let mut process = Process::start("-p -1 -r -m 8 -t 1");
    if process.logged(" ").contains("cannot allow core files (-r)") {
        return assert_eq!(process.exit_code(), 71);
    }
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", process.child.id())).unwrap();
    let cores =
        limits.lines().find_map(|line| line.strip_prefix("Max core file size")).expect("Linux has it");
    let words: Vec<&str> = cores.split_whitespace().collect();
    assert!(words[0] == words[1] && words[0] != "0", "{cores}");
    process.signal(Signal::SIGTERM);
    assert_eq!(process.exit_code(), 0);
}

#[test]
fn only_a_graceful_restart_keeps_the_items() {
    let file = scratch("items");
    let flags = format!("-p -1 -A -e {}", file.display());
    let mut process = Process::start(&flags);
    let address = process.address();
    process.logged("does not exist yet");
    let mut client = Client::connect(address);
    client.check("set k 7 0 5\r\nvalue", &["STORED"]);
    client.send(b"lease-get other\r\n");
    let lease = client.line();
    let token = lease.split(' ').nth(2).expect("a token").to_owned();
    process.signal(Signal::SIGUSR1);
    assert_eq!(process.exit_code(), 0);
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);

    let mut process = Process::start(&flags);
    let address = process.address();
    assert!(process.logged("loaded from").contains("items=1 gap="));
    let mut client = Client::connect(address);
    client.check("get k", &["VALUE k 7 5", "value", "END"]);
    client.check(&format!("lease-set other {token} 0 0 1\r\nv"), &["NOT_STORED"]);
    assert!(!file.exists(), "items deleted later must not return after a crash");
    client.check("shutdown graceful", &[]);
    assert_eq!(process.exit_code(), 0);

    let mut process = Process::start(&flags);
    Client::connect(process.address()).check("get k", &["VALUE k 7 5", "value", "END"]);
    process.signal(Signal::SIGTERM);
    assert_eq!(process.exit_code(), 0);

    std::fs::write(&file, "another program's").unwrap();
    let mut process = Process::start(&flags);
    let address = process.address();
    process.logged("is not a snapshot");
    Client::connect(address).check("get k", &["END"]);
    process.signal(Signal::SIGUSR1);
    assert_eq!(process.exit_code(), 0);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "another program's");
    std::fs::remove_file(&file).unwrap();
    std::fs::remove_file(beside(&file)).unwrap();
}

/// A process that was started while its predecessor still wrote began empty, and items that it deleted came
/// back when a third process loaded the predecessor's file.
#[test]
fn the_next_process_waits_until_the_snapshot_is_written() {
    let file = scratch("waits");
    let held = std::fs::File::create(beside(&file)).unwrap();
    held.lock().unwrap();
    let mut process = Process::start(&format!("-p -1 -e {}", file.display()));
    process.logged("waiting for the process that uses");
    drop(held);
    process.logged("does not exist yet");
    process.signal(Signal::SIGTERM);
    assert_eq!(process.exit_code(), 0);
    std::fs::remove_file(beside(&file)).unwrap();
}

/// The lock file that a process holds while it uses the snapshot.
fn beside(file: &std::path::Path) -> std::path::PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".leasehold-lock");
    name.into()
}

#[test]
fn sighup_reloads_the_users_and_closes_no_connection() {
    let file = scratch("users");
    std::fs::write(&file, "ann:old\n").unwrap();
    let mut process = Process::start(&format!("-p -1 -Y {}", file.display()));
    let address = process.address();
    let mut client = Client::connect(address);
    client.check("set k 0 0 7\r\nann old", &["STORED"]);
    // Open but unauthenticated connections kept the old users, and accepted a stolen password.
    let mut before = Client::connect(address);
    before.check("get k", &["CLIENT_ERROR unauthenticated"]);
    std::fs::write(&file, "ann:new\n").unwrap();
    process.signal(Signal::SIGHUP);
    process.logged("reloaded users");
    client.check("version", &["VERSION 1.6.45"]);
    before.check("set k 0 0 7\r\nann old", &["CLIENT_ERROR authentication failure"]);
    before.check("set k 0 0 7\r\nann new", &["STORED"]);
    let mut other = Client::connect(address);
    other.check("set k 0 0 7\r\nann old", &["CLIENT_ERROR authentication failure"]);
    other.check("set k 0 0 7\r\nann new", &["STORED"]);
    std::fs::remove_file(&file).unwrap();
    process.signal(Signal::SIGHUP);
    process.logged("cannot read users");
    Client::connect(address).check("set k 0 0 7\r\nann new", &["STORED"]);
    process.signal(Signal::SIGTERM);
    assert_eq!(process.exit_code(), 0);
}

#[test]
fn policies_are_read_at_the_start_and_on_sighup() {
    let file = scratch("policies");
    let config = format!("--config {}", file.display());
    std::fs::write(&file, "[default]\nttl = 50\nspeed = 9\n").unwrap();
    let run = |flags: &str| {
        let server = Command::new(env!("CARGO_BIN_EXE_leasehold")).args(flags.split(' ')).output().unwrap();
        (
            server.status.code(),
            String::from_utf8(server.stdout).unwrap(),
            String::from_utf8(server.stderr).unwrap(),
        )
    };
    for flags in [format!("{config} --check-config"), format!("{config} -p -1")] {
        let (code, _, why) = run(&flags);
        assert!(code == Some(64) && why.contains(&format!("{}:3:1: unknown field", file.display())), "{why}");
    }
    std::fs::write(&file, "[default]\nttl = 50\n").unwrap();
    let (code, printed, _) = run(&format!("{config} --check-config"));
    assert!(code == Some(0) && printed == format!("{} is valid\n", file.display()), "{printed}");

    let mut process = Process::start(&format!("-p -1 {config}"));
    let mut client = Client::connect(process.address());
    client.check("ms k 1\r\nv", &["HD"]);
    client.check("mg k t", &["HD t50"]);
    std::fs::write(&file, "[default]\nttl = soon\n").unwrap();
    process.signal(Signal::SIGHUP);
    process.logged("keeping the previous policies");
    client.check("ms k 1\r\nv", &["HD"]);
    client.check("mg k t", &["HD t50"]);
    std::fs::write(&file, "[prefix.k]\nttl = 500\n").unwrap();
    process.signal(Signal::SIGHUP);
    process.logged("reloaded policies");
    client.check("ms k 1\r\nv", &["HD"]);
    client.check("mg k t", &["HD t500"]);
    process.signal(Signal::SIGTERM);
    assert_eq!(process.exit_code(), 0);
    std::fs::remove_file(&file).unwrap();
}
