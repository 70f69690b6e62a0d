//! Counters of events, under their names in `stats`.
//!
//! Each worker thread counts into a [`Counters`] of its own, which only it writes; totals are sums over
//! all of them. The cache itself counts items and shards (`curr_items`, `evictions`).
//!
//! The operating system is asked through [`Metrics::usage`], a function that the server passes in.

mod connections;
mod events;
mod latencies;
mod policies;
mod prefixes;
mod races;
mod samples;
mod source_events;
mod sources;
mod top;
mod watchers;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::cache::Counts;

pub use self::connections::{Address, ConnectionStats, Connections, State};
pub use self::events::{Event, Reason, Topic, Topics};
pub use self::latencies::{BUCKETS, Latencies, Latency, Verb, bucket_end};
pub use self::policies::{ByPolicy, TOLD};
pub use self::prefixes::{PREFIXES_MAX, Prefixes, Use, Uses};
pub use self::races::{By, Invalidated, Loading};
pub use self::samples::{Large, REQUESTS_PER_SAMPLE, Samples, Standouts};
pub use self::source_events::SourceEvent;
pub use self::sources::{SourceCount, SourceState, SourceStatus, Sources};
pub use self::top::{Met, TOP, Top};
pub use self::watchers::{WATCHER_BYTES_DEFAULT, WATCHERS_MAX, Watchers};

/// A counter.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "NAMES and protocol.md document each one")]
pub enum Count {
    AuthCmds,
    AuthDelayMs,
    AuthErrors,
    BinaryRefused,
    BytesRead,
    BytesWritten,
    CasBadval,
    CasHits,
    CasMisses,
    CmdFlush,
    CmdGet,
    CmdLeaseGet,
    CmdLeaseSet,
    CmdMeta,
    CmdSet,
    CmdTouch,
    ConnYields,
    DecrHits,
    DecrMisses,
    DeleteHits,
    DeleteMisses,
    GetHits,
    GetMisses,
    IdleKicks,
    ImplicitConfirmed,
    ImplicitFills,
    ImplicitObserved,
    ImplicitRefused,
    ImplicitRefusedClosed,
    ImplicitRefusedDoubt,
    ImplicitRefusedHeldOff,
    ImplicitRefusedLate,
    ImplicitRefusedNote,
    IncrHits,
    IncrMisses,
    LeaseFilled,
    LeaseGranted,
    LeaseHotMiss,
    LeaseRefusedSuperseded,
    LeaseRefusedUnknown,
    LeaseRefusedInvalidated,
    LeaseReleased,
    LeaseWaitFilled,
    LeaseWaitTimeouts,
    LeaseWaits,
    ReceiveTimeouts,
    SslHandshakeErrors,
    SslNewSessions,
    StaleServed,
    StoreNoMemory,
    StoreTooLarge,
    TouchHits,
    TouchMisses,
    UnfencedSets,
    VersionsRefused,
    InvalidatedAll,
    InvalidatedKey,
    InvalidatedPrefix,
    InvalidatedTag,
}

const COUNTS: usize = Count::InvalidatedTag as usize + 1;

/// The name of each [`Count`] in `stats`, in the order of the variants.
const NAMES: [&str; COUNTS] = [
    "auth_cmds",
    "auth_delay_ms",
    "auth_errors",
    "binary_refused",
    "bytes_read",
    "bytes_written",
    "cas_badval",
    "cas_hits",
    "cas_misses",
    "cmd_flush",
    "cmd_get",
    "cmd_lease_get",
    "cmd_lease_set",
    "cmd_meta",
    "cmd_set",
    "cmd_touch",
    "conn_yields",
    "decr_hits",
    "decr_misses",
    "delete_hits",
    "delete_misses",
    "get_hits",
    "get_misses",
    "idle_kicks",
    "implicit_confirmed",
    "implicit_fills",
    "implicit_observed",
    "implicit_refused",
    "implicit_refused_closed",
    "implicit_refused_doubt",
    "implicit_refused_held_off",
    "implicit_refused_late",
    "implicit_refused_note",
    "incr_hits",
    "incr_misses",
    "lease_filled",
    "lease_granted",
    "lease_hot_miss",
    "lease_refused_superseded",
    "lease_refused_unknown",
    "lease_refused_voided",
    "lease_released",
    "lease_wait_filled",
    "lease_wait_timeouts",
    "lease_waits",
    "receive_timeouts",
    "ssl_handshake_errors",
    "ssl_new_sessions",
    "stale_served",
    "store_no_memory",
    "store_too_large",
    "touch_hits",
    "touch_misses",
    "unfenced_sets",
    "versions_refused",
    "voids_all",
    "voids_key",
    "voids_prefix",
    "voids_tag",
];

/// The counts of one worker thread.
#[derive(Debug)]
pub struct Counters {
    counts: [AtomicU64; COUNTS],
    /// Requests of this thread since the last sampled one.
    unsampled: AtomicU64,
}

