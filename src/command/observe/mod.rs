//! One observer for all commands: it counts, samples and publishes their outcomes.
//!
//! A command calls the cache, then reports one [`Outcome`] for each key. Every outcome is counted here, by
//! tables from outcome to counter. Samples and events are in `publish.rs`: a request that is not sampled
//! while no one watches passes one check for both.

mod publish;
mod read;

use super::access::Login;
use super::conversation::{Conversation, Waiting};
use crate::cache::{
    Cache, DeleteOutcome, Depth, Expiry, Fence, Filled, Group, Key, Mode, NotCounted, Number, Reason,
    Refused, Seq, Step, StoreOutcome, Token,
};
use crate::clock::Now;
use crate::metrics::{Count, Topic, Topics, Use};

pub use self::publish::publish_evicted;
pub(super) use self::read::{ReadOutcome, Reader};

/// A command that was executed, and the cache's answer.
///
/// `verb` is the command's name in events.
#[derive(Clone, Copy)]
pub(super) enum Outcome<'a> {
    /// `incr`, `decr` and `ma`
    Counted {
        key: &'a [u8],
        verb: &'static str,
        before: Before,
        result: Result<Number, NotCounted>,
        step: Step,
    },
    /// `delete` and `md`
    Deleted {
        key: &'a [u8],
        verb: &'static str,
        before: Before,
        /// Soft if it leaves a stale copy that clients have requested.
        depth: Depth,
        /// The expiry of the empty value that it leaves, if the client has requested one.
        emptied: Option<Expiry>,
        outcome: DeleteOutcome,
    },
    /// A fill with a token.
    Filled {
        key: &'a [u8],
        filler: Filler,
        before: Before,
        expiry: Expiry,
        result: Result<Filled, Refused>,
        token: Token,
        value_bytes: usize,
    },
    /// A `flush_all` that is not allowed.
    FlushForbidden,
    /// `flush_all`
    Flushed { delay_ms: u64 },
    /// `invalidate all`
    InvalidatedAll { depth: Depth },
    /// `invalidate` with tags or prefixes, without duplicates.
    InvalidatedGroups { depth: Depth, groups: &'a [Group<'a>] },
    /// `invalidate` with a key.
    InvalidatedKey { key: &'a [u8], before: Before, depth: Depth, was_live: bool },
    /// An attempt to log in.
    Login(Login),
    /// A read, which may have to wait.
    Read {
        key: &'a [u8],
        reader: Reader,
        outcome: ReadOutcome,
        /// The state of waiting for the key, if it has changed.
        waiting: Option<Waiting>,
    },
    /// A store without a token of a value of this length.
    Stored {
        key: &'a [u8],
        before: Before,
        expiry: Expiry,
        mode: Mode,
        outcome: StoreOutcome,
        value_bytes: usize,
    },
    /// A value that is too large was skipped.
    TooLarge {
        key: &'a [u8],
        /// The value that a `set` has removed; other commands remove nothing.
        removed: Option<Before>,
    },
    /// `touch`
    Touched { key: &'a [u8], before: Before, was_live: bool },
}

/// A command that fills a key.
#[derive(Clone, Copy)]
pub(super) enum Filler {
    LeaseSet,
    MetaSet,
}

/// The state that a command other than a read finds, as in memcached: another client may change it before
/// the command is done.
#[derive(Clone, Copy)]
pub(super) struct Before {
    /// The sequence number of the connection's last invalidation of a key.
    seq: Seq,
    /// Expiry and length of the live value; `None` unless a client watches.
    value: Option<(Expiry, usize)>,
}

/// Reports the outcomes of one request.
pub(super) struct Observer<'o> {
    pub(super) cache: &'o Cache,
    pub(super) conversation: &'o Conversation,
    pub(super) now: Now,
    /// The topics that were watched when the request came.
    pub(super) watched: Topics,
}

