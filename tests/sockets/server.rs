//! The server over real sockets: connections, limits, waiting, and the system's buffers.

use std::collections::BTreeMap;
use std::io::BufReader;
use std::os::unix::net::UnixStream;

use nix::sys::signal::Signal;

use crate::support::served::{Client, PATIENCE, Process, eventually, scratch, start};

#[test]
fn pipelined_replies_come_in_order() {
    let server = start("");
    let mut client = Client::connect(server.address());
    let requests: String = (0..5_000).map(|n| format!("set k{n} {n} 0 1\r\nv\r\nget k{n}\r\n")).collect();
    client.send(requests.as_bytes());
    for n in 0..5_000 {
        for expected in ["STORED", &format!("VALUE k{n} {n} 1"), "v", "END"] {
            assert_eq!(client.line().trim_end(), expected);
        }
    }
    server.stop();
}

#[test]
fn a_connection_with_many_requests_yields() {
    let server = start("-R 2");
    let mut client = Client::connect(server.address());
    client.send("version\r\n".repeat(5).as_bytes());
    (0..5).for_each(|_| assert_eq!(client.line(), "VERSION 1.6.45\r\n"));
    assert_eq!(client.stat("conn_yields"), 2);
    server.stop();
}

#[test]
fn a_connection_above_the_limit_is_refused() {
    let server = start("-c 2");
    let mut first = Client::connect(server.address());
    let mut second = Client::connect(server.address());
    first.check("get a", &["END"]);
    second.check("get a", &["END"]);
    let mut third = Client::connect(server.address());
    assert_eq!(third.line(), "ERROR Too many open connections\r\n");
    third.is_closed();
    assert_eq!(first.stat("rejected_connections"), 1);

    drop(second);
    eventually("the second connection is closed", || first.stat("curr_connections") == 1);
    Client::connect(server.address()).check("get a", &["END"]);
    server.stop();
}

#[test]
fn a_connection_above_the_limit_waits_with_no_maxconns_fast() {
    let server = start("-c 1 -o no_maxconns_fast");
    let mut first = Client::connect(server.address());
    first.check("version", &["VERSION 1.6.45"]);
    eventually("accepting has stopped", || first.stat("accepting_conns") == 0);
    let mut second = Client::connect(server.address());
    second.send(b"version\r\n");
    assert_eq!((first.stat("curr_connections"), first.stat("rejected_connections")), (1, 0));
    // The stop was counted only when it ended, so statistics did not show clients that waited.
    eventually("the stop is counted", || first.stat("listen_disabled_num") == 1);
    drop(first);
    assert_eq!(second.line(), "VERSION 1.6.45\r\n");
    eventually("accepting has stopped again", || second.stat("listen_disabled_num") == 2);
    assert_eq!(second.stat("total_connections"), 2);
    server.stop();
}

#[test]
fn settings_have_memcacheds_names() {
    let server = start("-c 99 -b 5 -R 7 -D / -F -I 2k -m 10 -B ascii -o idle_timeout=30,no_maxconns_fast -v");
    let mut client = Client::connect(server.address());
    let expected = [
        ("maxbytes", "10485760"),
        ("maxconns", "99"),
        ("tcpport", "-1"),
        ("inter", "127.0.0.1"),
        ("domain_socket", "NULL"),
        ("umask", "700"),
        ("num_threads", "2"),
        ("stat_key_prefix", "/"),
        ("detail_enabled", "yes"),
        ("reqs_per_event", "7"),
        ("tcp_backlog", "5"),
        ("binding_protocol", "ascii"),
        ("item_size_max", "2048"),
        ("maxconns_fast", "no"),
        ("flush_enabled", "no"),
        ("dump_enabled", "yes"),
        ("idle_timeout", "30"),
        ("verbosity", "1"),
        ("evictions", "on"),
        ("watcher_logbuf_size", "262144"),
    ];
    client.send(b"stats settings\r\n");
    let mut settings = Vec::new();
    while let Some(stat) = client.line().trim_end().strip_prefix("STAT ") {
        settings.push(stat.to_owned());
    }
    for (name, value) in expected {
        assert!(settings.contains(&format!("{name} {value}")), "{name} is not {value} in {settings:?}");
    }
    client.check("verbosity 0", &["OK"]);
    assert_eq!(client.stat_of("stats settings", "verbosity"), 0);
    server.stop();
}

