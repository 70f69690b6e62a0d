//! One connection to the server, which may be closed at any time, but only if a server ends.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A connection.
pub struct Wire(BufReader<TcpStream>);

/// The reply to a meta command.
pub struct Reply {
    /// The return code, such as `VA`.
    pub code: String,
    /// The returned flags.
    pub flags: Vec<String>,
    pub value: Vec<u8>,
}

impl Wire {
    /// # Errors
    /// If nobody listens.
    pub fn open(address: SocketAddr) -> io::Result<Wire> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Wire(BufReader::new(stream)))
    }

    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.get_mut().write_all(bytes)
    }

    /// A line without its end.
    pub fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        match line.strip_suffix("\r\n") {
            Some(line) => Ok(line.to_owned()),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// A data block of so many bytes.
    pub fn block(&mut self, bytes: usize) -> io::Result<Vec<u8>> {
        let mut block = vec![0; bytes + 2];
        self.0.read_exact(&mut block)?;
        block.truncate(bytes);
        Ok(block)
    }

    /// The reply to a meta command.
    pub fn reply(&mut self) -> io::Result<Reply> {
        let line = self.line()?;
        let mut words = line.split(' ').map(str::to_owned);
        let code = words.next().unwrap_or_default();
        let bytes = if code == "VA" { words.next().and_then(|bytes| bytes.parse().ok()) } else { None };
        let value = bytes.map_or_else(|| Ok(Vec::new()), |bytes| self.block(bytes))?;
        Ok(Reply { code, flags: words.collect(), value })
    }

    /// Reads as many bytes as are there, at most `most` of them.
    pub fn sip(&mut self, most: usize) -> io::Result<usize> {
        self.0.get_ref().set_nonblocking(true)?;
        let found = self.0.fill_buf().map(|bytes| bytes.len().min(most));
        self.0.get_ref().set_nonblocking(false)?;
        let bytes = match found {
            Err(nothing) if nothing.kind() == io::ErrorKind::WouldBlock => 0,
            found => found?,
        };
        self.0.consume(bytes);
        Ok(bytes)
    }

    /// One number of the statistics, if it is there.
    pub fn number(&mut self, command: &str, name: &str) -> io::Result<Option<u64>> {
        self.send(format!("{command}\r\n").as_bytes())?;
        let mut found = None;
        loop {
            let line = self.line()?;
            match line.split(' ').collect::<Vec<_>>()[..] {
                ["END"] => return Ok(found),
                ["STAT", stat, number] if stat == name => found = number.parse().ok(),
                _ => {}
            }
        }
    }
}

/// A reply that has not come by then is lost.
const PATIENCE: Duration = Duration::from_secs(90);
