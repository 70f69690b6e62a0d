//! The client against real servers: its methods, its leases, and servers that stop and start.

use std::convert::Infallible;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use leasehold::client::{
    Changed, Client, Config, Error, Fetch, FetchError, Filled, Lease, Leased, Login, NotInvalidated, Server,
    Stale, Store, Value, WithoutCache,
};
use leasehold::server;
use tokio::sync::Notify;
use tokio::task::{JoinSet, yield_now};
use tokio::time::timeout;

use crate::support::served::{PATIENCE, scratch, start};

const FOREVER: Duration = Duration::ZERO;

#[tokio::test]
async fn every_method_behaves_as_memcached_documents() {
    // Tasks share the connection, so with implicit leases a load from before a change may still be running.
    let (server, client) = serve("--implicit-leases off");
    assert_eq!(client.get("k").await, Ok(None));
    assert_eq!(client.replace("k", "v", FOREVER).await, Ok(false));
    assert_eq!(client.append("k", "v").await, Ok(false));
    assert_eq!(client.add("k", "b", FOREVER).await, Ok(true));
    assert_eq!(client.add("k", "x", FOREVER).await, Ok(false));
    assert_eq!(client.append("k", "c").await, Ok(true));
    assert_eq!(client.prepend("k", "a").await, Ok(true));
    assert_eq!(client.get("k").await, Ok(Some("abc".into())));
    let flagged = Value { data: "\r\nEND\r\n".into(), flags: 7 };
    assert_eq!(client.set("k", flagged.clone(), Duration::from_secs(60)).await, Ok(true));
    assert_eq!(client.get("k").await, Ok(Some(flagged.clone())));

    let (value, unique) = client.gets("k").await.expect("it answers").expect("it is there");
    assert_eq!(value, flagged);
    assert_eq!(client.cas("k", "v", FOREVER, unique).await, Ok(Changed::Stored));
    assert_eq!(client.cas("k", "w", FOREVER, unique).await, Ok(Changed::Meanwhile));
    assert_eq!(client.cas("nothing", "w", FOREVER, unique).await, Ok(Changed::Absent));
    assert_eq!(client.gets("nothing").await, Ok(None));

    assert_eq!(client.incr("n", 1).await, Ok(None));
    assert_eq!(client.set("n", "9", FOREVER).await, Ok(true));
    assert_eq!(client.incr("n", 3).await, Ok(Some(12)));
    assert_eq!(client.decr("n", 20).await, Ok(Some(0)));
    assert!(
        matches!(client.incr("k", 1).await, Err(Error::Refused { why, .. }) if why.contains("non-numeric"))
    );

    assert_eq!(client.touch("k", Duration::from_secs(60)).await, Ok(true));
    assert_eq!(client.touch("nothing", FOREVER).await, Ok(false));
    assert_eq!(client.gat("k", FOREVER).await, Ok(Some("v".into())));
    assert_eq!(client.gat("nothing", FOREVER).await, Ok(None));
    assert_eq!(client.delete("k").await, Ok(true));
    assert_eq!(client.delete("k").await, Ok(false));
    assert_eq!(client.delete_surely("n", PATIENCE).await, Ok(()));
    assert_eq!(client.get("n").await, Ok(None));

    assert_eq!(client.get("a b").await, Err(Error::BadName));
    assert_eq!(client.delete_surely("", PATIENCE).await, Err(NotInvalidated::BadName));
    let [(name, version)] = &client.version().await[..] else { panic!("there is one server") };
    assert_eq!((&**name, version.as_deref()), (&*server.address().to_string(), Ok("1.6.45")));
    assert_eq!(stat(&client, "cmd_touch").await, 4);
    server.stop();
}