#[test]
fn a_client_that_does_not_read_is_not_served_and_blocks_no_other() {
    // A process of its own: the other tests here need memory, too.
    let mut server = Process::start("-p -1");
    let address = server.address();
    let mut stalled = Client::connect(address);
    let value = "v".repeat(500_000);
    stalled.check(&format!("set big 0 0 500000\r\n{value}"), &["STORED"]);
    // Five gigabytes of replies, if the client read them.
    stalled.send("get big\r\n".repeat(10_000).as_bytes());

    let mut other = Client::connect(address);
    other.check("get nothing", &["END"]);
    for _ in 0..100 {
        other.check("set a 0 0 1\r\n1", &["STORED"]);
    }
    let resident_bytes = server.resident_bytes();
    assert!(resident_bytes < 256 << 20, "{resident_bytes} bytes");
    for _ in 0..20 {
        for expected in ["VALUE big 0 500000", &value, "END"] {
            assert_eq!(stalled.line().trim_end(), expected);
        }
    }
    server.signal(Signal::SIGTERM);
    assert_eq!(server.exit_code(), 0);
}

#[test]
fn an_idle_connection_is_closed() {
    let server = start("-o idle_timeout=1");
    Client::connect(server.address()).is_closed();
    assert_eq!(Client::connect(server.address()).stat("idle_kicks"), 1);
    server.stop();
}

/// A client sent `quit` and left its socket open, as some pools do, and its lease made others wait until the
/// lease timed out.
/// A machine that lost its power held its connection until the server stopped.
#[test]
fn connections_have_keepalive() {
    let server = start("");
    let mut client = Client::connect(server.address());
    client.check("version", &["VERSION 1.6.45"]);
    let (own, other) = (client.0.get_ref().peer_addr().unwrap(), client.0.get_ref().local_addr().unwrap());
    // Linux shows the timer of each socket: 02 is that of keepalive, once all that was sent is acknowledged.
    eventually("the server's socket has the timer", || {
        let sockets = std::fs::read_to_string("/proc/net/tcp").expect("Linux has it");
        let mut lines = sockets.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let has_port = |address: &str, port: u16| address.ends_with(&format!(":{port:04X}"));
        lines.any(|line| {
            has_port(line[1], own.port()) && has_port(line[2], other.port()) && line[5].starts_with("02:")
        })
    });
    server.stop();
}

#[test]
fn quit_releases_the_leases_of_the_connection() {
    let server = start("");
    let (mut holder, mut next) = (Client::connect(server.address()), Client::connect(server.address()));
    holder.send(b"lease-get k\r\n");
    assert!(holder.line().starts_with("LVALUE k ") && holder.line() == "\r\n" && holder.line() == "END\r\n");
    holder.send(b"quit\r\n");
    holder.is_closed();
    next.send(b"lease-get k\r\n");
    let line = next.line();
    assert!(line.starts_with("LVALUE k ") && !line.starts_with("LVALUE k 1 "), "{line}");
    server.stop();
}

/// A request that waited for a lease when the server stopped got no answer.
#[test]
fn a_waiting_reader_is_answered_when_the_server_stops() {
    let server = start("");
    let (mut holder, mut waiter) = (Client::connect(server.address()), Client::connect(server.address()));
    holder.send(b"lease-get k\r\n");
    assert!(holder.line().starts_with("LVALUE k "));
    waiter.send(b"lease-wait 60000 k\r\n");
    eventually("it waits", || Client::connect(server.address()).stat("lease_waits") == 1);
    server.stop();
    // It is granted the lease if the holder's connection was closed first.
    assert!(waiter.line().starts_with("LVALUE k "));
    assert_eq!([waiter.line(), waiter.line()], ["\r\n", "END\r\n"]);
    waiter.is_closed();
}

