//! The specification as a program: the table of docs/design/state.md in `table`, what it speaks of in `key`,
//! the rules of the miss log in `miss_log`, and here how connections meet them. Every act has a point of its
//! own on the model's clock, and nothing is ever forgotten.
//!
//! Replies are those of the wire, with `<n>` where the server makes up a token and `#n` where it makes up a
//! CAS unique, `n` being that point.

mod invalidations;
mod key;
mod miss_log;
mod misses;
mod table;

use std::collections::HashMap;

use leasehold::cache::Implicit;

use invalidations::Invalidations;
use key::{At, Key};
use miss_log::MissLog;
use misses::{Answers, Class};

/// An action of a connection on a key.
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
    /// `ms` with `C` and the unique that the connection saw last, or 1.
    MetaCas,
    /// The same with `I`: if what is there is newer, a stale copy will do.
    MetaCasStale,
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
    /// The same with the token that the connection was granted last as its `C`, or one that is none.
    MetaSoftenGranted,
    /// `md` with `x` and `I`
    MetaTombstone,
    Release,
    Replace,
    Set,
    SetToEnd,
    Touch,
}

impl Setting {
    /// How long a soft invalidation keeps a copy.
    fn kept_s(&self) -> u64 {
        if self.stale_s == 0 { invalidations::SOFT_S } else { self.stale_s }
    }
}

impl Act {
    /// The version that comes with it.
    fn version(self) -> Option<u64> {
        match self {
            Act::MetaDeleteVersion(version)
            | Act::MetaFillVersion(_, version)
            | Act::MetaSetVersion(version) => Some(version),
            _ => None,
        }
    }
}

/// The target of an invalidation.
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

/// The policy of a history.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    pub implicit: Implicit,
    pub interval_s: u64,
    pub reply_not_stored: bool,
    pub stale_s: u64,
}

/// How the fence sees a store.
#[derive(Clone, Copy, Default)]
struct Ruling {
    /// Whether it is refused, but only observed.
    is_observed: bool,
    is_refused: bool,
    is_write: bool,
}

/// The server, as it should be.
pub struct Model {
    /// When it began.
    pub began_s: u64,
    pub class: Class,
    pub now_s: u64,
    floor: u64,
    keys: HashMap<String, Key>,
    miss_logs: [MissLog; PEERS],
    seq: u64,
    setting: Setting,
    /// Connections that are taken for shared ones.
    shared: [bool; PEERS],
    invalidations: Invalidations,
    /// By connection: the key that it waits for, and until when.
    waiting: [Option<(String, u64)>; PEERS],
}

impl Model {
    pub fn new(setting: Setting) -> Self {
        Model {
            began_s: 0,
            class: Class::new(),
            now_s: 0,
            floor: 0,
            keys: HashMap::new(),
            miss_logs: Default::default(),
            seq: 0,
            setting,
            shared: [false; PEERS],
            invalidations: Invalidations::default(),
            waiting: Default::default(),
        }
    }

    /// The connection has left, and its leases are released; another takes its place.
    pub fn reconnect(&mut self, session: usize) {
        (self.miss_logs[session], self.shared[session], self.waiting[session]) = Default::default();
        for key in self.keys.values_mut() {
            (key.granted[session], key.seen[session]) = Default::default();
            if key.lease.holder == session {
                key.lease.until_s = 0;
            }
        }
    }

    /// The key that a connection waits for.
    pub fn waits_for(&self, session: usize) -> Option<String> {
        self.waiting[session].as_ref().map(|(name, _)| name.clone())
    }

    /// The reply to an act with `text` as the value, if it has one; none while the connection waits.
    pub fn act(&mut self, session: usize, act: Act, name: &str, text: &str) -> String {
        if act == Act::LeaseWait {
            self.waiting[session] = Some((name.to_owned(), self.now_s + WAIT_S));
            return self.wake(session);
        }
        let reply = self.answer(session, act, name, text);
        match act {
            Act::Gats | Act::Gets if reply == "END" => "END\r\n".to_owned(),
            Act::Gats | Act::Gets | Act::LeaseGet => format!("{reply}\r\nEND\r\n"),
            Act::LeaseGetTwice => format!("{reply}\r\n{reply}\r\nEND\r\n"),
            _ => format!("{reply}\r\n"),
        }
    }