#[tokio::test]
async fn large_values_are_returned_whole_and_too_large_ones_refused() {
    let (server, client) = serve("");
    let large: Vec<u8> = (0..1_000_000).map(|n: u32| n as u8).collect();
    assert_eq!(client.set("large", large.clone(), FOREVER).await, Ok(true));
    assert_eq!(client.get("large").await, Ok(Some(large.into())));
    let too_large = client.set("large", vec![0; 2_000_000], FOREVER).await;
    assert!(matches!(too_large, Err(Error::Refused { why, .. }) if why.contains("too large")));
    assert_eq!(client.get("large").await, Ok(None));
    server.stop();
}

#[tokio::test]
async fn get_many_returns_values_in_the_order_of_the_keys() {
    let (one, two, dead) = (start(""), start(""), dead_server());
    let client = client_of(&[&one.address().to_string(), &two.address().to_string(), &dead]);
    let keys: Vec<String> = (0..500).map(|n| format!("key:{n}")).collect();
    let is_dead = |key: &String| client.server_of(key) == Ok(&dead);
    for key in keys.iter().filter(|key| !is_dead(key) && !key.ends_with('7')) {
        assert_eq!(client.set(key, key.clone(), FOREVER).await, Ok(true));
    }
    let found = client.get_many(&keys).await;
    for (key, found) in keys.iter().zip(&found) {
        match found {
            Err(error) => assert!(is_dead(key), "{key}: {error}"),
            Ok(None) => assert!(key.ends_with('7'), "{key}"),
            Ok(Some(value)) => assert_eq!(value, key.as_str()),
        }
    }
    assert!(found.len() == 500 && keys.iter().any(is_dead));
    assert_eq!(client.get_many(["a b"]).await, [Err(Error::BadName)]);
    one.stop();
    two.stop();
}

#[tokio::test]
async fn a_lease_is_filled_once_and_only_in_time() {
    let (server, client) = serve("--stale 20");
    let (lease, copy) = granted(&client, "k").await;
    assert_eq!(copy, None);
    assert!(matches!(client.lease_get("k").await, Ok(Leased::Busy(None))));
    assert_eq!(lease.fill("v", FOREVER).await, Ok(Filled::Stored));
    assert!(matches!(client.lease_get("k").await, Ok(Leased::Hit(value)) if value == "v"));

    client.delete("k").await.expect("it answers");
    let (late, copy) = granted(&client, "k").await;
    assert_eq!(copy, Some("v".into()));
    client.delete("k").await.expect("it answers");
    assert_eq!(late.fill("newer", FOREVER).await, Ok(Filled::StaleStored));
    let (late, copy) = granted(&client, "k").await;
    assert_eq!(copy, Some("newer".into()));
    client.set("k", "newest", FOREVER).await.expect("it answers");
    assert_eq!(late.fill("old", FOREVER).await, Ok(Filled::NotStored));

    let (lease, _) = granted(&client, "dropped").await;
    drop(lease);
    let (lease, _) = granted(&client, "dropped").await;
    assert_eq!(
        lease.fill("v", Store { tags: &["tag"; 17], ..FOREVER.into() }).await,
        Err(Error::TooManyTags)
    );
    let (lease, _) = granted(&client, "dropped").await;
    assert_eq!(lease.fill("v", Store { tags: &["no tag"], ..FOREVER.into() }).await, Err(Error::BadName));
    granted(&client, "dropped").await;
    server.stop();
}

#[tokio::test]
async fn a_fetched_value_is_stored_for_all_clients() {
    let (server, client) = serve("");
    assert_eq!(client.fetch("k", Duration::from_secs(60), || loads("v")).await, Ok("v".into()));
    assert_eq!(client.fetch("k", FOREVER, || loads("never")).await, Ok("v".into()));
    assert_eq!(client.get("k").await, Ok(Some("v".into())));
    let bad = client.fetch("a b", FOREVER, || loads("never")).await;
    assert_eq!(bad, Err(FetchError::Cache(Error::BadName)));
    let tagged = Fetch { tags: &["tag"; 17], ..FOREVER.into() };
    let bad = client.fetch("other", tagged, || loads("never")).await;
    assert_eq!(bad, Err(FetchError::Cache(Error::TooManyTags)));
    server.stop();
}