#[test]
fn a_waiting_reader_is_woken_by_the_fill() {
    let server = start("");
    let (mut holder, mut waiter) = (Client::connect(server.address()), Client::connect(server.address()));
    holder.send(b"lease-get k\r\n");
    let token = holder.line().split(' ').nth(2).expect("a token").to_owned();
    waiter.send(b"lease-wait 60000 k\r\n");
    let mut observer = Client::connect(server.address());
    eventually("it waits", || observer.stat("lease_waits") == 1);
    holder.send(format!("lease-set k {token} 7 0 3\r\nabc\r\n").as_bytes());
    for expected in ["VALUE k 7 3", "abc", "END"] {
        assert_eq!(waiter.line().trim_end(), expected);
    }
    server.stop();
}

#[test]
fn a_waiting_reader_is_granted_the_lease_when_the_holder_hangs_up() {
    let server = start("");
    let (mut holder, mut waiter) = (Client::connect(server.address()), Client::connect(server.address()));
    holder.send(b"lease-get other k\r\n");
    assert!(holder.line().starts_with("LVALUE other "));
    assert_eq!(holder.line(), "\r\n");
    // Only now the holder surely has the lease of k, whichever thread runs first.
    assert!(holder.line().starts_with("LVALUE k "));
    waiter.send(b"lease-wait 60000 k\r\n");
    let mut observer = Client::connect(server.address());
    eventually("it waits", || observer.stat("lease_waits") == 1);
    drop(holder);
    let line = waiter.line();
    let token: u64 = line.split(' ').nth(2).and_then(|token| token.parse().ok()).expect("a token");
    assert!(line.starts_with("LVALUE k ") && token > 1, "{line}");
    server.stop();
}

/// A connection that waited for a lease did not notice that its client had hung up: it kept its own leases,
/// and its place among the connections, until the wait ended.
#[test]
fn a_client_that_hangs_up_while_waiting_frees_its_leases() {
    let server = start("");
    let (mut other, mut quitter) = (Client::connect(server.address()), Client::connect(server.address()));
    other.send(b"lease-get theirs\r\n");
    assert!(other.line().starts_with("LVALUE theirs "));
    assert_eq!((other.line(), other.line()), ("\r\n".to_owned(), "END\r\n".to_owned()));
    quitter.send(b"lease-get own\r\nlease-wait 60000 theirs\r\nget early\r\n");
    assert!(quitter.line().starts_with("LVALUE own "));
    eventually("it waits", || other.stat("lease_waits") == 1);
    drop(quitter);
    eventually("the connection is closed", || other.stat("curr_connections") == 1);
    other.send(b"lease-get own\r\n");
    let line = other.line();
    assert!(line.starts_with("LVALUE own ") && !line.starts_with("LVALUE own 1 "), "{line}");
    server.stop();
}

/// Requests that arrived while an earlier one waited were answered, but not counted in `bytes_read`.
#[test]
fn a_client_that_half_closes_while_waiting_is_answered_at_once() {
    let server = start("");
    let (mut holder, mut waiter) = (Client::connect(server.address()), Client::connect(server.address()));
    let (granted, waits, early) = ("lease-get k\r\n", "lease-wait 60000 k\r\n", "get early\r\n");
    holder.send(granted.as_bytes());
    assert!(holder.line().starts_with("LVALUE k "));
    assert_eq!((holder.line(), holder.line()), ("\r\n".to_owned(), "END\r\n".to_owned()));
    waiter.send(waits.as_bytes());
    let mut stats_count = 0;
    eventually("it waits", || {
        stats_count += 1;
        holder.stat("lease_waits") == 1
    });
    waiter.send(early.as_bytes());
    waiter.0.get_ref().shutdown(std::net::Shutdown::Write).expect("it is open");
    for expected in ["LVALUE k 1 0 0", "", "END", "END"] {
        assert_eq!(waiter.line().trim_end(), expected);
    }
    waiter.is_closed();
    let sent = granted.len() + waits.len() + early.len() + (stats_count + 1) * "stats\r\n".len();
    assert_eq!(holder.stat("bytes_read"), sent as u64);
    server.stop();
}

