//! One connection to the server, with one request in flight.

use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::bench::connection::{Fault, is_tls};
use crate::bench::replies::{Reply, parse};
use crate::bench::server::Dialect;

/// A connection that waits for each reply.
pub struct Link {
    dialect: Dialect,
    inbox: Vec<u8>,
    /// Consumed bytes of the inbox.
    taken: usize,
    outbox: Vec<u8>,
    stream: TcpStream,
}

/// The result of a get.
#[derive(Debug, Eq, PartialEq)]
pub enum Lookup<'a> {
    /// Another reader holds the lease.
    Busy,
    /// The server answered with an error.
    Error,
    Hit(&'a [u8]),
    /// With a token, if a lease was requested.
    Miss(Option<u64>),
}

/// The result of a store.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StoreOutcome {
    Error,
    Refused,
    Stored,
}

/// A value to store.
pub struct Store<'a> {
    pub key: &'a str,
    pub tag: Option<&'a str>,
    /// The token of the lease that it fills.
    pub token: Option<u64>,
    /// Seconds until it expires; 0 for never.
    pub ttl: u32,
    pub value: &'a [u8],
}

/// The target and the form of an invalidation.
pub enum Scope<'a> {
    /// All values of the server.
    All,
    Key(&'a str),
    /// A key, without a reply; it is complete when the next command is answered.
    KeyNoreply(&'a str),
    Prefix(&'a str),
    Tag(&'a str),
}

impl Link {
    /// Connects to the first address that accepts, from a local address if that is given.
    pub async fn connect(
        addresses: &[SocketAddr],
        from: Option<IpAddr>,
        dialect: Dialect,
    ) -> Result<Link, Fault> {
        let mut refused = None;
        for address in addresses {
            match open(*address, from).await {
                Ok(stream) => {
                    let (inbox, outbox) = (Vec::with_capacity(READ_BYTES), Vec::new());
                    return Ok(Link { dialect, inbox, taken: 0, outbox, stream });
                }
                Err(error) => refused = Some(error),
            }
        }
        Err(refused.unwrap_or_else(|| std::io::ErrorKind::AddrNotAvailable.into()).into())
    }

    /// Reads a key; on a miss it requests a lease if `leases` is set.
    pub async fn get(&mut self, key: &str, leases: bool) -> Result<Lookup<'_>, Fault> {
        match self.dialect {
            Dialect::Redis => self.put_words(&[b"GET", key.as_bytes()]),
            Dialect::Text => self.put_line(&[if leases { "lease-get " } else { "get " }, key]),
        }
        self.send().await?;
        let line = self.line().await?;
        let (reply, length) = parse(self.dialect, &self.inbox[line])?;
        let is_same = |found: &[u8]| self.dialect == Dialect::Redis || found == key.as_bytes();
        let token = match reply {
            Reply::Block { key: found, .. } if is_same(found) => None,
            Reply::Lease { key: found, token } if is_same(found) => Some(token),
            Reply::End | Reply::Miss => return Ok(Lookup::Miss(None)),
            Reply::Error(_) => return Ok(Lookup::Error),
            reply => return Err(unexpected(reply, "get")),
        };
        let value = self.block(length.unwrap_or_default()).await?;
        if self.dialect == Dialect::Text && !self.reply().await?.is_end() {
            return Err(Fault::Unexpected("a value without END".to_owned()));
        }
        Ok(match token {
            None => Lookup::Hit(&self.inbox[value]),
            Some(HOT) => Lookup::Busy,
            Some(token) => Lookup::Miss(Some(token)),
        })
    }

    /// Stores a value.
    pub async fn store(&mut self, store: &Store<'_>) -> Result<StoreOutcome, Fault> {
        self.put_store(store);
        self.send().await?;
        match self.reply().await? {
            Reply::Stored | Reply::Done => Ok(StoreOutcome::Stored),
            Reply::NotStored | Reply::NotFound => Ok(StoreOutcome::Refused),
            Reply::Error(_) => Ok(StoreOutcome::Error),
            reply => Err(unexpected(reply, "store")),
        }
    }

    /// Invalidates values; returns false if the server answered with an error.
    pub async fn invalidate(&mut self, scope: Scope<'_>) -> Result<bool, Fault> {
        match (self.dialect, scope) {
            (Dialect::Redis, Scope::All) => self.put_words(&[b"FLUSHDB"]),
            (Dialect::Redis, Scope::Key(name) | Scope::KeyNoreply(name)) => {
                self.put_words(&[b"DEL", name.as_bytes()]);
            }
            (Dialect::Redis, Scope::Prefix(_) | Scope::Tag(_)) => {
                unreachable!("Workload::check refuses it for Redis")
            }
            (Dialect::Text, Scope::All) => self.put_line(&["flush_all"]),
            (Dialect::Text, Scope::Key(key)) => self.put_line(&["delete ", key]),
            (Dialect::Text, Scope::KeyNoreply(key)) => {
                self.put_line(&["delete ", key, " noreply\r\nmn"]);
            }
            (Dialect::Text, Scope::Prefix(prefix)) => self.put_line(&["invalidate prefix ", prefix]),
            (Dialect::Text, Scope::Tag(tag)) => self.put_line(&["invalidate tag ", tag]),
        }
        self.send().await?;
        match self.reply().await? {
            Reply::Deleted | Reply::NotFound | Reply::Done => Ok(true),
            Reply::Error(_) => Ok(false),
            reply => Err(unexpected(reply, "invalidation")),
        }
    }

    /// The sum of the statistics that count refused fills; `None` if the server has none of them.
    pub async fn refusals(&mut self) -> Result<Option<u64>, Fault> {
        if self.dialect == Dialect::Redis {
            return Ok(None);
        }
        self.put_line(&["stats"]);
        self.send().await?;
        let mut sum = None;
        loop {
            let line = self.line().await?;
            let Some(rest) = self.inbox[line].strip_prefix(b"STAT ") else { return Ok(sum) };
            let text = String::from_utf8_lossy(rest);
            if let Some((name, Ok(count))) =
                text.split_once(' ').map(|(name, value)| (name, value.parse::<u64>()))
                && name.contains("_refused")
                // Reasons are counted in addition to the sum.
                && !name.starts_with("implicit_refused_")
            {
                sum = Some(sum.unwrap_or(0) + count);
            }
        }
    }

    fn put_store(&mut self, store: &Store) {
        let Store { key, tag, token, ttl, value } = store;
        let (out, bytes) = (&mut self.outbox, value.len());
        let written = match (self.dialect, token, tag) {
            (Dialect::Redis, ..) => {
                let ttl = ttl.to_string();
                let words = [b"SET", key.as_bytes(), value, b"EX", ttl.as_bytes()];
                let words = if ttl == "0" { &words[..3] } else { &words };
                return self.put_words(words);
            }
            (Dialect::Text, Some(token), Some(tag)) => {
                write!(out, "lease-set {key} {token} 0 {ttl} {bytes} tag={tag}\r\n")
            }
            (Dialect::Text, Some(token), None) => write!(out, "lease-set {key} {token} 0 {ttl} {bytes}\r\n"),
            (Dialect::Text, None, Some(tag)) => write!(out, "ms {key} {bytes} T{ttl} G{tag}\r\n"),
            (Dialect::Text, None, None) => write!(out, "set {key} 0 {ttl} {bytes}\r\n"),
        };
        written.expect("memory takes all bytes");
        out.extend_from_slice(value);
        out.extend_from_slice(b"\r\n");
    }

    fn put_line(&mut self, parts: &[&str]) {
        parts.iter().for_each(|part| self.outbox.extend_from_slice(part.as_bytes()));
        self.outbox.extend_from_slice(b"\r\n");
    }

    /// Writes a request in RESP.
    fn put_words(&mut self, words: &[&[u8]]) {
        let written = write!(self.outbox, "*{}\r\n", words.len());
        written.expect("memory takes all bytes");
        for word in words {
            write!(self.outbox, "${}\r\n", word.len()).expect("memory takes all bytes");
            self.outbox.extend_from_slice(word);
            self.outbox.extend_from_slice(b"\r\n");
        }
    }

    /// Sends the written requests. All earlier replies must have been consumed.
    async fn send(&mut self) -> Result<(), Fault> {
        let rest = &self.inbox[self.taken..];
        if !rest.is_empty() {
            let shown = &rest[..rest.len().min(SHOWN_BYTES_MAX)];
            return Err(Fault::Unexpected(format!("{} after all replies", shown.escape_ascii())));
        }
        self.inbox.clear();
        self.taken = 0;
        self.stream.write_all(&self.outbox).await?;
        self.outbox.clear();
        Ok(())
    }

    async fn reply(&mut self) -> Result<Reply<'_>, Fault> {
        let line = self.line().await?;
        let (reply, _) = parse(self.dialect, &self.inbox[line])?;
        Ok(reply)
    }

    /// The position of the next line, without its end.
    async fn line(&mut self) -> Result<Range<usize>, Fault> {
        let start = self.taken;
        loop {
            let rest = &self.inbox[start..];
            if is_tls(rest) {
                return Err(Fault::Tls);
            }
            if let Some(end) = memchr::memchr(b'\n', rest) {
                let line = rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]);
                let line = start..start + line.len();
                self.taken = start + end + 1;
                return Ok(line);
            }
            if rest.len() > LINE_BYTES_MAX {
                return Err(Fault::Unexpected("a line that does not end".to_owned()));
            }
            self.more().await?;
        }
    }

    /// The position of a value of that length.
    async fn block(&mut self, length: usize) -> Result<Range<usize>, Fault> {
        let value = self.taken..self.taken + length;
        while self.inbox.len() < value.end + 2 {
            self.more().await?;
        }
        self.taken = value.end + 2;
        match &self.inbox[value.end..self.taken] {
            b"\r\n" => Ok(value),
            _ => Err(Fault::Unexpected("a value that is longer than its length".to_owned())),
        }
    }

    async fn more(&mut self) -> Result<(), Fault> {
        self.inbox.reserve(READ_BYTES);
        match self.stream.read_buf(&mut self.inbox).await {
            Ok(0) => Err(Fault::Closed),
            Ok(_) => Ok(()),
            Err(error) => Err(Fault::of_read(error, !self.inbox.is_empty())),
        }
    }
}

impl Reply<'_> {
    fn is_end(&self) -> bool {
        matches!(self, Reply::End)
    }
}

async fn open(address: SocketAddr, from: Option<IpAddr>) -> std::io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(from) = from {
        socket.bind((from, 0).into())?;
    }
    let stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn unexpected(reply: Reply, request: &str) -> Fault {
    Fault::Unexpected(format!("{reply:?} to a {request}"))
}

/// The token sent to a reader that must wait for another's fill.
const HOT: u64 = 1;
const LINE_BYTES_MAX: usize = 8 * 1024;
const READ_BYTES: usize = 4 * 1024;
const SHOWN_BYTES_MAX: usize = 100;
