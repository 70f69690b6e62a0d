//! The metrics that are made from `stats`: the names of prometheus/memcached_exporter for what memcached counts, too,
//! so that dashboards for it work, and names of our own for the rest.
//!
//! Deliberately absent, for there is nothing here that they would count: the exporter's metrics of slabs, of the LRU and
//! its crawler, and of extstore.

/// What is counted under one name.
pub(super) struct Family {
    pub(super) help: &'static str,
    pub(super) kind: Kind,
    pub(super) name: &'static str,
    /// Labels, and what is told under them: a statistic, or one less others.
    pub(super) samples: &'static [(&'static str, &'static str)],
}

/// What a number does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    /// It rises, until the server or its statistics begin again.
    Counter,
    /// It rises and falls.
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

/// As the exporter has them, with its names, kinds and labels.
pub(super) const MEMCACHED: &[Family] = &[
    counter("memcached_uptime_seconds", "Seconds since the server started.", &[("", "uptime")]),
    gauge("memcached_time_seconds", "UNIX time according to the server.", &[("", "time")]),
    counter(
        "memcached_process_user_cpu_seconds_total",
        "Time of a processor in the server's own code.",
        &[("", "rusage_user")],
    ),
    counter(
        "memcached_process_system_cpu_seconds_total",
        "Time of a processor in the system on the server's behalf.",
        &[("", "rusage_system")],
    ),
    counter("memcached_read_bytes_total", "Bytes read from clients.", &[("", "bytes_read")]),
    counter("memcached_written_bytes_total", "Bytes sent to clients.", &[("", "bytes_written")]),
    gauge("memcached_current_connections", "Connections that are open.", &[("", "curr_connections")]),
    gauge("memcached_max_connections", "Connections that may be open at once.", &[("", "max_connections")]),
    counter("memcached_connections_total", "Connections accepted.", &[("", "total_connections")]),
    counter(
        "memcached_connections_rejected_total",
        "Connections turned away because there were too many.",
        &[("", "rejected_connections")],
    ),
    counter(
        "memcached_connections_yielded_total",
        "How often a connection had to let others have their turn (-R).",
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
        "Bytes that items and their bookkeeping may take.",
        &[("", "limit_maxbytes")],
    ),
    gauge("memcached_malloced_bytes", "Bytes of that limit that are in use.", &[("", "charged_bytes")]),
    gauge("memcached_current_items", "Live items.", &[("", "curr_items")]),
    counter("memcached_items_total", "Items stored.", &[("", "total_items")]),
    counter("memcached_items_evicted_total", "Items thrown away for want of memory.", &[("", "evictions")]),
    counter(
        "memcached_items_reclaimed_total",
        "Items thrown away because their time had passed or everything was voided.",
        &[("", "reclaimed")],
    ),
    counter("memcached_item_too_large_total", "Stores refused as too large.", &[("", "store_too_large")]),
    counter(
        "memcached_item_no_memory_total",
        "Stores refused for want of memory.",
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
            // memcached counts a cas among the sets, too.
            ("command=\"set\",status=\"hit\"", "cmd_set-cas_hits-cas_misses-cas_badval"),
        ],
    ),
];

