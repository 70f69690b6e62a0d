//! Packaging: manual pages, completions, the health check, and packaged files that use flags.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::served;
use crate::support::served::{scratch, start};
use clap::{CommandFactory, Parser};
use leasehold::options::Options;

fn run(line: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_leasehold"));
    command.args(line.split_whitespace()).output().expect("the binary starts")
}

fn printed(line: &str) -> String {
    let output = run(line);
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("it is text")
}

const SUBCOMMANDS: [&str; 7] = ["bench", "cli", "completions", "handover", "healthcheck", "man", "top"];

#[test]
fn the_manual_lists_every_flag_and_subcommand() {
    let page = printed("man").replace("\\-", "-");
    // The date is empty: without its field the version would take its place.
    let title = format!(r#".TH leasehold 1 "" "leasehold {}" "leasehold manual""#, env!("CARGO_PKG_VERSION"));
    assert!(page.contains(&title), "{}", page.lines().nth(2).unwrap_or_default());
    assert!(!page.contains("leasehold-help(1)"), "there is no such subcommand");
    for flag in Options::command().get_arguments().filter_map(|flag| flag.get_long()) {
        assert!(page.contains(&format!("--{flag}")), "{flag}");
    }
    for subcommand in SUBCOMMANDS {
        assert!(page.contains(&format!("leasehold-{subcommand}(1)")), "{subcommand}");
        let own = printed(&format!("man {subcommand}"));
        assert!(own.contains(&format!(".TH leasehold-{subcommand} 1")), "{subcommand}");
        assert!(own.contains(&format!("\\fBleasehold {subcommand}\\fR")), "{subcommand}");
    }
    let stale = printed("man bench stale");
    assert!(
        stale.contains(".TH leasehold-bench-stale 1") && stale.contains("leasehold bench stale"),
        "{stale}"
    );
    let help = printed("--help");
    let own =
        help.lines().find(|line| line.starts_with("Subcommands: ")).expect("the help lists the subcommands");
    assert!(SUBCOMMANDS.iter().all(|subcommand| own.contains(subcommand)), "{own}");
    let handover = printed("handover --help");
    assert!(
        handover.contains("Take over the sockets") && handover.contains("Usage: leasehold handover"),
        "{handover}"
    );
    let unknown = run("man nonsense");
    assert!(unknown.status.code() == Some(1) && unknown.stdout.is_empty());
}

#[test]
fn completions_include_subcommands_and_flags() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = printed(&format!("completions {shell}"));
        for word in SUBCOMMANDS.into_iter().chain(["require-secure", "implicit-leases"]) {
            assert!(script.contains(word), "{shell}: {word}");
        }
        assert!(script.contains("writers-apart"), "{shell}: options of bench stale");
        // With a positional argument before the subcommand, even a hidden one, zsh would complete the
        // server's flags.
        let counts_words = script.contains("case $line[1] in") && !script.contains("case $line[2] in");
        assert!(shell != "zsh" || counts_words, "{script}");
    }
    assert_eq!(run("completions").status.code(), Some(1));
}

#[test]
fn the_health_check_succeeds_only_if_a_server_answers() {
    let users = scratch("health-users");
    fs::write(&users, "ann:secret\n").unwrap();
    let server = start(&format!("-Y {}", users.display()));
    let address = server.address();
    printed(&format!("healthcheck {address}"));
    server.stop();
    assert_eq!(run(&format!("healthcheck {address}")).status.code(), Some(1));
    let server = start("-B binary");
    printed(&format!("healthcheck {}", server.address()));
    server.stop();
    // A server that accepts and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let check = format!("healthcheck --timeout 1 {}", silent.local_addr().unwrap());
    assert_eq!(run(&check).status.code(), Some(1));

    // Another kind of server, such as the admin port.
    let web = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = web.local_addr().unwrap();
    let answering = std::thread::spawn(move || {
        web.accept().unwrap().0.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
    });
    assert_eq!(run(&format!("healthcheck {address}")).status.code(), Some(1));
    answering.join().unwrap();

    let socket = scratch("health-socket");
    let mut process = served::Process::start(&format!("-s {}", socket.display()));
    process.logged("listening on");
    printed(&format!("healthcheck {}", socket.display()));
    process.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(process.exit_code(), 0);
    fs::remove_file(socket).unwrap();
    fs::remove_file(users).unwrap();
}

