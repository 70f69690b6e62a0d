//! Invalidations by name, on every server, and servers that do not confirm them.

use std::convert::Infallible;
use std::time::Duration;

use leasehold::client::{
    Client, Config, Copies, Error, Fetch, Filled, Invalidate, Leased, NotInvalidated, Server, Store,
};
use leasehold::server;

use crate::support::served::{PATIENCE, start};

const FOREVER: Duration = Duration::ZERO;

#[tokio::test]
async fn names_are_invalidated_on_every_server() {
    let fleet = Fleet::new();
    let client = &fleet.client;

    fleet.fill().await;
    assert_eq!(client.invalidate_tags(["even", "unused"], PATIENCE).await, Ok(()));
    fleet.check(|n| n % 2 == 1).await;

    fleet.fill().await;
    assert_eq!(client.invalidate_prefixes(["product:1:", "product:2:"], PATIENCE).await, Ok(()));
    fleet.check(|n| n != 1 && n != 2).await;

    fleet.fill().await;
    let keys: Vec<_> = (0..10).chain(100..5000).map(key).collect();
    assert_eq!(client.invalidate_keys(&keys, PATIENCE).await, Ok(()), "in several lines");
    fleet.check(|n| n >= 10).await;

    fleet.fill().await;
    assert_eq!(client.invalidate_all(PATIENCE).await, Ok(()));
    fleet.check(|_| false).await;
    fleet.stop();
}

#[tokio::test]
async fn fills_under_way_are_refused_after_an_invalidation() {
    let fleet = Fleet::new();
    for (n, scope) in [Scope::All, Scope::Key, Scope::Prefix, Scope::Tag].into_iter().enumerate() {
        let client = &fleet.client;
        let Ok(Leased::Granted(lease, None)) = client.lease_get(key(n)).await else {
            panic!("it is granted")
        };
        let done = match scope {
            Scope::All => client.invalidate_all(PATIENCE).await,
            Scope::Key => client.invalidate_keys([key(n)], PATIENCE).await,
            Scope::Prefix => client.invalidate_prefixes(["product:"], PATIENCE).await,
            Scope::Tag => client.invalidate_tags(["tag"], PATIENCE).await,
        };
        assert_eq!(done, Ok(()));
        assert_eq!(
            lease.fill("old", Store { tags: &["tag"], ..FOREVER.into() }).await,
            Ok(Filled::NotStored),
            "{scope:?}"
        );
    }
    fleet.stop();
}

#[tokio::test]
async fn plain_stores_take_tags_and_versions() {
    let fleet = Fleet::new();
    let client = &fleet.client;
    let row = |version| Store { tags: &["tag"], version: Some(version), ..FOREVER.into() };
    assert_eq!(client.set("k", "2", row(2)).await, Ok(true));
    assert_eq!(client.set("k", "1", row(1)).await, Ok(false));
    assert_eq!(client.delete_version("k", 1).await, Ok(false));
    assert_eq!(client.get("k").await, Ok(Some("2".into())));
    assert_eq!(client.delete_version("k", 3).await, Ok(true));

    let Ok(Leased::Granted(lease, None)) = client.lease_get("k").await else { panic!("it is granted") };
    assert_eq!(
        lease.fill("2", row(2)).await,
        Ok(Filled::NotStored),
        "the loaded version is older than the deleted one"
    );
    let Ok(Leased::Granted(lease, None)) = client.lease_get("k").await else { panic!("it is granted") };
    assert_eq!(lease.fill("3", row(3)).await, Ok(Filled::Stored));
    assert_eq!(client.invalidate_tags(["tag"], PATIENCE).await, Ok(()));
    assert_eq!(client.get("k").await, Ok(None));
    fleet.stop();
}

#[tokio::test]
async fn a_soft_invalidation_keeps_copies() {
    let fleet = Fleet::new();
    fleet.fill().await;
    let keep = Invalidate { copies: Copies::Keep, within: PATIENCE };
    assert_eq!(fleet.client.invalidate_tags(["even"], keep).await, Ok(()));
    fleet.check(|n| n % 2 == 1).await;
    let Ok(Leased::Granted(_, copy)) = fleet.client.lease_get(key(4)).await else { panic!("it is granted") };
    assert_eq!(copy, Some("4".into()));
    fleet.stop();
}

#[tokio::test]
async fn a_server_that_did_not_confirm_is_named() {
    let alive = start("");
    let dead = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    let dead = dead.local_addr().expect("it was bound").to_string();
    let client = client_of(&[alive.address().to_string(), dead.clone()]);
    let done = client.invalidate_all(Duration::from_millis(500)).await;
    let Err(NotInvalidated::Unconfirmed { servers }) = done else { panic!("one is dead: {done:?}") };
    assert_eq!(servers.iter().map(Error::server).collect::<Vec<_>>(), [Some(&*dead)]);
    alive.stop();
}

#[tokio::test]
async fn a_refused_invalidation_fails_at_once() {
    let fleet = Fleet::new();
    match fleet.client.invalidate_prefixes(["product"], PATIENCE).await {
        Err(NotInvalidated::Unconfirmed { servers }) => {
            assert_eq!(servers.len(), 2);
            assert!(servers.iter().all(|error| matches!(error, Error::Refused { .. })), "{servers:?}");
        }
        other => panic!("a prefix ends in the delimiter: {other:?}"),
    }
    assert_eq!(fleet.client.invalidate_tags(["a b"], PATIENCE).await, Err(NotInvalidated::BadName));
    fleet.stop();
}

#[derive(Debug)]
enum Scope {
    All,
    Key,
    Prefix,
    Tag,
}

/// Two servers, and one client for both.
struct Fleet {
    client: Client,
    servers: [server::Server; 2],
}

impl Fleet {
    fn new() -> Fleet {
        let servers = [start(""), start("")];
        let client = client_of(&[&servers[0], &servers[1]].map(|server| server.address().to_string()));
        Fleet { client, servers }
    }

    /// Fetches a hundred values; every other one has the tag `even`.
    async fn fill(&self) {
        for n in 0..COUNT {
            let tags: &[&str] = if n % 2 == 0 { &["all", "even"] } else { &["all"] };
            let fetch = Fetch { tags, ..FOREVER.into() };
            let load = || async { Ok::<_, Infallible>(n.to_string()) };
            assert_eq!(self.client.fetch(key(n), fetch, load).await, Ok(n.to_string().into()));
        }
        self.check(|_| true).await;
    }

    #[track_caller]
    fn check(&self, lives: impl Fn(usize) -> bool) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        async move {
            let found = self.client.get_many((0..COUNT).map(key)).await;
            for (n, found) in found.into_iter().enumerate() {
                let expected = lives(n).then(|| n.to_string().into());
                assert_eq!(found, Ok(expected), "{} at {caller}", key(n));
            }
        }
    }

    fn stop(self) {
        self.servers.into_iter().for_each(server::Server::stop);
    }
}

fn key(n: usize) -> String {
    format!("product:{n}:price")
}

fn client_of(servers: &[String]) -> Client {
    let servers: Vec<Server> = servers.iter().map(|server| server.parse().expect("a server")).collect();
    Client::new(servers, Config { silence_max: PATIENCE, timeout: PATIENCE, ..Config::default() })
}

const COUNT: usize = 100;
