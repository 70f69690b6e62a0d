//! The memory that a connection needs while it has requests. It is lent: an idle connection only remembers
//! what [`Resting`] says, and the next active one works in memory that is still in the processor's caches.

use std::cell::RefCell;

use bytes::BytesMut;

use super::receiving::Room;
use crate::clock::Now;
use crate::protocol::{Output, Protocols, Replies, ReplyForm, Requests, Resting};

thread_local! {
    static FREE: RefCell<Vec<Pointer>> = const { RefCell::new(Vec::new()) };
}

/// The requests of a connection, and all that is needed to answer them.
pub(super) struct Workspace {
    pub(super) answering: Answering,
    pub(super) requests: Requests,
}

/// Lending moves only this pointer.
type Pointer = Box<Workspace>;

/// The rest of a workspace. It is separate because the current request borrows from `requests`.
pub(super) struct Answering {
    /// Bytes that arrived while a request waited for a lease.
    pub(super) early: BytesMut,
    /// The form of the replies.
    pub(super) form: ReplyForm,
    pub(super) output: Output,
    /// Memory for the request, if it is a large one.
    pub(super) room: Option<Room>,
    pub(super) turn: Turn,
}

/// The requests of one read.
pub(super) struct Turn {
    /// How many were answered since the connection yielded.
    pub(super) answered: u32,
    /// Whether any was answered.
    pub(super) is_answered: bool,
    pub(super) now: Now,
    /// How many requests are prefetched.
    pub(super) prefetched: usize,
}

/// Lends a workspace to a connection that remembers this. The limits of its requests are to be set.
pub(super) fn lend(resting: Resting) -> Box<Workspace> {
    let free = FREE.with_borrow_mut(Vec::pop);
    let mut workspace = free.unwrap_or_else(|| Box::new(Workspace::new()));
    workspace.requests.resume(resting, &mut workspace.answering.form);
    workspace
}

/// Takes a workspace back, and returns what the connection must remember; or frees the empty buffers of a
/// workspace that the connection still needs.
pub(super) fn take_back(mut workspace: Box<Workspace>) -> Result<Resting, Box<Workspace>> {
    let Workspace { answering: Answering { early, output, room, .. }, requests } = &mut *workspace;
    let resting = match requests.rest() {
        Some(resting) if early.is_empty() && output.is_empty() && room.is_none() => resting,
        _ => {
            requests.trim(0);
            output.trim(0);
            return Err(workspace);
        }
    };
    requests.trim(BUFFER_BYTES_MAX);
    output.trim(BUFFER_BYTES_MAX);
    *early = BytesMut::new();
    FREE.with_borrow_mut(|free| {
        if free.len() < FREE_MAX {
            free.push(workspace);
        }
    });
    Ok(resting)
}

impl Workspace {
    fn new() -> Self {
        let (early, form, output) = (BytesMut::new(), ReplyForm::default(), Output::default());
        let turn = Turn::new(Now { millis: 0, unix: 0 });
        let answering = Answering { early, form, output, room: None, turn };
        Workspace { answering, requests: Requests::new(Protocols::Any) }
    }
}

impl Answering {
    #[inline]
    pub(super) fn replies(&mut self) -> Replies<'_> {
        Replies::new(&mut self.output, &mut self.form)
    }

    /// All of the request has arrived.
    pub(super) fn has_arrived(&self) {
        if let Some(room) = &self.room {
            room.arrived();
        }
    }
}

impl Turn {
    #[inline]
    pub(super) fn new(now: Now) -> Self {
        Turn { answered: 0, is_answered: false, now, prefetched: 0 }
    }

    /// Other connections had their turn.
    pub(super) fn continues(&mut self, now: Now) {
        (self.answered, self.now) = (0, now);
    }
}

/// The most free workspaces of a thread: 4 MiB, as each has two buffers.
const FREE_MAX: usize = 32;
/// Longer buffers are freed.
const BUFFER_BYTES_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Refusal, Request};

    impl Workspace {
        fn receive(&mut self, bytes: &[u8]) -> Option<Result<Request<'_>, Refusal>> {
            self.requests.limit_values(1 << 20);
            self.requests.space().put_slice(bytes);
            self.requests.decode(&mut self.answering.form)
        }
    }

    /// Between two reads of a large value, a pooled buffer used to keep the line of its command, and the
    /// next connection parsed that as its own.
    #[test]
    fn a_workspace_is_lent_without_requests() {
        let mut one = lend(Resting::new(Protocols::Any));
        assert!(one.receive(b"set k 0 0 100000\r\nbegin").is_none());
        let Err(one) = take_back(one) else { panic!("it has received a part of a request") };
        let mut other = lend(Resting::new(Protocols::Any));
        assert!(other.receive(b"").is_none() && other.answering.output.is_empty());
        assert_eq!(other.receive(b"quit\r\n"), Some(Ok(Request::Quit)));
        drop(one);
    }

    #[test]
    fn a_connection_remembers_its_protocol_between_requests() {
        let noop = [&[0x80, 0x0a][..], &[0; 22]].concat();
        for (protocols, first, second) in [
            (Protocols::Any, &b"mn\r\n"[..], &noop[..]),
            (Protocols::Any, &noop, b"mn\r\n"),
            (Protocols::Text, b"mn\r\n", &noop),
            (Protocols::Binary, &noop, b"mn\r\n"),
        ] {
            let mut resting = Resting::new(protocols);
            for _ in 0..3 {
                let mut workspace = lend(resting);
                assert_eq!(workspace.receive(first), Some(Ok(Request::Noop)));
                resting = take_back(workspace).ok().expect("nothing is left");
                // Another connection with the other protocol has the same workspace meanwhile.
                let mut other = lend(Resting::new(Protocols::Any));
                assert_eq!(other.receive(second), Some(Ok(Request::Noop)));
                assert!(take_back(other).is_ok());
            }
            assert!(lend(resting).receive(second).is_some_and(|refused| refused.is_err()), "{protocols:?}");
        }
    }

    #[test]
    fn a_workspace_with_bytes_or_replies_stays_with_its_connection() {
        let fresh = || lend(Resting::new(Protocols::Any));
        let (mut early, mut unsent, mut midway) = (fresh(), fresh(), fresh());
        early.answering.early.extend_from_slice(b"get");
        unsent.answering.output.push(b"END");
        assert!(midway.receive(b"get").is_none());
        for workspace in [early, unsent, midway] {
            assert!(take_back(workspace).is_err());
        }
        assert!(take_back(fresh()).is_ok());
    }
}