#[test]
fn a_large_value_is_stored_and_returned_whole() {
    let server = start("-I 8m");
    let mut client = Client::connect(server.address());
    let value: String = (0..8 << 20).map(|n| char::from(b'a' + (n % 23) as u8)).collect();
    client.check(&format!("set big 0 0 {}\r\n{value}", value.len()), &["STORED"]);
    client.check("get big", &[&format!("VALUE big 0 {}", value.len()), &value, "END"]);
    client.check(
        &format!("set big 0 0 {}\r\n{value}v", value.len() + 1),
        &["SERVER_ERROR object too large for cache"],
    );
    client.check("get big", &["END"]);
    server.stop();
}

#[test]
fn other_protocols_are_refused_and_the_connection_closed() {
    let server = start("");
    let cases: [(&[u8], &str); 2] = [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", "CLIENT_ERROR TLS is not spoken on this port\r\n"),
        (&[b'x'; 100_000], "CLIENT_ERROR line too long\r\n"),
    ];
    let mut client = Client::connect(server.address());
    client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    client.is_closed();
    for (sent, expected) in cases {
        let mut client = Client::connect(server.address());
        client.send(sent);
        assert_eq!(client.line(), expected);
        client.0.get_ref().shutdown(std::net::Shutdown::Write).expect("it is open on our side");
        client.is_closed();
    }
    server.stop();
}

#[test]
fn expired_items_free_their_memory_without_requests() {
    let server = start("");
    let mut client = Client::connect(server.address());
    let sets: String = (0..10_000).map(|n| format!("set k{n} 0 1 1 noreply\r\nv\r\n")).collect();
    client.send(sets.as_bytes());
    client.check("version", &["VERSION 1.6.45"]);
    eventually("all bytes are free", || client.stat("bytes") == 0);
    assert_eq!((client.stat("curr_items"), client.stat("expired_unfetched")), (0, 10_000));
    server.stop();
}

#[test]
fn a_lowered_limit_is_reached_while_clients_are_served() {
    let server = start("-m 64 -I 8m");
    let mut client = Client::connect(server.address());
    let value = "v".repeat(1_000);
    for n in 0..50_000 {
        client.send(format!("set k{n} 0 0 1000 noreply\r\n{value}\r\n").as_bytes());
    }
    client.check("version", &["VERSION 1.6.45"]);
    assert!(client.stat_of("stats memory", "charged_bytes") > 50 << 20);

    client.check("cache_memlimit 8", &["OK"]);
    assert_eq!(
        (client.stat("limit_maxbytes"), client.stat_of("stats settings", "maxbytes")),
        (8 << 20, 8 << 20)
    );
    let (mut other, mut n) = (Client::connect(server.address()), 0);
    eventually("the limit is reached", || {
        n += 1;
        other.check(&format!("set new{n} 0 0 1\r\nv"), &["STORED"]);
        other.check(&format!("get new{n}"), &[&format!("VALUE new{n} 0 1"), "v", "END"]);
        client.stat_of("stats memory", "charged_bytes") <= 8 << 20
    });
    assert!(client.stat("evictions") > 30_000);

    let half = "v".repeat(4 << 20);
    client.check(&format!("set big 0 0 {}\r\n{half}", half.len()), &["STORED"]);
    let evictions = client.stat("evictions");
    client.check(
        &format!("set other 0 0 {}\r\n{half}v", half.len() + 1),
        &["SERVER_ERROR out of memory storing object"],
    );
    client.check("get other", &["END"]);
    assert_eq!(client.stat("evictions"), evictions, "nothing is evicted for a value that cannot be stored");
    server.stop();
}

