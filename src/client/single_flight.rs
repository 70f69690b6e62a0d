//! Single flight: one task of this program loads a key or waits for it at the server, and the other tasks
//! wait for that task.
//!
//! The value itself is not shared. A waiter asks the server again, since a value that was loaded for
//! another caller may be older than an invalidation that the waiter has seen.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::wire::Key;

#[derive(Clone, Default)]
pub(super) struct SingleFlight(Arc<Mutex<HashMap<Key, watch::Receiver<()>>>>);

/// The outcome of joining.
pub(super) enum Joined {
    /// Another task is in charge of the key; see [`finished`].
    Behind(watch::Receiver<()>),
    First(Flight),
}

/// Its holder is in charge of the key; the waiters continue when it is dropped.
pub(super) struct Flight {
    flights: SingleFlight,
    key: Key,
    _others: watch::Sender<()>,
}

impl SingleFlight {
    pub(super) fn join(&self, key: &Key) -> Joined {
        match self.0.lock().entry(key.clone()) {
            Entry::Occupied(flight) => Joined::Behind(flight.get().clone()),
            Entry::Vacant(place) => {
                let (sender, receiver) = watch::channel(());
                place.insert(receiver);
                Joined::First(Flight { flights: self.clone(), key: key.clone(), _others: sender })
            }
        }
    }
}

/// Returns when that task has finished.
pub(super) async fn finished(mut flight: watch::Receiver<()>) {
    while flight.changed().await.is_ok() {}
}

impl Drop for Flight {
    fn drop(&mut self) {
        // The entry is removed before the waiters are woken by the drop of the field.
        self.flights.0.lock().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn waiters_continue_when_the_flight_ends() {
        let (flights, key) = (SingleFlight::default(), Key::new("k").expect("legal"));
        let Joined::First(flight) = flights.join(&key) else { panic!("the key has no flight") };
        let Joined::Behind(first) = flights.join(&key) else { panic!("the key has a flight") };
        let Joined::First(_) = flights.join(&Key::new("other").expect("legal")) else {
            panic!("keys are independent")
        };
        drop(flight);
        finished(first).await;
        assert!(matches!(flights.join(&key), Joined::First(_)));
        assert!(flights.0.lock().is_empty(), "ended flights are removed");
    }
}
