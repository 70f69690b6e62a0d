//! The specification as a program: the table of ARCHITECTURE.md in `table`, what it speaks of in `key`, the rules of
//! the notes in `notes`, and here how connections meet them. Every act has a point of its own on the model's clock,
//! and nothing is ever forgotten.
//!
//! Replies are those of the wire, with `<n>` where the server makes up a token and `#n` where it makes up a CAS
//! unique, `n` being that point.

mod key;
mod notes;
mod table;
mod voids;

use std::collections::HashMap;

use leasehold::cache::Implicit;

use key::{At, Key};
use notes::Notes;
use voids::Voids;

/// What a connection does to a key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Act {
    Add,
    Append,
    /// With the unique that the connection saw last, or 1.
    Cas,
    Delete,
    /// Held off for so many seconds.
    DeleteAndHold(u64),
    Flush,
    Gats,
    Gets,
    Incr,
    Invalidate(Named, Depth),
    LeaseGet,
    /// The same key two times in one line.
    LeaseGetTwice,
    /// With the token that connection number so many was granted last, or one that is none.
    LeaseSet(usize),
    /// The same, with a tag.
    LeaseSetTagged(usize),
    LeaseWait,
    /// `ms` with the token that connection number so many was granted last, or one that is none.
    MetaFill(usize),
    /// The same with `I`: a stale copy will do.
    MetaFillStale(usize),
    /// `mg`
    MetaGet,
    /// `mg` with `N`
    MetaLease,
    /// `ms`
    MetaSet,
    /// The same, with a tag.
    MetaSetTagged,
    /// `md` with the version of the row.
    MetaDeleteVersion(u64),
    /// The same for an `ms` with the token that connection number so many was granted last.
    MetaFillVersion(usize, u64),
    /// The same for an `ms` without one.
    MetaSetVersion(u64),
    /// `md` with `I`
    MetaSoften,
    Release,
    Replace,
    Set,
    SetToEnd,
    Touch,
}

impl Setting {
    /// For how long a soft void keeps a copy.
    fn kept_s(&self) -> u64 {
        if self.stale_s == 0 { voids::SOFT_S } else { self.stale_s }
    }
}

impl Act {
    /// The version that it tells.
    fn version(self) -> Option<u64> {
        match self {
            Act::MetaDeleteVersion(version)
            | Act::MetaFillVersion(_, version)
            | Act::MetaSetVersion(version) => Some(version),
            _ => None,
        }
    }
}

/// What is invalidated.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Named {
    All,
    Key,
    Prefix,
    Tag,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Depth {
    Hard,
    Soft,
}

/// What a history is played under.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    pub implicit: Implicit,
    pub interval_s: u64,
    pub reply_not_stored: bool,
    pub stale_s: u64,
}

/// What the notes say of a store.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Fence {
    None,
    Observed,
    Passed,
    Refused,
}

/// The server, as it should be.
pub struct Model {
    pub now_s: u64,
    floor: u64,
    keys: HashMap<String, Key>,
    notes: [Notes; PEERS],
    seq: u64,
    setting: Setting,
    voids: Voids,
    /// By connection: the key that it waits for, and until when.
    waiting: [Option<(String, u64)>; PEERS],
}

impl Model {
    pub fn new(setting: Setting) -> Self {
        Model {
            now_s: 0,
            floor: 0,
            keys: HashMap::new(),
            notes: Default::default(),
            seq: 0,
            setting,
            voids: Voids::default(),
            waiting: Default::default(),
        }
    }

    /// The connection is gone, and its leases are free; another takes its place.
    pub fn reconnect(&mut self, peer: usize) {
        (self.notes[peer], self.waiting[peer]) = Default::default();
        for key in self.keys.values_mut() {
            (key.granted[peer], key.seen[peer]) = Default::default();
            if key.lease.holder == peer {
                key.lease.until_s = 0;
            }
        }
    }

    /// The key that a connection waits for.
    pub fn waits_for(&self, peer: usize) -> Option<String> {
        self.waiting[peer].as_ref().map(|(name, _)| name.clone())
    }

    /// The reply to an act with `text` as the value, if it has one; none while the connection waits.
    pub fn act(&mut self, peer: usize, act: Act, name: &str, text: &str) -> String {
        if act == Act::LeaseWait {
            self.waiting[peer] = Some((name.to_owned(), self.now_s + WAIT_S));
            return self.wake(peer);
        }
        let reply = self.answer(peer, act, name, text);
        match act {
            Act::Gats | Act::Gets if reply == "END" => "END\r\n".to_owned(),
            Act::Gats | Act::Gets | Act::LeaseGet => format!("{reply}\r\nEND\r\n"),
            Act::LeaseGetTwice => format!("{reply}\r\n{reply}\r\nEND\r\n"),
            _ => format!("{reply}\r\n"),
        }
    }

    /// What a waiting connection hears now.
    pub fn wake(&mut self, peer: usize) -> String {
        let Some((name, until_s)) = self.waiting[peer].take() else { return String::new() };
        let now_s = self.now_s;
        self.with(&name, 0, peer, |key, at| key.heed(at));
        if now_s < until_s && self.key(&name).must_wait(peer, now_s) {
            self.waiting[peer] = Some((name, until_s));
            return String::new();
        }
        self.act(peer, Act::LeaseGet, &name, "")
    }

