//! Who in this program already cares for a key: one waits at the server, or loads, and the others wait for
//! that one.
//!
//! Deliberately absent: the value. Who waited asks the server again, since a value that was loaded for
//! somebody else may be older than an invalidation that the one who waited has seen.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::wire::Key;

#[derive(Clone, Default)]
pub(super) struct Crowd(Arc<Mutex<HashMap<Key, watch::Receiver<()>>>>);

/// What became of an attempt to be the one.
pub(super) enum Joined {
    /// Somebody else is; see [`over`].
    Behind(watch::Receiver<()>),
    First(Turn),
}

/// Its holder is the one; the others go on when it is dropped.
pub(super) struct Turn {
    crowd: Crowd,
    key: Key,
    _others: watch::Sender<()>,
}

impl Crowd {
    pub(super) fn join(&self, key: &Key) -> Joined {
        match self.0.lock().entry(key.clone()) {
            Entry::Occupied(turn) => Joined::Behind(turn.get().clone()),
            Entry::Vacant(place) => {
                let (sender, receiver) = watch::channel(());
                place.insert(receiver);
                Joined::First(Turn { crowd: self.clone(), key: key.clone(), _others: sender })
            }
        }
    }
}

/// Returns when the turn is over.
pub(super) async fn over(mut turn: watch::Receiver<()>) {
    while turn.changed().await.is_ok() {}
}

impl Drop for Turn {
    fn drop(&mut self) {
        // Before the others hear of it, which they do by the drop of the field.
        self.crowd.0.lock().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_next_one_comes_first_when_the_turn_is_over() {
        let (crowd, key) = (Crowd::default(), Key::new("k").expect("legal"));
        let Joined::First(turn) = crowd.join(&key) else { panic!("nobody was there") };
        let Joined::Behind(first) = crowd.join(&key) else { panic!("somebody was there") };
        let Joined::First(_) = crowd.join(&Key::new("other").expect("legal")) else {
            panic!("keys are apart")
        };
        drop(turn);
        over(first).await;
        assert!(matches!(crowd.join(&key), Joined::First(_)));
        assert!(crowd.0.lock().is_empty(), "nothing is left of a turn");
    }
}
