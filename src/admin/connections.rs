//! The open connections of the admin address.
//!
//! When all places are taken, a new connection replaces the oldest one that has been quiet for a while, so
//! that idle or slow clients cannot block a health check. If none is quiet, it waits: a request that is being
//! answered is never cut off. Connections that have shown the token have places of their own, which strangers
//! cannot take.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep};

/// The client of a connection.
#[derive(Clone)]
pub(super) struct Client {
    pub(super) address: IpAddr,
    /// Whether one of its requests had the token.
    pub(super) has_token: Arc<AtomicBool>,
    /// Since when no request is being answered; `None` while one is.
    quiet_since: Arc<Mutex<Option<Instant>>>,
}

/// A request that is being answered.
pub(super) struct Answering<'c>(&'c Client);

impl Client {
    pub(super) fn new(address: IpAddr) -> Client {
        Client { address, has_token: Arc::default(), quiet_since: Arc::new(Mutex::new(Some(Instant::now()))) }
    }

    /// Keeps the connection until this is dropped, and a while longer, for the answer to be sent.
    pub(super) fn answering(&self) -> Answering<'_> {
        *self.quiet_since.lock() = None;
        Answering(self)
    }

    fn is_quiet(&self) -> bool {
        self.quiet_since.lock().is_some_and(|since| since.elapsed() >= QUIET_AFTER)
    }
}

impl Drop for Answering<'_> {
    fn drop(&mut self) {
        *self.0.quiet_since.lock() = Some(Instant::now());
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

impl Place {
    fn has_token(&self) -> bool {
        self.client.has_token.load(Ordering::Relaxed)
    }
}

impl Connections {
    /// Serves a connection.
    pub(super) fn add(&mut self, client: Client, connection: impl Future<Output = ()> + Send + 'static) {
        self.places.push_back(Place { client, task: self.tasks.spawn(connection) });
    }

    /// Waits until there is room for one more connection.
    pub(super) async fn make_room(&mut self) {
        loop {
            while self.tasks.try_join_next().is_some() {}
            self.places.retain(|place| !place.task.is_finished());
            if [false, true].map(|has_token| self.has_room(has_token)) == [true; 2] {
                return;
            }
            tokio::select! {
                _ = self.tasks.join_next() => {}
                () = sleep(AGAIN_AFTER) => {}
            }
        }
    }

    /// Whether there is room for one more of this kind, after one that is quiet has made some.
    fn has_room(&mut self, has_token: bool) -> bool {
        let is_of_kind = |place: &Place| place.has_token() == has_token;
        while self.places.iter().filter(|place| is_of_kind(place)).count() >= CONNECTIONS_MAX {
            let is_quiet = |place: &Place| is_of_kind(place) && place.client.is_quiet();
            let Some(place) = self.places.iter().position(is_quiet).and_then(|nth| self.places.remove(nth))
            else {
                return false;
            };
            place.task.abort();
        }
        true
    }
}

/// Enough for operators, their tools and senders of events: the places of those with the token, and of all
/// others.
const CONNECTIONS_MAX: usize = 128;
/// Long enough to send a request after connecting, and an answer after it is complete.
const QUIET_AFTER: Duration = Duration::from_secs(1);
const AGAIN_AFTER: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::Weak;

    use tokio::time::{advance, timeout};

    use super::*;

    /// Opens a connection that is dropped with its task.
    async fn open(connections: &mut Connections, has_token: bool) -> (Client, Weak<()>) {
        connections.make_room().await;
        let client = Client::new(Ipv4Addr::LOCALHOST.into());
        client.has_token.store(has_token, Ordering::Relaxed);
        let (socket, pending) = (Arc::new(()), std::future::pending::<()>());
        let open = Arc::downgrade(&socket);
        connections.add(client.clone(), async move {
            let _socket = socket;
            pending.await;
        });
        (client, open)
    }

    /// Tasks that were aborted end when they run again.
    async fn let_them_run() {
        for _ in 0..3 * CONNECTIONS_MAX {
            tokio::task::yield_now().await;
        }
    }

    /// Strangers that kept opening connections cut off the operator who wanted to see why.
    #[tokio::test(start_paused = true)]
    async fn connections_without_the_token_replace_only_each_other() {
        let mut connections = Connections::default();
        let (_, operator) = open(&mut connections, true).await;
        let mut strangers = Vec::new();
        for _ in 0..CONNECTIONS_MAX + 2 {
            strangers.push(open(&mut connections, false).await.1);
        }
        let_them_run().await;
        let are_open: Vec<_> = strangers.iter().map(|stranger| stranger.strong_count() > 0).collect();
        assert!(operator.strong_count() > 0);
        assert_eq!(are_open, [vec![false; 2], vec![true; CONNECTIONS_MAX]].concat());
        for _ in 0..CONNECTIONS_MAX {
            open(&mut connections, true).await;
        }
        let_them_run().await;
        assert_eq!(operator.strong_count(), 0, "the others have the token, too");
        assert!(strangers[3].strong_count() > 0, "one has made room");
    }

    /// More than 64 senders of events reset each other in the middle of their requests.
    #[tokio::test(start_paused = true)]
    async fn a_request_that_is_being_answered_is_never_cut_off() {
        let mut connections = Connections::default();
        let mut clients = Vec::new();
        for _ in 0..CONNECTIONS_MAX {
            clients.push(open(&mut connections, false).await);
        }
        let mut answering: Vec<_> = clients.iter().map(|(client, _)| client.answering()).collect();
        let waiting = timeout(Duration::from_secs(60), connections.make_room());
        assert!(waiting.await.is_err(), "a further one waits");
        drop(answering.pop());
        let waiting = timeout(Duration::from_millis(900), connections.make_room());
        assert!(waiting.await.is_err(), "the answer is being sent");
        advance(QUIET_AFTER).await;
        connections.make_room().await;
        let_them_run().await;
        let are_open: Vec<_> = clients.iter().map(|(_, open)| open.strong_count() > 0).collect();
        assert_eq!(are_open, [vec![true; CONNECTIONS_MAX - 1], vec![false]].concat());
    }
}
