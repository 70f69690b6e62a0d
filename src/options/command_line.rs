//! The command line: memcached's flags, with long names in addition.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{ArgAction, Parser, ValueEnum};

use super::admin::AdminOptions;
use super::policies::PolicyOptions;
use super::safety::SafetyOptions;
use super::suboptions::{Extended, Suboption, suboption};
use super::tls::{TlsOption, TlsSettings};
use super::values::{MEGABYTE, cores, delimiter, factor, megabytes, octal, size, threads};
use crate::cache::{Config, Copies, WhenFull};
use crate::command::{ImplicitReply, Rules, Users};
use crate::metrics::WATCHER_BYTES_DEFAULT;
use crate::process::{logging, secret};
use crate::protocol::Protocols;

/// memcached-compatible cache server whose fills are race-free.
///
/// A miss returns a lease, a delete invalidates it, and a late fill is refused. Plain memcached clients are
/// protected, too, on any connection: a set that may carry a value read before a delete is refused.
#[derive(Clone, Debug, Parser)]
#[expect(clippy::manual_non_exhaustive, reason = "clap needs a field for the flag -V")]
#[command(name = "leasehold", display_name = "memcached", version = VERSION, help_template = HELP, args_override_self = true, infer_long_args = true, disable_version_flag = true)]
pub struct Options {
    /// TCP port; 0 for none, -1 for one that the system chooses [default: that of -U if it is not 0, else
    /// 11211]
    #[arg(short = 'p', long, value_name = "NUM", allow_negative_numbers = true)]
    pub port: Option<i32>,

    /// Addresses to listen on, comma-separated, each with an optional port; `proto[ascii]:`, `proto[binary]:`
    /// or `proto[negotiating]:` before one replaces -B there [default: 127.0.0.1]
    #[arg(short = 'l', long, value_name = "ADDR")]
    pub listen: Vec<String>,

    /// Unix socket to listen on instead of TCP
    #[arg(short = 's', long = "unix-socket", value_name = "FILE")]
    pub socket: Option<PathBuf>,

    /// Permissions of the Unix socket, in octal
    #[arg(short = 'a', long = "unix-mask", value_name = "MASK", default_value = "700", value_parser = octal)]
    pub socket_mode: u32,

    /// Memory for items, in megabytes; the suffixes m and g are allowed
    #[arg(short = 'm', long = "memory-limit", value_name = "MB", default_value_t = 64, value_parser = megabytes)]
    pub memory: u32,

    /// Refuse to store when the memory is full, instead of evicting
    #[arg(short = 'M', long)]
    pub disable_evictions: bool,

    /// Longest value in bytes; the suffixes k and m are allowed [1 KiB to half of the memory]
    #[arg(short = 'I', long = "max-item-size", value_name = "SIZE", default_value = "1m", value_parser = size)]
    pub item_size: usize,

    /// Connections at once; further ones are refused, or wait with -o no_maxconns_fast
    #[arg(short = 'c', long = "conn-limit", value_name = "NUM", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..))]
    pub connections: u32,

    /// Worker threads
    #[arg(short = 't', long, value_name = "NUM", default_value_t = cores(), value_parser = threads)]
    pub threads: usize,

    /// Requests of one connection in a row, before other connections are served
    #[arg(short = 'R', long = "max-reqs-per-event", value_name = "NUM", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub requests_per_event: u32,