    /// The reply that a waiting connection receives now.
    pub fn wake(&mut self, session: usize) -> String {
        let Some((name, until_s)) = self.waiting[session].take() else { return String::new() };
        let now_s = self.now_s;
        self.seq += 1;
        self.with(&name, self.seq, session, |key, at| key.heed(at));
        if now_s < until_s && self.key(&name).must_wait(session, now_s) {
            self.waiting[session] = Some((name, until_s));
            return String::new();
        }
        self.act(session, Act::LeaseGet, &name, "")
    }

    fn answer(&mut self, session: usize, act: Act, name: &str, text: &str) -> String {
        let now_s = self.now_s;
        self.seq += 1;
        let (floor, seq) = (self.floor, self.seq);
        self.with(name, seq, session, |key, at| key.heed(at));
        let ruling = self.ruling(session, act, name, text);
        let (covering, lease) = (self.key(name).invalidated_at.max(floor), self.key(name).lease);
        let reply = self.with(name, seq, session, |key, at| key.act(act, text, ruling, at));
        let key = self.key(name);
        let (is_invalidated, is_lease_over) =
            (key.invalidated_at == seq, now_s < lease.until_s && key.lease.until_s == 0);
        let is_live = key.value.as_ref().is_some_and(|value| !value.is_stale);
        let log = &mut self.miss_logs[session];
        match act {
            _ if is_invalidated => log.invalidate(seq, |other| (other == name).then_some(covering)),
            Act::Flush => self.invalidate_all(session, Depth::Hard),
            Act::Invalidate(Named::All, depth) => self.invalidate_all(session, depth),
            Act::Invalidate(Named::Prefix, depth) => {
                self.invalidations.invalidate(
                    prefix(name),
                    depth == Depth::Soft,
                    seq,
                    now_s,
                    self.setting.kept_s(),
                );
            }
            Act::Invalidate(Named::Tag, depth) => self.invalidations.invalidate(
                &tag(name),
                depth == Depth::Soft,
                seq,
                now_s,
                self.setting.kept_s(),
            ),
            Act::LeaseSet(_)
            | Act::LeaseSetTagged(_)
            | Act::MetaFill(_)
            | Act::MetaFillStale(_)
            | Act::MetaFillVersion(..)
            | Act::Release => {
                log.remove(name);
                let is_filled = act != Act::Release && is_live && ["HD", "STORED"].contains(&&*reply);
                let is_released = act == Act::Release && reply == "STORED" && is_lease_over;
                if (is_filled || is_released) && self.setting.implicit != Implicit::Off {
                    let misses = &mut self.key(name).misses;
                    misses.age(now_s);
                    misses.fill();
                }
            }
            Act::Gats | Act::Gets | Act::LeaseGet | Act::LeaseGetTwice if reply.starts_with("VALUE") => {
                log.remove(name);
            }
            Act::MetaCas | Act::MetaCasStale if reply == "HD" && is_live => {
                log.remove(name);
                if self.setting.implicit != Implicit::Off {
                    let misses = &mut self.key(name).misses;
                    misses.age(now_s);
                    misses.fill();
                }
            }
            Act::MetaGet | Act::MetaLease if reply == "EN" || reply.contains(" Z") => {
                self.miss(session, name)
            }
            Act::MetaGet | Act::MetaLease if reply.contains('#') => log.remove(name),
            Act::Gats | Act::Gets => self.miss(session, name),
            _ if reply.contains('<') => self.miss(session, name),
            _ => {}
        }
        reply
    }

    /// A miss is remembered, by the key and by the connection.
    fn miss(&mut self, session: usize, name: &str) {
        if self.setting.implicit == Implicit::Off {
            return;
        }
        let (now_s, seq, floor) = (self.now_s, self.seq, self.floor);
        let (newest_group, is_invalidated) = (self.invalidations.newest_group, {
            let marked = self.key(name).misses.marked;
            self.invalidations.is_invalidated(name, None, marked)
        });
        let key = self.key(name);
        let (is_held, covering, misses) =
            (now_s < key.held_until_s, key.invalidated_at.max(floor), &mut key.misses);
        if !std::mem::replace(&mut misses.is_known, true) {
            misses.marked = seq;
        }
        misses.age(now_s);
        let was_answered = misses.is_answered();
        let is_group_invalidated = was_answered && newest_group > misses.marked;
        if covering > misses.marked || (is_invalidated && misses.marked < seq) || is_group_invalidated {
            misses.invalidate(seq);
        }
        misses.miss(now_s);
        if is_held {
            misses.invalidate(seq);
        }
        let open_s = self.miss_logs[session].add(name, seq, is_held, now_s);
        self.shared[session] |= open_s.is_some_and(|open_s| was_answered || open_s <= LOAD_S);
    }

