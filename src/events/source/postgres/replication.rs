//! The stream of replication: what the server sends, and what it is answered.

use std::io;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use tokio::time::{Instant, timeout_at};

use super::failure::{Answer, Failure};
use super::link::{Frame, Link};
use crate::clock;

/// A connection that replicates.
pub(super) struct Replication {
    /// When the server was asked for a sign of life, if none has come since.
    asked: Option<Instant>,
    /// Everything before this place in the log is applied and saved.
    flushed: u64,
    link: Link,
    next_status: Instant,
    /// The most that the server has sent.
    pub(super) received: u64,
    /// The longest silence of a server that was asked for a sign of life.
    silence_max: Duration,
}

/// A message of the stream.
pub(super) enum Incoming {
    /// A message of the plug-in, at this place in the log.
    Data(u64, Bytes),
    /// The beginning of one that is too long, and its length.
    Cut(usize, Bytes),
    /// The server has sent everything before this place, and may be waiting for an answer.
    Reached { end: u64, is_asking: bool },
}

impl Replication {
    /// `link` replicates from `start` on.
    pub(super) fn new(link: Link, start: u64, silence_max: Duration) -> Replication {
        let next_status = Instant::now();
        Replication { asked: None, flushed: start, link, next_status, received: start, silence_max }
    }

    /// The next message, after waiting for it. Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> Result<Incoming, Failure> {
        loop {
            if let Some(incoming) = self.take()? {
                return Ok(incoming);
            }
            self.report_if_due();
            match timeout_at(self.next_status, self.link.turn()).await {
                Ok(received) => {
                    received?;
                    self.asked = None;
                }
                Err(_) => self.check_silence()?,
            }
        }
    }

    /// The next message, if it is there.
    pub(super) async fn next_at_once(&mut self) -> Result<Option<Incoming>, Failure> {
        loop {
            if let Some(incoming) = self.take()? {
                return Ok(Some(incoming));
            }
            self.report_if_due();
            if !self.link.turn_at_once().await? {
                return Ok(None);
            }
            self.asked = None;
        }
    }

    /// Everything before `position` is applied and saved.
    pub(super) async fn done(&mut self, position: u64) -> Result<(), Failure> {
        self.flushed = self.flushed.max(position);
        self.report(false);
        // The rest is sent while the next message is waited for.
        Ok(self.link.send_at_once().await?)
    }

    /// A status each second, while nothing is read.
    pub(super) async fn sign_of_life(&mut self) -> Result<(), Failure> {
        let now = Instant::now();
        if now >= self.next_status {
            self.next_status = now + STATUS_EVERY;
            self.report(false);
        }
        Ok(self.link.send_at_once().await?)
    }

    /// A message that has been received whole.
    fn take(&mut self) -> Result<Option<Incoming>, Failure> {
        while let Some(frame) = self.link.frame()? {
            match frame.tag {
                b'd' => {
                    if let Some(incoming) = self.data(frame)? {
                        return Ok(Some(incoming));
                    }
                }
                b'E' => return Err(Failure::Server(Answer::parse(&frame.body))),
                b'N' | b'S' => {}
                _ => return Err(Failure::Io(io::Error::other("the server ended the replication"))),
            }
        }
        Ok(None)
    }

    fn data(&mut self, frame: Frame) -> Result<Option<Incoming>, Failure> {
        let (is_cut, length, mut body) = (frame.is_cut(), frame.length, frame.body);
        let truncated = || Failure::Protocol("a truncated message of the replication".to_owned());
        match body.try_get_u8().map_err(|_| truncated())? {
            b'w' if body.len() >= DATA_HEAD_BYTES => {
                let (lsn, _end, _sent) = (body.get_u64(), body.get_u64(), body.get_u64());
                self.received = self.received.max(lsn);
                let length = length - 1 - DATA_HEAD_BYTES;
                Ok(Some(if is_cut { Incoming::Cut(length, body) } else { Incoming::Data(lsn, body) }))
            }
            b'k' if body.len() == KEEPALIVE_BYTES => {
                let (end, _sent, is_asking) = (body.get_u64(), body.get_u64(), body.get_u8() == 1);
                self.received = self.received.max(end);
                if is_asking {
                    self.report(false);
                }
                Ok(Some(Incoming::Reached { end, is_asking }))
            }
            b'k' | b'w' => Err(truncated()),
            _ => Ok(None),
        }
    }

    /// A status each second, and at once after a pause; a server that was silent meanwhile is asked to
    /// answer.
    fn report_if_due(&mut self) {
        let now = Instant::now();
        if now >= self.next_status {
            self.next_status = now + STATUS_EVERY;
            self.report(true);
            self.asked.get_or_insert(now);
        }
    }

    /// Queues a standby status update.
    fn report(&mut self, asks: bool) {
        let since_2000 = clock::wall().saturating_sub(Duration::from_secs(EPOCH_SECONDS)).as_micros();
        let output = &mut self.link.output;
        if output.len() > UNSENT_BYTES_MAX {
            // It is not being sent: a further one would not help.
            return;
        }
        output.put_u8(b'd');
        output.put_u32(4 + 1 + 4 * 8 + 1);
        output.put_u8(b'r');
        // Only what is saved counts as received, too: nobody waits for less. A position may be a byte above
        // the end of the log; a server that shuts down would wait for ever for a reader that is ahead of it.
        let flushed = if self.flushed == self.received + 1 { self.received } else { self.flushed };
        (0..3).for_each(|_| output.put_u64(flushed));
        output.put_u64(u64::try_from(since_2000).unwrap_or(u64::MAX));
        output.put_u8(asks.into());
    }

    /// The network may have lost the connection without a sign: neither side would notice for minutes.
    fn check_silence(&self) -> Result<(), Failure> {
        match self.asked.map(|asked| asked.elapsed()) {
            Some(silence) if silence >= self.silence_max => Err(Failure::Io(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("the server has been silent for {} s", silence.as_secs()),
            ))),
            _ => Ok(()),
        }
    }
}

