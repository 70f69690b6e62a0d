//! What the meta commands ask of the cache beyond the classic ones: conditions, creation on a miss, leases that renew a
//! value, and invalidation that leaves a stale copy to be seen.
//!
//! Deliberately absent: flags and letters. A caller says what it wants in types.

use std::time::Duration;

use super::lease::token::Token;
use super::number::Step;
use super::outcome::{Draft, LeaseGet, Mode, NotCounted, Store};
use super::peer::Peer;
use super::{Cache, Leased};
use crate::clock::Now;
use crate::store::expiry::Expiry;
use crate::store::key::Key;

/// How a meta read differs from a get.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Reading {
    /// A new expiry for a live value.
    pub expiry: Option<Expiry>,
    /// Whether it is no use of the value.
    pub is_peek: bool,
    /// Where there is no value: ask for a lease that makes others wait for so long.
    pub lease: Option<Duration>,
    /// Where there is one that ends before then: ask for a lease to renew it.
    pub refresh: Option<Expiry>,
}

impl Reading {
    /// Whether a live value is read as by a get.
    pub(crate) fn is_plain(&self) -> bool {
        self.expiry.is_none() && !self.is_peek && self.refresh.is_none()
    }
}

/// What became of the wish to renew a live value.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refresh {
    /// Somebody else renews it.
    Lost,
    /// It was not asked for, or is not due.
    Undue,
    /// The lease is the caller's.
    Won(Token),
}

/// On what conditions a meta store joins its data to a value.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Joining {
    /// Whether the data alone is stored where there is no value.
    pub creates: bool,
    /// The CAS unique that the value must have.
    pub expected: Option<u64>,
}

/// What a store left behind.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Kept {
    /// When it ends.
    pub expiry: Expiry,
    /// Its CAS unique.
    pub unique: u64,
    /// Its length.
    pub value_bytes: usize,
}

/// How a meta command counts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Counting {
    /// The CAS unique that the value must have.
    pub expected: Option<u64>,
    /// A new expiry.
    pub expiry: Option<Expiry>,
    /// The number to begin with where there is none, and its expiry.
    pub initial: Option<(u64, Expiry)>,
    /// By how much.
    pub step: Step,
    /// The CAS unique that the number shall have; see [`Draft::unique`].
    pub unique: Option<u64>,
}

/// What a number is after counting.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Number {
    /// When it ends, unless it was given a new expiry.
    pub expiry: Expiry,
    /// Whether counting began with it.
    pub is_new: bool,
    /// The number.
    pub number: u64,
    /// Its CAS unique.
    pub unique: u64,
}

/// Why a meta command did not count.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MetaNotCounted {
    /// The value has another CAS unique.
    Exists,
    /// There is no value.
    NotFound,
    /// The fence or a hold-off did not let it begin.
    NotStored,
    /// As for the classic commands.
    Other(NotCounted),
}

/// On what conditions a meta command deletes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Conditions {
    /// The CAS unique that the value must have.
    pub unique: Option<u64>,
    /// The version of the row that was deleted: nothing happens where a newer one was spoken of.
    pub version: Option<u64>,
}

/// How a meta command deletes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Removal<'a> {
    /// The value is gone.
    Drop,
    /// An empty one takes its place.
    Empty(Draft<'a>),
    /// It stays as a stale copy that meta reads see: until it ends, or until then, whatever comes first.
    Soften(Option<Expiry>),
}

/// What became of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Removed {
    /// It is done.
    Done,
    /// The value has another CAS unique.
    Exists,
    /// There is no memory for the empty value; the old one is gone, too.
    NoRoom,
    /// There was none; every lease on the key is void all the same.
    NotFound,
    /// A newer version of its row was spoken of.
    Outdated,
}

impl Cache {
    /// Reads a key as `reading` says: a live value, a lease or word that somebody else has it, or `None`.
    #[inline]
    pub fn meta_get<R>(
        &self,
        key: &Key,
        reading: &Reading,
        peer: &mut Peer,
        now: Now,
        read: impl FnOnce(Option<Leased>, Refresh) -> R,
    ) -> R {
        let since = self.last_seq();
        let (result, is_read) = self.locked(key, now, |shard, at| {
            let (leased, refresh) = shard.meta_get(key, reading, since, peer, at);
            let is_read = !matches!(leased, Some(LeaseGet::Busy { .. }));
            (read(leased.map(Leased::from), refresh), is_read)
        });
        if is_read {
            self.shadow.read(key.hash, now);
        }
        self.follow(key, reading.expiry.is_some(), now);
        result
    }

    /// As [`Cache::store`], with conditions for `append` and `prepend`; tells what was stored, if anything was.
    pub fn meta_store(
        &self,
        key: &Key,
        mode: Mode,
        joining: Joining,
        draft: Draft,
        peer: &mut Peer,
        now: Now,
    ) -> (Store, Option<Kept>) {
        let _room = self.make_room(key.hash, draft.value.len(), now);
        let done = self.locked(key, now, |shard, at| shard.meta_store(key, mode, joining, draft, peer, at));
        self.follow(key, matches!(done.0, Store::Refused(_) | Store::Stored { .. }), now);
        done
    }

    /// As [`Cache::count`], with conditions.
    ///
    /// # Errors
    /// [`MetaNotCounted`] says why nothing was counted.
    pub fn meta_count(
        &self,
        key: &Key,
        counting: &Counting,
        peer: &mut Peer,
        now: Now,
    ) -> Result<Number, MetaNotCounted> {
        let done = self.locked(key, now, |shard, at| shard.meta_count(key, counting, peer, at));
        self.follow(key, done.is_ok(), now);
        done
    }

    /// Voids a key as [`Cache::delete`] does, but only under conditions.
    pub fn meta_delete(
        &self,
        key: &Key,
        only: Conditions,
        removal: Removal,
        peer: &mut Peer,
        now: Now,
    ) -> Removed {
        let done = self.locked(key, now, |shard, at| shard.meta_delete(key, only, removal, peer, at));
        self.follow(key, !matches!(done, Removed::Exists | Removed::Outdated), now);
        done
    }
}
