//! Reads: the live value of a key, or the part of its reader in loading one.
//!
//! A *soft* stale copy is one that a client asked for (`md I`): every meta read sees it. Those that the
//! policy keeps are seen by reads that take leases.

use std::time::Duration;

use super::{At, Shard, State};
use crate::cache::fence::Reader;
use crate::cache::read::{Lookup, OnMiss, Reading, Refresh};
use crate::cache::session::Session;
use crate::store::expiry::Expiry;
use crate::store::item::key::Key;
use crate::store::{Item, Slot};

impl Shard {
    /// The live item of a key, for a read that asks for nothing else; otherwise the state of the key, for
    /// [`Shard::read`]. It is apart, so that the most frequent case is compiled into its callers.
    #[inline(always)]
    pub(crate) fn read_plain(
        &mut self,
        key: &Key,
        reading: &Reading,
        session: &mut Session,
        at: &At,
    ) -> Result<Item<'_>, State> {
        match self.readable(key, at) {
            State::Live(slot) if reading.is_plain() => Ok(self.hit(key, slot, session, at)),
            state => Err(state),
        }
    }

    /// `get`, `gat`, `mg` and `lease-get` of a key in this state.
    #[inline(always)]
    pub(crate) fn read(
        &mut self,
        key: &Key,
        state: State,
        reading: &Reading,
        session: &mut Session,
        at: &At,
    ) -> Lookup<Item<'_>> {
        match (state, reading.on_miss) {
            (State::Live(slot), _) => self.read_live(key, slot, reading, session, at),
            (_, OnMiss::Coalesce { may_wait }) if at.policy.coalesces() => {
                self.coalesce(key, state, may_wait, session, at)
            }
            (_, OnMiss::Coalesce { .. } | OnMiss::Report) => {
                self.miss(key, session, at);
                Lookup::Miss
            }
            (_, OnMiss::Lease { since }) => {
                self.lease_or_wait(key, state, Some(since), session, at).map(|slot| self.engine.item(slot))
            }
            (_, OnMiss::MetaLease { window }) => {
                self.meta_miss(key, state, window, reading.refresh.is_some(), session, at)
            }
        }
    }

    /// The live item of a key, without counting as a read of it.
    pub(crate) fn peek(&mut self, key: &Key, at: &At) -> Option<Item<'_>> {
        match self.usable(key, at) {
            State::Live(slot) => Some(self.engine.item(slot)),
            State::Absent | State::Stale(_) => None,
        }
    }

    /// The item of a key whose reader has found it live, if a copy stays true until the key, a group or the
    /// policies change: the time of a delayed flush comes without any of that.
    pub(crate) fn copyable(&self, key: &Key) -> Option<Item<'_>> {
        let slot = if self.flush_at.is_none() { self.engine.find(key) } else { None };
        slot.map(|slot| self.engine.item(slot))
    }

    /// Counts reads that copies of a live item have served.
    pub(crate) fn used_by_copies(&mut self, key: &Key, uses: u32, at: &At) {
        if let Some(slot) = self.engine.find(key) {
            (0..uses).for_each(|_| self.engine.used(slot, at.tick));
        }
    }

    /// A read of a live item that asks for more than the item.
    #[inline(never)]
    fn read_live(
        &mut self,
        key: &Key,
        slot: Slot,
        reading: &Reading,
        session: &mut Session,
        at: &At,
    ) -> Lookup<Item<'_>> {
        at.remove_miss(key, session);
        let tick = at.tick;
        if reading.expiry.is_none() && reading.refresh.is_none() {
            return Lookup::hit(self.engine.item(slot));
        }
        let before = self.engine.item(slot);
        let (meta, was) = (before.meta(), (before.accessed, before.end, before.is_fetched));
        let touched = reading.expiry.map_or(meta, |expiry| at.until(key, expiry, meta));
        let Some(slot) = self.engine.set_meta(key, slot, touched, tick) else {
            self.engine.missed();
            return Lookup::Miss;
        };
        let is_due = reading
            .refresh
            .is_some_and(|before| touched.expiry != Expiry::NEVER && touched.expiry.tick() < before.tick());
        let refresh = if is_due { self.refresh(key, session, at) } else { Refresh::Undue };
        let mut item = if reading.is_peek { self.engine.item(slot) } else { self.engine.hit(slot, tick) };
        (item.accessed, item.end, item.is_fetched) = was;
        Lookup::Hit { refresh, value: item }
    }

    #[inline(never)]
    fn meta_miss(
        &mut self,
        key: &Key,
        state: State,
        window: Option<Duration>,
        wants_refresh: bool,
        session: &mut Session,
        at: &At,
    ) -> Lookup<Item<'_>> {
        let wants_lease = match state {
            State::Live(_) => false,
            State::Stale(slot) => window.is_some() || wants_refresh || self.is_soft(slot),
            // A reader that would renew a value that another one is loading has lost, too.
            State::Absent => window.is_some() || (wants_refresh && self.is_leased(key, at)),
        };
        if !wants_lease {
            self.miss(key, session, at);
            return Lookup::Miss;
        }
        let at = &At { lease_window: window.unwrap_or(at.lease_window), ..*at };
        let found = self.lease_or_wait(key, state, None, session, at);
        if let Lookup::Busy { .. } = found {
            // A loser may load and store all the same, and without a token.
            self.remember_miss(key, Reader::Waits, session, at);
        }
        found.map(|slot| self.engine.item(slot))
    }

    /// A plain read where the policy coalesces loads: the first to miss is the one that the others wait for.
    #[inline(never)]
    fn coalesce(
        &mut self,
        key: &Key,
        state: State,
        may_wait: bool,
        session: &mut Session,
        at: &At,
    ) -> Lookup<Item<'_>> {
        let lease = self.lease(key, at).filter(|lease| lease.is_outstanding(at.now.millis));
        let patience = at.policy.herd_wait;
        match (lease, state) {
            (Some(lease), State::Stale(slot)) if lease.holder != session.id && at.policy.serve_stale => {
                Lookup::hit(self.hit(key, slot, session, at))
            }
            (Some(lease), _) if lease.holder != session.id && may_wait && !patience.is_zero() => {
                Lookup::Busy { is_own: false, patience, stale: None, until: lease.until }
            }
            (None, _) if self.holdoffs.until(key.hash, at.now).is_none() => {
                self.engine.missed();
                Lookup::Granted { stale: None, token: self.grant(key, session, at) }
            }
            (None | Some(_), _) => {
                self.miss(key, session, at);
                Lookup::Miss
            }
        }
    }

    /// A lease beside a live value, unless another reader is renewing it.
    fn refresh(&mut self, key: &Key, session: &mut Session, at: &At) -> Refresh {
        if self.is_leased(key, at) || self.holdoffs.until(key.hash, at.now).is_some() {
            return Refresh::Lost;
        }
        Refresh::Won(self.grant(key, session, at))
    }

    pub(super) fn is_leased(&mut self, key: &Key, at: &At) -> bool {
        self.lease(key, at).is_some_and(|lease| lease.busy_until(at).is_some())
    }
}
