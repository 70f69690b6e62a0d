//! One connection to a server, with memcached's protocol or Redis': requests are collected, sent together,
//! and their replies read in order.
//!
//! It does not handle misses, and reads no clock: a missing reply fails by the socket's timeout.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::time::Duration;

use crate::trace::Expiry;

#[derive(Clone, Copy, Eq, PartialEq)]
pub enum Dialect {
    Memcached,
    Redis,
}

pub struct Connection {
    dialect: Dialect,
    inbox: Vec<u8>,
    /// The part of the inbox that is not parsed yet.
    unread: Range<usize>,
    outbox: Vec<u8>,
    stream: TcpStream,
}

impl Connection {
    pub fn open(address: SocketAddr, dialect: Dialect) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Connection { dialect, inbox: vec![0; INBOX_BYTES], unread: 0..0, outbox: Vec::new(), stream })
    }

    pub fn ask_delete(&mut self, key: &[u8]) {
        match self.dialect {
            Dialect::Memcached => self.put(&[b"delete ", key, b"\r\n"]),
            Dialect::Redis => self.put_words(&[b"DEL", key]),
        }
    }

    pub fn ask_get(&mut self, key: &[u8]) {
        match self.dialect {
            Dialect::Memcached => self.put(&[b"get ", key, b"\r\n"]),
            Dialect::Redis => self.put_words(&[b"GET", key]),
        }
    }

    /// `expiry` is in the server's own time.
    pub fn ask_set(&mut self, key: &[u8], value: &[u8], expiry: Expiry) {
        let number = match expiry {
            Expiry::At(number) | Expiry::Within(number) => number,
            Expiry::Never => 0,
        };
        let number = number.to_string();
        match (self.dialect, expiry) {
            (Dialect::Memcached, _) => {
                let length = value.len().to_string();
                let head: [&[u8]; 7] =
                    [b"set ", key, b" 0 ", number.as_bytes(), b" ", length.as_bytes(), b"\r\n"];
                self.put(&head);
                self.put(&[value, b"\r\n"]);
            }
            (Dialect::Redis, Expiry::At(_)) => {
                self.put_words(&[b"SET", key, value, b"EXAT", number.as_bytes()]);
            }
            (Dialect::Redis, Expiry::Never) => self.put_words(&[b"SET", key, value]),
            (Dialect::Redis, Expiry::Within(_)) => {
                self.put_words(&[b"SET", key, value, b"EX", number.as_bytes()]);
            }
        }
    }

    /// Sends the collected requests.
    pub fn send(&mut self) -> io::Result<()> {
        self.stream.write_all(&self.outbox)?;
        self.outbox.clear();
        Ok(())
    }

    /// The reply to a delete.
    pub fn deleted(&mut self) -> io::Result<()> {
        let line = self.line()?;
        match &self.inbox[line.clone()] {
            b"DELETED" | b"NOT_FOUND" | b":0" | b":1" => Ok(()),
            _ => Err(self.unexpected(line)),
        }
    }

    /// The reply to a get; `None` for a miss.
    pub fn value(&mut self) -> io::Result<Option<&[u8]>> {
        let line = self.line()?;
        let head = &self.inbox[line.clone()];
        let (length, tail) = match self.dialect {
            _ if head == b"END" || head == b"$-1" => return Ok(None),
            Dialect::Memcached => (head.rsplit(|byte| *byte == b' ').next(), &b"\r\nEND\r\n"[..]),
            Dialect::Redis => (head.strip_prefix(b"$"), &b"\r\n"[..]),
        };
        let Some(length) = length.and_then(|length| str::from_utf8(length).ok()?.parse::<usize>().ok())
        else {
            return Err(self.unexpected(line));
        };
        let body = self.bytes(length + tail.len())?;
        let Some(value) = self.inbox[body.clone()].strip_suffix(tail) else {
            return Err(self.unexpected(body));
        };
        Ok(Some(value))
    }

    /// The reply to a set. A server without room refuses, which counts as an eviction.
    pub fn stored(&mut self) -> io::Result<()> {
        let line = self.line()?;
        let reply = &self.inbox[line.clone()];
        let is_refused = reply.starts_with(b"SERVER_ERROR out of memory") || reply.starts_with(b"-OOM");
        if is_refused || reply == b"STORED" || reply == b"+OK" { Ok(()) } else { Err(self.unexpected(line)) }
    }

    /// The sum of items and bytes in the server's statistics: 0 if it is empty. Redis reports only items.
    pub fn holds(&mut self) -> io::Result<u64> {
        match self.dialect {
            Dialect::Memcached => self.put(&[b"stats\r\n"]),
            Dialect::Redis => self.put_words(&[b"DBSIZE"]),
        }
        self.send()?;
        let mut sum = 0;
        loop {
            let line = self.line()?;
            let line = String::from_utf8_lossy(&self.inbox[line]);
            let number = |text: &str| text.parse().unwrap_or(0);
            if let Some(items) = line.strip_prefix(":") {
                return Ok(number(items));
            }
            match line.rsplit_once(' ') {
                Some(("STAT bytes" | "STAT curr_items", count)) => sum += number(count),
                Some(_) => {}
                None => return Ok(sum),
            }
        }
    }

    fn put(&mut self, pieces: &[&[u8]]) {
        pieces.iter().for_each(|piece| self.outbox.extend_from_slice(piece));
    }

    fn put_words(&mut self, words: &[&[u8]]) {
        self.put(&[b"*", words.len().to_string().as_bytes(), b"\r\n"]);
        for word in words {
            self.put(&[b"$", word.len().to_string().as_bytes(), b"\r\n", word, b"\r\n"]);
        }
    }

    /// The next line, without its end.
    fn line(&mut self) -> io::Result<Range<usize>> {
        let mut searched = 0;
        loop {
            let unread = &self.inbox[self.unread.clone()];
            if let Some(end) = memchr::memchr(b'\n', &unread[searched..]) {
                let line = self.bytes(searched + end + 1)?;
                return Ok(line.start..line.end.saturating_sub(2).max(line.start));
            }
            searched = unread.len();
            self.receive()?;
        }
    }

    fn bytes(&mut self, count: usize) -> io::Result<Range<usize>> {
        while self.unread.len() < count {
            self.receive()?;
        }
        let bytes = self.unread.start..self.unread.start + count;
        self.unread.start = bytes.end;
        Ok(bytes)
    }

    fn receive(&mut self) -> io::Result<()> {
        if self.unread.end == self.inbox.len() {
            self.inbox.copy_within(self.unread.clone(), 0);
            self.unread = 0..self.unread.len();
            self.inbox.resize(INBOX_BYTES.max(2 * self.unread.len()), 0);
        }
        match self.stream.read(&mut self.inbox[self.unread.end..])? {
            0 => Err(io::Error::other("the server closed the connection")),
            bytes => {
                self.unread.end += bytes;
                Ok(())
            }
        }
    }

    fn unexpected(&self, reply: Range<usize>) -> io::Error {
        io::Error::other(format!("unexpected reply: {}", String::from_utf8_lossy(&self.inbox[reply])))
    }
}

