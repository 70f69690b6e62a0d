//! Access control: clients need the token or, if there is none, must be programs on this machine.
//!
//! A web page in a local browser is not such a program. Two headers give it away: the host name that it
//! uses for this server (its own name, even if that resolves to this machine), and the origin that its
//! browser sends.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use subtle::ConstantTimeEq;

use super::answer::Problem;
use crate::process::secret;

/// The conditions for access.
pub(super) struct Access {
    /// The address that the server listens at.
    pub(super) address: SocketAddr,
    /// The required token, if any.
    pub(super) token: ArcSwapOption<Token>,
    /// The file that holds the token.
    pub(super) token_file: Option<PathBuf>,
}

/// The required token. It never appears in logs or errors.
pub(super) struct Token(Box<[u8]>);

impl Token {
    /// Reads the token, which is the only line of a file.
    ///
    /// # Errors
    /// If the file cannot be read, or holds no token.
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

    /// Compares in constant time: the duration depends on the lengths only.
    fn is(&self, given: &[u8]) -> bool {
        self.0.ct_eq(given).into()
    }
}

impl Access {
    /// Access at an address, with the token from the file.
    ///
    /// # Errors
    /// As [`Access::read_token`].
    pub(super) fn new(address: SocketAddr, token_file: Option<PathBuf>) -> io::Result<Access> {
        let access = Access { address, token: ArcSwapOption::empty(), token_file };
        access.read_token()?;
        Ok(access)
    }

    /// Reads the token again, if there is a file.
    ///
    /// # Errors
    /// If the file cannot be read, or holds no token; then the old token stays.
    pub(super) fn read_token(&self) -> io::Result<()> {
        let token = self.token_file.as_deref().map(Token::read).transpose()?;
        self.token.store(token.map(Arc::new));
        Ok(())
    }

    /// Whether a request may be answered.
    pub(super) fn check(&self, path: &str, headers: &HeaderMap) -> Result<(), Problem> {
        let forbidden = |why: &str| Err(Problem::new(StatusCode::FORBIDDEN, why));
        let Some(host) = text(headers, header::HOST) else {
            // HTTP/1.0 has none, and HAProxy's default check speaks it. What these paths reveal, a port scan
            // does, too.
            if HEALTH.contains(&path) && !headers.contains_key(header::HOST) {
                return Ok(());
            }
            return Err(Problem::bad("the request has no Host header, or several"));
        };
        // With the token, host names need no check: foreign pages do not have it.
        let token = self.token.load();
        if token.is_none() && !self.is_own_name(name_of(host)) {
            return forbidden("without a token this server answers only to localhost and its own address");
        }
        if headers.contains_key(header::ORIGIN)
            && !text(headers, header::ORIGIN).is_some_and(|origin| is_same(origin, host))
        {
            return forbidden("pages of another origin are not allowed");
        }
        match &*token {
            Some(_) if !is_open(path) && !self.has_token(headers) => Err(Problem::new(
                StatusCode::UNAUTHORIZED,
                "missing or wrong token: send Authorization: Bearer <token>",
            )),
            None | Some(_) => Ok(()),
        }
    }

    /// Whether a request has the token, if there is one.
    pub(super) fn has_token(&self, headers: &HeaderMap) -> bool {
        let token = self.token.load();
        token.as_ref().is_some_and(|token| bearer(headers).is_some_and(|given| token.is(given)))
    }

    fn is_own_name(&self, name: &str) -> bool {
        let is_own = |ip: IpAddr| ip.to_canonical().is_loopback() || ip == self.address.ip();
        name.eq_ignore_ascii_case("localhost") || name.parse().is_ok_and(is_own)
    }
}

/// A header that occurs exactly once.
fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    let mut all = headers.get_all(name).into_iter();
    let first = all.next()?.to_str().ok()?;
    all.next().is_none().then_some(first)
}

fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let (scheme, token) = text(headers, header::AUTHORIZATION)?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().as_bytes())
}

/// The host without the port, and without the brackets of an IPv6 address.
fn name_of(host: &str) -> &str {
    match host.strip_prefix('[') {
        Some(inside) => inside.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    }
}

fn is_same(origin: &str, host: &str) -> bool {
    origin.split_once("://").is_some_and(|(_, place)| place.eq_ignore_ascii_case(host))
}

/// Paths that are open to all: they reveal only whether a server is there and ready.
fn is_open(path: &str) -> bool {
    path == "/" || HEALTH.contains(&path)
}

/// The type of the body, without its parameters. A form on a foreign page cannot send JSON without a
/// preflight request.
pub(super) fn media_type(headers: &HeaderMap) -> &[u8] {
    let kind = headers.get(header::CONTENT_TYPE).map_or(&b""[..], |kind| kind.as_bytes());
    kind.split(|byte| *byte == b';').next().map_or(&b""[..], <[u8]>::trim_ascii)
}

/// Paths for health checks.
const HEALTH: [&str; 2] = ["/healthz", "/readyz"];
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
    fn only_names_of_this_machine_are_accepted_without_a_token() {
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
        check(None, "/metrics", &[], Some(400));
        check(None, "/healthz", &[], None);
        check(Some(TOKEN), "/readyz", &[], None);
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
    fn the_token_is_required_except_for_health_and_the_page() {
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
