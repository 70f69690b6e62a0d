//! Sources of events in the server: the sink that applies them to its cache, and their start and end.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::service::{Inputs, Service};
use crate::cache::{Depth, Expiry, Tick, Value};
use crate::clock::{self, Now};
use crate::command::{Change as KeyChange, Conversation, Rules, Targets, change, invalidate};
use crate::events::config::{Events, Kind};
use crate::events::delivery::work::Change;
use crate::events::position::Position;
use crate::events::rule::rules::Stored;
use crate::events::runner::{Runner, Started};
use crate::events::sink::Sink;
use crate::events::targets::Merged;
use crate::metrics::{Event, SourceCount, SourceEvent, SourceStatus, Topic};

/// Starts the sources of a configuration; `None` if there are none. Returns once each of them has been
/// attached or has failed: clients must not be served what a source that has failed should have invalidated.
pub(super) fn start(service: &Arc<Service>, events: &Events) -> io::Result<Option<Runner>> {
    let set_inputs = |inputs: Inputs| {
        let is_first = service.event_inputs.set(inputs).is_ok();
        assert!(is_first, "the sources are started once");
    };
    if events.sources.is_empty() {
        set_inputs(Inputs::new());
        return Ok(None);
    }
    let started = events.sources.iter().map(|config| {
        let status = Arc::new(SourceStatus::new(&config.name, config.kind_name()));
        service.metrics.sources.add(Arc::clone(&status));
        Started {
            config: config.clone(),
            position: service.cache.position(&config.name),
            sink: CacheSink::new(service, &status),
            status,
        }
    });
    let rules = Arc::clone(&events.rules);
    let (runner, unattached) = Runner::start(started.collect(), rules, &service.clock, ATTACHED_WITHIN)?;
    let inputs = events.sources.iter().filter_map(|config| {
        let Kind::Http(settings) = config.kind else { return None };
        Some((config.name.clone(), (settings, runner.posts(&config.name)?)))
    });
    let inputs = inputs.collect();
    for name in unattached {
        let config = events.sources.iter().find(|config| config.name == name).expect("it was started");
        if service.cache.position(&name).is_some() {
            tracing::warn!(
                source = name,
                "source is not attached: loaded values that it could name are invalidated"
            );
            let status = service.metrics.sources.of(&name).expect("it was added");
            CacheSink::new(service, &status)
                .invalidate(&Merged::of(config.scope(&events.rules), Depth::Hard));
        }
    }
    set_inputs(inputs);
    Ok(Some(runner))
}

/// The start waits for sources that hang for this time.
const ATTACHED_WITHIN: Duration = Duration::from_secs(5);

/// The cache of the server, for the events of one source.
struct CacheSink {
    conversation: Conversation,
    service: Arc<Service>,
    status: Arc<SourceStatus>,
}

impl CacheSink {
    fn new(service: &Arc<Service>, status: &Arc<SourceStatus>) -> Self {
        // `-F` forbids clients to invalidate everything; after a gap it may be necessary.
        let rules = Rules { may_flush: true, ..service.rules };
        let (metrics, counters) = (Arc::clone(&service.metrics), service.metrics.of_events());
        let conversation = Conversation::internal(&service.cache, metrics, counters, rules);
        CacheSink { conversation, service: Arc::clone(service), status: Arc::clone(status) }
    }

    fn key(&mut self, key: &str, what: KeyChange) -> u64 {
        let now = self.service.now();
        u64::from(change(key.as_bytes(), what, &self.service.cache, &mut self.conversation, now))
    }

    fn invalidate(&mut self, merged: &Merged) -> u64 {
        let now = self.service.now();
        let time = (now, clock::wall().as_micros() as u64);
        let (mut names, mut reads) = (0, 0);
        for depth in [Depth::Hard, Depth::Soft] {
            let keys: Vec<_> = merged
                .keys
                .iter()
                .filter(|(_, target)| target.depth == depth && target.version.is_none())
                .collect();
            reads +=
                keys.iter().filter(|(key, target)| self.was_read_since(key, target.committed, time)).count()
                    as u64;
            let targets = Targets {
                depth,
                is_all: merged.all == Some(depth),
                keys: keys.iter().map(|(key, _)| key.as_bytes()).collect(),
                prefixes: groups(&merged.prefixes, depth),
                tags: groups(&merged.tags, depth),
            };
            let named = targets.keys.len() + targets.prefixes.len() + targets.tags.len();
            if targets.is_all || named > 0 {
                invalidate(&targets, &self.service.cache, &mut self.conversation, now)
                    .expect("the names were checked, and everything may be invalidated");
                names += named as u64 + u64::from(targets.is_all);
            }
        }
        for (key, target) in &merged.keys {
            if let Some(version) = target.version {
                let was_read = self.was_read_since(key, target.committed, time);
                let done = self.key(key, KeyChange::Invalidate { depth: target.depth, version });
                names += done;
                // A value of this version stays.
                reads += done.min(was_read.into());
            }
        }
        self.status.add(SourceCount::ReadsBetween, reads);
        names
    }

    /// Whether a key has a value that was read after this commit, in microseconds since 1970. The time of a
    /// read is known to a tick: it counts if the tick began after the commit.
    fn was_read_since(&self, key: &str, committed: Option<u64>, (now, wall_us): (Now, u64)) -> bool {
        let Some(committed) = committed else { return false };
        let age_ms = wall_us.saturating_sub(committed) / 1000;
        let first = Tick::not_before((now.millis + 1).saturating_sub(age_ms));
        // Most events are applied within a tick, and cost no look-up.
        if first > now.tick() {
            return false;
        }
        let key = self.service.cache.key(key.as_bytes()).expect("the names were checked");
        let was_read = |value: Value<'_>| value.is_fetched && value.accessed >= first;
        self.service.cache.peek(&key, now, was_read).unwrap_or(false)
    }

    fn store(&mut self, stored: &Stored) {
        let now = self.service.now();
        let expiry = stored.ttl.map_or(Expiry::NEVER, |ttl| Expiry::after(ttl, now));
        let value = stored.value.as_bytes();
        self.key(&stored.key, KeyChange::Store { expiry, value, version: stored.version });
    }
}

/// The groups that are invalidated in this way.
fn groups(names: &BTreeMap<String, Depth>, depth: Depth) -> Vec<&[u8]> {
    names.iter().filter(|(_, known)| **known == depth).map(|(name, _)| name.as_bytes()).collect()
}

impl Sink for CacheSink {
    fn apply(&mut self, change: &Change) -> u64 {
        match change {
            Change::Count(keys) => {
                keys.iter().for_each(|key| {
                    self.key(key, KeyChange::Count);
                });
                0
            }
            Change::Invalidate(merged) => self.invalidate(merged),
            Change::Store(stored) => {
                self.store(stored);
                0
            }
        }
    }

    fn attest(&mut self, proven_ms: u64) {
        self.service.cache.attest(&self.status.name, proven_ms);
    }

    fn publish(&self, what: SourceEvent<'_>) {
        let watchers = &self.service.metrics.watchers;
        if watchers.topics().has(Topic::Sources) {
            watchers.publish(&Event::Source { source: &self.status.name, what });
        }
    }

    fn save(&mut self, position: &Position) {
        self.service.cache.set_position(&self.status.name, position.clone());
    }
}
