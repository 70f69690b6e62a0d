//! The specification as a program: the table of ARCHITECTURE.md and the rules of the notes, as plainly as they can be
//! said. Maps and lists instead of cells and rings, and nothing is ever forgotten.
//!
//! Replies are those of the wire, with `<n>` where the server makes up a token and `#n` where it makes up a CAS
//! unique, `n` being the point of the model's own clock.

use std::collections::HashMap;

use leasehold::cache::Implicit;

/// What a connection does to a key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Act {
    Add,
    Append,
    /// With the unique that the connection saw last, or 1.
    Cas,
    Delete,
    DeleteAndHold,
    Flush,
    Gets,
    Incr,
    LeaseGet,
    /// With the token that connection number so many was granted last, or 2.
    LeaseSet(usize),
    Release,
    Replace,
    Set,
    SetToEnd,
    Touch,
}

/// What a history is played under.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    pub implicit: Implicit,
    pub reply_not_stored: bool,
    pub stale_s: u64,
}

/// The server, as it should be.
pub struct Model {
    pub now_s: u64,
    setting: Setting,
    seq: u64,
    floor: u64,
    keys: HashMap<String, Key>,
    peers: Vec<Peer>,
}

#[derive(Default)]
struct Key {
    held_until_s: u64,
    lease: Option<Lease>,
    superseded: u64,
    value: Option<Value>,
    void: u64,
}

struct Lease {
    holder: usize,
    seq: u64,
    until_s: u64,
}

#[derive(Clone)]
struct Value {
    as_of: u64,
    ends_s: u64,
    gone_s: u64,
    is_stale: bool,
    text: String,
}

#[derive(Default)]
struct Peer {
    granted: HashMap<String, (u64, u64)>,
    notes: Vec<Note>,
    seen: HashMap<String, u64>,
}

#[derive(Clone)]
struct Note {
    is_dead: bool,
    key: String,
    own: u64,
    seq: u64,
    taken_s: u64,
}

const NEVER: u64 = u64::MAX;
pub const AGE_S: u64 = 60;
pub const HOLD_S: u64 = 5;
pub const TTL_S: u64 = 8;
pub const WINDOW_S: u64 = 10;

impl Model {
    pub fn new(setting: Setting) -> Self {
        Model { now_s: 0, setting, seq: 0, floor: 0, keys: HashMap::new(), peers: Vec::new() }
    }

    /// A new connection, as number so many.
    pub fn connect(&mut self, peer: usize) {
        self.peers.resize_with(self.peers.len().max(peer + 1), Peer::default);
        self.peers[peer] = Peer::default();
    }

    /// The connection is gone: its leases are free.
    pub fn close(&mut self, peer: usize) {
        for key in self.keys.values_mut() {
            key.lease.take_if(|lease| lease.holder == peer);
        }
        self.connect(peer);
    }

    /// The reply to an act with `text` as the value, if it has one.
    pub fn act(&mut self, peer: usize, act: Act, name: &str, text: &str) -> String {
        self.clear_away(name);
        let live = self.key(name).value.clone().filter(|value| !value.is_stale);
        let kept = |model: &mut Self, text: String| {
            let as_of = model.void(peer, name);
            model.put(name, Value { as_of, text, ..live.clone().expect("it is live") });
        };
        let reply = match (act, &live) {
            (Act::Gets, Some(value)) => {
                self.forget_misses(peer, name);
                self.peers[peer].seen.insert(name.to_owned(), value.as_of);
                return format!(
                    "VALUE {name} 0 {} #{}\r\n{}\r\nEND\r\n",
                    value.text.len(),
                    value.as_of,
                    value.text
                );
            }
            (Act::Gets, None) => {
                self.note_miss(peer, name, self.seq);
                "END"
            }
            (Act::Touch, Some(_)) => {
                let ends_s = self.now_s + TTL_S;
                let gone_s = ends_s + self.setting.stale_s;
                self.put(name, Value { ends_s, gone_s, ..live.expect("it is live") });
                "TOUCHED"
            }
            (Act::Set, _) => return self.set(peer, name, text, NEVER),
            (Act::SetToEnd, _) => return self.set(peer, name, text, self.now_s + TTL_S),
            (Act::Add, None) => return self.add(peer, name, text),
            (Act::Add, Some(_)) | (Act::Append | Act::Replace, None) => "NOT_STORED",
            (Act::Touch | Act::Incr | Act::Cas, None) => "NOT_FOUND",
            (Act::Replace, Some(_)) => self.change(peer, name, text),
            (Act::Cas, Some(value)) if self.peers[peer].seen.get(name) == Some(&value.as_of) => {
                self.change(peer, name, text)
            }
            (Act::Cas, Some(_)) => "EXISTS",
            (Act::Append, Some(value)) => {
                kept(self, format!("{}{text}", value.text));
                "STORED"
            }
            (Act::Incr, Some(value)) => {
                let number = value.text.parse::<u64>().expect("values are numbers").wrapping_add(1);
                kept(self, number.to_string());
                return format!("{number}\r\n");
            }
            (Act::Delete, _) => {
                self.void(peer, name);
                self.make_stale(name);
                if live.is_some() { "DELETED" } else { "NOT_FOUND" }
            }
            (Act::DeleteAndHold, _) => {
                self.void(peer, name);
                let until_s = self.now_s + HOLD_S;
                let key = self.key(name);
                key.value = None;
                key.held_until_s = key.held_until_s.max(until_s);
                if live.is_some() { "DELETED" } else { "NOT_FOUND" }
            }
            (Act::Flush, _) => {
                self.flush(peer);
                "OK"
            }
            (Act::LeaseGet, Some(value)) => {
                self.forget_misses(peer, name);
                return format!("VALUE {name} 0 {}\r\n{}\r\nEND\r\n", value.text.len(), value.text);
            }
            (Act::LeaseGet, None) => return self.lease_get(peer, name),
            (Act::LeaseSet(from), _) => self.lease_set(peer, from, name, Some(text)),
            (Act::Release, _) => self.lease_set(peer, peer, name, None),
        };
        format!("{reply}\r\n")
    }

