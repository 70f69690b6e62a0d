//! The command line of `leasehold bench`.

use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use super::course::{Course, positive, seconds};
use super::mix::Mix;
use super::popularity::Popularity;
use super::server::Server;
use super::sizes::Sizes;
use super::stale::StaleOptions;

/// Load generator for memcached's text protocol, the lease verbs, and Redis.
///
/// In a closed loop (the default) each connection sends a batch when the last one is answered: this
/// measures the capacity of a server. With --rate the loop is open: requests are due at fixed times even if
/// the server is slow, and latency counts from when a request was due: this measures what users would see.
/// Exits with 1 after any wrong answer.
#[derive(Clone, Debug, Parser)]
#[command(name = "leasehold bench", bin_name = "leasehold bench", args_override_self = true)]
#[command(args_conflicts_with_subcommands = true, disable_help_subcommand = true)]
pub struct Options {
    /// A measurement other than speed.
    #[command(subcommand)]
    pub mode: Option<Mode>,

    /// Server to load: HOST:PORT, or redis://HOST:PORT
    #[arg(value_name = "SERVER", default_value = "127.0.0.1:11211", conflicts_with = "compare")]
    pub server: Server,

    /// Servers to load in turn, round after round, comma-separated; prints medians and ratios to the first
    #[arg(long, value_name = "SERVERS", value_delimiter = ',')]
    pub compare: Vec<Server>,

    /// Rounds, JSON and progress.
    #[command(flatten)]
    pub course: Course,

    /// The load on a server.
    #[command(flatten)]
    pub plan: Plan,
}

/// A measurement other than speed.
#[derive(Clone, Debug, Subcommand)]
pub enum Mode {
    /// Count stale reads: what a cache serves although its invalidation was answered before
    ///
    /// Workers read keys. They check each hit; on a miss they load the value from a database inside this
    /// process, which takes some time, and store it. Writers commit a new version to the database, then
    /// invalidate the key. A read is stale if its value is older than a version whose invalidation the server
    /// had answered before the read was sent. Each run uses keys of its own, which expire by themselves.
    ///
    /// --workload chooses defaults for all workload options; the options that are given replace single ones.
    /// Exits with 1 after wrong bytes or errors, after stale reads only with --fail-on-stale.
    Stale(StaleOptions),
}

/// The load: its requests, their rate, and the connections.
#[derive(Args, Clone, Debug)]
pub struct Plan {
    /// Connections, shared among the threads
    #[arg(short = 'c', long, value_name = "NUM", default_value_t = 50, value_parser = positive)]
    pub connections: usize,

    /// Threads that drive them
    #[arg(short = 't', long, value_name = "NUM", default_value_t = 1, value_parser = positive)]
    pub threads: usize,

    /// Requests that a connection sends at once
    #[arg(short = 'P', long, value_name = "NUM", default_value_t = 1, value_parser = positive)]
    pub pipeline: usize,

    /// Requests per second, all connections together: an open loop
    #[arg(short = 'r', long, value_name = "NUM", value_parser = positive)]
    pub rate: Option<usize>,

    /// Seconds to measure
    #[arg(short = 'd', long = "duration", value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub duration: Duration,

    /// Requests to send, instead of a duration; fills for granted leases come on top
    #[arg(short = 'n', long, value_name = "NUM", value_parser = positive, conflicts_with = "duration")]
    pub requests: Option<usize>,

    /// Seconds of warm-up, which are not measured [default: 1, or 0 with --requests]
    #[arg(short = 'w', long, value_name = "SECONDS", value_parser = seconds)]
    pub warm_up: Option<Duration>,

    /// Requests with weights: get, set, delete; not for Redis: mg, ms, md, lease (lease-get, and lease-set
    /// if the lease is granted), cycle (delete, then lease)
    #[arg(short = 'm', long, value_name = "MIX", default_value = "get=9,set=1")]
    pub mix: Mix,

    /// Keys of a get
    #[arg(short = 'k', long, value_name = "NUM", default_value_t = 1, value_parser = positive)]
    pub keys_per_get: usize,

    /// Different keys
    #[arg(short = 'K', long, value_name = "NUM", default_value_t = 10_000, value_parser = positive)]
    pub keys: usize,

    /// Length of a key
    #[arg(long, value_name = "BYTES", default_value_t = 24, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=250))]
    pub key_bytes: usize,

    /// Length of values: BYTES, FROM-TO, BYTES:WEIGHT,BYTES:WEIGHT,… or lognormal:MEDIAN:SIGMA
    #[arg(short = 's', long, value_name = "SIZES", default_value = "100")]
    pub value_bytes: Sizes,

    /// Distribution of keys: uniform, sequential, zipf:EXPONENT, or hot:KEYS:REQUESTS (shares:
    /// hot:0.01:0.9)
    #[arg(short = 'p', long, value_name = "POPULARITY", default_value = "uniform")]
    pub popularity: Popularity,

    /// Milliseconds between a granted lease and its fill, as a database would take; its connection waits
    #[arg(long, value_name = "MS", default_value_t = 0)]
    pub load_ms: u64,

    /// Poll for replies instead of sleeping. Useful with spare cores on the server's machine, where waking
    /// a sleeper costs the server time
    #[arg(long)]
    pub spin: bool,

    /// Do not store every key before the run
    #[arg(long)]
    pub no_preload: bool,

    /// Seed of the random numbers
    #[arg(long, value_name = "NUM", default_value_t = 1)]
    pub seed: u64,
}

impl Options {
    /// All servers to load.
    pub fn servers(&self) -> &[Server] {
        if self.compare.is_empty() { std::slice::from_ref(&self.server) } else { &self.compare }
    }
}

impl Plan {
    /// # Errors
    /// If options contradict each other, with a sentence that explains it.
    pub fn check(&self, servers: &[Server]) -> Result<(), String> {
        let digits = (self.keys - 1).to_string().len();
        if self.key_bytes < digits {
            return Err(format!(
                "--key-bytes {} is too small: {} keys need at least {digits} bytes",
                self.key_bytes, self.keys
            ));
        }
        if self.connections < self.threads {
            return Err(format!(
                "{1} connections (-c) are too few: {0} threads need at least {0}",
                self.threads, self.connections
            ));
        }
        if let (Some(task), Some(server)) =
            (self.mix.beyond_redis(), servers.iter().find(|server| server.is_redis()))
        {
            return Err(format!("{server} does not support {} (-m): use get, set and delete", task.name()));
        }
        Ok(())
    }

    /// A plan that stores the same keys one by one.
    pub fn preload(&self) -> Plan {
        let bytes = self.value_bytes.longest() + self.key_bytes;
        Plan {
            mix: Mix::sets(),
            pipeline: (PRELOAD_BATCH_BYTES / bytes).clamp(1, PRELOAD_BATCH),
            popularity: Popularity::Sequential,
            rate: None,
            requests: Some(self.keys),
            threads: 1,
            warm_up: None,
            ..self.clone()
        }
    }

    /// The time before the measurement starts.
    pub fn warm_up(&self) -> Duration {
        let default = if self.requests.is_some() { Duration::ZERO } else { WARM_UP };
        self.warm_up.unwrap_or(default)
    }
}

const WARM_UP: Duration = Duration::from_secs(1);
const PRELOAD_BATCH: usize = 32;
const PRELOAD_BATCH_BYTES: usize = 64 * 1024;
