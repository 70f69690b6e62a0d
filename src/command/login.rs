//! The login: what a connection may do before it, and how it comes about.

use super::access::Login;
use super::{Flow, Session};
use crate::metrics::Count;
use crate::protocol::{Replies, Request, Status};

/// Answers a request of a locked connection, and unlocks it after a correct password.
pub(super) fn unlock(request: &Request, session: &mut Session, replies: &mut Replies) -> Flow {
    let Some(locked) = &mut session.locked else { return Flow::Next };
    let Request::Set(store) = request else {
        let is_long = matches!(request, Request::TooLarge { is_set: true, .. });
        replies.status(if is_long { Status::AuthTokenTooLong } else { Status::Unauthenticated });
        return Flow::Next;
    };
    let login = locked.judge(&store.value);
    if login != Login::Malformed {
        session.counters.add(Count::AuthCmds);
    }
    match login {
        Login::Malformed => replies.status(Status::BadAuthToken),
        Login::Right => {
            session.locked = None;
            replies.status(Status::Stored);
        }
        Login::Wrong { is_last } => {
            session.counters.add(Count::AuthErrors);
            replies.status(Status::AuthFailure);
            return Flow::LoginFailed { is_last };
        }
    }
    Flow::Next
}