    fn answer(&mut self, peer: usize, act: Act, name: &str, text: &str) -> String {
        let (now_s, implicit) = (self.now_s, self.setting.implicit);
        self.seq += 1;
        let (floor, seq) = (self.floor, self.seq);
        self.with(name, seq, peer, |key, at| key.heed(at));
        let fence = self.fence(peer, act, name);
        let covering = self.key(name).void.max(floor);
        let reply = self.with(name, seq, peer, |key, at| key.act(act, text, fence, at));
        let key = self.key(name);
        let (is_held, is_void) = (now_s < key.held_until_s, key.void == seq);
        let notes = &mut self.notes[peer];
        match act {
            _ if is_void => notes.own_void(seq, |other| (other == name).then_some(covering)),
            Act::Flush => self.void_all(peer, Depth::Hard),
            Act::Invalidate(Named::All, depth) => self.void_all(peer, depth),
            Act::Invalidate(Named::Prefix, depth) => {
                self.voids.void(prefix(name), depth == Depth::Soft, seq, now_s, self.setting.kept_s());
            }
            Act::Invalidate(Named::Tag, depth) => {
                self.voids.void(&tag(name), depth == Depth::Soft, seq, now_s, self.setting.kept_s())
            }
            Act::LeaseSet(_)
            | Act::LeaseSetTagged(_)
            | Act::MetaFill(_)
            | Act::MetaFillStale(_)
            | Act::MetaFillVersion(..)
            | Act::Release => {
                notes.clear(name, implicit);
            }
            Act::Gats | Act::Gets | Act::LeaseGet | Act::LeaseGetTwice if reply.starts_with("VALUE") => {
                notes.clear(name, implicit);
            }
            Act::MetaGet | Act::MetaLease if reply.contains('#') => notes.clear(name, implicit),
            Act::MetaGet | Act::MetaLease if reply == "EN" || reply.contains(" Z") => {
                notes.miss(name, seq, is_held, implicit, now_s)
            }
            Act::Gats | Act::Gets => notes.miss(name, seq, is_held, implicit, now_s),
            _ if reply.contains('<') => notes.miss(name, seq, is_held, implicit, now_s),
            _ => {}
        }
        reply
    }

    /// Whether the notes let a store pass; only stores that nothing else forbids are asked for.
    fn fence(&mut self, peer: usize, act: Act, name: &str) -> Fence {
        let (now_s, implicit, floor) = (self.now_s, self.setting.implicit, self.floor);
        let key = self.key(name);
        let is_set = matches!(
            act,
            Act::MetaSet | Act::MetaSetTagged | Act::MetaSetVersion(_) | Act::Set | Act::SetToEnd
        );
        if act.version().is_some_and(|version| key.is_outdated(version, now_s)) {
            return Fence::None;
        }
        if !(is_set || (act == Act::Add && key.live(now_s).is_none())) {
            return Fence::None;
        }
        let (covering, is_held) = (key.void.max(floor), now_s < key.held_until_s);
        let tag = (act == Act::MetaSetTagged).then(|| tag(name));
        let voids = &self.voids;
        let is_void = |since| voids.is_void(name, tag.as_deref(), since);
        match self.notes[peer].take(name, covering, is_void, implicit, now_s) {
            None => Fence::None,
            Some(is_void) if !is_void && !is_held => Fence::Passed,
            Some(_) if implicit == Implicit::Observe => Fence::Observed,
            Some(_) => Fence::Refused,
        }
    }

    fn void_all(&mut self, peer: usize, depth: Depth) {
        let (floor, own) = (std::mem::replace(&mut self.floor, self.seq), self.seq);
        let keys = &mut self.keys;
        self.notes[peer].own_void(own, |name| Some(keys[name].void.max(floor)));
        keys.values_mut().for_each(|key| key.lease.until_s = 0);
        self.voids.void(voids::ALL, depth == Depth::Soft, own, self.now_s, self.setting.kept_s());
    }

    fn with<R>(&mut self, name: &str, seq: u64, peer: usize, act: impl FnOnce(&mut Key, At) -> R) -> R {
        let (floor, now_s, setting, voids) =
            (self.floor, self.now_s, self.setting, std::mem::take(&mut self.voids));
        let at = At { floor, name, now_s, peer, seq, setting, tag: &tag(name), voids: &voids };
        let result = act(self.key(name), at);
        self.voids = voids;
        result
    }

    fn key(&mut self, name: &str) -> &mut Key {
        if !self.keys.contains_key(name) {
            self.keys.insert(name.to_owned(), Key::default());
        }
        self.keys.get_mut(name).expect("it was put there if it was not")
    }
}

/// The prefix of a key: there is one in every history.
pub fn prefix(key: &str) -> &str {
    key.split_inclusive(':').next().expect("keys have a prefix")
}

/// What a key is tagged with, if it is.
pub fn tag(key: &str) -> String {
    format!("tag-of-{}", prefix(key))
}

pub const PEERS: usize = 3;
pub const TTL_S: u64 = 8;
pub const WAIT_S: u64 = 7;
const AGE_S: u64 = 60;
const VERSION_S: u64 = 60;
const NEVER: u64 = u64::MAX;
const WINDOW_S: u64 = 10;
