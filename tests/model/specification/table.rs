//! The table of docs/design/state.md, cell by cell.

use super::invalidations::Cover;
use super::key::{At, Key, Lease, Value};
use super::{Act, Depth, NEVER, Named, Ruling, VERSION_S, WINDOW_S};

impl Key {
    pub fn act(&mut self, act: Act, text: &str, ruling: Ruling, at: At) -> String {
        let new = Value::new(at.seq, NEVER, text);
        let live = self.live(at.now_s);
        if !ruling.is_write || ruling.is_refused {
            (self.superseded, self.lease.until_s) = (at.seq, 0);
        }
        // A token that is none says nothing.
        let tells = !matches!(act, Act::MetaFillVersion(from, _) if self.token(from, at.now_s).is_none());
        if let Some(version) = act.version().filter(|_| tells) {
            if self.is_outdated(version, at.now_s) {
                if let Act::MetaFillVersion(from, _) = act {
                    self.end_lease_of(from, at);
                }
                return "NS".to_owned();
            }
            self.version = (version, at.now_s + VERSION_S);
        }
        let reply = match (act, live) {
            (Act::Gets, Some(value)) => return self.hit(value, at),
            (Act::Gats, Some(value)) => return self.hit(value.touched(at), at),
            (Act::Gats | Act::Gets, None) => "END",
            (Act::Touch, Some(value)) => return self.put(value.touched(at), "TOUCHED"),
            (Act::LeaseGet | Act::LeaseGetTwice | Act::LeaseWait, Some(Value { text, .. })) => {
                return format!("VALUE {} 0 {}\r\n{text}", at.name, text.len());
            }
            (Act::LeaseGet | Act::LeaseGetTwice | Act::LeaseWait, None) => {
                let (token, copy) = self.lease_get(at);
                let copy = copy.map_or(String::new(), |copy| copy.text);
                return format!("LVALUE {} {token} 0 {}\r\n{copy}", at.name, copy.len());
            }
            (Act::LeaseSet(from), _) => self.lease_set(from, Some(new), true, at),
            (Act::LeaseSetTagged(from), _) => self.lease_set(from, Some(new.tagged()), true, at),
            (Act::MetaFillVersion(from, _) | Act::MetaFill(from), live) => {
                meta_filled(self.lease_set(from, Some(new), false, at), live)
            }
            (Act::MetaFillStale(from), live) => meta_filled(self.lease_set(from, Some(new), true, at), live),
            (Act::MetaGet | Act::MetaLease, Some(value)) => {
                self.seen[at.session] = value.as_of;
                return format!("VA {} c#{}\r\n{}", value.text.len(), value.as_of, value.text);
            }
            (Act::MetaGet, None) if !self.value.as_ref().is_some_and(|value| value.is_soft) => "EN",
            (Act::MetaGet | Act::MetaLease, None) => {
                let (token, copy) = self.lease_get(at);
                let (unique, marks) = match (token == "1", &copy) {
                    (true, None) => (token, "Z"),
                    (true, Some(copy)) => {
                        self.seen[at.session] = copy.unique();
                        (format!("#{}", copy.unique()), "Z X")
                    }
                    (false, None) => (token, "W"),
                    (false, Some(_)) => (token, "X W"),
                };
                let copy = copy.map_or(String::new(), |copy| copy.text);
                return format!("VA {} c{unique} {marks}\r\n{copy}", copy.len());
            }
            (Act::MetaCas, _) => self.meta_cas(new, false, at),
            (Act::MetaCasStale, _) => self.meta_cas(new, true, at),
            (Act::MetaSet | Act::MetaSetTagged | Act::MetaSetVersion(_), _) => {
                let is_tagged = act == Act::MetaSetTagged;
                self.set(Value { is_tagged, ..new }, ruling, at);
                if ruling.is_refused { "NS" } else { "HD" }
            }
            (Act::MetaDeleteVersion(_), live) => {
                let is_there = live.is_some() || self.value.as_ref().is_some_and(|value| value.is_soft);
                self.delete(None, at);
                if is_there { "HD" } else { "NF" }
            }
            (Act::MetaSoften, _) => self.soften(at),
            (Act::MetaSoftenGranted, _) if self.is_there() && !self.is_as_granted(at) => "EX",
            (Act::MetaSoftenGranted, _) => self.soften(at),
            (Act::MetaTombstone, _) => {
                if let Some(value) = self.value.as_mut().filter(|value| !value.is_stale || value.is_soft) {
                    let as_of = value.as_of;
                    *value = Value::new(as_of, NEVER, "");
                }
                self.soften(at)
            }
            (Act::Release, _) => self.lease_set(at.session, None, true, at),
            (Act::Set, _) => return self.set(new, ruling, at),
            (Act::SetToEnd, _) => return self.set(new.touched(at), ruling, at),
            (Act::Add, Some(_)) | (Act::Append | Act::Replace, None) => "NOT_STORED",
            (Act::Add, None) if ruling.is_refused || at.now_s < self.held_until_s => "NOT_STORED",
            (Act::Add, None) => {
                self.lease.until_s = 0;
                return self.put(new, "STORED");
            }
            (Act::Cas | Act::Incr | Act::Touch, None) => "NOT_FOUND",
            (Act::Cas, Some(value)) if value.as_of != self.seen[at.session] => "EXISTS",
            (Act::Replace, Some(_)) if ruling.is_refused => {
                self.value = None;
                "NOT_STORED"
            }
            (Act::Replace, Some(_)) if !ruling.is_write => return self.put(new, "STORED"),
            (Act::Cas | Act::Replace, Some(_)) => return self.change(new, "STORED"),
            (Act::Append, Some(old)) => {
                return self.change(Value { as_of: at.seq, text: old.text.clone() + text, ..old }, "STORED");
            }
            (Act::Incr, Some(old)) => {
                let number = (old.text.parse::<u64>().expect("values are numbers") + 1).to_string();
                return self.change(Value { as_of: at.seq, text: number.clone(), ..old }, &number);
            }
            (Act::Delete, live) => {
                self.delete(None, at);
                if live.is_some() { "DELETED" } else { "NOT_FOUND" }
            }
            (Act::DeleteAndHold(seconds), live) => {
                self.delete(Some(at.now_s + seconds), at);
                if live.is_some() { "DELETED" } else { "NOT_FOUND" }
            }
            (Act::Flush, _) => "OK",
            (Act::Invalidate(Named::Key, depth), _) => {
                self.invalidate(depth, at);
                "INVALIDATED 1"
            }
            (Act::Invalidate(Named::All | Named::Prefix | Named::Tag, _), _) => "INVALIDATED 1",
        };
        reply.to_owned()
    }

