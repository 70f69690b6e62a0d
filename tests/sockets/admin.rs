//! The admin address over HTTP: its answers, its effects, and the requests that it refuses.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::http;
use crate::support::http::{AdminServer, ask, send};
use crate::support::served;
use crate::support::served::{Process, scratch};

/// Connections that are open at a time.
const PLACES: usize = 128;
const TOKEN: &str = "a-token-that-is-hard-to-guess";

/// A file with a token, removed at the end of the test.
struct TokenFile(PathBuf);

impl TokenFile {
    fn new(name: &str) -> TokenFile {
        let path = scratch(name);
        fs::write(&path, format!("{TOKEN}\n")).expect("it can be written");
        TokenFile(path)
    }
}

impl Drop for TokenFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[test]
fn a_process_logs_its_admin_address() {
    let mut process = Process::start("-p -1 --admin 127.0.0.1:0");
    let address = process.admin();
    let health = ask(address, "GET", "/healthz", "", "");
    assert_eq!((health.status, &*health.body), (200, "ok\n"));
    process.signal(Signal::SIGTERM);
    assert_eq!(process.exit_code(), 0);
}

/// HAProxy's default check speaks HTTP/1.0 and sends no Host: a healthy server was taken for dead.
#[test]
fn health_checks_need_no_host() {
    let mut process = Process::start("-p -1 --admin 127.0.0.1:0");
    let address = process.admin();
    // The address is open before the server is ready.
    served::eventually("the server is ready", || send(address, "GET /readyz HTTP/1.0\r\n\r\n").status == 200);
    for path in ["/healthz", "/readyz"] {
        assert_eq!(send(address, &format!("GET {path} HTTP/1.0\r\n\r\n")).status, 200, "{path}");
        assert_eq!(send(address, &format!("OPTIONS {path} HTTP/1.0\r\n\r\n")).status, 200, "{path}");
    }
    assert_eq!(
        send(address, "OPTIONS / HTTP/1.0\r\n\r\n").status,
        200,
        "without a path in its configuration"
    );
    assert_eq!(send(address, "GET / HTTP/1.0\r\n\r\n").status, 400);
    assert_eq!(send(address, "GET /metrics HTTP/1.0\r\n\r\n").status, 400);
    process.signal(Signal::SIGTERM);
    assert_eq!(process.exit_code(), 0);
}

#[test]
fn an_unprotected_admin_address_is_refused_at_the_start() {
    let token = TokenFile::new("start-token");
    for flags in ["--admin 0.0.0.0:0", "--admin [::]", &format!("--admin-token-file {}", token.0.display())] {
        assert_eq!(Process::start(&format!("-p -1 {flags}")).exit_code(), 64, "{flags}");
    }
    fs::write(&token.0, "short").unwrap();
    let flags = format!("-p -1 --admin 127.0.0.1:0 --admin-token-file {}", token.0.display());
    let mut process = Process::start(&flags);
    process.logged(&format!("every user of this machine can read {}", token.0.display()));
    let log = process.rest_of_log();
    assert!(log.contains("at least 16") && !log.contains("short\n"), "{log}");
    assert_eq!(process.exit_code(), 71);
}

#[test]
fn a_server_that_stops_is_healthy_but_not_ready() {
    let server = AdminServer::start("-A");
    server.get("/readyz").has(200);
    server.client().check("shutdown", &[]);
    served::eventually("the server is no longer ready", || server.get("/readyz").status == 503);
    server.get("/healthz").has(200);
}

#[test]
fn looking_at_a_key_is_not_a_read() {
    let server = AdminServer::start("");
    let mut client = server.client();
    client.check("ms user:7 3 T100 Gstaff\r\nAda", &["HD"]);
    let known = server.get("/keys/user%3A7").has(200).json();
    assert_eq!(
        (&known["held"], &known["key"], &known["lease"]),
        (&json!("live"), &json!("user:7"), &Value::Null)
    );
    let value = &known["value"];
    assert_eq!(
        (&value["bytes"], &value["tags"], &value["is_fetched"]),
        (&json!(3), &json!(["staff"]), &json!(false))
    );
    assert!((98..=101).contains(&value["ttl_seconds"].as_u64().unwrap()), "{value}");
    assert_eq!(known["last_void"]["of"], "key", "a set counts as an invalidation of its key");

    client.send(b"lease-get absent\r\n");
    assert!(client.line().starts_with("LVALUE absent "));
    let known = server.get("/keys/absent").json();
    assert!(known["lease"]["holder"].as_str().unwrap().starts_with("tcp:127.0.0.1:"), "{known}");
    assert_eq!((&known["held"], &known["lease"]["waiting"]), (&json!("nothing"), &json!(0)));
    assert_eq!((client.line(), client.line()), ("\r\n".to_owned(), "END\r\n".to_owned()));

    assert_eq!(
        (client.stat("get_hits"), client.stat("get_misses")),
        (0, 1),
        "looking at a key is not a read"
    );
    let odd = server.get("/keys/a/b%20%FF").json();
    assert_eq!(odd["key"], json!({"base64": "YS9iIP8="}), "a key that is not text is shown in base64");
    for wrong in ["%", "k%2", "%zz", "%%41", "%4\u{b5}"] {
        server.get(&format!("/keys/{wrong}")).is_refused(400, "%25");
    }
    server.get(&format!("/keys/{}", "k".repeat(251))).is_refused(400, "1 to 250 bytes");
}