    /// Length of the queue of connections to be accepted
    #[arg(
        short = 'b',
        long = "listen-backlog",
        value_name = "NUM",
        default_value_t = 1024,
        allow_negative_numbers = true
    )]
    pub backlog: i32,

    /// Close connections that send no complete request for this many seconds, as -o idle_timeout does; 0 for
    /// never
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    pub idle_timeout: u32,

    /// Allow clients to stop the server by `shutdown`
    #[arg(short = 'A', long)]
    pub enable_shutdown: bool,

    /// Refuse `flush_all`
    #[arg(short = 'F', long)]
    pub disable_flush_all: bool,

    /// Refuse commands that list keys: dumps and `stats detail`
    #[arg(short = 'X', long)]
    pub disable_dumping: bool,

    /// Refuse `watch`
    #[arg(short = 'W', long)]
    pub disable_watch: bool,

    /// Byte that ends a prefix in `stats detail`, and turns it on at the start [default: :]
    #[arg(short = 'D', value_name = "CHAR", value_parser = delimiter)]
    pub delimiter: Option<u8>,

    /// Protocol: ascii (text and meta commands), binary, or auto, where the first byte of each connection
    /// chooses; -Y without -S implies ascii
    #[arg(short = 'B', long, value_name = "NAME", default_value = "auto")]
    pub protocol: String,

    /// Keep all memory in RAM
    #[arg(short = 'k', long)]
    pub lock_memory: bool,

    /// Allow core files, in the working directory
    #[arg(short = 'r', long)]
    pub enable_coredumps: bool,

    /// Further options, comma-separated: idle_timeout=SECONDS, maxconns_fast, no_maxconns_fast,
    /// watcher_logbuf_size=KB (buffer of each watcher); for TLS ssl_chain_cert=FILE, ssl_key=FILE,
    /// ssl_ca_cert=FILE, ssl_verify_mode=0..3 (none, request, require, once), ssl_min_version=0..3,
    /// ssl_session_cache, ssl_wbuf_size=KB; memcached's other options have no effect
    #[arg(short = 'o', long = "extended", value_name = "LIST", value_delimiter = ',', value_parser = suboption)]
    pub extended: Vec<Suboption>,

    /// File that stores the items across a graceful restart (SIGUSR1)
    #[arg(short = 'e', long, value_name = "FILE")]
    pub memory_file: Option<PathBuf>,

    /// Load that file only if it is at most this many seconds old [default: no limit]
    #[arg(long, value_name = "SECONDS")]
    pub restart_max_gap: Option<u32>,

    /// Reply to a plain set that was refused
    #[arg(long, value_name = "REPLY", default_value = "stored")]
    pub implicit_reply: RefusedReply,

    /// Policies for keys.
    #[command(flatten)]
    pub policies: PolicyOptions,

    /// Limits and checks that protect the server.
    #[command(flatten)]
    pub safety: SafetyOptions,
    /// The HTTP interface for operators.
    #[command(flatten)]
    pub admin: AdminOptions,

    /// User to run as, if started by root
    #[arg(short = 'u', long, value_name = "USER")]
    pub user: Option<String>,

    /// Run in the background
    #[arg(short = 'd', long)]
    pub daemon: bool,

    /// File to write the process id to
    #[arg(short = 'P', long, value_name = "FILE")]
    pub pidfile: Option<PathBuf>,

    /// Require authentication; users are listed in this file, one `user:password` per line
    #[arg(short = 'Y', long, value_name = "FILE")]
    pub auth_file: Option<PathBuf>,

    /// Enable TLS, except on addresses that begin with notls: (mtls: requires client certificates)
    #[arg(short = 'Z', long)]
    pub enable_ssl: bool,

    /// UDP port: not served
    #[arg(short = 'U', long, value_name = "NUM", default_value_t = 0, allow_negative_numbers = true, value_parser = clap::value_parser!(i32).range(-1..=65535))]
    pub udp_port: i32,

    /// Log connections (-v), and what is refused (-vv)
    #[arg(short = 'v', long, action = ArgAction::Count)]
    pub verbose: u8,

    /// Form of the log: text, or json with an object in each line; RUST_LOG chooses lines instead of -v, as
    /// in RUST_LOG=leasehold=debug
    #[arg(long, value_name = "FORM", default_value = "text")]
    pub log_format: logging::Format,

    /// No effect, like the next four: CAS is always on
    #[arg(short = 'C', long)]
    pub disable_cas: bool,

    /// Large pages
    #[arg(short = 'L', long)]
    pub enable_largepages: bool,

    /// Growth of slab classes
    #[arg(short = 'f', long, value_name = "NUM", value_parser = factor)]
    pub slab_growth_factor: Option<f64>,

    /// Smallest slab chunk
    #[arg(short = 'n', long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(1..))]
    pub slab_min_size: Option<u32>,

    /// Network interfaces' queues to spread connections by
    #[arg(short = 'N', long, value_name = "NUM", value_parser = clap::value_parser!(u32).range(1..))]
    pub napi_ids: Option<u32>,

    /// Let clients of the binary protocol log in by SASL (mechanism PLAIN), with the users of -Y
    #[arg(short = 'S', long)]
    pub enable_sasl: bool,

    /// Words that belong to no flag have no effect, as in memcached
    #[arg(hide = true)]
    pub operands: Vec<String>,

    /// Print the license
    #[arg(short = 'i', long)]
    pub license: bool,

    /// Print the version
    #[arg(short = 'V', long, action = ArgAction::Version)]
    version: (),
}