impl Observer<'_> {
    /// Looks up the existing value before a command that does not return it.
    #[inline]
    pub(super) fn before(&self, key: &Key) -> Before {
        const LOOKING: [Topic; 3] = [Topic::Deletions, Topic::Fetches, Topic::Mutations];
        let seq = self.conversation.session.newest_key_invalidation();
        let value = if LOOKING.iter().any(|topic| self.watched.has(*topic)) {
            self.cache.peek(key, self.now, |value| (value.expiry, value.bytes.len()))
        } else {
            None
        };
        Before { seq, value }
    }

    /// Counts an outcome, samples it and publishes its events.
    ///
    /// Inlined, so that a command has only the branches of its own outcomes.
    #[inline(always)]
    pub(super) fn report(&self, outcome: Outcome<'_>) {
        self.count(outcome);
        if !self.watched.is_empty() || self.conversation.is_sample {
            self.publish(outcome);
        }
    }

    #[inline(always)]
    fn count(&self, outcome: Outcome<'_>) {
        match outcome {
            Outcome::Counted { result, step, .. } => self.add_any(counted(step, result)),
            Outcome::Deleted { key, outcome, .. } => {
                self.used(key, Use::Delete);
                if outcome.is_invalidation() {
                    self.add_of(key, Count::InvalidatedKey);
                }
                self.add_any(deleted(outcome));
            }
            Outcome::Filled { key, filler, result, .. } => {
                self.used(key, Use::Set);
                self.add(filler.count());
                self.add_of(key, filled(result));
            }
            Outcome::FlushForbidden => self.add(Count::CmdFlush),
            Outcome::Flushed { .. } => {
                self.add(Count::CmdFlush);
                self.add(Count::InvalidatedAll);
            }
            Outcome::InvalidatedAll { .. } => self.add(Count::InvalidatedAll),
            Outcome::InvalidatedGroups { groups, .. } => {
                groups.iter().for_each(|group| self.add(invalidated(*group)));
            }
            Outcome::InvalidatedKey { key, .. } => {
                self.used(key, Use::Delete);
                self.add_of(key, Count::InvalidatedKey);
            }
            Outcome::Login(login) => login_counts(login).iter().for_each(|count| self.add(*count)),
            Outcome::Read { key, reader, outcome, waiting } => self.count_read(key, reader, outcome, waiting),
            Outcome::Stored { key, mode, outcome, .. } => self.count_store(key, mode, outcome),
            Outcome::TooLarge { .. } => self.add(Count::StoreTooLarge),
            Outcome::Touched { was_live, .. } => {
                self.add(Count::CmdTouch);
                self.add(if was_live { Count::TouchHits } else { Count::TouchMisses });
            }
        }
    }

    #[inline(always)]
    fn count_read(&self, key: &[u8], reader: Reader, outcome: ReadOutcome, waiting: Option<Waiting>) {
        self.add_any(waiting.map(waited));
        let Some(is_hit) = outcome.is_hit() else { return };
        let (command, result) = reader.counts(is_hit);
        self.add(command);
        self.add_any(result);
        if let Reader::LeaseGet = reader {
            // It counts as a get, too, so that hits and misses add up to the gets.
            self.add(Count::CmdLeaseGet);
        }
        if let Some(count) = reader.lease_count(outcome) {
            self.add_of(key, count);
        }
        if outcome.stale_bytes().is_some() {
            self.add_of(key, Count::StaleServed);
        }
        if reader.is_use() {
            self.used(key, Use::Get { is_hit });
        }
    }

    #[inline(always)]
    fn count_store(&self, key: &[u8], mode: Mode, outcome: StoreOutcome) {
        self.used(key, Use::Set);
        self.add(Count::CmdSet);
        match (mode, outcome) {
            (Mode::Cas(_) | Mode::MetaCas { .. }, StoreOutcome::Stored { .. })
            | (_, StoreOutcome::StoredStale) => self.add(Count::CasHits),
            (_, StoreOutcome::Exists) => self.add(Count::CasBadval),
            (_, StoreOutcome::NoRoom) => self.add(Count::StoreNoMemory),
            (_, StoreOutcome::NotFound) => self.add(Count::CasMisses),
            (_, StoreOutcome::Outdated) => self.add_of(key, Count::VersionsRefused),
            (_, StoreOutcome::Refused(reason)) => {
                self.add(refused(reason));
                self.add_of(key, Count::ImplicitRefused);
            }
            (_, StoreOutcome::TooLarge) => self.add(Count::StoreTooLarge),
            (_, StoreOutcome::Stored { fence: Fence::Confirmed, .. }) => {
                self.add(Count::ImplicitConfirmed);
                self.add_of(key, Count::ImplicitFills);
            }
            (_, StoreOutcome::Stored { fence: Fence::Passed, .. }) => self.add_of(key, Count::ImplicitFills),
            (_, StoreOutcome::Stored { fence: Fence::Observed, .. }) => {
                self.add_of(key, Count::ImplicitObserved);
            }
            (Mode::Set, StoreOutcome::Stored { fence: Fence::None, .. }) => {
                if self.cache.is_fenced(key) {
                    self.add_of(key, Count::UnfencedSets);
                }
            }
            (_, StoreOutcome::NotStored | StoreOutcome::Stored { fence: Fence::None, .. }) => {}
        }
    }

    fn add(&self, count: Count) {
        self.conversation.counters.add(count);
    }

    #[inline(always)]
    fn add_any(&self, count: Option<Count>) {
        if let Some(count) = count {
            self.add(count);
        }
    }

    /// Counts an event of a key, also under its policy.
    fn add_of(&self, key: &[u8], count: Count) {
        self.add(count);
        self.cache.show_prefix(key, |prefix| self.conversation.metrics.policies.add(prefix, count));
    }

    /// Separate from the counters, because these counts are rarely enabled.
    fn used(&self, key: &[u8], used: Use) {
        self.conversation.metrics.prefixes.count(key, used);
    }
}

