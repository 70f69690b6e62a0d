//! `stats`: the statistics, in the order of the output.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Command, Flow, MEMCACHED_VERSION};
use crate::cache::{AGE_SECONDS, Counts, FACTORS, LoadTime, Policy, WhenFull};
use crate::metrics::{TOLD, Uses};
use crate::protocol::{Reply, Statistics, Status};
use crate::shown::word;

impl Command<'_> {
    pub(super) fn stats(&mut self, what: &mut Statistics) -> Flow {
        match what {
            Statistics::Absent => {}
            Statistics::Conns { from } => return self.conns(from),
            Statistics::Detail | Statistics::DetailSwitch { .. } if !self.conversation.rules.may_dump => {
                self.replies.status(Status::DetailNotAllowed);
                return Flow::Next;
            }
            Statistics::Detail => self.detail(),
            Statistics::DetailSwitch { is_on } => {
                self.conversation.metrics.prefixes.switch(*is_on);
                self.replies.status(Status::Ok);
                return Flow::Next;
            }
            Statistics::Events => self.sources(),
            Statistics::General => self.general(),
            Statistics::Items => self.items(),
            Statistics::Leases => self.leases(),
            Statistics::Memory => self.memory(),
            Statistics::Mrc => self.curve(),
            Statistics::Policies => self.policies(),
            Statistics::Ratio => self.ratio(),
            Statistics::Reset => {
                self.conversation.metrics.reset();
                self.cache.reset_counts();
                self.replies.status(Status::Reset);
                return Flow::Next;
            }
            Statistics::Settings => self.settings(),
            Statistics::Sizes => self.sizes(),
            Statistics::Slabs => self.slabs(),
        }
        self.replies.status(Status::End);
        Flow::Next
    }

    fn general(&mut self) {
        let replies = &mut self.replies;
        replies.stat("pid", &std::process::id().to_string());
        replies.stat("uptime", &(self.now.millis / 1000).to_string());
        replies.stat("time", &self.now.unix.to_string());
        replies.stat("version", MEMCACHED_VERSION);
        replies.stat("server", "leasehold");
        replies.stat("leasehold_version", env!("CARGO_PKG_VERSION"));
        replies.stat("pointer_size", &usize::BITS.to_string());
        let metrics = &self.conversation.metrics;
        let usage = (metrics.usage)();
        replies.stat("rusage_user", &format!("{:.6}", usage.user.as_secs_f64()));
        replies.stat("rusage_system", &format!("{:.6}", usage.system.as_secs_f64()));
        let counts = self.cache.counts();
        let has_sessions = metrics.settings.contains(&("ssl_session_cache", yes(true).to_owned()));
        let is_shown = |name: &str| name != "ssl_new_sessions" || has_sessions;
        metrics.each(counts, |name, value| {
            if is_shown(name) {
                replies.stat(name, &value.to_string());
            }
        });
        // An item that is used is evicted like any other.
        replies.stat("lrutail_reflocked", "0");
        if let Some(read) = &metrics.certificates_read {
            let since = u64::from(self.now.seconds()).saturating_sub(read.load(Ordering::Relaxed));
            replies.stat("time_since_server_cert_refresh", &since.to_string());
        }
        replies.stat("limit_maxbytes", &self.cache.memory_bytes().0.to_string());
        self.gauges(&counts);
    }

    /// The current numbers of leases and invalidations.
    fn gauges(&mut self, counts: &Counts) {
        let replies = &mut self.replies;
        replies.stat("leases_outstanding", &self.cache.leases_outstanding(self.now).to_string());
        let (names, forgotten) = self.cache.groups_remembered();
        replies.stat("voided_names", &names.to_string());
        replies.stat("voided_names_forgotten", &forgotten.to_string());
        replies.stat("hold_offs_shared", &counts.hold_offs_shared.to_string());
        replies.stat("versions_forgotten", &counts.versions_forgotten.to_string());
    }

    /// The counts of leases and invalidations, from `stats`.
    fn leases(&mut self) {
        let replies = &mut self.replies;
        self.conversation.metrics.each_of_leases(|name, value| replies.stat(name, &value.to_string()));
        self.gauges(&self.cache.counts());
        self.classes();
    }

    /// The classes of keys in which plain sets were judged: their state, and the number of refused sets.
    fn classes(&mut self) {
        for (nth, class) in self.cache.classes(self.now).into_iter().enumerate() {
            let name = word(&class.name);
            let figures = [
                ("name", if name.is_empty() { "-".to_owned() } else { name.into_owned() }),
                ("mode", class.mode.to_owned()),
                ("load_time_ms", class.load_time.max_ms.to_string()),
                ("load_times", class.load_time.samples.to_string()),
                ("sets", class.sets.to_string()),
                ("refused", class.refused.to_string()),
            ];
            figures.iter().for_each(|(name, value)| self.replies.stat(&format!("class:{nth}:{name}"), value));
        }
    }

    /// The settings of each policy, of which number 0 is the default, and the lease counts of all others.
    fn policies(&mut self) {
        let policies = self.cache.policies();
        self.policy(0, policies.general(), policies.load_time(None));
        for (nth, (prefix, policy)) in (1..).zip(policies.prefixes()) {
            self.replies.stat(&format!("{nth}:prefix"), &word(prefix));
            self.policy(nth, policy, policies.load_time(Some(prefix)));
            for (count, value) in TOLD.iter().zip(self.conversation.metrics.policies.of(prefix)) {
                self.replies.stat(&format!("{nth}:{}", count.name()), &value.to_string());
            }
        }
    }

    fn policy(&mut self, nth: usize, policy: &Policy, load_time: LoadTime) {
        let ms = |span: Duration| span.as_millis().to_string();
        let sources = policy.depends_on.join(",");
        let settings = [
            ("depends_on", if sources.is_empty() { "-".to_owned() } else { sources }),
            ("herd_wait_ms", ms(policy.herd_wait)),
            ("hold_off_ms", ms(policy.hold_off)),
            ("implicit_leases", format!("{:?}", policy.implicit).to_lowercase()),
            ("lease_min_interval_ms", ms(policy.lease_min_interval)),
            ("lease_window_ms", ms(policy.lease_window)),
            ("load_time_ms", load_time.max_ms.to_string()),
            ("load_times", load_time.samples.to_string()),
            ("max_staleness_ms", ms(policy.max_staleness)),
            ("serve_stale", yes(policy.serve_stale).to_owned()),
            ("stale_ms", ms(policy.stale)),
            ("ttl_ms", ms(policy.ttl)),
            ("ttl_jitter_percent", policy.ttl_jitter.to_string()),
            ("ttl_max_ms", ms(policy.ttl_max)),
            ("while_lost", format!("{:?}", policy.while_lost).to_lowercase()),
        ];
        settings.iter().for_each(|(name, value)| self.replies.stat(&format!("{nth}:{name}"), value));
    }

    /// The uses of keys by their prefixes.
    fn detail(&mut self) {
        let replies = &mut self.replies;
        self.conversation.metrics.prefixes.each(|prefix, uses| {
            let Uses { gets, hits, sets, deletes } = uses;
            replies.send(Reply::Prefix { prefix, gets, hits, sets, deletes });
        });
    }

    /// The use of memory, and evictions for lack of it.
    fn memory(&mut self) {
        let counts = self.cache.counts();
        let (limit, charged) = self.cache.memory_bytes();
        let config = self.cache.config();
        let replies = &mut self.replies;
        let mut stat = |name: &str, value: u64| replies.stat(name, &value.to_string());
        stat("limit_maxbytes", limit as u64);
        stat("charged_bytes", charged as u64);
        let [soon_bytes, later_bytes, last_bytes] = counts.queue_bytes;
        let parts = [
            ("soon_bytes", soon_bytes),
            ("later_bytes", later_bytes),
            ("last_bytes", last_bytes),
            ("dead_bytes", counts.dead_bytes),
            ("open_bytes", counts.open_bytes),
            ("large_bytes", counts.large_bytes),
            ("index_bytes", counts.index_bytes),
            ("ghost_bytes", counts.ghost_bytes),
        ];
        parts.iter().for_each(|(name, bytes)| stat(name, *bytes));
        // Shards change while they are read one by one.
        let itemized: u64 = parts.iter().map(|(_, bytes)| bytes).sum();
        stat("reserved_bytes", (charged as u64).saturating_sub(itemized));
        stat("fixed_table_bytes", config.fixed_table_bytes() as u64);
        stat("segments", counts.segments);
        stat("segment_bytes", config.segment_bytes() as u64);
        stat("large_items", counts.large_items);
        stat("copied_bytes", counts.copied_bytes);
        stat("ghost_hits", counts.ghost_hits);
        departures(&counts, stat);
        let shards = config.shards() as f64;
        let mean = |thousandths: u64| format!("{:.3}", thousandths as f64 / 1_000.0 / shards);
        replies.stat("floor", &mean(counts.floors));
        let kinds = ["used", "returned", "large:used", "large:returned"];
        for (kind, factors) in kinds.iter().zip(counts.factors.chunks(counts.factors.len() / kinds.len())) {
            for (uses, factor) in factors.iter().enumerate() {
                replies.stat(&format!("life:{kind}:{uses}"), &mean(*factor));
            }
        }
    }

    /// The hits by the size of the value.
    fn ratio(&mut self) {
        for (class, size) in self.cache.counts().sizes.iter().enumerate() {
            if let Some(ratio) = size.ratio() {
                let figures = format!("hits={},fills={},ratio={ratio:.4}", size.hits, size.fills);
                self.replies.stat(&format!("ratio:{}", 1_u64 << class), &figures);
            }
        }
    }

    /// The estimated hit ratios of other cache sizes.
    fn curve(&mut self) {
        let (counts, curve) = (self.cache.counts(), self.cache.curve());
        let replies = &mut self.replies;
        replies.stat("limit_maxbytes", &self.cache.memory_bytes().0.to_string());
        for (name, ratios) in [("mrc", curve.hit_ratios), ("lru", curve.lru)] {
            for (factor, ratio) in FACTORS.iter().zip(ratios) {
                replies.stat(&format!("{name}:{factor}"), &format!("{ratio:.4}"));
            }
        }
        let (hits, reads) = (counts.hits(), counts.hits() + counts.misses);
        replies.stat("hit_ratio", &format!("{:.4}", hits as f64 / reads.max(1) as f64));
        replies.stat("reads", &reads.to_string());
        replies.stat("samples", &curve.samples.to_string());
        replies.stat("sample_rate", &curve.rate.to_string());
    }

    fn settings(&mut self) {
        let config = self.cache.config();
        let policies = self.cache.policies();
        let policy = policies.general();
        let (replies, metrics) = (&mut self.replies, &self.conversation.metrics);
        replies.stat("maxbytes", &self.cache.memory_bytes().0.to_string());
        replies.stat("maxconns", &metrics.connections_max.to_string());
        metrics.settings.iter().for_each(|(name, value)| replies.stat(name, value));
        replies.stat("verbosity", &metrics.verbosity.load(Ordering::Relaxed).to_string());
        replies.stat("detail_enabled", yes(metrics.prefixes.is_on()));
        replies.stat("flush_enabled", yes(self.conversation.rules.may_flush));
        replies.stat("dump_enabled", yes(self.conversation.rules.may_dump));
        replies.stat("item_size_max", &config.value_bytes_max.to_string());
        replies.stat("evictions", if config.when_full == WhenFull::Evict { "on" } else { "off" });
        replies.stat("shutdown_command", yes(self.conversation.rules.may_shut_down));
        replies.stat("implicit_leases", &format!("{:?}", policy.implicit).to_lowercase());
        replies.stat("lease_window_ms", &policy.lease_window.as_millis().to_string());
        replies.stat("lease_min_interval_ms", &policy.lease_min_interval.as_millis().to_string());
        replies.stat("lease_max_age_ms", &policy.lease_max_age.as_millis().to_string());
        replies.stat("load_time_max_ms", &policy.load_time_max.as_millis().to_string());
        replies.stat("stale_ms", &policy.stale.as_millis().to_string());
    }
}

fn yes(is_so: bool) -> &'static str {
    if is_so { "yes" } else { "no" }
}

/// Evicted and expired items. `evicted_age:4` counts evicted items that were used less than 4 seconds
/// before.
fn departures(counts: &Counts, mut stat: impl FnMut(&str, u64)) {
    stat("evictions", counts.evictions);
    stat("evicted_unfetched", counts.evicted_unfetched);
    let ends = AGE_SECONDS.iter().map(u32::to_string).chain(["older".to_owned()]);
    for (end, items) in ends.zip(counts.evicted_ages) {
        stat(&format!("evicted_age:{end}"), items);
    }
    stat("expired", counts.expired);
    stat("expired_unfetched", counts.expired_unfetched);
}