    fn lease_get(&mut self, peer: usize, name: &str) -> String {
        let (now_s, seq) = (self.now_s, self.seq + 1);
        let key = self.key(name);
        let is_held = now_s < key.held_until_s;
        let is_busy = is_held || key.lease.as_ref().is_some_and(|lease| now_s < lease.until_s);
        let copy = key.value.as_ref().filter(|_| !is_held).map_or(String::new(), |value| value.text.clone());
        let token = if is_busy {
            "1".to_owned()
        } else {
            key.lease = Some(Lease { holder: peer, seq, until_s: now_s + WINDOW_S });
            self.seq = seq;
            self.note_miss(peer, name, seq);
            self.peers[peer].granted.insert(name.to_owned(), (seq, now_s));
            format!("<{seq}>")
        };
        format!("LVALUE {name} {token} 0 {}\r\n{copy}\r\nEND\r\n", copy.len())
    }

    fn lease_set(&mut self, peer: usize, from: usize, name: &str, text: Option<&str>) -> &'static str {
        self.forget_misses(peer, name);
        let (now_s, covering) = (self.now_s, self.covering(name));
        let granted = self.peers[from].granted.get(name).filter(|(_, at_s)| now_s - at_s <= AGE_S);
        let Some(seq) = granted.map(|(seq, _)| *seq) else { return "NOT_STORED" };
        let key = self.key(name);
        let (value, is_held) = (key.value.clone(), now_s < key.held_until_s);
        let is_newer = value.as_ref().is_none_or(|value| seq > value.as_of);
        let is_stale = value.is_some_and(|value| value.is_stale);
        let (is_void, is_used) = (covering > seq || is_held, seq <= key.superseded);
        let is_valid = !is_void && !is_used && (is_newer || is_stale);
        if is_valid && text.is_some() {
            key.lease = None;
        }
        key.lease.take_if(|lease| lease.seq == seq);
        match text {
            None if is_valid => "STORED",
            Some(text) if is_valid => {
                key.superseded = seq;
                self.put(name, Value::new(seq, text, NEVER, 0));
                "STORED"
            }
            Some(text) if is_stale && is_newer && !is_used => {
                key.superseded = seq;
                let copy = key.value.as_mut().expect("it is stale");
                (copy.as_of, copy.text) = (seq, text.to_owned());
                "STALE_STORED"
            }
            None | Some(_) => "NOT_STORED",
        }
    }

    fn set(&mut self, peer: usize, name: &str, text: &str, ends_s: u64) -> String {
        let stale_s = self.setting.stale_s;
        let Some(note) = self.take_note(peer, name) else {
            let as_of = self.void(peer, name);
            self.key(name).held_until_s = 0;
            self.put(name, Value::new(as_of, text, ends_s, stale_s));
            return "STORED\r\n".to_owned();
        };
        if self.is_refused(&note, name) {
            if self.setting.implicit != Implicit::Observe {
                self.key(name).value.take_if(|value| !value.is_stale);
                return if self.setting.reply_not_stored { "NOT_STORED\r\n" } else { "STORED\r\n" }
                    .to_owned();
            }
            self.key(name).held_until_s = 0;
        }
        self.seq += 1;
        self.put(name, Value::new(self.seq, text, ends_s, stale_s));
        "STORED\r\n".to_owned()
    }

    fn add(&mut self, peer: usize, name: &str, text: &str) -> String {
        let note = self.take_note(peer, name);
        let is_refused = note.is_some_and(|note| self.is_refused(&note, name));
        let is_held = self.now_s < self.key(name).held_until_s;
        if is_held || (is_refused && self.setting.implicit != Implicit::Observe) {
            return "NOT_STORED\r\n".to_owned();
        }
        self.seq += 1;
        self.key(name).lease = None;
        self.put(name, Value::new(self.seq, text, NEVER, 0));
        "STORED\r\n".to_owned()
    }

    /// A store on a note outdates every token before it, whatever becomes of it.
    fn is_refused(&mut self, note: &Note, name: &str) -> bool {
        self.seq += 1;
        let (seq, now_s, covering) = (self.seq, self.now_s, self.covering(name));
        let key = self.key(name);
        (key.superseded, key.lease) = (seq, None);
        note.is_void(covering) || now_s < key.held_until_s
    }

    fn change(&mut self, peer: usize, name: &str, text: &str) -> &'static str {
        let as_of = self.void(peer, name);
        self.put(name, Value::new(as_of, text, NEVER, 0));
        "STORED"
    }

    fn void(&mut self, peer: usize, name: &str) -> u64 {
        self.seq += 1;
        let (seq, covering) = (self.seq, self.covering(name));
        self.own_void(peer, |note| (note.key == name).then_some(covering), seq);
        let key = self.key(name);
        (key.void, key.lease) = (seq, None);
        seq
    }

    fn flush(&mut self, peer: usize) {
        self.seq += 1;
        let voids: HashMap<String, u64> = self
            .keys
            .keys()
            .cloned()
            .collect::<Vec<_>>()
            .into_iter()
            .map(|name| (name.clone(), self.covering(&name)))
            .collect();
        self.own_void(peer, |note| Some(voids[&note.key]), self.seq);
        self.floor = self.seq;
        self.keys.values_mut().for_each(|key| (key.value, key.lease) = (None, None));
    }

    fn own_void(&mut self, peer: usize, covering: impl Fn(&Note) -> Option<u64>, seq: u64) {
        for note in &mut self.peers[peer].notes {
            match covering(note) {
                Some(covering) if note.is_void(covering) => note.is_dead = true,
                Some(_) => note.own = seq,
                None => {}
            }
        }
    }

    fn covering(&mut self, name: &str) -> u64 {
        self.floor.max(self.key(name).void)
    }

    fn note_miss(&mut self, peer: usize, name: &str, seq: u64) {
        let (implicit, now_s) = (self.setting.implicit, self.now_s);
        let is_held = now_s < self.key(name).held_until_s;
        let notes = &mut self.peers[peer].notes;
        notes.retain(|note| now_s - note.taken_s <= AGE_S);
        match (implicit, notes.iter_mut().find(|note| note.key == name)) {
            (Implicit::Off, _) => {}
            (Implicit::On | Implicit::Observe, Some(old)) => old.is_dead |= is_held,
            (Implicit::On | Implicit::Observe | Implicit::Strict, _) => {
                notes.push(Note { is_dead: is_held, key: name.to_owned(), own: 0, seq, taken_s: now_s })
            }
        }
    }

    fn forget_misses(&mut self, peer: usize, name: &str) {
        if self.setting.implicit != Implicit::Strict {
            self.peers[peer].notes.retain(|note| note.key != name);
        }
    }

    fn take_note(&mut self, peer: usize, name: &str) -> Option<Note> {
        let now_s = self.now_s;
        let notes = &mut self.peers[peer].notes;
        notes.retain(|note| now_s - note.taken_s <= AGE_S);
        let note = notes.iter().find(|note| note.key == name).cloned();
        self.forget_misses(peer, name);
        note
    }

    fn put(&mut self, name: &str, value: Value) {
        self.key(name).value = Some(value);
    }

    /// A voided value stays as a stale copy, from its first void on.
    fn make_stale(&mut self, name: &str) {
        let kept_s = self.now_s + self.setting.stale_s;
        let value = &mut self.key(name).value;
        if let Some(value) = value.as_mut().filter(|value| !value.is_stale) {
            (value.is_stale, value.gone_s) = (true, value.gone_s.min(kept_s));
        }
    }

    fn clear_away(&mut self, name: &str) {
        let now_s = self.now_s;
        let value = &mut self.key(name).value;
        value.take_if(|value| value.gone_s <= now_s);
        if let Some(value) = value {
            value.is_stale |= value.ends_s <= now_s;
        }
    }

    fn key(&mut self, name: &str) -> &mut Key {
        self.keys.entry(name.to_owned()).or_default()
    }
}

impl Note {
    fn is_void(&self, covering: u64) -> bool {
        self.is_dead || (covering > self.seq && covering != self.own)
    }
}

impl Value {
    fn new(as_of: u64, text: &str, ends_s: u64, stale_s: u64) -> Self {
        let gone_s = ends_s.saturating_add(stale_s);
        Value { as_of, ends_s, gone_s, is_stale: false, text: text.to_owned() }
    }
}
