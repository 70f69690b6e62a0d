//! A connection that watches: it sends events, and reads no more requests.

use std::future::poll_fn;
use std::pin::pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::{Closed, Connection, End, unless_ended};
use crate::metrics::{Count, State};
use crate::protocol::{Output, Replies, Reply};
use crate::server::workspace::Answering;

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Sends events until the peer disconnects; discards everything that it sends meanwhile. A peer that
    /// reads slowly is not idle, and delays no other connection.
    pub(super) async fn watch(&mut self, answering: &mut Answering, number: u64) -> Result<Closed, End> {
        self.flush(answering).await?;
        let Connection { conversation, permit, stream, .. } = self;
        let service = permit.service();
        permit.stats().is(State::Watch);
        let (mut read, mut write) = tokio::io::split(stream);
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
        let watch = async {
            tokio::select! {
                sent = send => sent,
                read = tokio::io::copy(&mut read, &mut nowhere) => read.map(|_| Closed::Peer),
            }
        };
        Ok(unless_ended(service, answering.room.as_ref(), pin!(watch)).await??)
    }
}
