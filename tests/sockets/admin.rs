//! The server over HTTP: what it tells, what it does, and whom it refuses.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::http;
use crate::support::http::{Watched, ask, send};
use crate::support::served;
use crate::support::served::{Process, scratch};

const TOKEN: &str = "a-token-that-nobody-guesses";

/// A file with a token, which is gone at the end of the test.
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
fn a_process_tells_where_it_is_looked_at() {
    let mut process = Process::start("-p -1 --admin 127.0.0.1:0");
    let address = process.admin();
    let health = ask(address, "GET", "/healthz", "", "");
    assert_eq!((health.status, &*health.body), (200, "ok\n"));
    process.signal(Signal::SIGTERM);
    assert_eq!(process.exit_code(), 0);
}

#[test]
fn what_would_be_open_to_all_is_refused_at_the_start() {
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
fn health_is_not_readiness() {
    let watched = Watched::start("-A");
    watched.get("/readyz").has(200);
    watched.client().check("shutdown", &[]);
    served::eventually("it is ready for ever", || watched.get("/readyz").status == 503);
    watched.get("/healthz").has(200);
}

#[test]
fn a_key_is_known_without_being_read() {
    let watched = Watched::start("");
    let mut client = watched.client();
    client.check("ms user:7 3 T100 Gstaff\r\nAda", &["HD"]);
    let known = watched.get("/keys/user%3A7").has(200).json();
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
    assert_eq!(known["last_void"]["of"], "key", "a set is one");

    client.send(b"lease-get absent\r\n");
    assert!(client.line().starts_with("LVALUE absent "));
    let known = watched.get("/keys/absent").json();
    assert!(known["lease"]["holder"].as_str().unwrap().starts_with("tcp:127.0.0.1:"), "{known}");
    assert_eq!((&known["held"], &known["lease"]["waiting"]), (&json!("nothing"), &json!(0)));
    assert_eq!((client.line(), client.line()), ("\r\n".to_owned(), "END\r\n".to_owned()));

    assert_eq!((client.stat("get_hits"), client.stat("get_misses")), (0, 1), "looking is no read");
    let odd = watched.get("/keys/a/b%20%FF").json();
    assert_eq!(odd["key"], json!({"base64": "YS9iIP8="}), "no other key has this name");
    for wrong in ["%", "k%2", "%zz", "%%41", "%4\u{b5}"] {
        watched.get(&format!("/keys/{wrong}")).is_refused(400, "%25");
    }
    watched.get(&format!("/keys/{}", "k".repeat(251))).is_refused(400, "1 to 250 bytes");
}

#[test]
fn names_of_all_kinds_are_voided_at_once() {
    let watched = Watched::start("");
    let mut client = watched.client();
    for key in ["user:7", "page:1", "other"] {
        client.check(&format!("ms {key} 1 Gstaff\r\nx"), &["HD"]);
    }
    let asked = json!({ "keys": ["user:7", "absent"], "prefixes": ["page:"] });
    let done = watched.post("/invalidate", &asked.to_string()).has(200).json();
    let keys = json!([{ "held": "live", "key": "user:7" }, { "held": "nothing", "key": "absent" }]);
    assert_eq!(done, json!({ "all": false, "keys": keys, "prefixes": ["page:"], "soft": false, "tags": [] }));
    client.check("get user:7 page:1 other", &["VALUE other 0 1", "x", "END"]);
    client.send(b"set \xff 0 0 1\r\nx\r\n");
    assert_eq!(client.line(), "STORED\r\n");
    let done = watched.post("/invalidate", r#"{"keys":[{"base64":"/w=="}]}"#).has(200).json();
    assert_eq!(done["keys"], json!([{ "held": "live", "key": {"base64": "/w=="} }]));
    watched.post("/invalidate", r#"{"tags":["staff"],"soft":true}"#).has(200);
    client.check("mg other v", &["VA 1 X W", "x"]);
    watched.post("/invalidate", r#"{"all":true}"#).has(200);
    let stats = watched.get("/stats.json").json()["stats"].clone();
    let voids =
        ["voids_key", "voids_tag", "voids_prefix", "voids_all"].map(|name| stats[name].as_u64().unwrap());
    assert_eq!(voids, [3, 1, 1, 1]);
}

#[test]
fn nothing_is_voided_if_anything_is_wrong() {
    let watched = Watched::start("-F");
    let mut client = watched.client();
    client.check("set k 0 0 1\r\nx", &["STORED"]);
    let refused = |body: &str, why: &str| watched.post("/invalidate", body).is_refused(400, why);
    refused(r#"{"keys":["k"],"prefixes":["no-delimiter"]}"#, "no-delimiter");
    refused(r#"{"keys":["k",""]}"#, "1 to 250 bytes");
    refused(r#"{"keys":["k"],"tag":["x"]}"#, "unknown field `tag`");
    refused(r#"{"keys":"k"}"#, "a sequence");
    refused(r#"{"keys":["k"]"#, "EOF");
    refused("{}", "name keys, tags or prefixes");
    // By the order of the fields this would be all.
    for body in ["[true]", "[]", "7", "null", "\"all\"", ""] {
        refused(body, "a JSON object");
    }
    refused(r#"{"keys":["k",7]}"#, "a name is text");
    let many: Vec<String> = (0..1_001).map(|n| n.to_string()).collect();
    refused(&json!({ "keys": many }).to_string(), "at most 1000 names");
    watched.post("/invalidate", r#"{"keys":["k"],"all":true}"#).is_refused(403, "-F");
    let long = format!(r#"{{"keys":["{}"]}}"#, "k".repeat(1 << 20));
    watched.post("/invalidate", &long).is_refused(413, "1 MiB");
    let form = ask(watched.admin, "POST", "/invalidate", "Content-Type: text/plain\r\n", r#"{"keys":["k"]}"#);
    form.is_refused(415, "application/json");
    client.check("get k", &["VALUE k 0 1", "x", "END"]);
    let most = json!({ "keys": many[1..] }).to_string();
    watched.post("/invalidate", &most).has(200);
}

#[test]
fn pages_and_names_of_others_are_refused() {
    let watched = Watched::start("");
    let with = |headers: &str| {
        let head = format!(
            "POST /invalidate HTTP/1.1\r\nConnection: close\r\nContent-Type: application/json\r\n{headers}"
        );
        send(watched.admin, &format!("{head}Content-Length: 12\r\n\r\n{{\"all\":true}}"))
    };
    let own = format!("Host: {}\r\n", watched.admin);
    with("Host: rebound.example\r\n").is_refused(403, "localhost");
    with(&format!("{own}Origin: http://other.example\r\n")).is_refused(403, "another origin");
    with("").has(400);
    with(&format!("{own}Origin: http://{}\r\n", watched.admin)).has(200);
}

#[test]
fn the_token_opens_what_is_not_open_to_all_and_is_told_nowhere() {
    let (token, users) = (TokenFile::new("token"), scratch("admin-users"));
    fs::write(&users, "ada:a-password-of-hers\n").unwrap();
    let flags = format!("--admin-token-file {} -Y {}", token.0.display(), users.display());
    let watched = Watched::start(&flags);
    fs::remove_file(&users).unwrap();
    for path in ["/", "/healthz", "/readyz"] {
        watched.get(path).has(200);
    }
    let told = ["/config", "/metrics", "/stats.json", "/keys/k"].map(|path| {
        let refused = watched.get(path);
        refused.is_refused(401, "token");
        assert!(refused.head.to_lowercase().contains("www-authenticate: bearer"), "{}", refused.head);
        ask(watched.admin, "GET", path, &format!("Authorization: Bearer {TOKEN}\r\n"), "")
            .has(200)
            .body
            .clone()
    });
    watched.post("/invalidate", r#"{"all":true}"#).is_refused(401, "token");
    let settings = serde_json::from_str::<Value>(&told[0]).unwrap()["settings"].clone();
    let address = watched.admin.to_string().replace(&watched.admin.port().to_string(), "0");
    assert_eq!(settings["admin"], address, "as it was asked for");
    assert_eq!(settings["admin_token_file"], token.0.display().to_string());
    let told = told.concat();
    assert!(!told.contains(TOKEN) && !told.contains("a-password-of-hers"));
    assert!(told.contains("leasehold_auth_errors_total 2\n"), "metrics were asked for after two refusals");
}

/// A token that was stolen is of no use once the operator has written another one and sent a SIGHUP; whoever guesses waits.
#[test]
fn a_hangup_reads_the_token_again_and_wrong_ones_are_slowed() {
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
    let told = ask_now("/metrics").body;
    assert!(told.contains("leasehold_auth_errors_total 2\n"), "{told}");
    let stats = ask_now("/stats.json");
    assert_eq!(stats.json()["stats"]["auth_delay_ms"], json!(100), "only a guess is slowed");
    process.signal(Signal::SIGTERM);
    assert_eq!(process.exit_code(), 0);
}

/// Sixty-four connections that sent half a request each kept the health check waiting for ten seconds, and the supervisor
/// killed a healthy server.
#[test]
fn who_keeps_all_places_loses_the_oldest() {
    let watched = Watched::start("");
    let mut slow: Vec<TcpStream> = Vec::new();
    for _ in 0..64 {
        let mut stream = TcpStream::connect(watched.admin).unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\n").unwrap();
        slow.push(stream);
    }
    watched.get("/healthz").has(200);
    assert_eq!(slow[0].read(&mut [0]).unwrap_or(0), 0, "the oldest is closed");
    let mut newest = slow.pop().unwrap();
    newest.write_all(format!("Host: {}\r\nConnection: close\r\n\r\n", watched.admin).as_bytes()).unwrap();
    let mut answer = String::new();
    newest.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "the others go on: {answer}");
}

#[test]
fn a_wrong_question_gets_a_sentence() {
    let watched = Watched::start("");
    watched.get("/nothing").is_refused(404, "docs/admin.md");
    watched.post("/metrics", "").is_refused(405, "another method");
    watched.get("/invalidate").is_refused(405, "another method");
    ask(watched.admin, "GET", "/", &format!("X: {}\r\n", "x".repeat(20_000)), "").has(431);
}

#[test]
fn keys_that_stand_out_are_told_unless_nobody_may_hear_keys() {
    for (flags, is_told) in [("", true), ("-X", false)] {
        let watched = Watched::start(flags);
        let mut client = watched.client();
        client.send(format!("set big 0 0 5000 noreply\r\n{}\r\n", "v".repeat(5_000)).as_bytes());
        for _ in 0..64 {
            client.send(b"get gone\r\nget big\r\nget big\r\n");
        }
        // All of them are answered once this is.
        client.send(b"mn\r\n");
        while client.line() != "MN\r\n" {}
        let told = watched.get("/stats.json").json();
        assert_eq!(told["keys"].is_object(), is_told);
        let gets = &told["latency"]["verbs"]["get"]["buckets"];
        assert_eq!(gets.as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).sum::<u64>(), 3);
        if is_told {
            let keys = &told["keys"];
            assert_eq!(keys["hot"]["seen"], 3);
            assert_eq!(keys["large"][0], json!({ "bytes": 5000, "key": "big" }));
            assert_eq!(keys["missing"]["keys"][0]["key"], "gone");
        }
    }
}

#[test]
fn the_page_runs_nothing_but_its_own() {
    let watched = Watched::start("");
    let (first, second) = (watched.get("/"), watched.get("/"));
    let nonce = |page: &http::Answer| {
        let policy =
            page.head.lines().find(|line| line.starts_with("content-security-policy: ")).unwrap().to_owned();
        assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        policy.split("'nonce-").nth(1).unwrap().split('\'').next().unwrap().to_owned()
    };
    assert_ne!(nonce(&first), nonce(&second));
    assert!(first.body.contains(&format!("<script nonce=\"{}\">", nonce(&first))));
    for foreign in ["http://", "https://", "src=", "@import", "url("] {
        let namespaces = first.body.replace("http://www.w3.org/2000/svg", "");
        assert!(!namespaces.contains(foreign), "the page asks somebody else: {foreign}");
    }
}

#[test]
fn voids_are_told_to_who_watches() {
    let watched = Watched::start("");
    watched.client().check("set k 0 0 3\r\nabc", &["STORED"]);
    let mut watcher = watched.client();
    watcher.check("watch voids deletions", &["OK"]);
    let body = r#"{"keys": ["k"], "prefixes": ["page:"], "soft": false}"#;
    watched.post("/invalidate", body).has(200);
    watched.post("/invalidate", r#"{"tags": ["t"], "soft": true}"#).has(200);
    watched.post("/invalidate", r#"{"all": true}"#).has(200);
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
