//! The server as a process: its flags, its signals, its files and its end.

#![cfg(feature = "server")]

mod served;

use std::io::BufReader;
use std::os::unix::net::UnixStream;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use served::{Client, Process, eventually, scratch, start};

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
