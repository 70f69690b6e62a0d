//! Flags from the environment.

use std::process::{Command, Stdio};

use nix::sys::signal::Signal;

use crate::support::served::{Client, Process};

#[test]
fn the_environment_sets_flags_and_the_command_line_wins() {
    let mut process = Process::start_with(
        "-m 100",
        &[
            ("LEASEHOLD_DISABLE_FLUSH_ALL", "true"),
            ("LEASEHOLD_DISABLE_WATCH", "off"),
            ("LEASEHOLD_EXTENDED", "idle_timeout=77,no_maxconns_fast"),
            ("LEASEHOLD_LISTN", "0.0.0.0"),
            ("LEASEHOLD_MEMORY_LIMIT", "1g"),
            ("LEASEHOLD_PIDFILE", ""),
            ("LEASEHOLD_PORT", "-1"),
            ("LEASEHOLD_SERVICE_HOST", "10.0.0.1"),
            ("LEASEHOLD_STALE", "9"),
            ("LEASEHOLD_VERBOSE", "1"),
        ],
    );
    let warned = process.logged("stand for no flag");
    assert!(warned.trim_end().ends_with(": LEASEHOLD_LISTN"), "{warned}");
    let mut client = Client::connect(process.address());
    let mut settings = String::new();
    client.send(b"stats settings\r\n");
    while !settings.ends_with("END\r\n") {
        settings += &client.line();
    }
    for line in [
        "flush_enabled no",
        "idle_timeout 77",
        "maxbytes 104857600",
        "maxconns_fast no",
        "stale_ms 9000",
        "verbosity 1",
    ] {
        assert!(settings.contains(&format!("STAT {line}\r\n")), "{line} is not in {settings}");
    }
    client.check("watch fetchers", &["OK"]);
    process.signal(Signal::SIGTERM);
    assert_eq!(process.exit_code(), 0);
}

#[test]
fn an_invalid_variable_is_named() {
    for (name, value, why) in [
        ("LEASEHOLD_MEMORY_LIMIT", "much", "not a number of megabytes"),
        ("LEASEHOLD_THREADS", "0", "1 to 256 threads"),
        ("LEASEHOLD_DAEMON", "maybe", "value was not a boolean"),
        ("LEASEHOLD_EXTENDED", "nonsense=1,idle_timeout", "invalid value"),
    ] {
        let mut process = Process::start_with("", &[(name, value)]);
        let log = process.rest_of_log();
        assert!(log.contains(&format!("error: {name}: ")) && log.contains(why), "{log}");
        assert_eq!(process.exit_code(), 1);
    }
}

/// In a container, the server listened on the loopback of the container, and said nothing about it.
#[test]
fn a_container_that_listens_on_loopback_only_is_warned() {
    let contained = |program: &str| {
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--pid", "--fork", "--kill-child", program]);
        command
    };
    let may = contained("true").stderr(Stdio::null()).status();
    if !may.is_ok_and(|status| status.success()) {
        return eprintln!("skipped: this user may create no namespaces");
    }
    let mut command = contained(env!("CARGO_BIN_EXE_leasehold"));
    command.args(["-p", "-1"]);
    let line = Process::of(command).logged("outside of this container");
    assert!(line.contains("WARN") && line.contains("LEASEHOLD_LISTEN=0.0.0.0"), "{line}");
    let mut process = Process::start("-p -1");
    process.address();
    process.signal(Signal::SIGTERM);
    assert!(!process.rest_of_log().contains("outside of this container"));
}
