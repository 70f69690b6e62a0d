//! A server with its admin address in this process, and a client that speaks HTTP to it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread::JoinHandle;

use clap::Parser;
use leasehold::admin::{self, Admin};
use leasehold::options::Options;
use leasehold::process::Inherited;
use leasehold::server::Server;
use serde_json::Value;
use tokio::sync::oneshot;

use super::served::{Client, PATIENCE};

/// A server that is looked at.
pub struct Watched {
    pub admin: SocketAddr,
    pub server: Server,
    desk: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

/// What came back.
pub struct Answer {
    pub body: String,
    pub head: String,
    pub status: u16,
}

impl Watched {
    pub fn start(flags: &str) -> Watched {
        let line = format!("leasehold -p -1 -t 2 --admin 127.0.0.1:0 {flags}");
        let options = Options::try_parse_from(line.split_whitespace()).expect("legal flags");
        let options = options.checked().expect("they fit each other");
        let bound = Admin::bind(&options.admin, &mut Inherited::default());
        let bound = bound.expect("it can be bound").expect("it is asked for");
        let (address, server) = (bound.address(), Server::start(options).expect("the server starts"));
        let (view, (stop, stopped)) = (server.view(), oneshot::channel());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let desk = std::thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = admin::serve(Some(&bound), view) => {}
                    _ = stopped => {}
                }
            });
        });
        Watched { admin: address, server, desk: Some((stop, desk)) }
    }

    pub fn client(&self) -> Client {
        Client::connect(self.server.address())
    }

    pub fn get(&self, path: &str) -> Answer {
        ask(self.admin, "GET", path, "", "")
    }

    pub fn post(&self, path: &str, body: &str) -> Answer {
        ask(self.admin, "POST", path, "Content-Type: application/json\r\n", body)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some((stop, desk)) = self.desk.take() {
            drop(stop);
            let _ = desk.join();
        }
    }
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    #[track_caller]
    pub fn has(&self, status: u16) -> &Answer {
        assert_eq!(self.status, status, "{}", self.body);
        self
    }

    /// It is a JSON document with a sentence that has these words.
    #[track_caller]
    pub fn is_refused(&self, status: u16, why: &str) {
        self.has(status);
        let error = self.json()["error"].as_str().expect("an error is told").to_owned();
        assert!(error.contains(why), "{error}");
    }
}

/// One request and its answer, over a connection of their own.
pub fn ask(address: SocketAddr, method: &str, path: &str, headers: &str, body: &str) -> Answer {
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    send(address, &format!("{head}Content-Length: {length}\r\n{headers}\r\n{body}"))
}

/// Sends bytes, and reads an answer.
pub fn send(address: SocketAddr, request: &str) -> Answer {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout is legal");
    // It may hang up before it has read a request that it does not want.
    let _ = stream.write_all(request.as_bytes());
    let mut all = Vec::new();
    let _ = stream.read_to_end(&mut all);
    let text = String::from_utf8(all).expect("answers are text");
    let (head, body) = text.split_once("\r\n\r\n").expect("an answer has a head");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a head has a status");
    Answer { body: body.to_owned(), head: head.to_owned(), status }
}
