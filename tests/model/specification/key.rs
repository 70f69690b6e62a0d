//! The state of one key, and the steps that the cells of the table are made of.

use super::invalidations::{Cover, Invalidations};
use super::misses::Misses;
use super::{AGE_S, PEERS, Setting, TTL_S};

#[derive(Default)]
pub struct Key {
    /// By connection: point and time of the lease it was granted last, and the unique it saw last.
    pub granted: [(u64, u64); PEERS],
    pub seen: [u64; PEERS],
    pub held_until_s: u64,
    pub lease: Lease,
    pub misses: Misses,
    /// The newest store that outdates the tokens before it.
    pub superseded: u64,
    pub value: Option<Value>,
    /// The newest known version, and until when it counts.
    pub version: (u64, u64),
    pub invalidated_at: u64,
}

#[derive(Clone, Copy, Default)]
pub struct Lease {
    pub holder: usize,
    pub seq: u64,
    /// Until when the policy wants no other grant, whatever became of this one.
    pub spaced_until_s: u64,
    pub until_s: u64,
}

#[derive(Clone)]
pub struct Value {
    pub as_of: u64,
    pub ends_s: u64,
    pub gone_s: u64,
    /// Stale because a client asked for that: `mg` sees it.
    pub is_soft: bool,
    pub is_stale: bool,
    pub is_tagged: bool,
    /// The unique of a soft copy: the point as of which it is stale.
    pub mark: u64,
    pub text: String,
}

/// The connection that acts, the key, the time and the policy.
#[derive(Clone, Copy)]
pub struct At<'a> {
    pub floor: u64,
    pub name: &'a str,
    pub now_s: u64,
    pub session: usize,
    pub seq: u64,
    pub setting: Setting,
    /// The tag of the history.
    pub tag: &'a str,
    pub invalidations: &'a Invalidations,
}

impl Key {
    pub fn hit(&mut self, value: Value, at: At) -> String {
        self.seen[at.session] = value.as_of;
        let reply = format!("VALUE {} 0 {} #{}\r\n{}", at.name, value.text.len(), value.as_of, value.text);
        self.put(value, &reply)
    }

    pub fn put(&mut self, value: Value, reply: &str) -> String {
        self.value = Some(value);
        reply.to_owned()
    }

    /// A store that is an invalidation, too.
    pub fn change(&mut self, value: Value, reply: &str) -> String {
        (self.invalidated_at, self.lease.until_s) = (value.as_of, 0);
        self.put(value, reply)
    }

    /// Applies invalidations of groups and of everything.
    pub fn heed(&mut self, at: At) {
        if at.invalidations.is_invalidated(at.name, None, self.lease.seq) {
            self.lease.until_s = 0;
        }
        let now_s = at.now_s;
        self.value.take_if(|value| value.gone_s <= now_s);
        let Some(value) = &mut self.value else { return };
        let tag = value.is_tagged.then_some(at.tag);
        match at.invalidations.cover(at.name, tag, value.as_of) {
            Cover::Hard => self.value = None,
            // What had expired before was a stale copy already.
            Cover::Soft { since_s } if !value.is_stale && since_s < value.ends_s => {
                value.soften(at.seq, value.gone_s.min(since_s + at.setting.kept_s()));
                self.value.take_if(|value| value.gone_s <= now_s);
            }
            Cover::None | Cover::Soft { .. } => {}
        }
    }

    pub fn live(&mut self, now_s: u64) -> Option<Value> {
        self.value.take_if(|value| value.gone_s <= now_s);
        let value = self.value.as_mut()?;
        value.is_stale |= value.ends_s <= now_s;
        Some(value.clone()).filter(|value| !value.is_stale)
    }

    pub fn is_busy(&self, now_s: u64) -> bool {
        now_s < self.held_until_s.max(self.lease.until_s).max(self.lease.spaced_until_s)
    }

    /// Whether there is something to wait for: no connection waits for its own lease.
    pub fn must_wait(&mut self, session: usize, now_s: u64) -> bool {
        let is_own = self.lease.holder == session && now_s < self.lease.until_s;
        self.live(now_s).is_none() && self.is_busy(now_s) && (!is_own || now_s < self.held_until_s)
    }

    pub fn is_outdated(&self, version: u64, now_s: u64) -> bool {
        version < self.version.0 && now_s < self.version.1
    }

    /// The point of the token that a connection was granted last, while it is young.
    pub fn token(&self, of: usize, now_s: u64) -> Option<u64> {
        let (seq, granted_s) = self.granted[of];
        (seq > 0 && now_s - granted_s <= AGE_S).then_some(seq)
    }
}

impl Value {
    pub fn new(as_of: u64, ends_s: u64, text: &str) -> Self {
        Value {
            as_of,
            ends_s,
            gone_s: ends_s,
            is_soft: false,
            is_stale: false,
            is_tagged: false,
            mark: 0,
            text: text.to_owned(),
        }
    }

    pub fn unique(&self) -> u64 {
        if self.is_soft { self.mark } else { self.as_of }
    }

    /// Makes it a soft copy that is over then.
    pub fn soften(&mut self, mark: u64, gone_s: u64) {
        (self.is_stale, self.is_soft, self.mark, self.gone_s) = (true, true, mark, gone_s);
    }

    pub fn tagged(self) -> Self {
        Value { is_tagged: true, ..self }
    }

    pub fn touched(self, at: At) -> Self {
        let ends_s = at.now_s + TTL_S;
        Value { ends_s, gone_s: ends_s + at.setting.stale_s, ..self }
    }
}
