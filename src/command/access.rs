//! Authentication (`-Y`): a connection must log in first, by a `set` of any key whose value is a user's
//! name, a space and the password, or in the binary protocol by SASL (`-S`).
//!
//! There are no permissions: an authenticated connection may use all commands.

use std::sync::Arc;

use parking_lot::Mutex;
use subtle::{Choice, ConstantTimeEq};

/// Users and their passwords.
pub struct Users(Vec<User>);

struct User {
    name: Box<[u8]>,
    password: Box<[u8]>,
}

/// The state of a connection that has not logged in.
pub(super) struct Locked {
    tries_left: u32,
    /// Shared, because the users may change after the connection was opened.
    users: Arc<Mutex<Users>>,
}

/// The outcome of a login.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Login {
    /// There is no name and password in it.
    Malformed,
    /// The password is the user's.
    Right,
    /// It is not, or there is no such user.
    Wrong {
        /// Whether the connection has used up its tries.
        is_last: bool,
    },
}

impl Users {
    /// Parses lines `<user>:<password>`; `None` if one of them has no colon, or there is none.
    pub fn parse(text: &[u8]) -> Option<Users> {
        let lines = text.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        let users: Option<Vec<User>> = lines
            .filter(|line| !line.is_empty())
            .map(|line| {
                let colon = memchr::memchr(b':', line)?;
                Some(User { name: line[..colon].into(), password: line[colon + 1..].into() })
            })
            .collect();
        users.filter(|users| !users.is_empty()).map(Users)
    }

    /// Whether this is the user's password. The duration depends on lengths only: every user and every byte
    /// is compared.
    fn admits(&self, name: &[u8], password: &[u8]) -> bool {
        let is_it = |user: &User| user.name.ct_eq(name) & user.password.ct_eq(password);
        self.0.iter().fold(Choice::from(0), |any, user| any | is_it(user)).into()
    }
}

impl Locked {
    pub(super) fn new(users: Arc<Mutex<Users>>) -> Self {
        Locked { tries_left: TRIES, users }
    }

    /// Judges a name and a password, if the client has sent them.
    pub(super) fn judge(&mut self, credentials: Option<(&[u8], &[u8])>) -> Login {
        let Some((name, password)) = credentials else { return Login::Malformed };
        if self.users.lock().admits(name, password) {
            return Login::Right;
        }
        self.tries_left -= 1;
        Login::Wrong { is_last: self.tries_left == 0 }
    }
}

/// The number of wrong passwords after which a connection is closed.
const TRIES: u32 = 3;
/// The longest value that is accepted before the login, in bytes.
pub const AUTH_BYTES_MAX: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_user_and_a_password_with_whatever_is_in_it() {
        let users = Users::parse(b"ann:a:b c\r\nbob:\n\nno newline:x").unwrap();
        for (name, password) in [("ann", "a:b c"), ("bob", ""), ("no newline", "x")] {
            assert!(users.admits(name.as_bytes(), password.as_bytes()), "{name}");
        }
        for (name, password) in [("ann", "a:b"), ("ann", ""), ("", ""), ("ann", "x"), ("Ann", "a:b c")] {
            assert!(!users.admits(name.as_bytes(), password.as_bytes()), "{name} {password}");
        }
        assert!(Users::parse(b"ann:x\nbob\n").is_none() && Users::parse(b"\n").is_none());
    }
}
