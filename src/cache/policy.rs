//! Policies: what an operator decides about leases, expiry and the fence, for all keys or for those with a
//! prefix.

use std::time::Duration;

/// Whether a plain `get` that misses and the `set` after it are fenced like a lease and its fill.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Implicit {
    /// Plain stores are memcached's.
    Off,
    /// Plain stores are memcached's, and what [`Implicit::On`] would have refused is counted.
    Observe,
    /// Fenced. A program that is alone with its only connection sees memcached exactly.
    #[default]
    On,
    /// Fenced, also where several threads share the server's only connection.
    Shared,
}

/// The values that are served while a source that they depend on is late or lost.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum WhileLost {
    /// All of them: the bound is only reported.
    Serve,
    /// Young ones; the others count as stale copies, which readers with a lease may use.
    Soft,
    /// Young ones; a read of another one misses.
    #[default]
    Withhold,
}

/// How leases behave, and how long values live.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Policy {
    /// The sources whose events invalidate these values.
    pub depends_on: Vec<String>,
    /// How long a plain `get` waits that misses while another connection loads the value; 0 for not at all.
    pub herd_wait: Duration,
    /// For how long a delete holds its key off, if it does not say so itself; 0 for not at all.
    pub hold_off: Duration,
    /// The fence for clients that know nothing of leases.
    pub implicit: Implicit,
    /// How long tokens and misses are remembered; whole seconds, at most
    /// [`AGE_SECONDS_MAX`](super::AGE_SECONDS_MAX).
    pub lease_max_age: Duration,
    /// The least time between two grants for one key, also after invalidations; 0 for none.
    pub lease_min_interval: Duration,
    /// For how long a granted lease makes others wait.
    pub lease_window: Duration,
    /// How long a load takes at most: what comes later is refused if the key was invalidated meanwhile; 0 to
    /// learn it.
    pub load_time_max: Duration,
    /// How old the newest time may be that the sources have attested, before older values are withheld; 0 for
    /// any age.
    pub max_staleness: Duration,
    /// Whether a plain `get` that misses while another connection loads the value is served the stale copy.
    pub serve_stale: bool,
    /// How long an invalidated or expired value is kept as a stale copy; 0 keeps none.
    pub stale: Duration,
    /// How long a value lives that comes without an expiry; 0 for ever.
    pub ttl: Duration,
    /// By how many hundredths at most a value's life is cut, at random, so that values of one time do not end
    /// together.
    pub ttl_jitter: u32,
    /// How long a value lives at most, whatever its client says; 0 for as long as that says.
    pub ttl_max: Duration,
    /// For how long the newest version of a row is remembered by its key.
    pub version_keep: Duration,
    /// The values that are served while a source is late.
    pub while_lost: WhileLost,
}

impl Default for Policy {
    fn default() -> Self {
        Policy {
            depends_on: Vec::new(),
            herd_wait: Duration::ZERO,
            hold_off: Duration::ZERO,
            implicit: Implicit::On,
            lease_max_age: Duration::from_secs(60),
            lease_min_interval: Duration::ZERO,
            lease_window: Duration::from_secs(10),
            load_time_max: Duration::ZERO,
            max_staleness: Duration::ZERO,
            serve_stale: false,
            stale: Duration::ZERO,
            ttl: Duration::ZERO,
            ttl_jitter: 0,
            ttl_max: Duration::ZERO,
            version_keep: Duration::from_secs(60),
            while_lost: WhileLost::Withhold,
        }
    }
}

impl Policy {
    /// Whether values are withheld if the sources are late.
    pub(super) fn is_bounded(&self) -> bool {
        !self.depends_on.is_empty() && !self.max_staleness.is_zero() && self.while_lost != WhileLost::Serve
    }

    /// How long a softly invalidated value is kept as a stale copy, in seconds.
    pub(crate) fn kept(&self) -> Duration {
        if self.stale.is_zero() { SOFT_KEPT } else { self.stale }
    }

    /// Whether plain reads wait for another reader that loads the value, or get the stale copy.
    pub(crate) fn coalesces(&self) -> bool {
        self.serve_stale || !self.herd_wait.is_zero()
    }
}

/// How long a soft invalidation keeps stale copies if the policy keeps none of its own.
const SOFT_KEPT: Duration = Duration::from_secs(10);
