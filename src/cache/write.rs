//! Writes: requests, and their outcomes.

use super::number::Step;
use crate::pages::Payload;
use crate::store::NoRoom;
use crate::store::expiry::Expiry;
use crate::store::item::tags::Tags;

/// A value to be stored.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Draft<'a> {
    /// When it expires.
    pub expiry: Expiry,
    /// The client flags, returned with the value.
    pub flags: u32,
    /// Tags by which it can be invalidated together with others.
    pub tags: Tags<'a>,
    /// A CAS unique chosen by the client, in place of one of the cache's own: not 0, and no token.
    pub unique: Option<u64>,
    /// The version of the row that the value was made from: it is not stored if a newer one is known.
    pub version: Option<u64>,
    /// The bytes themselves.
    pub value: Payload<'a>,
}

/// When a store succeeds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mode {
    /// If there is no live value.
    Add,
    /// If there is a live value, at its end.
    Append(Join),
    /// If the live value has this CAS unique.
    Cas(u64),
    /// If the live value has this CAS unique, or the stale copy that meta reads see.
    MetaCas {
        /// Whether a value for a lower unique is stored as a stale copy that meta reads see, and ends when
        /// what it replaces would have ended.
        or_stale: bool,
        /// The unique.
        unique: u64,
    },
    /// If there is a live value, at its beginning.
    Prepend(Join),
    /// If there is a live value.
    Replace,
    /// Always.
    Set,
}

/// Further conditions of an append or prepend.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Join {
    /// Whether the data alone is stored if there is no live value.
    pub creates: bool,
    /// The CAS unique that a live value must have.
    pub expected: Option<u64>,
}

/// The fill of the holder of a lease.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Fill<'a> {
    /// The value, unless it could only replace a stale copy.
    Fresh(Draft<'a>),
    /// Nothing: another reader may load the value.
    Release,
    /// The value.
    Value(Draft<'a>),
}

/// How a number is counted up or down.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Counting {
    /// The CAS unique that the value must have.
    pub expected: Option<u64>,
    /// A new expiry.
    pub expiry: Option<Expiry>,
    /// The number to begin with if there is none, and its expiry.
    pub initial: Option<(u64, Expiry)>,
    /// The step.
    pub step: Step,
    /// The CAS unique that the number shall have; see [`Draft::unique`].
    pub unique: Option<u64>,
}

/// How a key is deleted. Every lease on it is invalidated, unless a condition fails.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Deletion<'a> {
    /// The CAS unique that the value must have.
    pub expected: Option<u64>,
    /// Until when the key is held off, in monotonic milliseconds; `None` leaves it to the policy.
    pub held_until: Option<u64>,
    /// The replacement of the value.
    pub leaves: Leaves<'a>,
    /// The version of the row that was deleted: nothing happens if a newer one is known.
    pub version: Option<u64>,
}

/// The replacement of a deleted value.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Leaves<'a> {
    /// An empty value.
    Empty(Draft<'a>),
    /// Nothing, or a stale copy for readers with a lease where the policy keeps one.
    #[default]
    Nothing,
    /// A stale copy that every meta read sees, until then, or else until it expires.
    Stale(Option<Expiry>),
    /// An empty value as such a stale copy.
    Tombstone(Draft<'a>),
}

/// The outcome of a store.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StoreOutcome {
    /// The live value has another CAS unique: it was changed since it was read.
    Exists,
    /// Memory is full and nothing may be evicted; the old value is removed, too.
    NoRoom,
    /// `cas`: there is no live value.
    NotFound,
    /// The mode did not allow it.
    NotStored,
    /// A newer version of its row is known.
    Outdated,
    /// The fence refused it; nothing is stored, and nothing older is served.
    Refused(Reason),
    /// It is the live value now.
    Stored {
        /// How the fence saw it.
        fence: Fence,
        /// The stored value.
        kept: Kept,
    },
    /// It is a stale copy now that meta reads see.
    StoredStale,
    /// The joined value would have been longer than the limit; the old one stays.
    TooLarge,
}

/// A description of a stored value.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Kept {
    /// When it expires.
    pub expiry: Expiry,
    /// Its CAS unique.
    pub unique: u64,
    /// Its length in bytes.
    pub value_bytes: usize,
}