/// What no memcached has.
pub(super) const LEASEHOLD: &[Family] = &[
    counter(
        "leasehold_lease_commands_total",
        "Keys asked for by lease-get, and fills by lease-set.",
        &[("command=\"lease_get\"", "cmd_lease_get"), ("command=\"lease_set\"", "cmd_lease_set")],
    ),
    counter("leasehold_leases_granted_total", "Misses that were given a lease.", &[("", "lease_granted")]),
    counter(
        "leasehold_lease_hot_misses_total",
        "Misses that were told that somebody else loads the value: reads that the database was spared.",
        &[("", "lease_hot_miss")],
    ),
    counter(
        "leasehold_lease_fills_total",
        "What became of the leases that came back.",
        &[
            ("result=\"stored\"", "lease_filled"),
            ("result=\"released\"", "lease_released"),
            ("result=\"voided\"", "lease_refused_voided"),
            ("result=\"superseded\"", "lease_refused_superseded"),
            ("result=\"unknown\"", "lease_refused_unknown"),
        ],
    ),
    gauge("leasehold_leases_outstanding", "Leases that make others wait.", &[("", "leases_outstanding")]),
    gauge(
        "leasehold_lease_waiting",
        "Requests that wait for somebody else's fill.",
        &[("", "lease_waits-lease_wait_filled-lease_wait_timeouts")],
    ),
    counter(
        "leasehold_lease_waits_total",
        "Waits that ended, and by what.",
        &[("end=\"lease_ended\"", "lease_wait_filled"), ("end=\"timeout\"", "lease_wait_timeouts")],
    ),
    counter(
        "leasehold_implicit_fills_total",
        "Stores of plain clients that followed a miss: kept, refused as stale, or kept though on would refuse them.",
        &[
            ("result=\"stored\"", "implicit_fills"),
            ("result=\"refused\"", "implicit_refused"),
            ("result=\"observed\"", "implicit_observed"),
        ],
    ),
    counter(
        "leasehold_implicit_refused_total",
        "Stores of plain clients that were refused, by the reason.",
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
        "Stores of plain clients that were kept because their value came more often than old loads can bring it.",
        &[("", "implicit_confirmed")],
    ),
    counter(
        "leasehold_unfenced_sets_total",
        "Plain sets without a miss before them, which are taken for writes.",
        &[("", "unfenced_sets")],
    ),
    counter(
        "leasehold_versions_refused_total",
        "Stores of older rows than one that was spoken of.",
        &[("", "versions_refused")],
    ),
    counter(
        "leasehold_versions_forgotten_total",
        "Versions of rows that were forgotten before their time.",
        &[("", "versions_forgotten")],
    ),
    counter(
        "leasehold_voids_total",
        "Invalidations, by what was named.",
        &[
            ("kind=\"key\"", "voids_key"),
            ("kind=\"tag\"", "voids_tag"),
            ("kind=\"prefix\"", "voids_prefix"),
            ("kind=\"all\"", "voids_all"),
        ],
    ),
    gauge("leasehold_voided_names", "Tags and prefixes whose voids are remembered.", &[("", "voided_names")]),
    counter(
        "leasehold_voided_names_forgotten_total",
        "Tags and prefixes whose voids had to be forgotten: keys with names miss more than they must.",
        &[("", "voided_names_forgotten")],
    ),
    counter("leasehold_stale_served_total", "Stale copies that were served.", &[("", "stale_served")]),
    gauge("leasehold_stale_items", "Stale copies that are kept.", &[("", "stale_items")]),
    gauge(
        "leasehold_memory_bytes",
        "Where the memory of the limit is.",
        &[
            ("part=\"small\"", "small_bytes"),
            ("part=\"main\"", "main_bytes"),
            ("part=\"large\"", "large_bytes"),
            ("part=\"dead\"", "dead_bytes"),
            ("part=\"open\"", "open_bytes"),
            ("part=\"index\"", "index_bytes"),
            ("part=\"ghost\"", "ghost_bytes"),
            ("part=\"reserved\"", "reserved_bytes"),
        ],
    ),
    gauge("leasehold_fixed_table_bytes", "Memory beside the limit.", &[("", "fixed_table_bytes")]),
    counter("leasehold_copied_bytes_total", "Bytes moved to make room.", &[("", "copied_bytes")]),
    counter(
        "leasehold_items_evicted_unfetched_total",
        "Evicted items that nobody had read.",
        &[("", "evicted_unfetched")],
    ),
    counter(
        "leasehold_ghost_hits_total",
        "Items that came back soon after they were evicted.",
        &[("", "ghost_hits")],
    ),
    counter(
        "leasehold_connections_rejected_per_client_total",
        "Connections turned away because their address had too many (--conn-limit-per-client).",
        &[("", "rejected_connections_per_client")],
    ),
    counter("leasehold_auth_errors_total", "Wrong passwords and tokens.", &[("", "auth_errors")]),
    counter("leasehold_idle_kicks_total", "Connections closed for being idle.", &[("", "idle_kicks")]),
    counter(
        "leasehold_binary_refused_total",
        "Connections refused for speaking the binary protocol.",
        &[("", "binary_refused")],
    ),
    counter(
        "leasehold_tls_handshake_errors_total",
        "Handshakes of TLS that failed.",
        &[("", "ssl_handshake_errors")],
    ),
];
