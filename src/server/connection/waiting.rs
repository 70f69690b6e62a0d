//! A request that waits for a lease, while its connection is still read.

use std::future::{pending, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::time;

use super::{Connection, End, unless_ended};
use crate::cache::Key;
use crate::clock::Now;
use crate::command::Conversation;
use crate::metrics::State;
use crate::server::service::Service;
use crate::server::workspace::Answering;

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Returns when the key's lease has ended, the time is up, the peer has disconnected, or the server
    /// stops.
    pub(super) async fn wait(
        &mut self,
        answering: &mut Answering,
        key: &Key<'_>,
        until: u64,
    ) -> Result<(), End> {
        let Connection { conversation, permit, stream, .. } = self;
        let Answering { early, room, turn, .. } = answering;
        let (now, service) = (turn.now, permit.service());
        permit.stats().is(State::Waiting);
        let wait = async {
            tokio::select! {
                () = lease_ends(service, conversation, key, until, now) => {}
                () = hang_up(stream, early) => conversation.stop_waiting(),
                _ = service.shutdown.requested() => conversation.stop_waiting(),
            }
        };
        unless_ended(service, room.as_ref(), pin!(wait)).await
    }
}

/// Sleeps until the lease of the key has ended, or until the deadline.
async fn lease_ends(service: &Service, conversation: &Conversation, key: &Key<'_>, until: u64, now: Now) {
    let (cache, peer) = (&service.cache, conversation.session());
    let mut is_waiting = false;
    let ended = poll_fn(|context| {
        // Either woken, or there is no lease to wait for.
        if is_waiting || !cache.wait(key, peer, context.waker(), service.now()) {
            return Poll::Ready(());
        }
        is_waiting = true;
        Poll::Pending
    });
    let left = Duration::from_millis(until.saturating_sub(now.millis));
    let _ = time::timeout(left, ended).await;
    cache.stop_waiting(key, peer);
}

/// Resolves when the peer disconnects. Bytes that arrive meanwhile are stored; after [`EARLY_BYTES_MAX`] of
/// them a disconnect goes unnoticed.
async fn hang_up(stream: &mut (impl AsyncRead + Unpin), early: &mut BytesMut) {
    while early.len() < EARLY_BYTES_MAX {
        let missing = EARLY_BYTES_MAX - early.len();
        let mut space = (&mut *early).limit(missing);
        if !matches!(stream.read_buf(&mut space).await, Ok(1..)) {
            return;
        }
    }
    pending().await
}

/// The limit on bytes read from a connection while its request waits.
const EARLY_BYTES_MAX: usize = 16 * 1024;
