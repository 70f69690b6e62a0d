//! The parameters of a workload, as types.

use std::fmt::{self, Display};
use std::str::FromStr;

use clap::ValueEnum;
use rand::RngExt;
use rand::rngs::SmallRng;
use rand_distr::{Distribution, LogNormal};

use crate::bench::popularity::Popularity;
use crate::bench::sizes::Sizes;

/// The reads and writes of a run: their targets, rates and connections.
#[derive(Clone, Debug)]
pub struct Workload {
    /// Client addresses; each has a share of the workers and a pool of its own.
    pub addresses: usize,
    /// Consecutive invalidations of a key, each with a commit of its own.
    pub burst: u32,
    pub connections: Connections,
    /// Writes per second, of all writers together.
    pub deletes: f64,
    /// Seconds between two flushes of the whole server.
    pub flush: Option<f64>,
    pub invalidate: Invalidate,
    pub keys: usize,
    pub load: LoadTime,
    /// The share of misses that are loaded and not stored.
    pub never: Share,
    /// The share of keys that are never stored.
    pub never_keys: Share,
    /// Whether each load yields other bytes, even of the same version.
    pub noise: bool,
    pub popularity: Popularity,
    /// The share of loads that take 20 times as long.
    pub tail: Share,
    /// Milliseconds on average between two reads of a worker.
    pub think_ms: f64,
    /// The share of writes that store the new value instead of invalidating it.
    pub through: Share,
    pub value_bytes: Sizes,
    pub workers: usize,
    /// Whether writers have connections of their own.
    pub writers_apart: bool,
}

/// The assignment of commands to connections.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Connections {
    /// Each worker has a connection of its own.
    Own,
    /// The workers of an address share a pool of this size.
    Pool { order: Order, size: usize },
}

/// The order in which a pool hands out free connections.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Order {
    /// The one that has been free for longest.
    Fifo,
    /// The one that was used last.
    Lifo,
}

/// The time that the database takes for a load.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LoadTime {
    LogNormal { median_ms: f64, sigma: f64, distribution: LogNormal<f64> },
    Range { from_ms: f64, to_ms: f64 },
}

/// From 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Share(f64);

/// The way in which a writer invalidates.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Invalidate {
    /// delete
    Delete,
    /// delete with noreply, then mn, whose reply counts (not Redis)
    Noreply,
    /// invalidate prefix, for every 1,000th key together (leasehold only)
    Prefix,
    /// invalidate tag, for every 1,000th key together (leasehold only)
    Tag,
}

impl Invalidate {
    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Invalidate::Delete => "delete",
            Invalidate::Noreply => "noreply",
            Invalidate::Prefix => "prefix",
            Invalidate::Tag => "tag",
        }
    }
}

impl Workload {
    /// Draws the duration of a load.
    pub fn load_nanos(&self, random: &mut SmallRng) -> u64 {
        let slow = if self.tail.draw(random) { TAIL_FACTOR } else { 1.0 };
        ((self.load.draw_ms(random) * slow).min(LOAD_MS_MAX) * NANOS_PER_MS) as u64
    }

    /// Draws the pause of a worker.
    pub fn think_nanos(&self, random: &mut SmallRng) -> u64 {
        (self.think_ms * random.random_range(0.5..1.5) * NANOS_PER_MS) as u64
    }

    /// Whether values of this key are never stored.
    pub fn never_stores(&self, key: u64) -> bool {
        // Spread over popular and unpopular keys, the same ones in each run.
        (key.wrapping_mul(7919) % 1000) as f64 / 1000.0 < self.never_keys.0
    }
}

impl Display for Workload {
    fn fmt(&self, to: &mut fmt::Formatter) -> fmt::Result {
        let Workload { workers, keys, popularity, deletes, load, think_ms, connections, .. } = self;
        write!(to, "{workers} workers, {keys} keys, {popularity}, {deletes} writes/s, loads of {load}")?;
        write!(to, ", {think_ms} ms between reads, connections {connections}, {}", self.invalidate.name())?;
        let shares = [
            (self.tail, "of the loads take 20 times as long"),
            (self.never, "of the misses never stored"),
            (self.never_keys, "of the keys never stored"),
            (self.through, "of the writes store the value"),
        ];
        for (share, what) in shares.into_iter().filter(|(share, _)| share.0 > 0.0) {
            write!(to, ", {} % {what}", share.0 * 100.0)?;
        }
        if self.burst > 1 {
            write!(to, ", {} in a row", self.burst)?;
        }
        if self.noise {
            write!(to, ", values never equal")?;
        }
        if self.addresses > 1 {
            write!(to, ", {} addresses", self.addresses)?;
        }
        if self.writers_apart {
            write!(to, ", writers apart")?;
        }
        self.flush.map_or(Ok(()), |seconds| write!(to, ", a flush every {seconds} s"))
    }
}

