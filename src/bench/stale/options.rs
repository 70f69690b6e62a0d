//! The command line of `leasehold bench stale`.

use std::fmt::{self, Display};
use std::str::FromStr;
use std::time::Duration;

use clap::Args;

use super::presets::Preset;
use super::workload::{Connections, Invalidate, LoadTime, Share, Workload, above_zero, millis};
use crate::bench::course::{Course, positive, seconds};
use crate::bench::popularity::Popularity;
use crate::bench::server::Server;
use crate::bench::sizes::Sizes;

/// The options of `leasehold bench stale`.
#[derive(Args, Clone, Debug)]
pub struct StaleOptions {
    /// Server to test: HOST:PORT, redis://HOST:PORT, or lease://HOST:PORT to fill with leases (leasehold
    /// only)
    #[arg(value_name = "SERVER", default_value = "127.0.0.1:11211", conflicts_with = "compare")]
    pub server: Target,

    /// Servers to test in turn, round after round, comma-separated; prints medians and ratios to the first
    #[arg(long, value_name = "SERVERS", value_delimiter = ',')]
    pub compare: Vec<Target>,

    /// Rounds, JSON and progress.
    #[command(flatten)]
    pub course: Course,

    /// Seconds to measure
    #[arg(short = 'd', long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub duration: Duration,

    /// Seconds of warm-up, which are not measured
    #[arg(short = 'w', long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    pub warm_up: Duration,

    /// Seed of all random numbers
    #[arg(long, value_name = "NUM", default_value_t = 1)]
    pub seed: u64,

    /// Exit with 1 if any read was stale
    #[arg(long)]
    pub fail_on_stale: bool,

    /// Named workload
    #[arg(long, value_name = "NAME", value_enum, default_value_t = Preset::Storm)]
    pub workload: Preset,

    /// Options that replace parts of the named workload.
    #[command(flatten)]
    pub knobs: Knobs,
}

/// Single options of a workload; missing ones come from the preset.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Workload options")]
pub struct Knobs {
    /// Workers that read, one request at a time each
    #[arg(long, value_name = "NUM", value_parser = positive)]
    workers: Option<usize>,

    /// Connections of the workers: own (one each), one (for all), lifo:NUM or fifo:NUM (a pool that hands
    /// out the connection that was used last, or that has been free for longest); writers share the pool
    #[arg(short = 'c', long, value_name = "KIND")]
    connections: Option<Connections>,

    /// Give writers connections of their own, as if they were another process
    #[arg(long)]
    writers_apart: bool,

    /// Client addresses, from 127.0.0.2 on, that share the workers; each has a pool of its own
    #[arg(long, value_name = "NUM", value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=200))]
    addresses: Option<usize>,

    /// Different keys
    #[arg(short = 'K', long, value_name = "NUM", value_parser = positive)]
    keys: Option<usize>,

    /// Distribution of reads and writes over keys: uniform, zipf:EXPONENT, or hot:KEYS:REQUESTS (shares:
    /// hot:0.01:0.9)
    #[arg(short = 'p', long, value_name = "POPULARITY")]
    popularity: Option<Popularity>,

    /// Length of values: BYTES, FROM-TO, BYTES:WEIGHT,… or lognormal:MEDIAN:SIGMA; at least the 10 to 84
    /// bytes that identify the version
    #[arg(short = 's', long, value_name = "SIZES")]
    value_bytes: Option<Sizes>,

    /// Writes per second, at random times; each deletes a key after its commit
    #[arg(long, value_name = "NUM", value_parser = above_zero)]
    deletes: Option<f64>,

    /// Writes of the same key that follow each other within 0.2 ms
    #[arg(long, value_name = "NUM", value_parser = clap::value_parser!(u32).range(1..=1000))]
    burst: Option<u32>,

    /// How writers invalidate
    #[arg(long, value_name = "HOW", value_enum)]
    invalidate: Option<Invalidate>,

    /// Share of writes that store the new value and delete nothing (0 to 1)
    #[arg(long, value_name = "SHARE")]
    through: Option<Share>,

    /// Flush the whole server each time this many seconds have passed
    #[arg(long, value_name = "SECONDS", value_parser = above_zero)]
    flush: Option<f64>,

    /// Milliseconds that a load takes: FROM-TO, or lognormal:MEDIAN:SIGMA
    #[arg(long, value_name = "MS")]
    load_ms: Option<LoadTime>,

    /// Share of loads that take 20 times as long (0 to 1)
    #[arg(long, value_name = "SHARE")]
    tail: Option<Share>,

    /// Milliseconds on average between two reads of a worker
    #[arg(long, value_name = "MS", value_parser = millis)]
    think_ms: Option<f64>,

    /// Share of misses that are loaded and never stored (0 to 1)
    #[arg(long, value_name = "SHARE")]
    never: Option<Share>,

    /// Share of keys that are loaded and never stored (0 to 1)
    #[arg(long, value_name = "SHARE")]
    never_keys: Option<Share>,

    /// Make the bytes of each load different, even of the same version
    #[arg(long)]
    noise: bool,
}

/// A server to test, and the way to fill it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Target {
    /// Whether values are stored with the token of a lease.
    pub leases: bool,
    /// The server.
    pub server: Server,
}

impl StaleOptions {
    /// All servers to test.
    pub fn targets(&self) -> &[Target] {
        if self.compare.is_empty() { std::slice::from_ref(&self.server) } else { &self.compare }
    }