const INBOX_BYTES: usize = 1 << 18;
/// The timeout of a reply.
const PATIENCE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Shutdown, TcpListener};
    use std::thread;

    use super::*;

    /// A connection whose peer sends `reply` in pieces, regardless of the request, and hangs up.
    fn replying(dialect: Dialect, reply: Vec<u8>) -> Connection {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            reply.chunks(1_000).for_each(|piece| stream.write_all(piece).unwrap());
            stream.shutdown(Shutdown::Write).unwrap();
            // Hung up on unread words, the system would take back the reply.
            let _ = io::copy(&mut stream, &mut io::sink());
        });
        Connection::open(address, dialect).unwrap()
    }

    #[test]
    fn values_longer_than_the_inbox_arrive_whole() {
        let long = vec![b'x'; 3 * INBOX_BYTES];
        let memcached = [b"VALUE k 0 786432\r\n", &long[..], b"\r\nEND\r\nEND\r\nSTORED\r\n"].concat();
        let redis = [b"$786432\r\n", &long[..], b"\r\n$-1\r\n+OK\r\n"].concat();
        for (dialect, reply) in [(Dialect::Memcached, memcached), (Dialect::Redis, redis)] {
            let mut connection = replying(dialect, reply);
            assert!(connection.value().unwrap() == Some(&long));
            assert_eq!(connection.value().unwrap(), None);
            connection.stored().unwrap();
            assert!(connection.stored().is_err());
        }
    }

    #[test]
    fn a_reply_to_another_request_is_an_error() {
        for reply in ["ERROR\r\n", "VALUE k 0 3\r\nfour\r\nEND\r\n", "$3\r\nfour\r\n"] {
            let dialect = if reply.starts_with('$') { Dialect::Redis } else { Dialect::Memcached };
            assert!(replying(dialect, reply.into()).value().is_err(), "{reply}");
        }
        let stats = "STAT pid 7\r\nSTAT curr_items 2\r\nSTAT bytes 240\r\nEND\r\n";
        assert_eq!(replying(Dialect::Memcached, stats.into()).holds().unwrap(), 242);
        assert_eq!(replying(Dialect::Redis, ":5\r\n".into()).holds().unwrap(), 5);
    }
}