impl Filler {
    fn count(self) -> Count {
        match self {
            Filler::LeaseSet => Count::CmdLeaseSet,
            Filler::MetaSet => Count::CmdSet,
        }
    }
}

fn counted(step: Step, result: Result<Number, NotCounted>) -> Option<Count> {
    match (result, step) {
        (Ok(Number { is_new: false, .. }), Step::Decr(_)) => Some(Count::DecrHits),
        (Ok(Number { is_new: false, .. }), Step::Incr(_)) => Some(Count::IncrHits),
        (Err(NotCounted::NotFound), Step::Decr(_)) => Some(Count::DecrMisses),
        (Err(NotCounted::NotFound), Step::Incr(_)) => Some(Count::IncrMisses),
        (Ok(Number { is_new: true, .. }), _)
        | (
            Err(NotCounted::Exists | NotCounted::NoRoom | NotCounted::NotANumber | NotCounted::NotStored),
            _,
        ) => None,
    }
}

fn deleted(outcome: DeleteOutcome) -> Option<Count> {
    match outcome {
        DeleteOutcome::Deleted { .. } => Some(Count::DeleteHits),
        DeleteOutcome::Exists | DeleteOutcome::NotFound => Some(Count::DeleteMisses),
        DeleteOutcome::NoRoom => None,
        DeleteOutcome::Outdated => Some(Count::VersionsRefused),
    }
}

fn filled(result: Result<Filled, Refused>) -> Count {
    match result {
        Ok(Filled::Released) => Count::LeaseReleased,
        Ok(Filled::Stale) | Err(Refused::Invalidated) => Count::LeaseRefusedInvalidated,
        Ok(Filled::Visible) => Count::LeaseFilled,
        Err(Refused::NoRoom) => Count::StoreNoMemory,
        Err(Refused::Outdated) => Count::VersionsRefused,
        Err(Refused::Superseded) => Count::LeaseRefusedSuperseded,
        Err(Refused::Unknown) => Count::LeaseRefusedUnknown,
    }
}

fn invalidated(group: Group) -> Count {
    match group {
        Group::Prefix(_) => Count::InvalidatedPrefix,
        Group::Tag(_) => Count::InvalidatedTag,
    }
}

fn login_counts(login: Login) -> &'static [Count] {
    match login {
        Login::Malformed => &[],
        Login::Right => &[Count::AuthCmds],
        Login::Wrong { .. } => &[Count::AuthCmds, Count::AuthErrors],
    }
}

fn refused(reason: Reason) -> Count {
    match reason {
        Reason::Closed => Count::ImplicitRefusedClosed,
        Reason::Doubt => Count::ImplicitRefusedDoubt,
        Reason::HeldOff => Count::ImplicitRefusedHeldOff,
        Reason::Late => Count::ImplicitRefusedLate,
        Reason::OwnMiss => Count::ImplicitRefusedNote,
    }
}

fn waited(waiting: Waiting) -> Count {
    match waiting {
        Waiting::Begun => Count::LeaseWaits,
        Waiting::Filled | Waiting::Free => Count::LeaseWaitFilled,
        Waiting::TimedOut => Count::LeaseWaitTimeouts,
    }
}
