//! Reading, writing and closing the stream of a connection, within the idle limit.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{self, Instant};

use super::{Closed, Connection};
use crate::clock::Now;
use crate::metrics::{Count, State};
use crate::protocol::{Awaited, Replies, Requests, Space, Status};
use crate::server::buffers;
use crate::server::receiving::patience;

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<'_, S> {
    /// Reads once; `Some` at the end of the stream.
    pub(super) async fn read(&mut self, requests: &mut Requests) -> io::Result<Option<Closed>> {
        let needed = requests.room_needed();
        if needed > 0 && !self.room.is_asked_for() {
            self.stats.is(State::Waiting);
            Box::pin(poll_fn(|context| self.room.poll_take(context, needed))).await;
            self.restart_idle_time();
        }
        let deadline = self.service.idle.map(|idle| match needed {
            0 => self.idle_since + idle,
            needed => self.idle_since + idle + patience(needed),
        });
        let Connection { stats, early, output, stream, .. } = self;
        stats.is(match requests.awaited() {
            Awaited::Block => State::ReadValue,
            Awaited::Line => State::Read,
            Awaited::Refused => State::Skip,
        });
        let read = poll_fn(|context| {
            buffers::lend(requests, output);
            let read = pin!(receive(stream, early, requests.space())).poll(context);
            if read.is_pending() {
                buffers::take_back(requests, output);
            }
            read
        });
        match by(deadline, read).await {
            None => Ok(Some(Closed::Idle)),
            Some(Ok(0)) => Ok(Some(Closed::Peer)),
            Some(Ok(bytes)) => {
                self.room.progress(bytes);
                self.conversation.counters().add_many(Count::BytesRead, bytes as u64);
                Ok(None)
            }
            Some(Err(error)) => Err(error),
        }
    }

    /// Ends the idle time, and gives back the room of a request that is answered: what is left unread
    /// belongs to another one.
    pub(super) fn answered(&mut self, requests: &mut Requests, now: Now) {
        self.stats.commanded(now.seconds());
        self.restart_idle_time();
        if self.room.is_asked_for() {
            requests.shrink();
            self.room.give_back();
        }
    }

    /// Counts the idle time from now on.
    fn restart_idle_time(&mut self) {
        if self.service.idle.is_some() {
            self.idle_since = Instant::now();
        }
    }

    /// Writes all queued replies; `Some` if the peer reads nothing.
    pub(super) async fn flush(&mut self) -> io::Result<Option<Closed>> {
        self.stats.is(State::Write);
        if !self.output.is_empty() {
            // A request with room is the only one since then: it has arrived, and is being answered.
            self.room.arrived();
        }
        while !self.output.is_empty() {
            let deadline = self.write_deadline();
            let Connection { output, stream, .. } = self;
            let write = poll_fn(|context| {
                let mut slices = [IoSlice::new(&[]); WRITE_SLICES];
                let count = output.slices(&mut slices);
                match &slices[..count] {
                    // The plain call costs the system less.
                    [slice] => Pin::new(&mut *stream).poll_write(context, slice),
                    slices => Pin::new(&mut *stream).poll_write_vectored(context, slices),
                }
            });
            match by(deadline, write).await {
                None => return Ok(Some(Closed::Idle)),
                Some(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Some(Ok(bytes)) => {
                    self.conversation.counters().add_many(Count::BytesWritten, bytes as u64);
                    self.output.sent(bytes);
                    self.restart_idle_time();
                }
                Some(Err(error)) => return Err(error),
            }
        }
        // TLS may still buffer bytes.
        match by(self.write_deadline(), self.stream.flush()).await {
            None => Ok(Some(Closed::Idle)),
            Some(flushed) => flushed.map(|()| None),
        }
    }

    /// A peer that reads slowly is not idle: every write has the whole time.
    fn write_deadline(&self) -> Option<Instant> {
        self.service.idle.map(|idle| Instant::now() + idle)
    }

    /// Closes the stream's sending side if that works at once, so that TLS clients can distinguish an
    /// end from a truncation.
    pub(super) async fn shut_down_stream(&mut self) {
        poll_fn(|context| {
            let _ = Pin::new(&mut self.stream).poll_shutdown(context);
            Poll::Ready(())
        })
        .await;
    }

    /// Sends all replies, then closes.
    pub(super) async fn close(&mut self, closed: Closed) -> io::Result<Closed> {
        self.flush().await?;
        if matches!(closed, Closed::Peer | Closed::Refused) {
            self.drain().await?;
        }
        Ok(closed)
    }

    /// Ends a connection whose large request took too long. Its room is free before the last reply is sent,
    /// which it may not read either.
    pub(super) async fn close_slow(&mut self) {
        self.room.give_back();
        self.conversation.counters().add(Count::ReceiveTimeouts);
        Replies::new(&mut self.output, &mut self.form).status(Status::TooSlow);
        // The connection is closed in any case.
        let _ = time::timeout(DRAIN_TIMEOUT, self.close(Closed::Refused)).await;
    }

    /// Reads and discards the peer's remaining bytes: closing a socket with unread bytes would destroy the
    /// last reply.
    pub(super) async fn drain(&mut self) -> io::Result<()> {
        // The leases of a client that disconnects are released at once, however slowly it disconnects.
        self.conversation.close(&self.service.cache, self.service.now());
        self.stream.shutdown().await?;
        let mut unread = (&mut self.stream).take(DRAIN_BYTES_MAX);
        let mut nowhere = tokio::io::sink();
        // The connection is closed in any case.
        let _ = time::timeout(DRAIN_TIMEOUT, tokio::io::copy(&mut unread, &mut nowhere)).await;
        Ok(())
    }
}

/// Returns the early bytes if there are any, else reads once from the peer.
async fn receive(
    stream: &mut (impl AsyncRead + Unpin),
    early: &mut BytesMut,
    mut space: Space<'_>,
) -> io::Result<usize> {
    if !early.is_empty() {
        let bytes = early.len().min(space.remaining_mut());
        space.put_slice(&early.split_to(bytes));
        return Ok(bytes);
    }
    match space {
        Space::Buffer(mut buffer) => stream.read_buf(&mut buffer).await,
        Space::Value(value) => {
            let bytes = stream.read(value.rest()).await?;
            value.filled(bytes);
            Ok(bytes)
        }
    }
}

/// `None` if the deadline passed first. Only a limited wait has a timer.
async fn by<T>(deadline: Option<Instant>, work: impl Future<Output = T>) -> Option<T> {
    match deadline {
        None => Some(work.await),
        Some(deadline) => Box::pin(time::timeout_at(deadline, work)).await.ok(),
    }
}

/// The limits on time and bytes of draining before a close.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(500);
const DRAIN_BYTES_MAX: u64 = 4 << 20;
/// Slices of one vectored write, enough to fill a socket buffer.
const WRITE_SLICES: usize = 16;
