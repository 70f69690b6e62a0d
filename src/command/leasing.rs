//! `lease-get`, `lease-wait` and `lease-set`, and the outcomes of fills.

use super::session::Turn;
use super::watching::STORED;
use super::{Command, Flow, Session, block, draft, legal, value_reply};
use crate::cache::{Draft, Expiry, Fill, Filled, Key, Lookup, OnMiss, Reading, Refused, Seq, TagList, Token};
use crate::metrics::{Count, Use};
use crate::protocol::{Block, CasUnique, Keys, LeaseSet, Reply, Status, TagWords};

impl Command<'_> {
    pub(super) fn lease_get(&mut self, keys: &mut Keys<'_>, wait_ms: u32) -> Flow {
        let since = self.session.begin_leases(self.cache.last_seq());
        let deadline = self.session.begin_waiting(wait_ms, self.now);
        self.each(keys, |command, key| command.lease_get_one(key, since, deadline))
    }

    /// Answers one key of a `lease-get`, or returns until when to wait for it.
    fn lease_get_one(&mut self, key: &Key, since: Seq, deadline: u64) -> Option<u64> {
        let bytes = key.bytes;
        let (now, replies, session) = (self.now, &mut self.replies, &mut *self.session);
        let Session { metrics, peer, counters, .. } = session;
        let (mut lease, mut stale_bytes, mut value_bytes) = (None, None, None);
        let waits = self.cache.read(key, &Reading::new(OnMiss::Lease { since }), peer, now, |found| {
            let (token, stale) = match found {
                Lookup::Busy { is_own: false, until, .. } if now.millis < deadline => {
                    return Some(until.min(deadline));
                }
                Lookup::Busy { stale, .. } => (LOST_TOKEN, stale),
                Lookup::Granted { stale, token } => {
                    lease = Some(token);
                    (token.number(), stale)
                }
                Lookup::Miss => unreachable!("a lease is granted unless somebody else has it"),
                Lookup::Hit { value, .. } => {
                    replies.send(value_reply(bytes, CasUnique::Hide, value));
                    counters.add(Count::GetHits);
                    metrics.prefixes.count(bytes, Use::Get { is_hit: true });
                    value_bytes = Some(value.bytes.len());
                    return None;
                }
            };
            counters.add(Count::GetMisses);
            metrics.prefixes.count(bytes, Use::Get { is_hit: false });
            stale_bytes = stale.map(|stale| stale.bytes.len());
            let (flags, value) = stale.map_or((0, EMPTY), |stale| (stale.flags, block(stale)));
            replies.send(Reply::Leased { key: bytes, token, flags, value });
            None
        });
        let turn = match (waits, value_bytes) {
            (Some(_), _) => Turn::Wait,
            (None, _) if now.millis >= deadline => Turn::Late,
            (None, Some(_)) => Turn::Filled,
            (None, None) => Turn::Free,
        };
        self.take_turn(bytes, LEASE_GET, turn);
        if waits.is_none() {
            // It counts as a get, too, so that hits and misses add up to the gets.
            self.session.counters.add(Count::CmdGet);
            self.session.counters.add(Count::CmdLeaseGet);
            self.tell_fetched(bytes, value_bytes);
            if value_bytes.is_none() {
                self.leased(bytes, LEASE_GET, lease);
            }
            if let Some(stale_bytes) = stale_bytes {
                self.stale_served(bytes, LEASE_GET, stale_bytes);
            }
        }
        waits
    }

    /// Records the outcome for a reader that found no value: its lease, or none.
    pub(super) fn leased(&self, key: &[u8], verb: &'static str, lease: Option<Token>) {
        match lease {
            None => {
                self.count_of(key, Count::LeaseHotMiss);
                self.tell_busy(key, verb);
            }
            Some(token) => {
                self.count_of(key, Count::LeaseGranted);
                self.tell_granted(key, verb, token);
            }
        }
    }

    pub(super) fn lease_set(&mut self, LeaseSet { token, store, tags }: &mut LeaseSet) {
        let tags = tagged(*tags);
        let key = legal(self.cache, store.key);
        self.used(store.key, Use::Set);
        let (expiry, value_bytes) = (Expiry::from_exptime(store.exptime, self.now), store.value.len());
        self.look_up(store.key);
        let fill = if store.exptime < 0 {
            Fill::Release
        } else {
            Fill::Value(Draft { tags: tags.tags(), ..draft(store, self.now) })
        };
        let done = self.cache.fill(&key, (*token).into(), fill, &mut self.session.peer, self.now);
        let reply = match done {
            Ok(Filled::Released | Filled::Visible) => Status::Stored,
            Ok(Filled::Stale) => Status::StaleStored,
            Err(Refused::NoRoom) => Status::NoRoom,
            Err(Refused::Outdated | Refused::Superseded | Refused::Unknown | Refused::Voided) => {
                Status::NotStored
            }
        };
        if done != Ok(Filled::Released) {
            self.tell_stored(store.key, LEASE_SET, fill_status(done), expiry, value_bytes);
        }
        self.tell_filled(store.key, LEASE_SET, (*token).into(), done, value_bytes);
        self.session.counters.add(Count::CmdLeaseSet);
        self.count_of(store.key, filled(done));
        self.reply(reply, store.noreply);
    }
}

/// The count for the outcome of a fill.
pub(super) fn filled(done: Result<Filled, Refused>) -> Count {
    match done {
        Ok(Filled::Released) => Count::LeaseReleased,
        Ok(Filled::Stale) | Err(Refused::Voided) => Count::LeaseRefusedVoided,
        Ok(Filled::Visible) => Count::LeaseFilled,
        Err(Refused::NoRoom) => Count::StoreNoMemory,
        Err(Refused::Outdated) => Count::VersionsRefused,
        Err(Refused::Superseded) => Count::LeaseRefusedSuperseded,
        Err(Refused::Unknown) => Count::LeaseRefusedUnknown,
    }
}

/// The outcome of a fill, in the words of events.
pub(super) fn fill_status(done: Result<Filled, Refused>) -> &'static str {
    match done {
        Ok(Filled::Released | Filled::Stale | Filled::Visible) => STORED,
        Err(Refused::NoRoom) => "no_memory",
        Err(Refused::Outdated | Refused::Superseded | Refused::Unknown | Refused::Voided) => "not_stored",
    }
}

pub(super) fn tagged(words: TagWords) -> TagList {
    TagList::new(words).expect("the grammar lets only legal tags through")
}

const LEASE_GET: &str = "lease-get";
const LEASE_SET: &str = "lease-set";
const EMPTY: Block = Block { bytes: &[], shared: None };

/// The token that means that another client is loading the value (mcrouter's "hot miss").
pub(super) const LOST_TOKEN: u64 = 1;
