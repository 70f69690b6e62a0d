//! Who may ask: whoever has the token, or, where there is none, programs of this machine.
//!
//! A web page of somebody else is no such program, though it runs here. It is told by the name that it calls this server
//! by (its own, even if that resolves to this machine), and by the origin that its browser tells.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use subtle::ConstantTimeEq;

use super::answer::Problem;
use crate::process::secret;

/// What is asked of who asks.
pub(super) struct Access {
    /// Where he has come in.
    pub(super) address: SocketAddr,
    /// What he must know, if anything.
    pub(super) token: ArcSwapOption<Token>,
    /// Where that is read.
    pub(super) token_file: Option<PathBuf>,
}

/// What one must know to be let in. It is never told, neither in logs nor in errors.
pub(super) struct Token(Box<[u8]>);

impl Token {
    /// The one line of a file.
    ///
    /// # Errors
    /// If it cannot be read, or has no token in it.
    fn read(path: &Path) -> io::Result<Token> {
        let named =
            |why: &str| io::Error::other(format!("cannot read a token from {}: {why}", path.display()));
        let text = secret::read(path).map_err(|error| named(&error.to_string()))?;
        let token = text.trim_ascii();
        if token.len() < TOKEN_BYTES_MIN || !token.iter().all(u8::is_ascii_graphic) {
            return Err(named("a token is one word of at least 16 letters, digits and signs"));
        }
        Ok(Token(token.into()))
    }

    /// Whether that is it. The time it takes tells no more than lengths.
    fn is(&self, given: &[u8]) -> bool {
        self.0.ct_eq(given).into()
    }
}

impl Access {
    /// For an address, with the token that is in the file.
    ///
    /// # Errors
    /// As [`Access::read_token`].
    pub(super) fn new(address: SocketAddr, token_file: Option<PathBuf>) -> io::Result<Access> {
        let access = Access { address, token: ArcSwapOption::empty(), token_file };
        access.read_token()?;
        Ok(access)
    }

    /// From now on what is in the file is asked for, if there is one.
    ///
    /// # Errors
    /// If it cannot be read, or has no token in it; then the old token stays.
    pub(super) fn read_token(&self) -> io::Result<()> {
        let token = self.token_file.as_deref().map(Token::read).transpose()?;
        self.token.store(token.map(Arc::new));
        Ok(())
    }

    /// Whether a request may be answered.
    pub(super) fn check(&self, path: &str, headers: &HeaderMap) -> Result<(), Problem> {
        let forbidden = |why: &str| Err(Problem::new(StatusCode::FORBIDDEN, why));
        let Some(host) = text(headers, header::HOST) else {
            return Err(Problem::bad("a request names its host"));
        };
        // Who has the token need not be afraid of names: pages of others do not have it.
        let token = self.token.load();
        if token.is_none() && !self.is_own_name(name_of(host)) {
            return forbidden("without a token this server answers to localhost and its own address alone");
        }
        if headers.contains_key(header::ORIGIN)
            && !text(headers, header::ORIGIN).is_some_and(|origin| is_same(origin, host))
        {
            return forbidden("pages of another origin may not ask here");
        }
        match &*token {
            Some(token) if !OPEN.contains(&path) && !bearer(headers).is_some_and(|given| token.is(given)) => {
                Err(Problem::new(
                    StatusCode::UNAUTHORIZED,
                    "the right token is needed: Authorization: Bearer <token>",
                ))
            }
            None | Some(_) => Ok(()),
        }
    }

    fn is_own_name(&self, name: &str) -> bool {
        let is_own = |ip: IpAddr| ip.to_canonical().is_loopback() || ip == self.address.ip();
        name.eq_ignore_ascii_case("localhost") || name.parse().is_ok_and(is_own)
    }
}

/// A header that is there once.
fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    let mut all = headers.get_all(name).into_iter();
    let first = all.next()?.to_str().ok()?;
    all.next().is_none().then_some(first)
}

fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let (scheme, token) = text(headers, header::AUTHORIZATION)?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().as_bytes())
}

/// Without the port, and an IPv6 address without its brackets.
fn name_of(host: &str) -> &str {
    match host.strip_prefix('[') {
        Some(inside) => inside.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    }
}

fn is_same(origin: &str, host: &str) -> bool {
    origin.split_once("://").is_some_and(|(_, place)| place.eq_ignore_ascii_case(host))
}

/// What tells nothing but that there is a server, and whether it serves.
const OPEN: [&str; 3] = ["/", "/healthz", "/readyz"];
const TOKEN_BYTES_MIN: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "0123456789abcdef";

    fn check(token: Option<&str>, path: &str, headers: &[(&'static str, &str)], expected: Option<u16>) {
        let token = token.map(|token| Token(token.as_bytes().into()));
        let access = Access {
            address: "192.0.2.7:8211".parse().unwrap(),
            token: token.map(Arc::new).into(),
            token_file: None,
        };
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()))
            .collect();
        let refused = access.check(path, &headers).err().map(|problem| problem.status.as_u16());
        assert_eq!(refused, expected, "{headers:?}");
    }

    #[test]
    fn without_a_token_only_names_of_this_machine_are_answered_to() {
        for host in
            ["localhost", "LOCALHOST:1", "127.0.0.1:8211", "[::1]:8211", "127.9.9.9", "192.0.2.7:8211"]
        {
            check(None, "/metrics", &[("host", host)], None);
        }
        for host in
            ["evil.example", "evil.example:8211", "192.0.2.8", "localhost.evil.example", "", "[", ":8211"]
        {
            check(None, "/metrics", &[("host", host)], Some(403));
        }
        check(None, "/healthz", &[], Some(400));
    }

    #[test]
    fn pages_of_another_origin_are_refused() {
        let from =
            |origin, expected| check(None, "/", &[("host", "localhost:8211"), ("origin", origin)], expected);
        from("http://localhost:8211", None);
        for origin in ["http://localhost:8212", "http://evil.example", "null", "http://localhost", ""] {
            from(origin, Some(403));
        }
    }

    #[test]
    fn where_there_is_a_token_all_but_health_and_the_page_need_it() {
        let with = |path, authorization: &str, expected| {
            let headers = [("host", "cache.example"), ("authorization", authorization)];
            check(Some(TOKEN), path, &headers, expected);
        };
        with("/metrics", "Bearer 0123456789abcdef", None);
        with("/metrics", "bearer  0123456789abcdef", None);
        for wrong in
            ["Bearer 0123456789abcdeF", "Bearer", "Bearer ", "0123456789abcdef", "Basic 0123456789abcdef"]
        {
            with("/metrics", wrong, Some(401));
            with("/healthz", wrong, None);
        }
        check(Some(TOKEN), "/", &[("host", "cache.example")], None);
        check(Some(TOKEN), "/config", &[("host", "cache.example")], Some(401));
    }
}