impl LoadTime {
    fn draw_ms(&self, random: &mut SmallRng) -> f64 {
        match self {
            LoadTime::LogNormal { distribution, .. } => distribution.sample(random),
            LoadTime::Range { from_ms, to_ms } => from_ms + (to_ms - from_ms) * random.random::<f64>(),
        }
    }

    /// Given the median, in milliseconds, and the spread of the logarithm.
    pub fn log_normal(median_ms: f64, sigma: f64) -> Result<LoadTime, String> {
        match LogNormal::new(median_ms.ln(), sigma) {
            Ok(distribution) if sigma >= 0.0 => Ok(LoadTime::LogNormal { median_ms, sigma, distribution }),
            Ok(_) | Err(_) => Err(format!("invalid sigma {sigma}: expected 0 or more")),
        }
    }
}

impl FromStr for LoadTime {
    type Err = String;

    fn from_str(text: &str) -> Result<LoadTime, String> {
        if let Some(parameters) = text.strip_prefix("lognormal:") {
            let wrong = || format!("invalid load time {text}: expected lognormal:MEDIAN:SIGMA");
            let (median, sigma) = parameters.split_once(':').ok_or_else(wrong)?;
            return LoadTime::log_normal(millis(median)?, sigma.parse().map_err(|_| wrong())?);
        }
        let (from, to) = text.split_once('-').unwrap_or((text, text));
        let (from_ms, to_ms) = (millis(from)?, millis(to)?);
        if from_ms > to_ms {
            return Err(format!("invalid range {text}: expected the shorter time first"));
        }
        Ok(LoadTime::Range { from_ms, to_ms })
    }
}

impl Display for LoadTime {
    fn fmt(&self, to: &mut fmt::Formatter) -> fmt::Result {
        match self {
            LoadTime::LogNormal { median_ms, sigma, .. } => {
                write!(to, "{median_ms} ms (log-normal, sigma {sigma})")
            }
            LoadTime::Range { from_ms, to_ms } => write!(to, "{from_ms}-{to_ms} ms"),
        }
    }
}

impl FromStr for Connections {
    type Err = String;

    fn from_str(text: &str) -> Result<Connections, String> {
        let pool = |order, size: &str| match size.parse() {
            Ok(size) if (1..=POOL_MAX).contains(&size) => Ok(Connections::Pool { order, size }),
            _ => Err(format!("invalid pool size {size}: expected 1 to {POOL_MAX}")),
        };
        match text.split_once(':').unwrap_or((text, "")) {
            ("own", "") => Ok(Connections::Own),
            ("one", "") => Ok(ONE),
            ("fifo", size) => pool(Order::Fifo, size),
            ("lifo", size) => pool(Order::Lifo, size),
            _ => Err(format!("invalid connections {text}: expected own, one, lifo:NUM or fifo:NUM")),
        }
    }
}

impl Display for Connections {
    fn fmt(&self, to: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Connections::Own => write!(to, "own"),
            Connections::Pool { size: 1, .. } => write!(to, "one"),
            Connections::Pool { order: Order::Fifo, size } => write!(to, "fifo:{size}"),
            Connections::Pool { order: Order::Lifo, size } => write!(to, "lifo:{size}"),
        }
    }
}

impl Share {
    /// A constant share, from 0 to 1.
    pub const fn new(share: f64) -> Share {
        assert!(share >= 0.0 && share <= 1.0);
        Share(share)
    }