#[test]
fn a_full_cache_without_evictions_refuses_stores() {
    let server = start("-m 8 -M");
    let mut client = Client::connect(server.address());
    let value = "v".repeat(10_000);
    let mut stored = 0;
    loop {
        client.send(format!("set k{stored} 0 0 10000\r\n{value}\r\n").as_bytes());
        match client.line().trim_end() {
            "STORED" => stored += 1,
            refused => break assert_eq!(refused, "SERVER_ERROR out of memory storing object"),
        }
    }
    assert!((500..840).contains(&stored), "{stored} in 8 MiB");
    assert_eq!((client.stat("curr_items"), client.stat("evictions")), (stored, 0));
    client.check("get k0", &["VALUE k0 0 10000", &value, "END"]);
    assert!(client.stat("store_no_memory") > 0);

    client.check("cache_memlimit 16", &["OK"]);
    client.check(&format!("set more 0 0 10000\r\n{value}"), &["STORED"]);
    client.check("cache_memlimit 8", &["OK"]);
    client.check("get more", &["VALUE more 0 10000", &value, "END"]);
    assert_eq!(client.stat("evictions"), 0, "a lower limit evicts nothing either");
    server.stop();
}

/// The error was longer than that of memcached 1.6.45, and clients compare the whole line.
#[test]
fn an_incr_without_memory_fails_with_memcacheds_error() {
    let server = start("-m 8 -M");
    let mut client = Client::connect(server.address());
    // With one digit more each of them needs another place.
    for key in 0..64 {
        client.check(&format!("set number{key:04} 0 0 6\r\n999999"), &["STORED"]);
    }
    let mut nth = 0;
    for bytes in [10_000, 1_000, 100, 0] {
        let (value, mut refused) = ("v".repeat(bytes), 0);
        while refused < 200 {
            client.send(format!("set k{nth} 0 0 {bytes}\r\n{value}\r\n").as_bytes());
            refused = if client.line() == "STORED\r\n" { 0 } else { refused + 1 };
            nth += 1;
        }
    }
    let refused = (0..64).any(|key| {
        client.send(format!("incr number{key:04} 1\r\n").as_bytes());
        client.line() == "SERVER_ERROR out of memory\r\n"
    });
    assert!(refused);
    server.stop();
}

#[test]
fn a_unix_socket_is_served() {
    let path = scratch("socket");
    let server = start(&format!("-s {} -a 600", path.display()));
    let stream = UnixStream::connect(&path).expect("the server listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout is legal");
    Client(BufReader::new(stream)).check("get a", &["END"]);
    server.stop();
}

#[test]
fn a_dump_is_complete_and_blocks_no_other_client() {
    const STAY: usize = 30_000;
    let server = start("-t 1");
    let mut client = Client::connect(server.address());
    let set = |name: &str, n: usize| format!("set {name}{n} 0 0 1 noreply\r\nv\r\n");
    let sets: String = (0..STAY).map(|n| set("stays", n)).collect();
    client.send(sets.as_bytes());
    client.check("version", &["VERSION 1.6.45"]);

    // Three megabytes that the client does not read yet, while another connection of the same thread adds and
    // deletes.
    let mut dump = Client::connect(server.address());
    dump.send(b"lru_crawler mgdump all\r\n");
    assert_eq!(dump.line(), "OK\r\n");
    for n in 0..STAY {
        client.send(format!("{}delete comes{n} noreply\r\n", set("comes", n)).as_bytes());
    }
    client.check("version", &["VERSION 1.6.45"]);

    let mut dumped = BTreeMap::new();
    while let Some(key) = dump.line().trim_end().strip_prefix("mg ") {
        *dumped.entry(key.to_owned()).or_insert(0) += 1;
    }
    for n in 0..STAY {
        assert_eq!(dumped.get(&format!("stays{n}")), Some(&1), "stays{n}");
    }
    dump.check("version", &["VERSION 1.6.45"]);
    server.stop();
}

/// The statistics of `stats conns`, by descriptor and name.
fn connections(client: &mut Client) -> BTreeMap<String, BTreeMap<String, String>> {
    client.send(b"stats conns\r\n");
    let mut stats = BTreeMap::<String, BTreeMap<String, String>>::new();
    while let Some(stat) = client.line().trim_end().strip_prefix("STAT ") {
        let (number, rest) = stat.split_once(':').expect("a number");
        let (name, value) = rest.split_once(' ').expect("a name and a value");
        stats.entry(number.to_owned()).or_default().insert(name.to_owned(), value.to_owned());
    }
    stats
}