#[tokio::test]
async fn a_value_loaded_too_late_is_returned_and_not_stored() {
    let (server, client) = serve("");
    let load = || async {
        client.delete_surely("k", PATIENCE).await?;
        Ok::<_, NotInvalidated>("old")
    };
    assert_eq!(client.fetch("k", FOREVER, load).await, Ok("old".into()));
    assert_eq!(client.get("k").await, Ok(None));
    server.stop();
}

#[tokio::test]
async fn a_failed_load_releases_the_lease() {
    let (server, client) = serve("");
    let failed = client.fetch("k", FOREVER, || async { Err::<&str, _>("the database is down") }).await;
    assert_eq!(failed, Err(FetchError::Load("the database is down")));
    granted(&client, "k").await;
    server.stop();
}

#[tokio::test]
async fn a_dropped_fetch_releases_the_lease() {
    let (server, client) = serve("");
    let loading = Notify::new();
    let load = || async {
        loading.notify_one();
        std::future::pending::<Result<&str, Infallible>>().await
    };
    tokio::select! {
        _ = client.fetch("k", FOREVER, load) => panic!("the load never ends"),
        () = loading.notified() => {}
    }
    granted(&client, "k").await;
    server.stop();
}

/// Two programs with five hundred readers each. The load ends when all other readers have missed.
#[tokio::test]
async fn a_thousand_fetches_of_one_key_make_one_load() {
    let (server, client) = serve("");
    let clients = [client.clone(), client_of(&[&server.address().to_string()])];
    let loads = Arc::new(AtomicUsize::new(0));
    let mut readers = JoinSet::new();
    for reader in 0..1000 {
        let (client, loads) = (clients[reader % 2].clone(), Arc::clone(&loads));
        readers.spawn(async move {
            let load = || async {
                loads.fetch_add(1, Ordering::SeqCst);
                while stat(&client, "lease_hot_miss").await < 999 {
                    yield_now().await;
                }
                Ok::<_, Infallible>("v")
            };
            client.fetch("k", patient(), load).await
        });
    }
    for value in readers.join_all().await {
        assert_eq!(value, Ok("v".into()));
    }
    assert_eq!(loads.load(Ordering::SeqCst), 1);
    server.stop();
}

#[tokio::test]
async fn a_fetch_waits_for_the_holder_of_the_lease() {
    let (server, client) = serve("");
    let (lease, _) = granted(&client, "k").await;
    let (waits, fills) = tokio::join!(client.fetch("k", patient(), || loads("never")), async {
        eventually(async || stat(&client, "lease_waits").await == 1).await;
        lease.fill("v", FOREVER).await
    });
    assert_eq!((waits, fills), (Ok("v".into()), Ok(Filled::Stored)));

    // It may also inherit the lease.
    let (lease, _) = granted(&client, "other").await;
    let (loads, ()) = tokio::join!(client.fetch("other", patient(), || loads("v")), async {
        eventually(async || stat(&client, "lease_waits").await == 2).await;
        drop(lease);
    });
    assert_eq!(loads, Ok("v".into()));
    assert_eq!(client.get("other").await, Ok(Some("v".into())));
    server.stop();
}

/// A key that is never filled does not block other keys.
#[tokio::test]
async fn a_fetch_can_wait_without_a_place_at_the_server() {
    let (server, holder) = serve("");
    let config = Config { timeout: PATIENCE, waits: 1, ..Config::default() };
    let client = Client::new(vec![server.address().to_string().parse().expect("a server")], config);
    let (_stuck, _) = granted(&holder, "stuck").await;
    let (lease, _) = granted(&holder, "k").await;
    let waits = async {
        eventually(async || stat(&holder, "lease_waits").await == 1).await;
        let (value, filled) = tokio::join!(client.fetch("k", patient(), || loads("never")), async {
            eventually(async || stat(&holder, "lease_hot_miss").await >= 2).await;
            lease.fill("v", FOREVER).await
        });
        assert_eq!((value, filled), (Ok("v".into()), Ok(Filled::Stored)));
    };
    tokio::select! {
        _ = client.fetch("stuck", patient(), || loads("v")) => panic!("it is never filled"),
        () = waits => {}
    }
    server.stop();
}