    /// How the fence sees a store; only stores that nothing else forbids are asked for.
    fn ruling(&mut self, session: usize, act: Act, name: &str, text: &str) -> Ruling {
        let (now_s, implicit, floor, seq) = (self.now_s, self.setting.implicit, self.floor, self.seq);
        let key = self.key(name);
        let is_set = matches!(
            act,
            Act::MetaSet | Act::MetaSetTagged | Act::MetaSetVersion(_) | Act::Set | Act::SetToEnd
        );
        let is_live = key.live(now_s).is_some();
        let is_judged = is_set || (act == Act::Add && !is_live) || (act == Act::Replace && is_live);
        let is_outdated = act.version().is_some_and(|version| key.is_outdated(version, now_s));
        if !is_judged || is_outdated || implicit == Implicit::Off {
            return Ruling { is_write: true, ..Ruling::default() };
        }
        let (covering, is_held) = (key.invalidated_at.max(floor), now_s < key.held_until_s);
        let tag = (act == Act::MetaSetTagged).then(|| tag(name));
        let invalidations = &self.invalidations;
        let is_invalidated = |since| invalidations.is_invalidated(name, tag.as_deref(), since);
        let own_miss = self.miss_logs[session].take(name, covering, is_invalidated, now_s);
        let takes = self.class.takes(self.began_s + now_s);
        let misses = &mut self.keys.get_mut(name).expect("it was there above").misses;
        let judged = misses.is_known.then(|| {
            misses.age(now_s);
            if covering > misses.marked || is_invalidated(misses.marked) || is_held {
                misses.invalidate(seq);
            }
            misses.set(text, takes)
        });
        let answers = judged.map_or(Answers::Nothing, |judged| judged.answers);
        if own_miss.is_none() || answers != Answers::Nothing {
            self.class.judged(answers, self.began_s + now_s);
        }
        let counts_own_misses = implicit != Implicit::Shared && !self.shared[session];
        let is_write = match counts_own_misses {
            true => own_miss.is_none(),
            false => matches!(answers, Answers::Nothing | Answers::Repeat),
        };
        let is_refused = (is_held && (!is_write || judged.is_some_and(|judged| judged.has_misses)))
            || (counts_own_misses && own_miss == Some(true))
            || judged.is_some_and(|judged| !judged.is_stored);
        if is_write && !is_refused && judged.is_some() {
            misses.wrote(text, answers, self.invalidations.newest_group <= misses.marked, seq);
        }
        let is_observed = is_refused && implicit == Implicit::Observe;
        Ruling { is_observed, is_refused: is_refused && !is_observed, is_write }
    }

    fn invalidate_all(&mut self, session: usize, depth: Depth) {
        let (floor, own) = (std::mem::replace(&mut self.floor, self.seq), self.seq);
        let keys = &mut self.keys;
        self.miss_logs[session].invalidate(own, |name| Some(keys[name].invalidated_at.max(floor)));
        keys.values_mut().for_each(|key| key.lease.until_s = 0);
        self.invalidations.invalidate(
            invalidations::ALL,
            depth == Depth::Soft,
            own,
            self.now_s,
            self.setting.kept_s(),
        );
    }

    fn with<R>(&mut self, name: &str, seq: u64, session: usize, act: impl FnOnce(&mut Key, At) -> R) -> R {
        let (floor, now_s, setting, invalidations) =
            (self.floor, self.now_s, self.setting, std::mem::take(&mut self.invalidations));
        let at =
            At { floor, name, now_s, session, seq, setting, tag: &tag(name), invalidations: &invalidations };
        let result = act(self.key(name), at);
        self.invalidations = invalidations;
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

/// The tag of a value, if it has one.
pub fn tag(key: &str) -> String {
    format!("tag-of-{}", prefix(key))
}

pub const PEERS: usize = 3;
pub const TTL_S: u64 = 8;
pub const WAIT_S: u64 = 7;
const AGE_S: u64 = 60;
/// How long a load takes at most.
pub const LOAD_S: u64 = 1;
const VERSION_S: u64 = 60;
const NEVER: u64 = u64::MAX;
const WINDOW_S: u64 = 10;
