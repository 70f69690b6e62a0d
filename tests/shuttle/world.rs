//! A database, the cache in front of it, and clients that check the values they read.

use std::future::poll_fn;
use std::ops::Range;
use std::task::Poll;
use std::time::Duration;

use leasehold::cache::{
    Cache, Config, Copies, Counting, Deletion, Depth, Draft, Expiry, Fill, Filled, Group, Implicit, Key,
    Lookup, Mode, Policy, Refused, Session, Step, StoreOutcome, TagList, Token,
};
use leasehold::clock::{MANUAL_UNIX, Now};
use shuttle::future::block_on;
use shuttle::sync::Arc;
use shuttle::sync::atomic::{AtomicU64, Ordering};
use shuttle::thread;

/// The prefix of all keys.
pub const PREFIX: &[u8] = b"row:";
/// The tag of all values.
pub const TAG: &[u8] = b"rows";
/// Enough rows for every shard of the cache to have one.
pub const ROWS: usize = 3;

/// A database, and the cache in front of it.
pub struct World {
    pub cache: Cache,
    rows: [Row; ROWS],
}

/// One row of the database. Its versions are increasing numbers, and the cached value is the version.
#[derive(Default)]
struct Row {
    committed: AtomicU64,
    /// The newest version whose invalidation has returned: later reads must not see an older one.
    promised: AtomicU64,
}

/// A thread of the application, with its own connection.
pub struct Client {
    pub now: Now,
    session: Session,
    /// The tags of all values it stores.
    tags: TagList,
    world: Arc<World>,
}

impl World {
    pub fn new(config: Config) -> Arc<World> {
        Arc::new(World { cache: Cache::with_seed(config, [5; 32]), rows: Default::default() })
    }

    pub fn fenced(implicit: Implicit) -> Arc<World> {
        World::new(Config { policies: Policy { implicit, ..Policy::default() }.into(), ..small() })
    }

    pub fn client(self: &Arc<Self>) -> Client {
        let tags = TagList::new([TAG]).expect("it is short");
        Client { now: at(Duration::ZERO), session: self.cache.session(), tags, world: Arc::clone(self) }
    }

    /// Starts a thread with its own client.
    pub fn spawn<T: Send + 'static>(
        self: &Arc<Self>,
        act: impl FnOnce(&mut Client) -> T + Send + 'static,
    ) -> thread::JoinHandle<T> {
        let mut client = self.client();
        thread::spawn(move || act(&mut client))
    }
}

impl Client {
    /// Stores a value that is no row's.
    pub fn store_apart(&mut self, name: &[u8], tags: &[&[u8]]) {
        let (key, tags) =
            (self.world.cache.key(name).expect("a legal key"), TagList::new(tags.iter().copied()));
        let tags = tags.expect("they are short");
        let draft = Draft { tags: tags.tags(), ..Draft::new("apart") };
        self.world.cache.store(&key, Mode::Set, draft, &mut self.session, self.now);
    }

    /// Reads as a client with leases does: on a miss, the holder of the lease queries the database and fills.
    pub fn read_by_lease(&mut self, row: usize) {
        if let Some(token) = self.lease(row) {
            let version = self.query(row);
            // The reads of other clients show whether the fill was in time.
            let _ = self.fill(row, token, version);
        }
    }

    /// Reads as a client without leases does.
    pub fn read_plainly(&mut self, row: usize, mode: Mode) {
        if self.get(row).is_none() {
            let version = self.query(row);
            self.store(row, mode, version);
        }
    }

    /// Reads a row, waiting for the lease as often as necessary.
    pub fn read_patiently(&mut self, row: usize) {
        self.read_by_lease(row);
        while self.get(row).is_none() {
            self.wait(row);
            self.read_by_lease(row);
        }
    }

    /// Begins to wait for a row, and gives up.
    pub fn read_impatiently(&mut self, row: usize) {
        self.with(row, |cache, key, session, now| {
            cache.wait(key, session, std::task::Waker::noop(), now);
            cache.stop_waiting(key, session);
        });
    }

    /// Changes rows in the database, then invalidates them; `invalidate` receives the version of the first.
    pub fn write(&mut self, rows: Range<usize>, invalidate: impl Fn(&mut Client, u64)) {
        let commit = |row: usize| self.world.rows[row].committed.fetch_add(1, Ordering::SeqCst) + 1;
        let versions: Vec<u64> = rows.clone().map(commit).collect();
        invalidate(self, versions[0]);
        for (row, version) in rows.zip(versions) {
            self.world.rows[row].promised.fetch_max(version, Ordering::SeqCst);
        }
    }

    /// The version in the database now.
    pub fn query(&self, row: usize) -> u64 {
        self.world.rows[row].committed.load(Ordering::SeqCst)
    }

    pub fn get(&mut self, row: usize) -> Option<u64> {
        let promised = self.promised(row);
        let read = |value: leasehold::cache::Value| version(value.bytes);
        let found = self.with(row, |cache, key, session, now| cache.get(key, session, now, read));
        checked(found, promised)
    }