#[tokio::test]
async fn a_fetch_without_patience_loads_and_stores_nothing() {
    let (server, client) = serve("");
    let (_lease, _) = granted(&client, "k").await;
    let hasty = Fetch { patience: Duration::ZERO, ..FOREVER.into() };
    assert_eq!(client.fetch("k", hasty, || loads("v")).await, Ok("v".into()));
    assert_eq!(client.get("k").await, Ok(None));
    server.stop();
}

#[tokio::test]
async fn a_stale_copy_is_served_if_the_fetch_accepts_it() {
    let (server, client) = serve("--stale 20");
    client.set("k", "old", FOREVER).await.expect("it answers");
    client.delete("k").await.expect("it answers");
    let (_lease, _) = granted(&client, "k").await;
    let avoid = Fetch { patience: Duration::ZERO, ..FOREVER.into() };
    assert_eq!(client.fetch("k", avoid, || loads("new")).await, Ok("new".into()));
    let serve = Fetch { stale: Stale::Serve, ..avoid };
    assert_eq!(client.fetch("k", serve, || loads("never")).await, Ok("old".into()));
    server.stop();
}

#[tokio::test]
async fn the_client_reconnects_to_a_restarted_server() {
    let path = scratch("client-returns");
    let name = path.display().to_string();
    let config = Config { timeout: PATIENCE, ..Config::default() };
    let strict = Config { without_cache: WithoutCache::Fail, ..config.clone() };
    let [client, strict] =
        [config, strict].map(|config| Client::new(vec![name.parse().expect("a path")], config));
    let server = start(&format!("-s {name}"));
    assert_eq!(client.set("k", "v", FOREVER).await, Ok(true));
    server.stop();

    eventually(async || matches!(client.get("k").await, Err(Error::Down { server }) if *server == *name))
        .await;
    assert_eq!(client.fetch("k", FOREVER, || loads("loaded")).await, Ok("loaded".into()));
    let failed = strict.fetch("k", FOREVER, || loads("never")).await;
    assert!(matches!(failed, Err(FetchError::Cache(Error::Down { .. }))));

    let (deleted, server) = tokio::join!(client.delete_surely("k", PATIENCE), async {
        yield_now().await;
        start(&format!("-s {name}"))
    });
    assert_eq!(deleted, Ok(()), "it is repeated until the server is there");
    eventually(async || client.get("k").await == Ok(None)).await;
    assert_eq!(client.set("k", "v", FOREVER).await, Ok(true));
    server.stop();
    let _ = fs::remove_file(path);
}

#[tokio::test]
async fn an_unconfirmed_deletion_names_the_server() {
    let (alive, dead) = (start(""), dead_server());
    let client = client_of(&[&alive.address().to_string(), &dead]);
    let names_the_dead = |answer| {
        let Err(NotInvalidated::Unconfirmed { servers }) = answer else { panic!("one is dead: {answer:?}") };
        assert_eq!(servers.iter().map(Error::server).collect::<Vec<_>>(), [Some(&*dead)]);
    };
    let within = Duration::from_millis(500);
    names_the_dead(client.flush_all(within).await);

    let key = |server: &str| {
        let mut keys = (0..).map(|n| format!("key:{n}"));
        keys.find(|key| client.server_of(key) == Ok(server)).expect("each server has keys")
    };
    names_the_dead(client.delete_surely(key(&dead), within).await);
    assert_eq!(client.delete_surely(key(&alive.address().to_string()), PATIENCE).await, Ok(()));
    alive.stop();
}

