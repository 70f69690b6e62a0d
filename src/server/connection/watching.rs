//! A connection that watches: it sends events, and reads no more requests.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::{Closed, Connection};
use crate::metrics::{Count, State};
use crate::protocol::{Output, Replies, Reply};

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<'_, S> {
    /// Sends events until the peer disconnects; discards everything that it sends meanwhile. A peer that
    /// reads slowly is not idle, and delays no other connection.
    pub(super) async fn watch(&mut self, number: u64) -> io::Result<Closed> {
        if let Some(closed) = self.flush().await? {
            return Ok(closed);
        }
        self.stats.is(State::Watch);
        let (mut read, mut write) = tokio::io::split(&mut self.stream);
        let (conversation, service) = (&self.conversation, self.service);
        let send = async {
            while !service.shutdown.is_requested() {
                let waits = |context: &mut Context<'_>| conversation.watched_lines(number, context.waker());
                let lines = poll_fn(|context| waits(context).map_or(Poll::Pending, Poll::Ready)).await;
                let mut output = Output::default();
                Replies::text(&mut output).send(Reply::Events(&lines));
                write.write_all(&output.take()).await?;
                write.flush().await?;
                conversation.counters().add_many(Count::BytesWritten, lines.len() as u64);
            }
            Ok(Closed::Stopping)
        };
        let mut nowhere = tokio::io::sink();
        tokio::select! {
            sent = send => sent,
            read = tokio::io::copy(&mut read, &mut nowhere) => read.map(|_| Closed::Peer),
        }
    }
}
