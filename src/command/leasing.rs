//! `lease-get`, `lease-wait` and `lease-set`.

use super::observe::{Filler, Outcome, ReadOutcome, Reader};
use super::{Command, Flow, block, draft, legal, value_reply};
use crate::cache::{Draft, Expiry, Fill, Filled, Key, Lookup, OnMiss, Reading, Refused, Seq, TagList};
use crate::protocol::{Block, CasUnique, Keys, LeaseSet, Reply, Status, TagWords};

impl Command<'_> {
    pub(super) fn lease_get(&mut self, keys: &mut Keys<'_>, wait_ms: u32) -> Flow {
        let since = self.conversation.begin_leases(self.cache.last_seq());
        let deadline = self.conversation.begin_waiting(wait_ms, self.now);
        self.each(keys, |command, key| command.lease_get_one(key, since, deadline))
    }

    /// Answers one key of a `lease-get`, or returns until when to wait for it.
    fn lease_get_one(&mut self, key: &Key, since: Seq, deadline: u64) -> Option<u64> {
        let (bytes, now, replies) = (key.bytes, self.now, &mut self.replies);
        let reading = Reading::new(OnMiss::Lease { since });
        let outcome = self.cache.read(key, &reading, &mut self.conversation.session, now, |lookup| {
            let outcome = ReadOutcome::within(deadline, &lookup, now);
            let (token, stale) = match lookup {
                Lookup::Busy { .. } if outcome.must_wait() => return outcome,
                Lookup::Busy { stale, .. } => (LOST_TOKEN, stale),
                Lookup::Granted { stale, token } => (token.number(), stale),
                Lookup::Miss => unreachable!("a lease is granted unless another client holds it"),
                Lookup::Hit { value, .. } => {
                    replies.send(value_reply(bytes, CasUnique::Hide, value));
                    return outcome;
                }
            };
            let (flags, value) = stale.map_or((0, EMPTY), |stale| (stale.flags, block(stale)));
            replies.send(Reply::Leased { key: bytes, token, flags, value });
            outcome
        });
        let waiting = self.conversation.record_waiting(outcome.waiting(now.millis >= deadline));
        self.report(Outcome::Read { key: bytes, reader: Reader::LeaseGet, outcome, waiting });
        if let ReadOutcome::Wait { until } = outcome { Some(until) } else { None }
    }

    pub(super) fn lease_set(&mut self, LeaseSet { token, store, tags }: &mut LeaseSet) {
        let (tags, token) = (tagged(*tags), (*token).into());
        let key = legal(self.cache, store.key);
        let (expiry, value_bytes) = (Expiry::from_exptime(store.exptime, self.now), store.value.len());
        let before = self.before(&key);
        let fill = if store.exptime < 0 {
            Fill::Release
        } else {
            Fill::Value(Draft { tags: tags.tags(), ..draft(store, self.now) })
        };
        let result = self.cache.fill(&key, token, fill, &mut self.conversation.session, self.now);
        let (key, filler) = (store.key, Filler::LeaseSet);
        self.report(Outcome::Filled { key, filler, before, expiry, result, token, value_bytes });
        let reply = match result {
            Ok(Filled::Released | Filled::Visible) => Status::Stored,
            Ok(Filled::Stale) => Status::StaleStored,
            Err(Refused::NoRoom) => Status::NoRoom,
            Err(Refused::Outdated | Refused::Superseded | Refused::Unknown | Refused::Invalidated) => {
                Status::NotStored
            }
        };
        self.reply(reply, store.noreply);
    }
}

pub(super) fn tagged(words: TagWords) -> TagList {
    TagList::new(words).expect("the grammar lets only legal tags through")
}

const EMPTY: Block = Block { bytes: &[], shared: None };

/// The token that means that another client is loading the value (mcrouter's "hot miss").
pub(super) const LOST_TOKEN: u64 = 1;