#[test]
fn the_health_check_finds_the_server_that_the_environment_configures() {
    let free = std::net::TcpListener::bind("127.0.0.2:0").unwrap().local_addr().unwrap();
    let port = free.port().to_string();
    let environment = [("LEASEHOLD_LISTEN", "127.0.0.2"), ("LEASEHOLD_PORT", &*port)];
    let mut process = served::Process::start_with("", &environment);
    process.logged(&format!("listening on {free}"));
    let check = |environment: &[(&str, &str)]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_leasehold"));
        command.arg("healthcheck").envs(environment.iter().copied()).output().expect("the binary starts")
    };
    let healthy = check(&environment);
    assert!(healthy.status.success(), "{healthy:?}");
    process.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(process.exit_code(), 0);
    let dead = check(&environment);
    let why = String::from_utf8_lossy(&dead.stderr);
    assert!(dead.status.code() == Some(1) && why.contains(&format!("{free}: ")), "{why}");
}

#[test]
fn the_package_contains_every_linked_document() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest: toml::Table = fs::read_to_string(root.join("Cargo.toml")).unwrap().parse().unwrap();
    let assets = manifest["package"]["metadata"]["deb"]["assets"].as_array().unwrap();
    let documents = assets.iter().filter_map(|asset| {
        let folder = asset[1].as_str().unwrap().strip_prefix("usr/share/doc/leasehold/")?;
        Some((folder, asset[0].as_str().unwrap()))
    });
    let mut shipped = Vec::new();
    for (folder, source) in documents {
        match source.strip_suffix('*') {
            Some(all) => {
                shipped.extend(fs::read_dir(root.join(all)).unwrap().map(|file| file.unwrap().path()))
            }
            None => shipped.push(root.join(source)),
        }
        assert_eq!(Path::new(source).parent(), Some(Path::new(folder.trim_end_matches('/'))), "links break");
    }
    // The readme also links to sources.
    let is_for_operators =
        |path: &&PathBuf| path.extension().is_some_and(|end| end == "md") && !path.ends_with("README.md");
    for document in shipped.iter().filter(is_for_operators) {
        let text = fs::read_to_string(document).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next()) {
            let target = fs::canonicalize(document.parent().unwrap().join(link));
            let is_elsewhere = link.is_empty() || link.contains("://");
            assert!(
                is_elsewhere || target.is_ok_and(|target| shipped.contains(&target)),
                "{document:?}: {link}"
            );
        }
    }
}

#[test]
fn packaged_flags_are_valid() {
    let file = |name: &str| {
        let path = format!("{}/packaging/{name}", env!("CARGO_MANIFEST_DIR"));
        fs::read_to_string(path).expect("it is packaged")
    };
    let value = |name: &str, key: &str| {
        let text = file(name);
        let line = text.lines().find_map(|line| line.strip_prefix(key)).expect("the line is there");
        line.trim_matches('"').to_owned()
    };
    let flags = value("leasehold.default", "LEASEHOLD_FLAGS=");
    let unit = value("leasehold.service", "ExecStart=").replace("$LEASEHOLD_FLAGS", &flags);
    let image = format!("leasehold -l {}", value("Dockerfile", "ENV LEASEHOLD_LISTEN="));
    for line in [unit, image] {
        let options = Options::try_parse_from(line.split_whitespace()).expect("known flags");
        options.checked().expect("flags that fit each other");
    }
}
