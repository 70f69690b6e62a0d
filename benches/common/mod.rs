//! Shared by the benches: cycling keys, and a user of a cache.

#![allow(dead_code, reason = "each bench uses a part of it")]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use leasehold::cache::{
    Cache, Config, Counting, Deletion, Draft, Expiry, Fence, Fill, Filled, Lookup, MISS_LOG_MAX, Mode,
    Policy, Session, Step, StoreOutcome,
};
use leasehold::command::{Conversation, Flow, Rules, execute};
use leasehold::metrics::Metrics;
use leasehold::protocol::{Decoder, Output, Protocols, Replies, ReplyForm, Requests};
use leasehold::{Clock, Now};

/// Keys in order, repeated endlessly.
pub struct Round {
    next: usize,
    names: Vec<Bytes>,
}

/// A cache, one user of it, and the keys that it cycles through, at a fixed time.
pub struct User {
    pub cache: Cache,
    pub keys: Round,
    now: Now,
    session: Session,
}

/// A connection without a socket that reads key after key.
pub struct Wire {
    cache: Cache,
    decoder: Decoder,
    lines: Round,
    now: Now,
    pub output: Output,
    conversation: Conversation,
}

/// A connection without a socket that reads keys in pipelines, in either protocol.
pub struct Pipelines {
    cache: Cache,
    form: ReplyForm,
    now: Now,
    pub output: Output,
    conversation: Conversation,
    requests: Requests,
    sent: Round,
}

impl Round {
    pub fn new(names: Vec<Bytes>) -> Self {
        Round { next: 0, names }
    }

    pub fn next(&mut self) -> &[u8] {
        let now = self.next;
        self.next = (now + 1) % self.names.len();
        &self.names[now]
    }
}

impl User {
    pub fn new(config: Config, keys: usize) -> Self {
        let cache = Cache::with_seed(config, [7; 32]);
        let session = cache.session();
        User { cache, keys: Round::new(names(keys)), now: Clock::manual().now(), session }
    }

    /// A cache with a value under every key.
    pub fn filled(value: &[u8], keys: usize) -> Self {
        User::filled_under(Policy::default(), value, keys)
    }

    fn filled_under(policy: Policy, value: &[u8], keys: usize) -> Self {
        let mut user = User::new(Config { policies: policy.into(), ..Config::default() }, keys);
        (0..keys).for_each(|_| assert!(user.set(value)));
        assert_eq!(user.cache.counts().items, keys as u64);
        user
    }

    /// The same under a policy that withholds values while a source of events is late, which it is not.
    pub fn dependent(value: &[u8], keys: usize) -> Self {
        let policy = Policy {
            depends_on: vec!["db".to_owned()],
            max_staleness: Duration::from_secs(5),
            ..Policy::default()
        };
        let user = User::filled_under(policy, value, keys);
        user.cache.attest("db", user.now.millis);
        user
    }

    /// A full cache, and many more keys than fit, so that each has been evicted when its turn comes again.
    pub fn full(value: &[u8]) -> Self {
        let mut user = User::new(Config { memory_bytes: 8 << 20, ..Config::default() }, 200_000);
        (0..60_000).for_each(|_| assert!(user.set(value)));
        assert!(user.cache.counts().evictions > 0);
        user
    }

    /// An empty cache, and as many keys as the cache remembers misses of.
    pub fn empty() -> Self {
        User::new(Config::default(), MISS_LOG_MAX)
    }

    pub fn get(&mut self) -> Option<usize> {
        let key = self.cache.key(self.keys.next()).expect("it is legal");
        self.cache.get(&key, &mut self.session, self.now, |value| value.bytes.len())
    }

    pub fn set(&mut self, value: &[u8]) -> bool {
        let key = self.cache.key(self.keys.next()).expect("it is legal");
        let stored = self.cache.store(&key, Mode::Set, Draft::new(value), &mut self.session, self.now);
        matches!(stored, StoreOutcome::Stored { fence: Fence::None, .. })
    }

    /// Deletes a key, gets the lease to load it, and fills it.
    pub fn lease_cycle(&mut self, value: &[u8]) -> bool {
        let key = self.cache.key(self.keys.next()).expect("it is legal");
        self.cache.delete(&key, &Deletion::default(), &mut self.session, self.now).was_live();
        let token = self.cache.lease(&key, &mut self.session, self.now, |leased| match leased {
            Lookup::Granted { token, .. } => Some(token),
            Lookup::Busy { .. } | Lookup::Hit { .. } | Lookup::Miss => None,
        });
        let token = token.expect("no other client holds it");
        let fill = Fill::Value(Draft::new(value));
        self.cache.fill(&key, token, fill, &mut self.session, self.now) == Ok(Filled::Visible)
    }