    /// Asks for a lease; `None` if it was not granted.
    pub fn lease(&mut self, row: usize) -> Option<Token> {
        let promised = self.promised(row);
        let (found, token) = self.with(row, |cache, key, session, now| {
            cache.lease(key, session, now, |leased| match leased {
                Lookup::Busy { .. } | Lookup::Miss => (None, None),
                Lookup::Granted { token, .. } => (None, Some(token)),
                Lookup::Hit { value, .. } => (Some(version(value.bytes)), None),
            })
        });
        checked(found, promised);
        token
    }

    pub fn fill(&mut self, row: usize, token: Token, version: u64) -> Result<Filled, Refused> {
        let (version, tags) = (version.to_string(), self.tags.clone());
        self.lease_set(row, token, Fill::Value(Draft { tags: tags.tags(), ..Draft::new(&version) }))
    }

    pub fn lease_set(&mut self, row: usize, token: Token, fill: Fill) -> Result<Filled, Refused> {
        self.with(row, |cache, key, session, now| cache.fill(key, token, fill, session, now))
    }

    pub fn store(&mut self, row: usize, mode: Mode, version: u64) -> StoreOutcome {
        let (version, tags) = (version.to_string(), self.tags.clone());
        let draft = Draft { tags: tags.tags(), ..Draft::new(&version) };
        self.with(row, |cache, key, session, now| cache.store(key, mode, draft, session, now))
    }

    /// Stores a value of this size under the key of a row, which need not exist.
    pub fn store_large(&mut self, row: usize, bytes: usize) {
        let draft = Draft::new(&[b'0'; 1 << 20][..bytes]);
        self.with(row, |cache, key, session, now| cache.store(key, Mode::Set, draft, session, now));
    }

    pub fn incr(&mut self, row: usize) {
        // A missing row is left missing.
        let counting = Counting::by(Step::Incr(1));
        let _ = self.with(row, |cache, key, session, now| cache.count(key, &counting, session, now));
    }

    /// Stores a version with spaces before it, for which the item has to move.
    pub fn store_padded(&mut self, row: usize, version: u64) {
        let (version, tags) = (format!("{version:100}"), self.tags.clone());
        let draft = Draft { tags: tags.tags(), ..Draft::new(&version) };
        self.with(row, |cache, key, session, now| cache.store(key, Mode::Set, draft, session, now));
    }

    pub fn touch(&mut self, row: usize, expiry: Expiry) {
        assert!(self.with(row, |cache, key, _, now| cache.touch(key, expiry, now)), "it is live");
    }

    pub fn delete(&mut self, row: usize, held_until: Option<u64>) -> bool {
        self.with(row, |cache, key, session, now| {
            let deletion = Deletion { held_until, ..Deletion::default() };
            cache.delete(key, &deletion, session, now).was_live()
        })
    }

    pub fn flush(&mut self) {
        self.flush_at(None);
    }

    /// Invalidates everything, now or at a monotonic millisecond.
    pub fn flush_at(&mut self, due: Option<u64>) {
        self.world.cache.invalidate_all(due, Depth::Hard, &mut self.session, self.now);
    }

    pub fn invalidate(&mut self, name: Group) {
        self.world.cache.invalidate([name], Depth::Hard, self.now);
    }

    /// A source has applied everything up to now.
    pub fn attest(&mut self, source: &str) {
        self.world.cache.attest(source, self.now.millis);
    }

    pub fn leave(&mut self) {
        self.world.cache.leave(&mut self.session, self.now);
    }

    /// Waits until the lease of the row has ended, as the server's connections do, but without a deadline.
    fn wait(&mut self, row: usize) {
        let mut is_waiting = false;
        block_on(poll_fn(|context| {
            let waits = |cache: &Cache, key: &Key, session: &mut Session, now| {
                cache.wait(key, session, context.waker(), now)
            };
            if is_waiting || !self.with(row, waits) {
                return Poll::Ready(());
            }
            is_waiting = true;
            Poll::Pending
        }));
        self.with(row, |cache, key, session, _| cache.stop_waiting(key, session));
    }

    fn promised(&self, row: usize) -> u64 {
        self.world.rows[row].promised.load(Ordering::SeqCst)
    }

    fn with<R>(&mut self, row: usize, act: impl FnOnce(&Cache, &Key, &mut Session, Now) -> R) -> R {
        let name = [PREFIX, &[b'a' + row as u8]].concat();
        let key = self.world.cache.key(&name).expect("it is short");
        act(&self.world.cache, &key, &mut self.session, self.now)
    }
}

/// Checks the rule: no read returns a version older than the one promised before the read began.
fn checked(found: Option<u64>, promised: u64) -> Option<u64> {
    if let Some(version) = found.filter(|version| *version < promised) {
        panic!("version {version} is served after the invalidation of version {promised} returned");
    }
    found
}

fn version(value: &[u8]) -> u64 {
    str::from_utf8(value).ok().and_then(|text| text.trim().parse().ok()).expect("values are versions")
}

/// A cache that is created quickly, because every schedule begins with one. Each thread copies all that it
/// reads.
pub fn small() -> Config {
    Config { copies: Copies::Always, memory_bytes: 4 << 20, ..Config::default() }
}

/// The time `span` after the start of the clock.
pub fn at(span: Duration) -> Now {
    Now { millis: span.as_millis() as u64, unix: MANUAL_UNIX + span.as_secs() }
}
