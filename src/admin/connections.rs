//! The open connections of the admin address.
//!
//! When all places are taken, a new connection replaces the oldest one, so that idle or slow clients cannot
//! block a health check. Connections that have shown the token have places of their own, which strangers
//! cannot take.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::task::{AbortHandle, JoinSet};

/// The client of a connection.
#[derive(Clone)]
pub(super) struct Client {
    pub(super) address: IpAddr,
    /// Whether one of its requests had the token.
    pub(super) has_token: Arc<AtomicBool>,
}

impl Client {
    pub(super) fn new(address: IpAddr) -> Client {
        Client { address, has_token: Arc::default() }
    }
}

/// The open connections.
#[derive(Default)]
pub(super) struct Connections {
    /// From the oldest to the newest.
    places: VecDeque<Place>,
    tasks: JoinSet<()>,
}

struct Place {
    client: Client,
    task: AbortHandle,
}

impl Connections {
    /// Serves a connection; the oldest ones make room for it.
    pub(super) fn add(&mut self, client: Client, connection: impl Future<Output = ()> + Send + 'static) {
        while self.tasks.try_join_next().is_some() {}
        self.places.retain(|place| !place.task.is_finished());
        self.places.push_back(Place { client, task: self.tasks.spawn(connection) });
        for has_token in [false, true] {
            let is_of_kind = |place: &Place| place.client.has_token.load(Ordering::Relaxed) == has_token;
            while self.places.iter().filter(|place| is_of_kind(place)).count() > CONNECTIONS_MAX
                && let Some(oldest) = self.places.iter().position(is_of_kind)
                && let Some(place) = self.places.remove(oldest)
            {
                place.task.abort();
            }
        }
    }
}

/// Enough for operators and their tools: the places of those with the token, and of all others.
const CONNECTIONS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::Weak;

    use super::*;

    /// Opens a connection that is dropped with its task.
    fn open(connections: &mut Connections, has_token: bool) -> Weak<()> {
        let client = Client::new(Ipv4Addr::LOCALHOST.into());
        client.has_token.store(has_token, Ordering::Relaxed);
        let (socket, pending) = (Arc::new(()), std::future::pending::<()>());
        let open = Arc::downgrade(&socket);
        connections.add(client, async move {
            let _socket = socket;
            pending.await;
        });
        open
    }

    /// Tasks that were aborted end when they run again.
    async fn let_them_run() {
        for _ in 0..3 * CONNECTIONS_MAX {
            tokio::task::yield_now().await;
        }
    }

    /// Strangers that kept opening connections cut off the operator who wanted to see why.
    #[tokio::test]
    async fn connections_without_the_token_replace_only_each_other() {
        let mut connections = Connections::default();
        let operator = open(&mut connections, true);
        let strangers: Vec<_> = (0..CONNECTIONS_MAX + 2).map(|_| open(&mut connections, false)).collect();
        let_them_run().await;
        let are_open: Vec<_> = strangers.iter().map(|stranger| stranger.strong_count() > 0).collect();
        assert!(operator.strong_count() > 0);
        assert_eq!(are_open, [vec![false; 2], vec![true; CONNECTIONS_MAX]].concat());
        (0..CONNECTIONS_MAX).for_each(|_| drop(open(&mut connections, true)));
        let_them_run().await;
        assert_eq!(operator.strong_count(), 0, "the others have the token, too");
        assert!(strangers[2].strong_count() > 0);
    }
}