/// All metrics of a server.
#[derive(Debug)]
pub struct Metrics {
    /// Whether connections are accepted; false while there are too many and the server does not reject
    /// further ones.
    pub accepting: AtomicBool,
    /// When the TLS certificates were last read, in monotonic seconds, if there are any.
    pub certificates_read: Option<AtomicU64>,
    /// Connections open now.
    pub connections: AtomicU64,
    /// Connections accepted since the start.
    pub connections_total: AtomicU64,
    /// The limit on open connections.
    pub connections_max: u64,
    /// Connections rejected because there were too many.
    pub connections_rejected: AtomicU64,
    /// The part of these that was rejected because the client's address had too many.
    pub connections_rejected_per_client: AtomicU64,
    /// How often the server stopped accepting.
    pub listen_disabled: AtomicU64,
    /// The total time without accepting, in microseconds.
    pub listen_disabled_us: AtomicU64,
    /// All open connections.
    pub open: Connections,
    /// Lease counts by the prefixes that have a policy.
    pub policies: ByPolicy,
    /// Uses of keys by their prefixes, counted if enabled.
    pub prefixes: Prefixes,
    /// Memory of large requests that are being received.
    pub receive_bytes: AtomicU64,
    /// The limit on it.
    pub receive_limit: u64,
    /// How often a large request waited for the memory of others.
    pub receive_waits: AtomicU64,
    /// Sampled requests, if enabled.
    pub samples: Option<Samples>,
    /// Sources of events.
    pub sources: Sources,
    /// The server's settings, under memcached's names.
    pub settings: Vec<(&'static str, String)>,
    /// Returns the processor time that the process has used.
    pub usage: fn() -> Usage,
    /// The log verbosity, as a number of `-v` flags.
    pub verbosity: AtomicU32,
    /// Clients that watch events.
    pub watchers: Watchers,
    /// Counts of commands that run outside the worker threads.
    beside: Arc<Counters>,
    /// Counts of changes by events, on their thread.
    events: Arc<Counters>,
    threads: Vec<Arc<Counters>>,
}

/// The processor time of the process.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Usage {
    /// In the kernel, on behalf of the process.
    pub system: Duration,
    /// In its own code.
    pub user: Duration,
}

impl Count {
    /// Its name in `stats`.
    pub fn name(self) -> &'static str {
        NAMES[self as usize]
    }
}

impl Default for Counters {
    fn default() -> Self {
        Counters { counts: [const { AtomicU64::new(0) }; COUNTS], unsampled: AtomicU64::new(0) }
    }
}

impl Counters {
    /// Adds one.
    pub fn add(&self, count: Count) {
        self.add_many(count, 1);
    }

    /// Adds `more`. Only the thread that owns these counters may call this: it loads and stores, so that
    /// the hot path has no locked instruction.
    pub fn add_many(&self, count: Count, more: u64) {
        let counter = &self.counts[count as usize];
        counter.store(counter.load(Ordering::Relaxed) + more, Ordering::Relaxed);
    }

    /// Whether to sample this request. The owning thread calls this once for each request.
    pub fn is_sample(&self) -> bool {
        let before = self.unsampled.load(Ordering::Relaxed);
        let is_due = before + 1 == REQUESTS_PER_SAMPLE;
        self.unsampled.store(if is_due { 0 } else { before + 1 }, Ordering::Relaxed);
        is_due
    }
}

impl Metrics {
    /// Metrics of a server with this number of worker threads.
    pub fn new(threads: usize, connections_max: u64) -> Self {
        Metrics {
            accepting: AtomicBool::new(true),
            certificates_read: None,
            connections: AtomicU64::new(0),
            connections_total: AtomicU64::new(0),
            connections_max,
            connections_rejected: AtomicU64::new(0),
            connections_rejected_per_client: AtomicU64::new(0),
            listen_disabled: AtomicU64::new(0),
            listen_disabled_us: AtomicU64::new(0),
            open: Connections::default(),
            policies: ByPolicy::default(),
            prefixes: Prefixes::new(b':', false),
            receive_bytes: AtomicU64::new(0),
            receive_limit: 0,
            receive_waits: AtomicU64::new(0),
            samples: None,
            settings: Vec::new(),
            sources: Sources::default(),
            usage: Usage::default,
            verbosity: AtomicU32::new(0),
            watchers: Watchers::new(WATCHER_BYTES_DEFAULT, Duration::default),
            beside: Arc::default(),
            events: Arc::default(),
            threads: (0..threads).map(|_| Arc::default()).collect(),
        }
    }

    /// The counters of a worker thread.
    pub fn of_thread(&self, thread: usize) -> Arc<Counters> {
        Arc::clone(&self.threads[thread])
    }

    /// The counters of the one thread besides the workers that executes commands.
    pub fn beside(&self) -> Arc<Counters> {
        Arc::clone(&self.beside)
    }