    /// The named workload with the options that replace parts of it.
    pub fn workload(&self) -> Workload {
        let (preset, knobs) = (self.workload.workload(), self.knobs.clone());
        Workload {
            addresses: knobs.addresses.unwrap_or(preset.addresses),
            burst: knobs.burst.unwrap_or(preset.burst),
            connections: knobs.connections.unwrap_or(preset.connections),
            deletes: knobs.deletes.unwrap_or(preset.deletes),
            flush: knobs.flush.or(preset.flush),
            invalidate: knobs.invalidate.unwrap_or(preset.invalidate),
            keys: knobs.keys.unwrap_or(preset.keys),
            load: knobs.load_ms.unwrap_or(preset.load),
            never: knobs.never.unwrap_or(preset.never),
            never_keys: knobs.never_keys.unwrap_or(preset.never_keys),
            noise: knobs.noise || preset.noise,
            popularity: knobs.popularity.unwrap_or(preset.popularity),
            tail: knobs.tail.unwrap_or(preset.tail),
            think_ms: knobs.think_ms.unwrap_or(preset.think_ms),
            through: knobs.through.unwrap_or(preset.through),
            value_bytes: knobs.value_bytes.unwrap_or(preset.value_bytes),
            workers: knobs.workers.unwrap_or(preset.workers),
            writers_apart: knobs.writers_apart || preset.writers_apart,
        }
    }

    /// # Errors
    /// If options contradict each other, with a sentence that explains it.
    pub fn check(&self) -> Result<(), String> {
        let workload = self.workload();
        if workload.workers < workload.addresses {
            let Workload { workers, addresses, .. } = workload;
            return Err(format!("{workers} workers cannot share {addresses} addresses: use more workers"));
        }
        let redis = self.targets().iter().find(|target| target.server.is_redis());
        match (workload.invalidate, redis) {
            (Invalidate::Delete, _) | (_, None) => Ok(()),
            (how, Some(redis)) => {
                Err(format!("{redis} does not support --invalidate {}: use delete", how.name()))
            }
        }
    }
}

impl FromStr for Target {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Target, &'static str> {
        let (leases, server) = match text.strip_prefix(LEASE) {
            None => (false, text),
            Some(server) if server.contains("://") => return Err(FORMS),
            Some(server) => (true, server),
        };
        Ok(Target { leases, server: server.parse().map_err(|_| FORMS)? })
    }
}

impl Display for Target {
    fn fmt(&self, to: &mut fmt::Formatter) -> fmt::Result {
        write!(to, "{}{}", if self.leases { LEASE } else { "" }, self.server)
    }
}

const FORMS: &str = "expected HOST:PORT, redis://HOST:PORT or lease://HOST:PORT";
const LEASE: &str = "lease://";

#[cfg(test)]
mod tests {
    use clap::Parser;

    use clap::ValueEnum;

    use super::*;
    use crate::bench::options::{Mode, Options};

    fn options(flags: &str) -> StaleOptions {
        let words = ["bench", "stale"].into_iter().chain(flags.split_whitespace());
        match Options::try_parse_from(words).expect("legal flags").mode {
            Some(Mode::Stale(options)) => options,
            None => panic!("it is a mode"),
        }
    }

    #[test]
    fn options_replace_parts_of_the_named_workload() {
        let preset = options("--workload mix-never3").workload();
        assert_eq!(
            preset.to_string(),
            "64 workers, 10000 keys, zipf:0.9, 500 writes/s, loads of 1-10 ms, 1 ms between reads, \
             connections own, delete, 3 % of the misses never stored"
        );
        let changed = options(
            "--workload mix-never3 -K 5 --never 0 --load-ms lognormal:5:1 -c fifo:3 --burst 2 --flush 3 --noise \
             --invalidate tag --through 0.5 --tail 0.1 --never-keys 0.2 --addresses 2 --writers-apart",
        );
        assert_eq!(
            changed.workload().to_string(),
            "64 workers, 5 keys, zipf:0.9, 500 writes/s, loads of 5 ms (log-normal, sigma 1), 1 ms between reads, \
             connections fifo:3, tag, 10 % of the loads take 20 times as long, 20 % of the keys never stored, \
             50 % of the writes store the value, 2 in a row, values never equal, 2 addresses, writers apart, \
             a flush every 3 s"
        );
    }

    #[test]
    fn every_preset_has_a_different_workload() {
        let all: std::collections::BTreeSet<String> =
            Preset::value_variants().iter().map(|preset| preset.workload().to_string()).collect();
        assert_eq!(all.len(), Preset::value_variants().len());
    }

    #[test]
    fn targets_are_parsed_with_their_scheme() {
        let lease: Target = "lease://localhost:11211".parse().unwrap();
        assert!(lease.leases && !lease.server.is_redis() && lease.to_string() == "lease://localhost:11211");
        let redis: Target = "redis://[::1]:6379".parse().unwrap();
        assert!(!redis.leases && redis.server.is_redis() && redis.to_string() == "redis://[::1]:6379");
        for wrong in ["", "localhost", "lease://redis://a:1", "lease://a"] {
            assert!(wrong.parse::<Target>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn contradicting_options_are_refused() {
        let check = |flags: &str| options(flags).check();
        assert_eq!(check("redis://a:1"), Ok(()));
        assert_eq!(check("a:1 --invalidate tag"), Ok(()));
        let redis = "redis://b:1 does not support --invalidate noreply: use delete";
        assert_eq!(check("--compare a:1,redis://b:1 --invalidate noreply"), Err(redis.to_owned()));
        let workers = "3 workers cannot share 4 addresses: use more workers";
        assert_eq!(check("--workers 3 --addresses 4"), Err(workers.to_owned()));
    }
}
