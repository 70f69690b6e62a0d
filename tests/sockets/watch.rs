//! `watch` over real sockets: a watcher receives what other clients do, and never delays them.

use std::net::Shutdown;

use crate::support::served::{Client, eventually, start};

/// A client that watches.
fn watcher(server: &leasehold::server::Server, topics: &str) -> Client {
    let mut client = Client::connect(server.address());
    client.check(&format!("watch {topics}"), &["OK"]);
    client
}

/// The number that `stats conns` has for a client.
fn number(asker: &mut Client, client: &Client) -> String {
    let own = format!("addr tcp:{}", client.0.get_ref().local_addr().expect("it is connected"));
    asker.send(b"stats conns\r\n");
    let mut found = None;
    loop {
        let line = asker.line();
        match line.trim_end().strip_prefix("STAT ").and_then(|stat| stat.split_once(':')) {
            None => return found.expect("it is listed"),
            Some((number, rest)) if rest == own => found = Some(number.to_owned()),
            Some(_) => {}
        }
    }
}

/// The next event, without the time and the number at its start, which are checked here.
#[track_caller]
fn event(watcher: &mut Client) -> String {
    let line = watcher.line();
    let (ts, rest) = line.strip_prefix("ts=").and_then(|line| line.split_once(" gid=")).expect(&line);
    let (seconds, micros) = ts.split_once('.').expect("a fraction");
    assert!(seconds.parse::<u64>().is_ok_and(|seconds| seconds > 1_700_000_000), "{line}");
    assert!(micros.len() == 6 && micros.parse::<u32>().is_ok(), "{line}");
    let (gid, rest) = rest.split_once(' ').expect("an event");
    assert!(gid.parse::<u64>().is_ok(), "{line}");
    rest.strip_suffix('\n').filter(|rest| !rest.ends_with('\r')).expect("a bare line feed").to_owned()
}

#[test]
fn a_watcher_receives_the_requests_of_other_clients() {
    let server = start("");
    let mut watcher = watcher(&server, "fetchers mutations deletions connevents");
    let mut client = Client::connect(server.address());
    client.check("set k 0 0 3\r\nabc", &["STORED"]);
    client.check("get k", &["VALUE k 0 3", "abc", "END"]);
    client.check("delete k", &["DELETED"]);
    let port = client.0.get_ref().local_addr().expect("it is connected").port();
    let number = number(&mut Client::connect(server.address()), &client);
    let peer = format!("rip=127.0.0.1 rport={port} transport=tcp");
    client.send(b"quit\r\n");
    client.is_closed();
    let found = format!("type=item_get key=k status=found clsid=1 cfd={number} size=3");
    let expected = [
        format!("type=conn_new {peer} cfd={number}"),
        format!("type=item_get key=k status=not_found clsid=0 cfd={number} size=0"),
        format!("type=item_store key=k status=stored cmd=set ttl=0 clsid=1 cfd={number} size=3"),
        found.clone(),
        found,
        "type=deleted key=k cmd=delete clsid=1 size=3".to_owned(),
        format!("type=conn_close {peer} reason=normal cfd={number}"),
    ];
    // The connection that asked for the number is reported, too.
    let is_of_another = |line: &str| line.starts_with("type=conn_") && !line.contains(&peer);
    for line in expected {
        let mut actual = event(&mut watcher);
        while is_of_another(&actual) {
            actual = event(&mut watcher);
        }
        assert_eq!(actual, line);
    }
    server.stop();
}

#[test]
fn a_watcher_sees_which_connections_race() {
    let server = start("");
    let mut watcher = watcher(&server, "leases voids");
    let [mut reader, mut writer, mut asker] = [(); 3].map(|()| Client::connect(server.address()));
    reader.send(b"lease-get k\r\n");
    let granted = reader.line();
    let token = granted.split(' ').nth(2).expect("a token").to_owned();
    assert_eq!([reader.line(), reader.line()], ["\r\n", "END\r\n"]);
    writer.check("delete k", &["NOT_FOUND"]);
    reader.check(&format!("lease-set k {token} 0 0 1\r\nv"), &["NOT_STORED"]);
    let [reads, writes] = [&reader, &writer].map(|client| number(&mut asker, client));
    let seq = |line: &str| line.split(['=', ' ']).next_back().unwrap().parse::<u64>().expect("a number");
    let (grant, delete, fill) = (event(&mut watcher), event(&mut watcher), event(&mut watcher));
    let lease = token.parse::<u64>().expect("a number") & 0xffff_ffff_ffff;
    assert_eq!(grant, format!("type=lease_grant key=k cmd=lease-get cfd={reads} lease={lease}"));
    assert!(delete.starts_with(&format!("type=void_key key=k cmd=delete cfd={writes} depth=hard seq=")));
    assert!(seq(&delete) > lease, "{delete} came after {grant}");
    let refused =
        format!("type=lease_fill key=k status=voided cmd=lease-set cfd={reads} lease={lease} size=1");
    assert_eq!(fill, refused);
    server.stop();
}