    /// The counters of the thread that applies events.
    pub fn of_events(&self) -> Arc<Counters> {
        Arc::clone(&self.events)
    }

    /// Passes on the counts of leases and invalidations, with their names.
    pub fn each_of_leases(&self, mut emit: impl FnMut(&str, u64)) {
        const FAMILY: [&str; 7] =
            ["cmd_lease", "implicit", "lease", "stale", "unfenced", "versions", "voids"];
        let is_listed = |name: &str| FAMILY.iter().any(|family| name.starts_with(family));
        for (index, name) in NAMES.iter().enumerate().filter(|(_, name)| is_listed(name)) {
            emit(name, self.sum(index));
        }
    }

    /// The sum over all threads.
    pub fn total(&self, count: Count) -> u64 {
        self.sum(count as usize)
    }

    fn sum(&self, index: usize) -> u64 {
        self.counters().map(|counters| counters.counts[index].load(Ordering::Relaxed)).sum()
    }

    fn counters(&self) -> impl Iterator<Item = &Counters> {
        self.threads.iter().chain([&self.beside, &self.events]).map(|counters| &**counters)
    }

    /// `stats reset`: sets all counts to zero.
    pub fn reset(&self) {
        for counter in self.counters().flat_map(|counters| &counters.counts) {
            counter.store(0, Ordering::Relaxed);
        }
        let counts = [
            &self.connections_total,
            &self.connections_rejected,
            &self.connections_rejected_per_client,
            &self.listen_disabled,
            &self.listen_disabled_us,
            &self.receive_waits,
        ];
        for count in counts {
            count.store(0, Ordering::Relaxed);
        }
        self.policies.reset();
        self.prefixes.reset();
        self.samples.iter().for_each(Samples::reset);
        self.watchers.reset();
    }

    /// Passes on every count and gauge with its name, for `stats`.
    pub fn each(&self, cache: Counts, mut emit: impl FnMut(&str, u64)) {
        emit("max_connections", self.connections_max);
        emit("curr_connections", self.connections.load(Ordering::Relaxed));
        emit("total_connections", self.connections_total.load(Ordering::Relaxed));
        emit("rejected_connections", self.connections_rejected.load(Ordering::Relaxed));
        let per_client = self.connections_rejected_per_client.load(Ordering::Relaxed);
        emit("rejected_connections_per_client", per_client);
        emit("connection_structures", self.open.count() as u64);
        emit("accepting_conns", self.accepting.load(Ordering::Relaxed).into());
        emit("listen_disabled_num", self.listen_disabled.load(Ordering::Relaxed));
        emit("time_in_listen_disabled_us", self.listen_disabled_us.load(Ordering::Relaxed));
        emit("receive_bytes", self.receive_bytes.load(Ordering::Relaxed));
        emit("receive_limit", self.receive_limit);
        emit("receive_waits", self.receive_waits.load(Ordering::Relaxed));
        emit("threads", self.threads.len() as u64);
        for (index, name) in NAMES.iter().enumerate() {
            emit(name, self.sum(index));
        }
        self.watchers.each(&mut emit);
        emit("get_expired", cache.get_expired);
        emit("get_flushed", cache.get_flushed);
        emit("hash_bytes", cache.index_bytes);
        emit("bytes", cache.bytes);
        emit("curr_items", cache.items - cache.stale);
        emit("total_items", cache.total_items);
        emit("stale_items", cache.stale);
        emit("evictions", cache.evictions);
        emit("evicted_unfetched", cache.evicted_unfetched);
        emit("reclaimed", cache.expired);
        emit("expired", cache.expired);
        emit("expired_unfetched", cache.expired_unfetched);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_reported_under_the_name_of_their_variant() {
        let metrics = Metrics::new(2, 1);
        metrics.of_thread(0).add(Count::InvalidatedKey);
        metrics.of_thread(1).add_many(Count::InvalidatedKey, 2);
        metrics.of_thread(1).add(Count::LeaseHotMiss);
        let mut found = Vec::new();
        metrics.each(Counts::default(), |name, value| found.push((name.to_owned(), value)));
        assert!(
            found.contains(&("voids_key".to_owned(), 3)) && found.contains(&("lease_hot_miss".to_owned(), 1))
        );
        assert!(NAMES.is_sorted(), "the order of the variants is that of the names");
        metrics.beside().add(Count::InvalidatedKey);
        assert_eq!(metrics.total(Count::InvalidatedKey), 4);
        metrics.reset();
        assert_eq!(metrics.total(Count::InvalidatedKey), 0);
    }

    #[test]
    fn every_64th_request_is_sampled() {
        let counters = Counters::default();
        let samples = (0..REQUESTS_PER_SAMPLE * 3).filter(|_| counters.is_sample());
        assert_eq!(samples.collect::<Vec<_>>(), [63, 127, 191]);
    }
}
