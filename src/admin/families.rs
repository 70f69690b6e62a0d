//! The metrics that are made from `stats`. Where memcached counts the same, names follow
//! prometheus/memcached_exporter, so that its dashboards work; other names are our own.
//!
//! The exporter's metrics of slabs, the LRU, its crawler and extstore are absent: nothing here would fill
//! them.

/// The samples of one metric name.
pub(super) struct Family {
    pub(super) help: &'static str,
    pub(super) kind: Kind,
    pub(super) name: &'static str,
    /// Labels, each with its source: a statistic, or one minus others.
    pub(super) samples: &'static [(&'static str, &'static str)],
}

/// The type of a metric.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    /// Only rises, until the server restarts or its statistics are reset.
    Counter,
    /// Rises and falls.
    Gauge,
}

const fn counter(
    name: &'static str,
    help: &'static str,
    samples: &'static [(&'static str, &'static str)],
) -> Family {
    Family { help, kind: Kind::Counter, name, samples }
}

const fn gauge(
    name: &'static str,
    help: &'static str,
    samples: &'static [(&'static str, &'static str)],
) -> Family {
    Family { help, kind: Kind::Gauge, name, samples }
}

/// Metrics with the exporter's names, types and labels.
pub(super) const MEMCACHED: &[Family] = &[
    counter("memcached_uptime_seconds", "Seconds since the server started.", &[("", "uptime")]),
    gauge("memcached_time_seconds", "UNIX time according to the server.", &[("", "time")]),
    counter(
        "memcached_process_user_cpu_seconds_total",
        "Processor time in the server's own code.",
        &[("", "rusage_user")],
    ),
    counter(
        "memcached_process_system_cpu_seconds_total",
        "Processor time in the kernel on the server's behalf.",
        &[("", "rusage_system")],
    ),
    counter("memcached_read_bytes_total", "Bytes read from clients.", &[("", "bytes_read")]),
    counter("memcached_written_bytes_total", "Bytes sent to clients.", &[("", "bytes_written")]),
    gauge("memcached_current_connections", "Open connections.", &[("", "curr_connections")]),
    gauge("memcached_max_connections", "The limit on open connections.", &[("", "max_connections")]),
    counter("memcached_connections_total", "Connections accepted.", &[("", "total_connections")]),
    counter(
        "memcached_connections_rejected_total",
        "Connections rejected because there were too many.",
        &[("", "rejected_connections")],
    ),
    counter(
        "memcached_connections_yielded_total",
        "How often a connection had to yield to others (-R).",
        &[("", "conn_yields")],
    ),
    counter(
        "memcached_connections_listener_disabled_total",
        "How often accepting was stopped because there were too many connections.",
        &[("", "listen_disabled_num")],
    ),
    gauge("memcached_accepting_connections", "Whether connections are accepted.", &[("", "accepting_conns")]),
    gauge("memcached_current_bytes", "Bytes of all items.", &[("", "bytes")]),
    gauge(
        "memcached_limit_bytes",
        "The limit on bytes of items and their bookkeeping.",
        &[("", "limit_maxbytes")],
    ),
    gauge("memcached_malloced_bytes", "Bytes of that limit that are in use.", &[("", "charged_bytes")]),
    gauge("memcached_current_items", "Live items.", &[("", "curr_items")]),
    counter("memcached_items_total", "Items stored.", &[("", "total_items")]),
    counter("memcached_items_evicted_total", "Items evicted for lack of memory.", &[("", "evictions")]),
    counter(
        "memcached_items_reclaimed_total",
        "Items removed because they had expired or everything was invalidated.",
        &[("", "reclaimed")],
    ),
    counter("memcached_item_too_large_total", "Stores refused as too large.", &[("", "store_too_large")]),
    counter(
        "memcached_item_no_memory_total",
        "Stores refused for lack of memory.",
        &[("", "store_no_memory")],
    ),
    counter(
        "memcached_commands_total",
        "Requests by command and outcome.",
        &[
            ("command=\"get\",status=\"hit\"", "get_hits"),
            ("command=\"get\",status=\"miss\"", "get_misses"),
            ("command=\"delete\",status=\"hit\"", "delete_hits"),
            ("command=\"delete\",status=\"miss\"", "delete_misses"),
            ("command=\"incr\",status=\"hit\"", "incr_hits"),
            ("command=\"incr\",status=\"miss\"", "incr_misses"),
            ("command=\"decr\",status=\"hit\"", "decr_hits"),
            ("command=\"decr\",status=\"miss\"", "decr_misses"),
            ("command=\"cas\",status=\"hit\"", "cas_hits"),
            ("command=\"cas\",status=\"miss\"", "cas_misses"),
            ("command=\"cas\",status=\"badval\"", "cas_badval"),
            ("command=\"touch\",status=\"hit\"", "touch_hits"),
            ("command=\"touch\",status=\"miss\"", "touch_misses"),
            ("command=\"flush\",status=\"hit\"", "cmd_flush"),
            // memcached counts a cas as a set, too.
            ("command=\"set\",status=\"hit\"", "cmd_set-cas_hits-cas_misses-cas_badval"),
        ],
    ),
];