/// `--implicit-reply`
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum RefusedReply {
    /// As if the value had been stored and evicted at once
    Stored,
    /// NOT_STORED
    NotStored,
}

impl Options {
    /// The limits and the policy of the cache.
    pub fn cache(&self) -> Config {
        let when_full = if self.disable_evictions { WhenFull::Refuse } else { WhenFull::Evict };
        let memory_bytes = self.memory as usize * MEGABYTE;
        Config {
            copies: Copies::Hot,
            memory_bytes,
            value_bytes_max: self.item_size,
            policies: self.policies.policies(),
            when_full,
        }
    }

    /// Which commands connections may use.
    pub fn rules(&self) -> Rules {
        let implicit_reply = match self.implicit_reply {
            RefusedReply::Stored => ImplicitReply::Stored,
            RefusedReply::NotStored => ImplicitReply::NotStored,
        };
        Rules {
            implicit_reply,
            may_dump: !self.disable_dumping,
            may_flush: !self.disable_flush_all,
            may_shut_down: self.enable_shutdown,
            may_watch: !self.disable_watch,
        }
    }

    /// The TCP port; 0 for none, -1 for one that the system chooses. As in memcached, `-U` without `-p`
    /// sets the TCP port, too.
    pub fn tcp_port(&self) -> i32 {
        let udp_port = (self.udp_port != 0).then_some(self.udp_port);
        self.port.or(udp_port).unwrap_or(PORT)
    }

    /// The time after which an idle connection is closed.
    pub fn idle(&self) -> Option<Duration> {
        let seconds = self.extended().idle_seconds.unwrap_or(self.idle_timeout);
        (seconds > 0).then(|| Duration::from_secs(seconds.into()))
    }

    /// Whether a connection above the limit is refused; otherwise it waits to be accepted.
    pub fn refuses_when_full(&self) -> bool {
        self.extended().maxconns_fast.unwrap_or(true)
    }

    /// Limit on the memory of large requests that are being received.
    pub fn receive_bytes(&self) -> usize {
        match self.safety.receive_limit {
            Some(megabytes) => megabytes as usize * MEGABYTE,
            None => {
                (self.memory as usize * MEGABYTE / RECEIVE_PART).max(RECEIVE_BYTES_MIN).max(self.item_size)
            }
        }
    }

    /// Size of each watcher's buffer, in bytes.
    pub fn watcher_bytes(&self) -> usize {
        let kilobytes = self.extended().watcher_kilobytes;
        kilobytes.map_or(WATCHER_BYTES_DEFAULT, |kilobytes| kilobytes as usize * KILOBYTE)
    }

    /// The settings for TLS, if it is enabled.
    pub fn tls(&self) -> Option<TlsSettings> {
        self.enable_ssl.then(|| TlsSettings::new(&self.extended().tls))
    }