/// How the fence for clients without leases saw a store.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fence {
    /// Loads that began before the newest invalidation may be running, but more sets brought this value than
    /// there are such loads.
    Confirmed,
    /// It answers no miss: it is a write.
    None,
    /// It would have been refused, but the policy only observes.
    Observed,
    /// It answers a miss, and no load that may be running began before an invalidation.
    Passed,
}

/// Why the fence refused a store.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reason {
    /// Misses of the key were forgotten for want of room, or the process that remembered them has ended.
    Closed,
    /// A load that began before the newest invalidation may have brought the value.
    Doubt,
    /// The key is held off, or was when it was missed.
    HeldOff,
    /// It answers a miss that is older than a load may take, and the key was invalidated since.
    Late,
    /// The connection missed the key before its newest invalidation.
    OwnMiss,
}

/// The outcome of an accepted fill.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Filled {
    /// The lease was released.
    Released,
    /// It replaced an older stale copy and is not visible to plain reads.
    Stale,
    /// It is the live value now.
    Visible,
}

/// Why a fill was refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refused {
    /// Memory is full and nothing may be evicted.
    NoRoom,
    /// A newer version of its row is known.
    Outdated,
    /// A newer value or fill is stored already.
    Superseded,
    /// The token is of another key, boot or server, is too old, or is none at all.
    Unknown,
    /// The key was invalidated after the lease was granted, or is held off.
    Invalidated,
}

/// A number after counting.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Number {
    /// When it expires, unless it was given a new expiry.
    pub expiry: Expiry,
    /// Whether counting began with it.
    pub is_new: bool,
    /// The number.
    pub number: u64,
    /// Its CAS unique.
    pub unique: u64,
}

/// Why a value was not counted up or down.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NotCounted {
    /// The value has another CAS unique.
    Exists,
    /// Memory is full and nothing may be evicted; the old value is removed.
    NoRoom,
    /// The value is not the decimal form of a number below 2^64.
    NotANumber,
    /// There is no value, and no number to begin with.
    NotFound,
    /// There is no value, and the fence or a hold-off refused the number to begin with.
    NotStored,
}

/// The outcome of a deletion.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DeleteOutcome {
    /// The value was deleted.
    Deleted {
        /// Whether it was live, rather than a stale copy that meta reads see.
        was_live: bool,
    },
    /// The value has another CAS unique; nothing happened.
    Exists,
    /// Memory is full: there was no room for the empty value; the old one is removed.
    NoRoom,
    /// There was no value; the leases of the key are invalidated all the same.
    NotFound,
    /// A newer version of its row is known; nothing happened.
    Outdated,
}

impl<'a> Draft<'a> {
    /// A value without flags and tags that never expires; for others, `Draft { expiry, ..Draft::new(value)
    /// }`.
    pub fn new(value: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        Draft {
            expiry: Expiry::NEVER,
            flags: 0,
            tags: Tags::NONE,
            unique: None,
            version: None,
            value: value.as_ref().into(),
        }
    }

    /// A value with an expiry.
    pub fn until(value: Payload<'a>, flags: u32, expiry: Expiry) -> Self {
        Draft { expiry, flags, tags: Tags::NONE, unique: None, version: None, value }
    }
}

impl Counting {
    /// A step of a number that must be there, which changes nothing else.
    pub fn by(step: Step) -> Self {
        Counting { expected: None, expiry: None, initial: None, step, unique: None }
    }
}

impl StoreOutcome {
    /// Whether the value is the live one now.
    pub fn is_stored(self) -> bool {
        matches!(self, StoreOutcome::Stored { .. })
    }

    /// Whether what the key holds has changed.
    pub(crate) fn is_change(self) -> bool {
        matches!(self, StoreOutcome::Refused(_) | StoreOutcome::Stored { .. } | StoreOutcome::StoredStale)
    }
}

impl DeleteOutcome {
    /// Whether a live value was deleted.
    pub fn was_live(self) -> bool {
        self == DeleteOutcome::Deleted { was_live: true }
    }

    /// Whether the key was invalidated.
    pub fn is_invalidation(self) -> bool {
        !matches!(self, DeleteOutcome::Exists | DeleteOutcome::Outdated)
    }
}

/// The outcome of a store that put a value into its shard, or found no room.
pub(super) fn stored(put: Result<Kept, NoRoom>, fence: Fence) -> StoreOutcome {
    match put {
        Err(NoRoom) => StoreOutcome::NoRoom,
        Ok(kept) => StoreOutcome::Stored { fence, kept },
    }
}
