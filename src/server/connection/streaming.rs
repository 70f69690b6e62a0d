//! Reading, writing and closing the stream of a connection, within the idle limit.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{self, Instant};

use super::{Closed, Connection, End, Lent, or_end, unless_ended};
use crate::metrics::{Count, State};
use crate::protocol::{Awaited, Space, Status};
use crate::server::receiving::patience;
use crate::server::workspace::{self, Answering, Workspace};

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Whether the next read has a deadline, or must wait for room.
    pub(super) fn reads_in_time(&self, lent: &Lent) -> bool {
        self.permit.service().idle.is_some() || room_needed(lent) > 0
    }

    /// Reads once, within the idle time, and into as much room as the request needs.
    pub(super) async fn read_in_time(&mut self, lent: &mut Lent) -> Result<usize, End> {
        let needed = room_needed(lent);
        if let Some(workspace) = lent
            && needed > 0
            && workspace.answering.room.is_none()
        {
            let service = self.permit.service();
            self.permit.stats().is(State::Waiting);
            let room = workspace.answering.room.insert(service.receiving.room());
            unless_ended(service, None, pin!(poll_fn(|context| room.poll_take(context, needed)))).await?;
            self.restart_idle_time();
        }
        let service = self.permit.service();
        let idle = service.idle.map(|idle| if needed > 0 { idle + patience(needed) } else { idle });
        let deadline = idle.map(|idle| service.at_nanos(self.idle_since) + idle);
        by(deadline, poll_fn(|context| self.poll_read(context, lent))).await
    }

    /// Reads into a lent workspace. A connection that has nothing to read gives the workspace
    /// back if it is empty.
    pub(super) fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        lent: &mut Lent,
    ) -> Poll<Result<usize, End>> {
        let workspace = lent.get_or_insert_with(|| self.lend());
        self.permit.stats().is(match workspace.requests.awaited() {
            Awaited::Block => State::ReadValue,
            Awaited::Line => State::Read,
            Awaited::Refused => State::Skip,
        });
        let Workspace { answering, requests } = &mut **workspace;
        let read = pin!(receive(&mut self.stream, &mut answering.early, requests.space())).poll(context);
        match read {
            Poll::Ready(Ok(0)) => return Poll::Ready(Err(Closed::Peer.into())),
            Poll::Ready(read) => return Poll::Ready(read.map_err(End::Lost)),
            Poll::Pending => {}
        }
        *lent = lent.take().and_then(|workspace| match workspace::take_back(workspace) {
            Ok(resting) => {
                self.resting = resting;
                None
            }
            Err(workspace) => Some(workspace),
        });
        let room = lent.as_ref().and_then(|workspace| workspace.answering.room.as_ref());
        or_end(self.permit.service(), room, Poll::Pending)
    }

    /// Counts bytes that were read.
    pub(super) fn received(&self, workspace: &Workspace, bytes: usize) {
        if let Some(room) = &workspace.answering.room {
            room.progress(bytes);
        }
        self.conversation.counters().add_many(Count::BytesRead, bytes as u64);
    }

    /// Ends a turn of requests. Gives back the room of a request that is answered: what is left unread
    /// belongs to another one.
    pub(super) fn answered(&mut self, workspace: &mut Workspace) {
        let Answering { room, turn, .. } = &mut workspace.answering;
        // A client that has sent several requests at once will do so again. For others, previewing is not
        // worth it.
        self.pipelines = turn.answered > 1;
        if turn.is_answered {
            self.permit.stats().commanded(turn.now.seconds());
            self.restart_idle_time();
            if room.take().is_some() {
                workspace.requests.shrink();
            }
        }
    }

    /// Counts the idle time from now on.
    fn restart_idle_time(&mut self) {
        if self.permit.service().idle.is_some() {
            self.idle_since = self.permit.service().nanos();
        }
    }

    /// Writes all queued replies.
    pub(super) async fn flush(&mut self, answering: &mut Answering) -> Result<(), End> {
        match poll_fn(|context| Poll::Ready(self.try_flush(context, answering))).await? {
            true => Ok(()),
            false => self.flush_slowly(answering).await,
        }
    }

    /// Writes all queued replies, unless the peer must read some of them first.
    pub(super) fn try_flush(
        &mut self,
        context: &mut Context<'_>,
        answering: &mut Answering,
    ) -> Result<bool, End> {
        self.permit.stats().is(State::Write);
        if !answering.output.is_empty() {
            // A request with room is the only one since then: it is being answered.
            answering.has_arrived();
        }
        match self.poll_flush(context, answering) {
            Poll::Ready(flushed) => flushed.map(|()| true),
            Poll::Pending => Ok(false),
        }
    }

    /// Writes what the peer has not read yet.
    pub(super) async fn flush_slowly(&mut self, answering: &mut Answering) -> Result<(), End> {
        while !answering.output.is_empty() {
            by(self.write_deadline(), poll_fn(|context| self.poll_write(context, answering))).await?;
        }
        by(self.write_deadline(), poll_fn(|context| self.poll_flush(context, answering))).await
    }

    fn poll_flush(&mut self, context: &mut Context<'_>, answering: &mut Answering) -> Poll<Result<(), End>> {
        while !answering.output.is_empty() {
            ready!(self.poll_write(context, answering))?;
        }
        // TLS may still buffer bytes.
        let flushed = Pin::new(&mut self.stream).poll_flush(context).map_err(End::Lost);
        or_end(self.permit.service(), answering.room.as_ref(), flushed)
    }

    fn poll_write(&mut self, context: &mut Context<'_>, answering: &mut Answering) -> Poll<Result<(), End>> {
        let Answering { output, room, .. } = answering;
        let mut slices = [IoSlice::new(&[]); WRITE_SLICES];
        let count = output.slices(&mut slices);
        let stream = Pin::new(&mut self.stream);
        let written = match &slices[..count] {
            // The plain call costs the system less.
            [slice] => stream.poll_write(context, slice),
            slices => stream.poll_write_vectored(context, slices),
        };
        match ready!(or_end(self.permit.service(), room.as_ref(), written.map_err(End::Lost)))? {
            0 => Poll::Ready(Err(io::Error::from(io::ErrorKind::WriteZero).into())),
            bytes => {
                self.conversation.counters().add_many(Count::BytesWritten, bytes as u64);
                output.sent(bytes);
                self.restart_idle_time();
                Poll::Ready(Ok(()))
            }
        }
    }

    /// A peer that reads slowly is not idle: every write has the whole time.
    fn write_deadline(&self) -> Option<Instant> {
        self.permit.service().idle.map(|idle| Instant::now() + idle)
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
    pub(super) async fn close(&mut self, answering: &mut Answering, closed: Closed) -> End {
        let closed = async {
            self.flush(answering).await?;
            if matches!(closed, Closed::Peer | Closed::Refused) {
                self.drain(answering).await?;
            }
            Ok(closed)
        };
        closed.await.map_or_else(|end| end, End::Closed)
    }

    /// Ends a connection whose large request took too long. Its room is free before the last reply is sent,
    /// which it may not read either.
    pub(super) async fn close_slow(&mut self, lent: Lent) {
        self.conversation.counters().add(Count::ReceiveTimeouts);
        let mut workspace = lent.unwrap_or_else(|| self.lend());
        workspace.answering.room = None;
        workspace.answering.replies().status(Status::TooSlow);
        // The connection is closed in any case.
        let _ = time::timeout(DRAIN_TIMEOUT, self.close(&mut workspace.answering, Closed::Refused)).await;
    }

    /// Reads and discards the peer's remaining bytes: closing a socket with unread bytes would destroy the
    /// last reply.
    async fn drain(&mut self, answering: &Answering) -> Result<(), End> {
        let Connection { conversation, permit, stream, .. } = self;
        let service = permit.service();
        // The leases of a client that disconnects are released at once, however slowly it disconnects.
        conversation.close(&service.cache, service.now());
        let drained = async {
            stream.shutdown().await?;
            let mut unread = stream.take(DRAIN_BYTES_MAX);
            let mut nowhere = tokio::io::sink();
            // The connection is closed in any case.
            let _ = time::timeout(DRAIN_TIMEOUT, tokio::io::copy(&mut unread, &mut nowhere)).await;
            io::Result::Ok(())
        };
        Ok(unless_ended(service, answering.room.as_ref(), pin!(drained)).await??)
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

fn room_needed(lent: &Lent) -> usize {
    lent.as_ref().map_or(0, |workspace| workspace.requests.room_needed())
}

/// Only a limited wait has a timer.
async fn by<T>(deadline: Option<Instant>, work: impl Future<Output = Result<T, End>>) -> Result<T, End> {
    match deadline {
        None => work.await,
        Some(deadline) => time::timeout_at(deadline, work).await.unwrap_or(Err(Closed::Idle.into())),
    }
}

/// The limits on time and bytes of draining before a close.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(500);
const DRAIN_BYTES_MAX: u64 = 4 << 20;
/// Slices of one vectored write, enough to fill a socket buffer.
const WRITE_SLICES: usize = 16;
