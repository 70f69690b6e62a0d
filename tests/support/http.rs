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

/// A server with an admin address.
pub struct AdminServer {
    pub admin: SocketAddr,
    pub server: Server,
    admin_thread: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

/// An HTTP response.
pub struct Answer {
    pub body: String,
    pub head: String,
    pub status: u16,
}

impl AdminServer {
    pub fn start(flags: &str) -> AdminServer {
        let line = format!("leasehold -p -1 -t 2 --admin 127.0.0.1:0 {flags}");
        let options = Options::try_parse_from(line.split_whitespace()).expect("legal flags");
        let options = options.checked().expect("they fit each other");
        let bound = Admin::bind(&options.admin, &mut Inherited::default());
        let bound = bound.expect("it can be bound").expect("it is configured");
        let (address, server) = (bound.address(), Server::start(options).expect("the server starts"));
        let (view, (stop, stopped)) = (server.view(), oneshot::channel());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let admin_thread = std::thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = admin::serve(Some(&bound), view) => {}
                    _ = stopped => {}
                }
            });
        });
        AdminServer { admin: address, server, admin_thread: Some((stop, admin_thread)) }
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

impl Drop for AdminServer {
    fn drop(&mut self) {
        if let Some((stop, admin_thread)) = self.admin_thread.take() {
            drop(stop);
            let _ = admin_thread.join();
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

    /// Checks that the answer is a JSON document whose error contains `why`.
    #[track_caller]
    pub fn is_refused(&self, status: u16, why: &str) {
        self.has(status);
        let error = self.json()["error"].as_str().expect("the document has an error").to_owned();
        assert!(error.contains(why), "{error}");
    }
}

/// Sends one request over a new connection, and returns its answer.
pub fn ask(address: SocketAddr, method: &str, path: &str, headers: &str, body: &str) -> Answer {
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    send(address, &format!("{head}Content-Length: {length}\r\n{headers}\r\n{body}"))
}

/// Sends bytes over a new connection, and reads an answer.
pub fn send(address: SocketAddr, request: &str) -> Answer {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout is legal");
    // The server may close the connection before it has read a request that it refuses.
    let _ = stream.write_all(request.as_bytes());
    let mut all = Vec::new();
    let _ = stream.read_to_end(&mut all);
    let text = String::from_utf8(all).expect("answers are text");
    let (head, body) = text.split_once("\r\n\r\n").expect("an answer has a head");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a head has a status");
    Answer { body: body.to_owned(), head: head.to_owned(), status }
}