    fn set(&mut self, value: Value, ruling: Ruling, at: At) -> String {
        if ruling.is_refused {
            self.value.take_if(|value| !value.is_stale);
            return if at.setting.reply_not_stored { "NOT_STORED" } else { "STORED" }.to_owned();
        }
        if ruling.is_write || ruling.is_observed {
            self.held_until_s = 0;
        }
        if ruling.is_write { self.change(value, "STORED") } else { self.put(value, "STORED") }
    }

    /// An invalidated value stays as a stale copy, from its first invalidation on.
    fn delete(&mut self, held_until_s: Option<u64>, at: At) {
        (self.invalidated_at, self.lease.until_s) = (at.seq, 0);
        if let Some(until_s) = held_until_s {
            (self.value, self.held_until_s) = (None, self.held_until_s.max(until_s));
        } else if let Some(value) = self.value.as_mut().filter(|value| !value.is_stale || value.is_soft) {
            (value.is_stale, value.is_soft) = (true, false);
            value.gone_s = value.gone_s.min(at.now_s + at.setting.stale_s);
        }
    }

    /// An invalidation that leaves a copy, or nothing, whatever the policy says.
    fn invalidate(&mut self, depth: Depth, at: At) {
        (self.invalidated_at, self.lease.until_s) = (at.seq, 0);
        if depth == Depth::Hard {
            self.value = None;
        } else if let Some(value) = self.value.as_mut().filter(|value| !value.is_stale) {
            value.soften(at.seq, value.ends_s.min(at.now_s + at.setting.kept_s()));
        } else if let Some(value) = self.value.as_mut().filter(|value| value.is_soft) {
            value.mark = at.seq;
        }
    }