    /// Whether an unsupported version of TLS is allowed.
    pub fn allows_old_tls(&self) -> bool {
        self.extended().tls.into_iter().any(TlsOption::is_too_old)
    }

    fn extended(&self) -> Extended<'_> {
        Extended::new(&self.extended)
    }

    /// The byte that ends a prefix in `stats detail`.
    pub fn prefix_delimiter(&self) -> u8 {
        self.delimiter.unwrap_or(b':')
    }

    /// The maximum age of a snapshot that may be loaded.
    pub fn restart_max_gap(&self) -> Option<Duration> {
        self.restart_max_gap.map(|seconds| Duration::from_secs(seconds.into()))
    }

    /// Options that were given and have no effect here.
    pub fn without_effect(&self) -> Vec<&str> {
        let flags = [
            (self.disable_cas, "-C"),
            (self.enable_largepages, "-L"),
            (self.slab_growth_factor.is_some(), "-f"),
            (self.slab_min_size.is_some(), "-n"),
            (self.napi_ids.is_some(), "-N"),
        ];
        let flags = flags.into_iter().filter(|(is_given, _)| *is_given).map(|(_, flag)| flag);
        let operands = self.operands.iter().map(String::as_str);
        flags.chain(self.extended().without_effect).chain(operands).collect()
    }

    /// The protocols that clients may speak, unless the address says something else.
    pub fn protocols(&self) -> Protocols {
        match &*self.protocol {
            "ascii" => Protocols::Text,
            "binary" => Protocols::Binary,
            _ => self.allowed(Protocols::Any),
        }
    }

    /// Those of these protocols that have a login if one is required: the binary protocol has it by SASL.
    pub(super) fn allowed(&self, protocols: Protocols) -> Protocols {
        match protocols {
            Protocols::Any if self.auth_file.is_some() && !self.enable_sasl => Protocols::Text,
            Protocols::Any | Protocols::Binary | Protocols::Text => protocols,
        }
    }

    /// The users, if authentication is required.
    ///
    /// # Errors
    /// If the file cannot be read, or a line is not `user:password`.
    pub fn users(&self) -> io::Result<Option<Users>> {
        self.auth_file.as_deref().map(read_users).transpose()
    }
}

/// The users in a file, one `user:password` per line.
///
/// # Errors
/// If it cannot be read, or a line is not `user:password`.
pub fn read_users(path: &Path) -> io::Result<Users> {
    let named = |why: &str| io::Error::other(format!("cannot read users from {}: {why}", path.display()));
    let text = secret::read(path).map_err(|error| named(&error.to_string()))?;
    Users::parse(&text).ok_or_else(|| named("expected lines of user:password"))
}

