//! A minimal client of the text protocol for the examples: one connection, one request at a time.
//!
//! There is no error handling: if the server does not answer, the example panics.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// One connection.
pub struct Client(BufReader<TcpStream>);

/// The answer to a `lease-get` or a `lease-wait`.
pub enum Leased {
    /// Another client is loading the value.
    Busy,
    /// Load the value, and store it with this token.
    Granted(u64),
    Hit(String),
}

impl Client {
    pub async fn connect(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).await.expect("the server listens");
        stream.set_nodelay(true).expect("it is a TCP socket");
        Client(BufReader::new(stream))
    }

    pub async fn get(&mut self, key: &str) -> Option<String> {
        self.send(&format!("get {key}\r\n")).await;
        let header = self.line().await;
        if header == "END" {
            return None;
        }
        let value = self.value(&header).await;
        self.expect("END").await;
        Some(value)
    }

    /// Returns false if the server reports a refusal.
    pub async fn set(&mut self, key: &str, value: &str) -> bool {
        self.send(&format!("set {key} 0 0 {}\r\n{value}\r\n", value.len())).await;
        self.line().await == "STORED"
    }

    /// Deletes the value; when this returns, no later read returns it.
    pub async fn delete(&mut self, key: &str) {
        self.send(&format!("delete {key}\r\n")).await;
        let reply = self.line().await;
        assert!(reply == "DELETED" || reply == "NOT_FOUND", "{reply}");
    }

    /// Reads the value or gets a lease; while another client holds the lease, the server waits for up to
    /// `patience`.
    pub async fn lease(&mut self, key: &str, patience: Duration) -> Leased {
        let request = match patience.as_millis() {
            0 => format!("lease-get {key}\r\n"),
            millis => format!("lease-wait {millis} {key}\r\n"),
        };
        self.send(&request).await;
        let header = self.line().await;
        let value = self.value(&header).await;
        self.expect("END").await;
        if header.starts_with("VALUE ") {
            return Leased::Hit(value);
        }
        match header.split(' ').nth(2).and_then(|token| token.parse().ok()).expect("LVALUE <key> <token> …")
        {
            BUSY => Leased::Busy,
            token => Leased::Granted(token),
        }
    }

    /// Fills the lease; returns false if the fill came too late.
    pub async fn lease_set(&mut self, key: &str, token: u64, value: &str) -> bool {
        self.send(&format!("lease-set {key} {token} 0 0 {}\r\n{value}\r\n", value.len())).await;
        self.line().await == "STORED"
    }

    pub async fn send(&mut self, request: &str) {
        self.0.write_all(request.as_bytes()).await.expect("the server reads");
    }

    /// One line of a reply, without its end.
    pub async fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).await.expect("the server answers");
        assert!(line.ends_with("\r\n"), "the server has closed the connection");
        line.truncate(line.len() - 2);
        line
    }

    /// The data after a header, whose last word is their length.
    async fn value(&mut self, header: &str) -> String {
        let length = header.rsplit(' ').next().and_then(|length| length.parse::<usize>().ok());
        let mut data = vec![0; length.unwrap_or_else(|| panic!("no header: {header}")) + 2];
        self.0.read_exact(&mut data).await.expect("the server sends the whole value");
        data.truncate(data.len() - 2);
        String::from_utf8(data).expect("these values are text")
    }

    async fn expect(&mut self, expected: &str) {
        assert_eq!(self.line().await, expected);
    }
}

/// The token that means that another client holds the lease.
const BUSY: u64 = 1;