    /// Returns true with this probability.
    pub fn draw(self, random: &mut SmallRng) -> bool {
        self.0 > 0.0 && random.random_bool(self.0)
    }
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Share, String> {
        match text.parse() {
            Ok(share) if (0.0..=1.0).contains(&share) => Ok(Share(share)),
            _ => Err(format!("invalid share {text}: expected 0 to 1")),
        }
    }
}

/// A duration in milliseconds, up to an hour.
pub fn millis(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(millis) if (0.0..=LOAD_MS_MAX).contains(&millis) => Ok(millis),
        _ => Err(format!("invalid time {text}: expected 0 to {LOAD_MS_MAX} milliseconds")),
    }
}

/// A rate, or a number of seconds.
pub fn above_zero(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(number) if number > 0.0 && number <= RATE_MAX => Ok(number),
        _ => Err(format!("invalid number {text}: expected more than 0, and {RATE_MAX} at most")),
    }
}

/// One connection for all workers.
pub const ONE: Connections = Connections::Pool { order: Order::Lifo, size: 1 };

const LOAD_MS_MAX: f64 = 3_600_000.0;
const NANOS_PER_MS: f64 = 1e6;
const POOL_MAX: usize = 10_000;
const RATE_MAX: f64 = 1e6;
const TAIL_FACTOR: f64 = 20.0;

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::super::presets::Preset;
    use super::*;

    #[test]
    fn load_times_follow_their_distribution() {
        let mut random = SmallRng::seed_from_u64(7);
        let mut drawn = |text: &str| {
            let load: LoadTime = text.parse().unwrap();
            let mut drawn: Vec<f64> = (0..1_000).map(|_| load.draw_ms(&mut random)).collect();
            drawn.sort_by(f64::total_cmp);
            drawn
        };
        assert_eq!(drawn("3"), [3.0; 1_000]);
        let range = drawn("1-10");
        assert!(range[0] >= 1.0 && range[0] < 1.2 && range[999] > 9.8 && range[999] <= 10.0);
        let heavy = drawn("lognormal:5:1.49");
        assert!((heavy[500] - 5.0).abs() < 1.0 && heavy[998] > 200.0);
    }

    #[test]
    fn a_tail_takes_20_times_as_long() {
        let (load, tail) = (LoadTime::Range { from_ms: 1.0, to_ms: 1.0 }, Share(0.1));
        let workload = Workload { load, tail, ..Preset::Storm.workload() };
        let mut random = SmallRng::seed_from_u64(7);
        let drawn: Vec<u64> = (0..10_000).map(|_| workload.load_nanos(&mut random)).collect();
        let slow = drawn.iter().filter(|nanos| **nanos == 20_000_000).count();
        assert!(
            slow.abs_diff(1_000) < 150
                && drawn.iter().filter(|nanos| **nanos == 1_000_000).count() == 10_000 - slow
        );
    }

    #[test]
    fn a_share_of_the_keys_is_never_stored() {
        let workload = Workload { never_keys: Share(0.3), ..Preset::Storm.workload() };
        assert_eq!((0..1_000).filter(|key| workload.never_stores(*key)).count(), 300);
        assert!((0..1_000).all(|key| !Preset::Storm.workload().never_stores(key)));
    }

    #[test]
    fn connections_print_as_they_are_written() {
        for text in ["own", "one", "lifo:10", "fifo:3"] {
            assert_eq!(text.parse::<Connections>().unwrap().to_string(), text);
        }
        for wrong in ["", "lifo", "lifo:0", "fifo:x", "own:1", "lifo:10001"] {
            assert!(wrong.parse::<Connections>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn errors_name_the_invalid_value() {
        for (wrong, remedy) in [
            ("10-1", "invalid range 10-1: expected the shorter time first"),
            ("x", "invalid time x: expected 0 to 3600000 milliseconds"),
            ("lognormal:5", "invalid load time lognormal:5: expected lognormal:MEDIAN:SIGMA"),
            ("lognormal:5:-1", "invalid sigma -1: expected 0 or more"),
        ] {
            assert_eq!(wrong.parse::<LoadTime>(), Err(remedy.to_owned()));
        }
        assert_eq!("2".parse::<Share>(), Err("invalid share 2: expected 0 to 1".to_owned()));
        assert!("nan".parse::<Share>().is_err() && above_zero("0").is_err() && above_zero("inf").is_err());
    }
}