/// The output of `-V` and the first line of `-h`: scripts look for memcached's own words.
const VERSION: &str = concat!("1.6.45\nleasehold ", env!("CARGO_PKG_VERSION"));
const HELP: &str = concat!(
    "memcached 1.6.45\nleasehold ",
    env!("CARGO_PKG_VERSION"),
    ", which is compatible with it: {about-with-newline}\n{usage-heading} {usage}\n\n{all-args}{after-help}"
);
const PORT: i32 = 11211;
const KILOBYTE: usize = 1 << 10;
/// The default of `--receive-limit`.
const RECEIVE_PART: usize = 8;
const RECEIVE_BYTES_MIN: usize = 16 * MEGABYTE;

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, String> {
        Options::try_parse_from(line.split(' ')).map_err(|error| error.to_string()).and_then(Options::checked)
    }

    #[track_caller]
    fn is_refused(line: &str) {
        assert!(parse(line).is_err(), "{line} should be refused");
    }

    #[test]
    fn flags_have_the_meaning_that_memcached_gives_them() {
        let options =
            parse("leasehold -p 1 -m 100 -c 9 -t 3 -I 2m -vv -U 0 -u nobody -P x -d -l 127.0.0.2 -b -1")
                .unwrap();
        assert_eq!(
            (options.tcp_port(), options.memory, options.connections, options.threads),
            (1, 100, 9, 3)
        );
        assert_eq!((options.item_size, options.verbose, options.daemon), (2 << 20, 2, true));
    }

    #[test]
    fn a_udp_port_alone_sets_the_tcp_port_and_long_flags_can_be_abbreviated() {
        for (flags, port) in [
            ("-U 5", 5),
            ("-U 0", 11211),
            ("-U -1", -1),
            ("-p 6 -U 5", 6),
            ("-p 6 -U -1", 6),
            ("--udp 5", 5),
            ("--po -1", -1),
        ] {
            assert_eq!(parse(&format!("leasehold {flags}")).unwrap().tcp_port(), port, "{flags}");
        }
        is_refused("leasehold --enable");
        is_refused("leasehold -U -2");
        is_refused("leasehold -U 65536");
    }

    #[test]
    fn the_last_of_repeated_flags_wins() {
        let options = parse("leasehold -t 1 -m 10 -t 3 -l 127.0.0.2 -l 127.0.0.3").unwrap();
        assert_eq!((options.threads, options.addresses().unwrap().len()), (3, 2));
    }

    #[test]
    fn the_login_decides_which_protocols_are_left() {
        for (flags, protocols) in [
            ("-t 1", Protocols::Any),
            ("-B auto", Protocols::Any),
            ("-B ascii", Protocols::Text),
            ("-B binary", Protocols::Binary),
            ("-Y users", Protocols::Text),
            ("-Y users -S", Protocols::Any),
            ("-Y users -S -B binary", Protocols::Binary),
        ] {
            assert_eq!(parse(&format!("leasehold {flags}")).unwrap().protocols(), protocols, "{flags}");
        }
        for flags in ["-S", "-Y users -S -B ascii", "-Y users -B binary", "-B text"] {
            is_refused(&format!("leasehold {flags}"));
        }
    }

    /// `-m 64m` was refused as no number, and with `-m 1g` people had a gigabyte in mind.
    #[test]
    fn memory_is_in_megabytes_unless_it_says_gigabytes() {
        for (memory, megabytes) in [("64", 64), ("64m", 64), ("64M", 64), ("1g", 1024), ("2G", 2048)] {
            assert_eq!(parse(&format!("leasehold -m {memory}")).unwrap().memory, megabytes, "{memory}");
        }
    }

    #[test]
    fn the_receive_limit_follows_the_memory() {
        for (flags, megabytes) in [
            ("-m 64", 16),
            ("-m 1024", 128),
            ("-m 64 -I 32m", 32),
            ("-m 64 --receive-limit 3", 3),
            ("-m 64 -I 1m --receive-limit 1", 1),
            ("--receive-limit 1g", 1024),
        ] {
            assert_eq!(
                parse(&format!("leasehold {flags}")).unwrap().receive_bytes(),
                megabytes << 20,
                "{flags}"
            );
        }
    }

    #[test]
    fn impossible_values_are_refused() {
        for flags in [
            "-c 0",
            "-c -1",
            "-t 0",
            "-t 257",
            "-p 65536",
            "-p -2",
            "-m 1",
            "-a 999",
            "--stale x",
            "-f 1.0",
            "-f x",
            "-n 0",
        ] {
            is_refused(&format!("leasehold {flags}"));
        }
        for size in ["1023", "33m", "1025m", "x", "", "k"] {
            is_refused(&format!("leasehold -I {size}"));
        }
        for size in ["1024", "1k", "32m", "1048577"] {
            assert!(parse(&format!("leasehold -I {size}")).is_ok());
        }
        for memory in ["64k", "x", "", "g", "4194304g", "1.5g"] {
            is_refused(&format!("leasehold -m {memory}"));
        }
        is_refused("leasehold -I 2m --receive-limit 1");
        is_refused("leasehold --receive-limit 0");
        is_refused("leasehold --lease-max-age 3601");
        is_refused("leasehold --lease-window -1");
    }
}