    /// An invalidation that keeps the value visible, until it would have expired or as long as the policy
    /// keeps any.
    fn soften(&mut self, at: At) -> &'static str {
        (self.invalidated_at, self.lease.until_s) = (at.seq, 0);
        let Some(value) = self.value.as_mut().filter(|value| !value.is_stale || value.is_soft) else {
            return "NF";
        };
        let end_s = if value.is_soft { value.gone_s } else { value.ends_s };
        let policy_s = if at.setting.stale_s > 0 { at.now_s + at.setting.stale_s } else { NEVER };
        value.soften(at.seq, end_s.min(policy_s));
        "HD"
    }

    /// Whether `md` finds something.
    fn is_there(&self) -> bool {
        self.value.as_ref().is_some_and(|value| !value.is_stale || value.is_soft)
    }

    /// Whether the value is the one beside which the connection was granted its last lease.
    fn is_as_granted(&self, at: At) -> bool {
        let since = self.value.as_ref().map(|value| if value.is_soft { value.mark } else { value.as_of });
        self.token(at.session, at.now_s)
            .is_some_and(|seq| since.is_some_and(|since| seq > since) && self.is_good_since(seq, at))
    }

    /// Whether what was loaded at this point may be stored.
    fn is_good_since(&self, seq: u64, at: At) -> bool {
        self.invalidated_at.max(at.floor) <= seq
            && at.now_s >= self.held_until_s
            && !at.invalidations.is_invalidated(at.name, None, seq)
            && self.superseded < seq
    }

    /// `ms` with the unique that the connection saw last.
    fn meta_cas(&mut self, new: Value, or_stale: bool, at: At) -> &'static str {
        let seen = self.seen[at.session];
        let Some(value) = self.value.clone().filter(|value| !value.is_stale || value.is_soft) else {
            let is_leased = at.now_s < self.lease.until_s.max(self.lease.spaced_until_s);
            return if self.value.is_none() && is_leased { "EX" } else { "NF" };
        };
        match (value.unique() == seen, value.is_soft) {
            (true, false) => {
                self.change(new, "HD");
                "HD"
            }
            (true, true) if self.is_good_since(seen, at) => {
                (self.superseded, self.lease.until_s) = (at.seq, 0);
                self.put(new, "HD");
                "HD"
            }
            (false, is_soft) if or_stale && seen < value.unique() => {
                let since = if seen == 0 { value.as_of } else { value.as_of.min(seen) };
                if at.invalidations.cover(at.name, None, since) == Cover::Hard {
                    return "EX";
                }
                let mut gone_s = value.gone_s;
                if !is_soft {
                    (self.invalidated_at, self.lease.until_s) = (at.seq, 0);
                    let policy_s = if at.setting.stale_s > 0 { at.now_s + at.setting.stale_s } else { NEVER };
                    gone_s = value.ends_s.min(policy_s);
                }
                let mut stale = Value { as_of: since, ..new };
                stale.soften(at.seq, gone_s);
                self.put(stale, "HD");
                "HD"
            }
            (true, true) | (false, _) => "EX",
        }
    }

    /// A token, or 1, and the stale copy.
    fn lease_get(&mut self, at: At) -> (String, Option<Value>) {
        let At { now_s, session, seq, setting, .. } = at;
        let mut token = "1".to_owned();
        if !self.is_busy(now_s) {
            let (spaced_until_s, until_s) = (now_s + setting.interval_s, now_s + WINDOW_S);
            self.lease = Lease { holder: session, seq, spaced_until_s, until_s };
            self.granted[session] = (seq, now_s);
            token = format!("<{seq}>");
        }
        let copy = self.value.as_ref().filter(|_| now_s >= self.held_until_s);
        (token, copy.cloned())
    }

    /// A token that is refused ends its own lease.
    fn end_lease_of(&mut self, from: usize, at: At) {
        if self.token(from, at.now_s) == Some(self.lease.seq) {
            self.lease.until_s = 0;
        }
    }

    /// A release is a fill without a value.
    fn lease_set(&mut self, from: usize, fill: Option<Value>, may_be_stale: bool, at: At) -> &'static str {
        let Some(seq) = self.token(from, at.now_s) else { return "NOT_STORED" };
        let tag = fill.as_ref().filter(|new| new.is_tagged).map(|_| at.tag);
        let is_invalidated = self.invalidated_at.max(at.floor) > seq
            || at.now_s < self.held_until_s
            || at.invalidations.is_invalidated(at.name, tag, seq);
        let may_be_stale = may_be_stale && at.invalidations.cover(at.name, tag, seq) != Cover::Hard;
        let is_newer = seq > self.superseded && self.value.as_ref().is_none_or(|value| seq > value.as_of);
        let copy = self.value.clone().filter(|value| value.is_stale);
        let is_valid = !is_invalidated && seq > self.superseded && (is_newer || copy.is_some());
        if self.lease.seq == seq || (is_valid && fill.is_some()) {
            self.lease.until_s = 0;
        }
        let (kept, reply) = match (fill, copy) {
            (None, _) if is_valid => return "STORED",
            (Some(new), _) if is_valid => (Value { as_of: seq, ..new }, "STORED"),
            (Some(new), Some(copy)) if is_newer && may_be_stale => {
                (Value { as_of: seq, is_tagged: new.is_tagged, text: new.text, ..copy }, "STALE_STORED")
            }
            (None | Some(_), _) => return "NOT_STORED",
        };
        (self.superseded, self.value) = (seq, Some(kept));
        reply
    }
}

/// How `ms` says what `lease-set` says.
fn meta_filled(said: &str, live: Option<Value>) -> &'static str {
    match (said, live) {
        ("NOT_STORED", None) => "NF",
        ("NOT_STORED", Some(_)) => "EX",
        _ => "HD",
    }
}