/// Metrics that memcached does not have.
pub(super) const LEASEHOLD: &[Family] = &[
    counter(
        "leasehold_lease_commands_total",
        "Keys requested by lease-get, and fills by lease-set.",
        &[("command=\"lease_get\"", "cmd_lease_get"), ("command=\"lease_set\"", "cmd_lease_set")],
    ),
    counter("leasehold_leases_granted_total", "Misses that received a lease.", &[("", "lease_granted")]),
    counter(
        "leasehold_lease_hot_misses_total",
        "Misses while another client held the lease: database reads avoided.",
        &[("", "lease_hot_miss")],
    ),
    counter(
        "leasehold_lease_fills_total",
        "Returned leases, by result.",
        &[
            ("result=\"stored\"", "lease_filled"),
            ("result=\"released\"", "lease_released"),
            ("result=\"voided\"", "lease_refused_voided"),
            ("result=\"superseded\"", "lease_refused_superseded"),
            ("result=\"unknown\"", "lease_refused_unknown"),
        ],
    ),
    gauge(
        "leasehold_leases_outstanding",
        "Leases that other clients wait for.",
        &[("", "leases_outstanding")],
    ),
    gauge(
        "leasehold_lease_waiting",
        "Requests that wait for another client's fill.",
        &[("", "lease_waits-lease_wait_filled-lease_wait_timeouts")],
    ),
    counter(
        "leasehold_lease_waits_total",
        "Finished waits for a lease, by the way they ended.",
        &[("end=\"lease_ended\"", "lease_wait_filled"), ("end=\"timeout\"", "lease_wait_timeouts")],
    ),
    counter(
        "leasehold_implicit_fills_total",
        "Plain stores after a miss: stored, refused as possibly stale, or stored only because of mode observe.",
        &[
            ("result=\"stored\"", "implicit_fills"),
            ("result=\"refused\"", "implicit_refused"),
            ("result=\"observed\"", "implicit_observed"),
        ],
    ),
    counter(
        "leasehold_implicit_refused_total",
        "Plain stores that were refused, by reason.",
        &[
            ("reason=\"doubt\"", "implicit_refused_doubt"),
            ("reason=\"late\"", "implicit_refused_late"),
            ("reason=\"closed\"", "implicit_refused_closed"),
            ("reason=\"note\"", "implicit_refused_note"),
            ("reason=\"held_off\"", "implicit_refused_held_off"),
        ],
    ),
    counter(
        "leasehold_implicit_confirmed_total",
        "Plain stores accepted because their value arrived more often than slow loads can bring it.",
        &[("", "implicit_confirmed")],
    ),
    counter(
        "leasehold_unfenced_sets_total",
        "Plain sets without a preceding miss, which are treated as writes.",
        &[("", "unfenced_sets")],
    ),
    counter(
        "leasehold_versions_refused_total",
        "Stores refused because a newer version of the row was known.",
        &[("", "versions_refused")],
    ),
    counter(
        "leasehold_versions_forgotten_total",
        "Versions of rows that were dropped before they expired.",
        &[("", "versions_forgotten")],
    ),
    counter(
        "leasehold_hold_offs_shared_total",
        "Hold-offs that found no place of their own: one in thousands of the other keys is held off, too.",
        &[("", "hold_offs_shared")],
    ),
    counter(
        "leasehold_voids_total",
        "Invalidations, by kind of target.",
        &[
            ("kind=\"key\"", "voids_key"),
            ("kind=\"tag\"", "voids_tag"),
            ("kind=\"prefix\"", "voids_prefix"),
            ("kind=\"all\"", "voids_all"),
        ],
    ),
    gauge(
        "leasehold_voided_names",
        "Tags and prefixes whose invalidations are remembered.",
        &[("", "voided_names")],
    ),
    counter(
        "leasehold_voided_names_forgotten_total",
        "Tags and prefixes whose invalidations were dropped: their keys may miss needlessly.",
        &[("", "voided_names_forgotten")],
    ),
    counter("leasehold_stale_served_total", "Stale copies that were served.", &[("", "stale_served")]),
    gauge("leasehold_stale_items", "Stale copies in memory.", &[("", "stale_items")]),
    gauge(
        "leasehold_memory_bytes",
        "Memory use within the limit, by part.",
        &[
            ("part=\"soon\"", "soon_bytes"),
            ("part=\"later\"", "later_bytes"),
            ("part=\"last\"", "last_bytes"),
            ("part=\"large\"", "large_bytes"),
            ("part=\"dead\"", "dead_bytes"),
            ("part=\"open\"", "open_bytes"),
            ("part=\"index\"", "index_bytes"),
            ("part=\"ghost\"", "ghost_bytes"),
            ("part=\"reserved\"", "reserved_bytes"),
        ],
    ),
    gauge("leasehold_fixed_table_bytes", "Memory outside the limit.", &[("", "fixed_table_bytes")]),
    counter("leasehold_copied_bytes_total", "Bytes moved to make room.", &[("", "copied_bytes")]),
    counter(
        "leasehold_items_evicted_unfetched_total",
        "Evicted items that had never been read.",
        &[("", "evicted_unfetched")],
    ),
    counter(
        "leasehold_ghost_hits_total",
        "Items stored again soon after their eviction.",
        &[("", "ghost_hits")],
    ),
    counter(
        "leasehold_connections_rejected_per_client_total",
        "Connections rejected because their address had too many (--conn-limit-per-client).",
        &[("", "rejected_connections_per_client")],
    ),
    gauge(
        "leasehold_receive_bytes",
        "Memory of large requests that are being received.",
        &[("", "receive_bytes")],
    ),
    gauge("leasehold_receive_limit_bytes", "The limit on it (--receive-limit).", &[("", "receive_limit")]),
    counter(
        "leasehold_receive_waits_total",
        "How often a large request waited for the memory of others.",
        &[("", "receive_waits")],
    ),
    counter(
        "leasehold_receive_timeouts_total",
        "Connections closed because a large request took too long while others waited.",
        &[("", "receive_timeouts")],
    ),
    counter("leasehold_auth_errors_total", "Wrong passwords and tokens.", &[("", "auth_errors")]),
    counter("leasehold_idle_kicks_total", "Connections closed for being idle.", &[("", "idle_kicks")]),
    counter(
        "leasehold_binary_refused_total",
        "Connections refused because they spoke the binary protocol where it is not allowed.",
        &[("", "binary_refused")],
    ),
    counter(
        "leasehold_tls_handshake_errors_total",
        "Failed TLS handshakes.",
        &[("", "ssl_handshake_errors")],
    ),
];