/// Two places in the log, and a time.
const DATA_HEAD_BYTES: usize = 3 * 8;
/// A place in the log, a time, and a flag.
const KEEPALIVE_BYTES: usize = 2 * 8 + 1;
const STATUS_EVERY: Duration = Duration::from_secs(1);
/// Between PostgreSQL's epoch, 2000-01-01, and 1970-01-01.
const EPOCH_SECONDS: u64 = 946_684_800;
const UNSENT_BYTES_MAX: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    /// A stream from place 100 on, and the server's side of it.
    fn replication() -> (Replication, DuplexStream) {
        let (near, far) = duplex(4096);
        (Replication::new(Link::new(Box::new(near)), 100, Duration::from_secs(10)), far)
    }

    fn keepalive(end: u64, is_asking: bool) -> Vec<u8> {
        [&b"d\0\0\0\x16k"[..], &end.to_be_bytes(), &[0; 8], &[is_asking.into()]].concat()
    }

    /// The place that the next status acknowledges, and whether it asks for an answer.
    async fn status(far: &mut DuplexStream) -> (u64, bool) {
        let mut bytes = [0; 39];
        far.read_exact(&mut bytes).await.expect("it is sent");
        assert_eq!(bytes[..6], *b"d\0\0\0\x26r");
        let place = |at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
        assert_eq!([place(6), place(14)], [place(22); 2]);
        (place(6), bytes[38] == 1)
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_is_done_is_acknowledged() {
        let (mut stream, mut far) = replication();
        far.write_all(&keepalive(500, true)).await.expect("there is room");
        let next = stream.next().await.expect("it arrived");
        assert!(matches!(next, Incoming::Reached { end: 500, is_asking: true }));
        stream.done(200).await.expect("it is sent");
        // The first status of each connection, the answer, and the one for what is done.
        let sent = [status(&mut far).await, status(&mut far).await, status(&mut far).await];
        assert_eq!(sent, [(100, true), (100, false), (200, false)]);
        stream.done(150).await.expect("it is sent");
        assert_eq!(status(&mut far).await.0, 200, "it never goes back");
    }

    #[tokio::test(start_paused = true)]
    async fn a_status_goes_out_each_second_and_silence_is_an_end() {
        let (mut stream, mut far) = replication();
        let start = Instant::now();
        let failure = stream.next().await.err().expect("nothing arrived");
        assert!(matches!(failure, Failure::Io(error) if error.kind() == io::ErrorKind::TimedOut));
        assert_eq!(start.elapsed().as_secs(), 10);
        for _ in 0..10 {
            assert_eq!(status(&mut far).await, (100, true));
        }
    }

    /// A consumer that was busy for long does not mistake its own pause for the server's.
    #[tokio::test(start_paused = true)]
    async fn a_pause_of_the_consumer_is_no_silence() {
        let (mut stream, mut far) = replication();
        assert!(stream.next_at_once().await.expect("it is open").is_none());
        tokio::time::advance(Duration::from_secs(60)).await;
        far.write_all(&keepalive(100, false)).await.expect("there is room");
        assert!(stream.next().await.is_ok());
        let silent = tokio::time::timeout(Duration::from_secs(9), stream.next()).await;
        assert!(silent.is_err(), "it waits for 10 s again");
    }

    #[tokio::test]
    async fn the_reason_of_an_end_is_reported() {
        let (mut stream, mut far) = replication();
        far.write_all(b"E\0\0\0\x11C57P01\0Mbye\0\0").await.expect("there is room");
        let failure = stream.next().await.err().expect("it is an error");
        assert_eq!(failure.to_string(), "bye (SQLSTATE 57P01)");
        far.write_all(b"d\0\0\0\x07w\0\0").await.expect("there is room");
        assert!(matches!(stream.next().await, Err(Failure::Protocol(_))), "it is truncated");
    }
}