#[test]
fn one_request_invalidates_names_of_all_kinds() {
    let server = AdminServer::start("");
    let mut client = server.client();
    for key in ["user:7", "page:1", "other"] {
        client.check(&format!("ms {key} 1 Gstaff\r\nx"), &["HD"]);
    }
    let body = json!({ "keys": ["user:7", "absent"], "prefixes": ["page:"] });
    let done = server.post("/invalidate", &body.to_string()).has(200).json();
    let keys = json!([{ "held": "live", "key": "user:7" }, { "held": "nothing", "key": "absent" }]);
    assert_eq!(done, json!({ "all": false, "keys": keys, "prefixes": ["page:"], "soft": false, "tags": [] }));
    client.check("get user:7 page:1 other", &["VALUE other 0 1", "x", "END"]);
    client.send(b"set \xff 0 0 1\r\nx\r\n");
    assert_eq!(client.line(), "STORED\r\n");
    let done = server.post("/invalidate", r#"{"keys":[{"base64":"/w=="}]}"#).has(200).json();
    assert_eq!(done["keys"], json!([{ "held": "live", "key": {"base64": "/w=="} }]));
    server.post("/invalidate", r#"{"tags":["staff"],"soft":true}"#).has(200);
    client.check("mg other v", &["VA 1 X W", "x"]);
    server.post("/invalidate", r#"{"all":true}"#).has(200);
    let stats = server.get("/stats.json").json()["stats"].clone();
    let counts =
        ["voids_key", "voids_tag", "voids_prefix", "voids_all"].map(|name| stats[name].as_u64().unwrap());
    assert_eq!(counts, [3, 1, 1, 1]);
}

#[test]
fn a_request_with_a_mistake_invalidates_nothing() {
    let server = AdminServer::start("-F");
    let mut client = server.client();
    client.check("set k 0 0 1\r\nx", &["STORED"]);
    let refused = |body: &str, why: &str| server.post("/invalidate", body).is_refused(400, why);
    refused(r#"{"keys":["k"],"prefixes":["no-delimiter"]}"#, "no-delimiter");
    refused(r#"{"keys":["k",""]}"#, "1 to 250 bytes");
    refused(r#"{"keys":["k"],"tag":["x"]}"#, "unknown field `tag`");
    refused(r#"{"keys":"k"}"#, "a sequence");
    refused(r#"{"keys":["k"]"#, "EOF");
    refused("{}", "name keys, tags or prefixes");
    // Read as a list of fields, this would be `all`.
    for body in ["[true]", "[]", "7", "null", "\"all\"", ""] {
        refused(body, "a JSON object");
    }
    refused(r#"{"keys":["k",7]}"#, "a name is text");
    let many: Vec<String> = (0..1_001).map(|n| n.to_string()).collect();
    refused(&json!({ "keys": many }).to_string(), "at most 1000 names");
    server.post("/invalidate", r#"{"keys":["k"],"all":true}"#).is_refused(403, "-F");
    let long = format!(r#"{{"keys":["{}"]}}"#, "k".repeat(1 << 20));
    server.post("/invalidate", &long).is_refused(413, "1 MiB");
    let form = ask(server.admin, "POST", "/invalidate", "Content-Type: text/plain\r\n", r#"{"keys":["k"]}"#);
    form.is_refused(415, "application/json");
    client.check("get k", &["VALUE k 0 1", "x", "END"]);
    let most = json!({ "keys": many[1..] }).to_string();
    server.post("/invalidate", &most).has(200);
}

#[test]
fn foreign_hosts_and_origins_are_refused() {
    let server = AdminServer::start("");
    let with = |headers: &str| {
        let head = format!(
            "POST /invalidate HTTP/1.1\r\nConnection: close\r\nContent-Type: application/json\r\n{headers}"
        );
        send(server.admin, &format!("{head}Content-Length: 12\r\n\r\n{{\"all\":true}}"))
    };
    let own = format!("Host: {}\r\n", server.admin);
    with("Host: rebound.example\r\n").is_refused(403, "localhost");
    with(&format!("{own}Origin: http://other.example\r\n")).is_refused(403, "another origin");
    with("").has(400);
    with(&format!("{own}Origin: http://{}\r\n", server.admin)).has(200);
}

#[test]
fn the_token_protects_the_pages_and_is_shown_nowhere() {
    let (token, users) = (TokenFile::new("token"), scratch("admin-users"));
    fs::write(&users, "ada:a-password-of-hers\n").unwrap();
    let flags = format!("--admin-token-file {} -Y {}", token.0.display(), users.display());
    let server = AdminServer::start(&flags);
    fs::remove_file(&users).unwrap();
    for path in ["/", "/healthz", "/readyz"] {
        server.get(path).has(200);
    }
    let bodies = ["/config", "/metrics", "/stats.json", "/keys/k"].map(|path| {
        let refused = server.get(path);
        refused.is_refused(401, "token");
        assert!(refused.head.to_lowercase().contains("www-authenticate: bearer"), "{}", refused.head);
        ask(server.admin, "GET", path, &format!("Authorization: Bearer {TOKEN}\r\n"), "")
            .has(200)
            .body
            .clone()
    });
    server.post("/invalidate", r#"{"all":true}"#).is_refused(401, "token");
    let settings = serde_json::from_str::<Value>(&bodies[0]).unwrap()["settings"].clone();
    let address = server.admin.to_string().replace(&server.admin.port().to_string(), "0");
    assert_eq!(settings["admin"], address, "as given on the command line");
    assert_eq!(settings["admin_token_file"], token.0.display().to_string());
    let bodies = bodies.concat();
    assert!(!bodies.contains(TOKEN) && !bodies.contains("a-password-of-hers"));
    assert!(bodies.contains("leasehold_auth_errors_total 2\n"), "two requests were refused before /metrics");
}

/// A stolen token becomes invalid when the operator writes another one and sends SIGHUP. Guesses are delayed.
#[test]
fn sighup_reloads_the_token_and_wrong_tokens_are_slowed() {
    let token = TokenFile::new("hangup-token");
    let flags = format!("-p -1 --admin 127.0.0.1:0 --admin-token-file {}", token.0.display());
    let mut process = Process::start(&flags);
    let address = process.admin();
    let ask_with =
        |token: &str| ask(address, "GET", "/metrics", &format!("Authorization: Bearer {token}\r\n"), "");
    ask_with(TOKEN).has(200);
    fs::write(&token.0, "short").unwrap();
    process.signal(Signal::SIGHUP);
    assert!(!process.logged("keeping the previous token").contains("short"));
    ask_with(TOKEN).has(200);
    fs::write(&token.0, "another-token-of-theirs").unwrap();
    process.signal(Signal::SIGHUP);
    process.logged("reloaded token");
    ask_with(TOKEN).is_refused(401, "token");
    ask(address, "GET", "/metrics", "", "").is_refused(401, "token");
    let ask_now =
        |path: &str| ask(address, "GET", path, "Authorization: Bearer another-token-of-theirs\r\n", "");
    let metrics = ask_now("/metrics").body;
    assert!(metrics.contains("leasehold_auth_errors_total 2\n"), "{metrics}");
    let stats = ask_now("/stats.json");
    assert_eq!(stats.json()["stats"]["auth_delay_ms"], json!(100), "a missing token is not delayed");
    process.signal(Signal::SIGTERM);
    assert_eq!(process.exit_code(), 0);
}

/// Connections that sent half a request each kept the health check waiting for ten seconds, and
/// the supervisor killed a healthy server.
#[test]
fn the_oldest_connection_is_closed_when_all_places_are_taken() {
    let server = AdminServer::start("");
    let mut slow: Vec<TcpStream> = Vec::new();
    for _ in 0..PLACES {
        let mut stream = TcpStream::connect(server.admin).unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\n").unwrap();
        slow.push(stream);
    }
    server.get("/healthz").has(200);
    assert_eq!(slow[0].read(&mut [0]).unwrap_or(0), 0, "the oldest is closed");
    let mut newest = slow.pop().unwrap();
    newest.write_all(format!("Host: {}\r\nConnection: close\r\n\r\n", server.admin).as_bytes()).unwrap();
    let mut answer = String::new();
    newest.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "the others go on: {answer}");
}

/// More than 64 senders of events reset each other, and nobody knew which events had been applied.
#[test]
fn many_requests_at_once_are_all_answered() {
    let server = AdminServer::start("");
    let body = r#"{"keys":["product:7"]}"#;
    let (half, rest) = body.split_at(9);
    let head = format!(
        "POST /invalidate HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{half}",
        server.admin,
        body.len()
    );
    let senders: Vec<TcpStream> = (0..PLACES + 32)
        .map(|_| {
            let mut stream = TcpStream::connect(server.admin).unwrap();
            stream.write_all(head.as_bytes()).unwrap();
            stream
        })
        .collect();
    for mut stream in senders {
        stream.write_all(rest.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
}

#[test]
fn wrong_requests_are_answered_with_a_reason() {
    let server = AdminServer::start("");
    server.get("/nothing").is_refused(404, "docs/admin.md");
    server.post("/metrics", "").is_refused(405, "another method");
    server.get("/invalidate").is_refused(405, "another method");
    ask(server.admin, "GET", "/", &format!("X: {}\r\n", "x".repeat(20_000)), "").has(431);
}

#[test]
fn notable_keys_are_reported_unless_dumps_are_disabled() {
    for (flags, shows_keys) in [("", true), ("-X", false)] {
        let server = AdminServer::start(flags);
        let mut client = server.client();
        client.send(format!("set big 0 0 5000 noreply\r\n{}\r\n", "v".repeat(5_000)).as_bytes());
        for _ in 0..64 {
            client.send(b"get absent\r\nget big\r\nget big\r\n");
        }
        // When this is answered, all the others are.
        client.send(b"mn\r\n");
        while client.line() != "MN\r\n" {}
        let stats = server.get("/stats.json").json();
        assert_eq!(stats["keys"].is_object(), shows_keys);
        let gets = &stats["latency"]["verbs"]["get"]["buckets"];
        assert_eq!(gets.as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).sum::<u64>(), 3);
        if shows_keys {
            let keys = &stats["keys"];
            assert_eq!(keys["hot"]["seen"], 3);
            assert_eq!(keys["large"][0], json!({ "bytes": 5000, "key": "big" }));
            assert_eq!(keys["missing"]["keys"][0]["key"], "absent");
        }
    }
}

#[test]
fn the_page_loads_and_runs_only_its_own_code() {
    let server = AdminServer::start("");
    let (first, second) = (server.get("/"), server.get("/"));
    let nonce = |page: &http::Answer| {
        let policy =
            page.head.lines().find(|line| line.starts_with("content-security-policy: ")).unwrap().to_owned();
        assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        policy.split("'nonce-").nth(1).unwrap().split('\'').next().unwrap().to_owned()
    };
    assert_ne!(nonce(&first), nonce(&second));
    assert!(first.body.contains(&format!("<script nonce=\"{}\">", nonce(&first))));
    // One click on the wrong name is a cold cache, so the page asks first.
    for question in ["keys with a prefix", "keys with a tag", "This invalidates everything"] {
        assert!(first.body.contains(question), "{question}");
    }
    for foreign in ["http://", "https://", "src=", "@import", "url("] {
        let namespaces = first.body.replace("http://www.w3.org/2000/svg", "");
        assert!(!namespaces.contains(foreign), "the page refers to another host: {foreign}");
    }
}

#[test]
fn watchers_receive_invalidations_made_over_http() {
    let server = AdminServer::start("");
    server.client().check("set k 0 0 3\r\nabc", &["STORED"]);
    let mut watcher = server.client();
    watcher.check("watch voids deletions", &["OK"]);
    let body = r#"{"keys": ["k"], "prefixes": ["page:"], "soft": false}"#;
    server.post("/invalidate", body).has(200);
    server.post("/invalidate", r#"{"tags": ["t"], "soft": true}"#).has(200);
    server.post("/invalidate", r#"{"all": true}"#).has(200);
    for expected in [
        "type=deleted key=k cmd=invalidate clsid=1 size=3",
        "type=void_key key=k cmd=invalidate cfd=0 depth=hard seq=",
        "type=void_prefix prefix=page%3A cmd=invalidate cfd=0 depth=hard seq=",
        "type=void_tag tag=t cmd=invalidate cfd=0 depth=soft seq=",
        "type=void_all cmd=invalidate cfd=0 depth=hard delay=0",
    ] {
        let line = watcher.line();
        assert!(line.contains(expected), "{line} instead of {expected}");
    }
}
