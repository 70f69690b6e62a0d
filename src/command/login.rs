//! The login: what a connection may do before it, and how it comes about.

use super::access::Login;
use super::{Flow, Session};
use crate::metrics::Count;
use crate::protocol::{Output, Reply, Request};

/// Answers a request of a locked connection, and unlocks it after a correct password.
pub(super) fn unlock(request: &Request, session: &mut Session, output: &mut Output) -> Flow {
    let Some(locked) = &mut session.locked else { return Flow::Next };
    let Request::Set(store) = request else {
        let is_long = matches!(request, Request::TooLarge { is_set: true, .. });
        output.reply(if is_long { Reply::AuthTokenTooLong } else { Reply::Unauthenticated });
        return Flow::Next;
    };
    let login = locked.judge(&store.value);
    if login != Login::Malformed {
        session.counters.add(Count::AuthCmds);
    }
    match login {
        Login::Malformed => output.reply(Reply::BadAuthToken),
        Login::Right => {
            session.locked = None;
            output.reply(Reply::Stored);
        }
        Login::Wrong { is_last } => {
            session.counters.add(Count::AuthErrors);
            output.reply(Reply::AuthFailure);
            return Flow::LoginFailed { is_last };
        }
    }
    Flow::Next
}