#[tokio::test]
async fn a_user_logs_in_on_every_connection() {
    let file = scratch("client-users");
    fs::write(&file, "ada:secret\n").expect("the folder is ours");
    let server = start(&format!("-Y {}", file.display()));
    let user = |password: &str| {
        let login = Some(Login { user: "ada".into(), password: password.into() });
        let config = Config { connections: 4, login, timeout: PATIENCE, ..Config::default() };
        Client::new(vec![server.address().to_string().parse().expect("a server")], config)
    };
    let ada = user("secret");
    for n in 0..20 {
        assert_eq!(ada.set(format!("key:{n}"), "v", FOREVER).await, Ok(true));
    }
    assert!(matches!(user("guessed").get("k").await, Err(Error::Down { .. })));
    assert!(!format!("{:?}", Login { user: "ada".into(), password: "secret".into() }).contains("secret"));
    server.stop();
    fs::remove_file(file).expect("it was ours");
}

/// A value that was loaded before the invalidation cannot be stored after it.
#[tokio::test]
async fn flush_all_refuses_fills_under_way() {
    let (server, client) = serve("");
    let (lease, _) = granted(&client, "k").await;
    assert_eq!(client.flush_all(PATIENCE).await, Ok(()));
    assert_eq!(lease.fill("old", FOREVER).await, Ok(Filled::NotStored));
    server.stop();
}

fn serve(flags: &str) -> (server::Server, Client) {
    let server = start(flags);
    let client = client_of(&[&server.address().to_string()]);
    (server, client)
}

/// A client that does not time out on a busy machine.
fn client_of(servers: &[&str]) -> Client {
    let servers: Vec<Server> = servers.iter().map(|server| server.parse().expect("a server")).collect();
    Client::new(servers, Config { silence_max: PATIENCE, timeout: PATIENCE, ..Config::default() })
}

fn patient() -> Fetch<'static> {
    Fetch { patience: PATIENCE, ..FOREVER.into() }
}

/// An address on which no server listens.
fn dead_server() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    listener.local_addr().expect("it is bound").to_string()
}

async fn loads(value: &'static str) -> Result<&'static str, Infallible> {
    assert_ne!(value, "never", "nothing is loaded");
    Ok(value)
}

async fn granted(client: &Client, key: &str) -> (Lease, Option<Value>) {
    match client.lease_get(key).await {
        Ok(Leased::Granted(lease, copy)) => (lease, copy),
        other => panic!("it is not granted: {other:?}"),
    }
}

async fn stat(client: &Client, name: &str) -> u64 {
    let [(_, Ok(stats))] = &client.stats().await[..] else { panic!("one server answers") };
    stats[name].parse().expect("a number")
}

/// Repeats a check until it succeeds.
async fn eventually(is_so: impl AsyncFn() -> bool) {
    let asking = async {
        while !is_so().await {
            yield_now().await;
        }
    };
    timeout(PATIENCE, asking).await.expect("it is so at last");
}

/// Every one of twenty stale values was stored: `get`, `delete` and `set` of different tasks shared one
/// connection, and the server took the delete for one by the reader.
#[tokio::test]
async fn a_plain_set_of_a_value_read_before_a_delete_is_not_stored() {
    let (server, client) = serve("");
    for n in 0..20 {
        let key = format!("k{n}");
        assert_eq!(client.get(&key).await, Ok(None));
        match n % 4 {
            0 => assert_eq!(client.delete(&key).await, Ok(false)),
            1 => assert_eq!(client.delete_surely(&key, PATIENCE).await, Ok(())),
            2 => assert_eq!(client.invalidate_keys([&key], PATIENCE).await, Ok(())),
            _ => assert_eq!(client.invalidate_all(PATIENCE).await, Ok(())),
        }
        assert_eq!(client.set(&key, "old", FOREVER).await, Ok(true), "the reply does not show it");
        assert_eq!(client.get(&key).await, Ok(None), "{n}");
    }
    server.stop();
}