#[test]
fn a_closed_connection_is_reported_with_the_reason() {
    let server = start("");
    let mut watcher = watcher(&server, "connevents");
    let mut client = Client::connect(server.address());
    client.send(b"GET / HTTP/1.1\r\n");
    client.is_closed();
    drop(client);
    assert!(event(&mut watcher).starts_with("type=conn_new "));
    assert!(event(&mut watcher).contains(" reason=error "));
    server.stop();
}

#[test]
fn a_slow_watcher_skips_events_and_blocks_no_client() {
    let server = start("-o watcher_logbuf_size=1");
    let mut watcher = watcher(&server, "fetchers");
    let mut client = Client::connect(server.address());
    let long = "k".repeat(250);
    let many = format!("{}mn\r\n", format!("mg {long} q\r\n").repeat(1000));
    // Until the socket buffers are full of events that the watcher does not read.
    while client.stat("log_watcher_skipped") == 0 {
        client.send(many.as_bytes());
        assert_eq!(client.line(), "MN\r\n");
    }
    let sent = client.stat("log_watcher_sent");
    assert_eq!(sent + client.stat("log_watcher_skipped"), client.stat("log_worker_written"));

    let (mut received, mut skipped) = (0, 0);
    while skipped == 0 {
        let line = watcher.line();
        match line.trim_end().strip_prefix("skipped=") {
            Some(number) => skipped = number.parse().expect("a number"),
            None => received += u64::from(line.contains(&long)),
        }
    }
    assert!(skipped > 0_u64 && received > 0 && received <= sent, "{received} of {sent}, {skipped} skipped");
    // From here on it receives events again.
    eventually("the watcher has caught up", || {
        while !watcher.0.buffer().is_empty() {
            watcher.line();
        }
        client.check("get again", &["END"]);
        watcher.line().contains("key=again")
    });
    server.stop();
}

#[test]
fn a_watcher_watches_until_it_hangs_up() {
    let server = start("");
    let mut watcher = watcher(&server, "mutations");
    let mut client = Client::connect(server.address());
    assert_eq!(client.stat("log_watchers"), 1);
    watcher.send(b"version\r\nquit\r\n");
    client.check("set k 0 0 1\r\nv", &["STORED"]);
    assert!(event(&mut watcher).contains("key=k"));
    client.send(b"stats conns\r\n");
    let mut lines = Vec::new();
    while lines.last().is_none_or(|line| line != "END\r\n") {
        lines.push(client.line());
    }
    assert!(lines.iter().any(|line| line.ends_with("state conn_watch\r\n")), "{lines:?}");
    watcher.0.get_ref().shutdown(Shutdown::Write).expect("it is connected");
    watcher.is_closed();
    eventually("the watcher is closed", || client.stat("log_watchers") == 0);
    server.stop();
}

#[test]
fn an_idle_watcher_stays_open_until_the_server_stops() {
    let server = start("-o idle_timeout=1");
    let mut watcher = watcher(&server, "connevents");
    let idle = Client::connect(server.address());
    assert!(event(&mut watcher).starts_with("type=conn_new "));
    // The idle client is closed, and the watcher, idle for as long, is not.
    assert!(event(&mut watcher).contains(" reason=idle_timeout "));
    drop(idle);
    Client::connect(server.address()).check("set k 0 0 1\r\nv", &["STORED"]);
    assert!(event(&mut watcher).starts_with("type=conn_new "));
    server.stop();
    while !watcher.line().is_empty() {}
}

#[test]
fn a_watcher_receives_evictions() {
    let server = start("-m 8");
    let mut watcher = watcher(&server, "evictions");
    let mut client = Client::connect(server.address());
    let value = "v".repeat(1000);
    for n in 0..20_000 {
        client.send(format!("set k{n} 0 0 1000 noreply\r\n{value}\r\n").as_bytes());
    }
    assert!(client.stat("evictions") > 0, "more than fits was stored");
    let line = event(&mut watcher);
    assert!(line.starts_with("type=eviction key=k"), "{line}");
    assert!(line.contains(" fetch=no ttl=-1 la=") && line.ends_with(" clsid=1 size=1000"), "{line}");
    server.stop();
}

#[test]
fn watchers_are_limited() {
    let server = start("");
    let mut all: Vec<Client> = (0..20).map(|_| watcher(&server, "fetchers")).collect();
    let mut client = Client::connect(server.address());
    client.check("watch", &["WATCHER_TOO_MANY log watcher limit reached"]);
    all.pop();
    eventually("there is room", || client.stat("log_watchers") == 19);
    client.check("watch", &["OK"]);
    server.stop();
}
