//! The login: what a connection may do before it, and how it comes about.

use super::access::Login;
use super::observe::Outcome;
use super::{Command, Flow, MEMCACHED_VERSION};
use crate::protocol::{Reply, Request, Sasl, Status};

/// Answers a request of a locked connection, and unlocks it after a correct password.
pub(super) fn unlock(request: &Request, command: &mut Command) -> Flow {
    match request {
        Request::Sasl(sasl) => return authenticate(*sasl, command),
        Request::Set(store) => {
            let space = memchr::memchr(b' ', &store.value);
            return log_in(space.map(|space| (&store.value[..space], &store.value[space + 1..])), command);
        }
        Request::TooLarge { is_set: true, .. } => command.replies.status(Status::AuthTokenTooLong),
        // In memcached, only the binary protocol has it before the login.
        Request::Version if command.replies.is_binary() => {
            command.replies.send(Reply::Version(MEMCACHED_VERSION));
        }
        _ => command.replies.status(Status::Unauthenticated),
    }
    Flow::Next
}

/// Answers a message of SASL. As in memcached, a second login ends the first one.
pub(super) fn authenticate(sasl: Sasl, command: &mut Command) -> Flow {
    match sasl {
        Sasl::Begin | Sasl::Mechanisms => {
            command.replies.status(Status::Ok);
            Flow::Next
        }
        Sasl::Malformed => log_in(None, command),
        Sasl::Plain { name, password } => log_in(Some((name, password)), command),
    }
}

fn log_in(credentials: Option<(&[u8], &[u8])>, command: &mut Command) -> Flow {
    if !command.conversation.is_locked() {
        command.conversation.log_out();
    }
    let login = command.conversation.locked().map_or(Login::Malformed, |locked| locked.judge(credentials));
    command.report(Outcome::Login(login));
    match login {
        Login::Malformed => command.replies.status(Status::BadAuthToken),
        Login::Right => {
            command.conversation.unlock(credentials.map(|(name, _)| name));
            command.replies.status(Status::Stored);
        }
        Login::Wrong { is_last } => {
            command.replies.status(Status::AuthFailure);
            return Flow::LoginFailed { is_last };
        }
    }
    Flow::Next
}