    pub fn delete(&mut self) -> bool {
        let key = self.cache.key(self.keys.next()).expect("it is legal");
        self.cache.delete(&key, &Deletion::default(), &mut self.session, self.now).was_live()
    }

    pub fn incr(&mut self) -> Option<u64> {
        let key = self.cache.key(self.keys.next()).expect("it is legal");
        let counting = Counting::by(Step::Incr(1));
        self.cache.count(&key, &counting, &mut self.session, self.now).ok().map(|number| number.number)
    }

    pub fn touch(&mut self) -> bool {
        let key = self.cache.key(self.keys.next()).expect("it is legal");
        self.cache.touch(&key, Expiry::NEVER, self.now)
    }
}

impl Wire {
    /// A value under every key, read by lines with this text before and after the key.
    pub fn filled(value: &[u8], keys: usize, [before, after]: [&str; 2]) -> Self {
        let User { cache, now, .. } = User::filled(value, keys);
        let metrics = Arc::new(Metrics::new(1, 1));
        let conversation =
            Conversation::new(&cache, Arc::clone(&metrics), metrics.of_thread(0), Rules::default());
        let line = |key: &Bytes| [before.as_bytes(), key, after.as_bytes(), b"\r\n"].concat().into();
        let lines = names(keys).iter().map(line).collect();
        let lines = Round::new(lines);
        Wire { cache, decoder: Decoder::new(1 << 20), lines, now, output: Output::default(), conversation }
    }

    /// Executes one line, and leaves the reply in the output.
    pub fn get(&mut self) -> bool {
        self.decoder.space().put_slice(self.lines.next());
        let mut request = self.decoder.decode().expect("a whole line").expect("a legal one");
        let replies = Replies::text(&mut self.output);
        execute(&mut request, &self.cache, &mut self.conversation, replies, self.now) == Flow::Next
    }

    /// Discards the reply.
    pub fn sent(&mut self) {
        self.output.sent(self.output.len());
    }
}

impl Pipelines {
    /// A value under every key, read by pipelines of this many requests. `request` makes one of a key, and
    /// `end` ends each pipeline.
    pub fn filled(
        value: &[u8],
        keys: usize,
        length: usize,
        request: impl Fn(&[u8]) -> Vec<u8>,
        end: &[u8],
    ) -> Self {
        let User { cache, now, .. } = User::filled(value, keys);
        let metrics = Arc::new(Metrics::new(1, 1));
        let conversation =
            Conversation::new(&cache, Arc::clone(&metrics), metrics.of_thread(0), Rules::default());
        let names = names(keys);
        let pipelines = names.chunks(length).map(|keys| {
            let requests = keys.iter().flat_map(|key| request(key));
            requests.chain(end.iter().copied()).collect()
        });
        let sent = Round::new(pipelines.collect());
        let mut requests = Requests::new(Protocols::Any);
        requests.limit_values(1 << 20);
        let (form, output) = (ReplyForm::default(), Output::default());
        Pipelines { cache, form, now, output, conversation, requests, sent }
    }

    /// Executes one pipeline, and returns the length of its replies, which it discards.
    pub fn play(&mut self) -> usize {
        self.requests.space().put_slice(self.sent.next());
        while let Some(request) = self.requests.decode(&mut self.form) {
            let mut request = request.expect("a legal one");
            let replies = Replies::new(&mut self.output, &mut self.form);
            let flow = execute(&mut request, &self.cache, &mut self.conversation, replies, self.now);
            assert!(flow == Flow::Next);
        }
        let length = self.output.len();
        self.output.sent(length);
        length
    }
}

/// A read of the binary protocol that answers with the key, and only if there is a value.
pub fn getkq(key: &[u8]) -> Vec<u8> {
    let length = key.len() as u8;
    let mut packet = vec![0x80, 0x0d, 0, length, 0, 0, 0, 0, 0, 0, 0, length];
    packet.extend([0; 12]);
    packet.extend(key);
    packet
}

/// The packet that ends a pipeline of the binary protocol.
pub const NOOP: [u8; 24] = {
    let mut packet = [0; 24];
    packet[0] = 0x80;
    packet[1] = 0x0a;
    packet
};

/// Keys of 24 bytes.
pub fn names(count: usize) -> Vec<Bytes> {
    (0..count).map(|n| Bytes::from(format!("bench:{n:018}"))).collect()
}

pub const VALUE: &[u8] = &[b'v'; 100];
/// The text before and after the key in a line that reads it.
pub const GET: [&str; 2] = ["get ", ""];
pub const META_GET: [&str; 2] = ["mg ", " v f c"];