#[test]
fn stats_conns_lists_every_connection() {
    let server = start("");
    let address = format!("tcp:{}", server.address());
    let mut client = Client::connect(server.address());
    let mut idle = Client::connect(server.address());
    idle.check("version", &["VERSION 1.6.45"]);
    let own = |client: &Client| format!("tcp:{}", client.0.get_ref().local_addr().expect("it is connected"));
    let (client_address, idle_address) = (own(&client), own(&idle));
    let find = |stats: &BTreeMap<_, BTreeMap<String, String>>, address: &str| {
        stats.values().find(|stats| stats["addr"] == address).cloned().expect("it is listed")
    };
    // Its thread may still be finishing the answer that has arrived already.
    eventually("the idle connection waits for a request", || {
        find(&connections(&mut client), &idle_address)["state"] == "conn_read"
    });
    let stats = connections(&mut client);
    assert_eq!(stats.len(), 3);
    let listener = find(&stats, &address);
    assert_eq!((&*listener["state"], listener.get("listen_addr")), ("conn_listening", None));
    assert_eq!(find(&stats, &client_address)["state"], "conn_parse_cmd");
    assert_eq!(find(&stats, &client_address)["listen_addr"], address);
    assert!(stats.values().all(|stats| stats["secs_since_last_cmd"].parse::<u32>().is_ok()));
    idle.send(b"set k 0 0 6\r\nval");
    eventually("it waits for the rest of a value", || {
        find(&connections(&mut client), &idle_address)["state"] == "conn_nread"
    });
    idle.send(b"ue!\r\nset k 0 0 9999999\r\nvalue");
    eventually("a value that is too large is skipped", || {
        find(&connections(&mut client), &idle_address)["state"] == "conn_swallow"
    });
    drop(idle);
    eventually("the idle connection is closed", || client.stat("connection_structures") == 2);
    server.stop();
}

#[test]
fn connections_must_authenticate_first_if_there_are_users() {
    let file = scratch("users");
    std::fs::write(&file, "ann:secret\nbob:other words\n").unwrap();
    let server = start(&format!("-Y {}", file.display()));
    std::fs::remove_file(&file).unwrap();
    let mut client = Client::connect(server.address());
    client.check("get k", &["CLIENT_ERROR unauthenticated"]);
    client.check("set k 0 0 3\r\nann", &["CLIENT_ERROR bad authentication token format"]);
    let long = "x".repeat(16 * 1024 + 1);
    client.check(&format!("set k 0 0 {}\r\n{long}", long.len()), &["CLIENT_ERROR auth token too long"]);
    client.check("set k 0 0 7\r\nann bad", &["CLIENT_ERROR authentication failure"]);
    client.check("add k 0 0 10\r\nann secret", &["CLIENT_ERROR unauthenticated"]);
    client.check("set k 0 0 15 noreply\r\nbob other words", &["STORED"]);
    client.check("get k", &["END"]);
    client.check("set _ _ _ 10\r\nann secret", &["CLIENT_ERROR bad command line format"]);
    client.check(&format!("set k 0 0 {}\r\n{long}", long.len()), &["STORED"]);
    client.check("set k 0 0 10\r\nann secret", &["STORED"]);
    client.check("get k", &["VALUE k 0 10", "ann secret", "END"]);
    assert_eq!((client.stat("auth_cmds"), client.stat("auth_errors")), (2, 1));

    // Python's emcache sends only the length as a number; memcached ignores the other fields.
    let mut emcache = Client::connect(server.address());
    emcache.check("set _ _ _ 7\r\nann bad", &["CLIENT_ERROR authentication failure"]);
    emcache.check("set _ _ _ x", &["CLIENT_ERROR bad command line format"]);
    emcache.check("set _ _ _ 10\r\nann secret", &["STORED"]);
    emcache.check("get k", &["VALUE k 0 10", "ann secret", "END"]);

    let mut other = Client::connect(server.address());
    for _ in 0..3 {
        other.check("set k 0 0 10\r\nann Secret", &["CLIENT_ERROR authentication failure"]);
    }
    other.is_closed();
    server.stop();
}
