//! The login: what a connection may do before it, and how it comes about.

use super::access::Login;
use super::observe::Outcome;
use super::{Command, Flow};
use crate::protocol::{Request, Status};

/// Answers a request of a locked connection, and unlocks it after a correct password.
pub(super) fn unlock(request: &Request, command: &mut Command) -> Flow {
    let Some(locked) = &mut command.conversation.locked else { return Flow::Next };
    let Request::Set(store) = request else {
        let is_long = matches!(request, Request::TooLarge { is_set: true, .. });
        command.replies.status(if is_long { Status::AuthTokenTooLong } else { Status::Unauthenticated });
        return Flow::Next;
    };
    let login = locked.judge(&store.value);
    command.report(Outcome::Login(login));
    match login {
        Login::Malformed => command.replies.status(Status::BadAuthToken),
        Login::Right => {
            command.conversation.locked = None;
            command.conversation.user = store.value.split(|byte| *byte == b' ').next().map(Box::from);
            command.replies.status(Status::Stored);
        }
        Login::Wrong { is_last } => {
            command.replies.status(Status::AuthFailure);
            return Flow::LoginFailed { is_last };
        }
    }
    Flow::Next
}
