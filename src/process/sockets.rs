//! Creates listening sockets, and handles failures to accept.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use super::logging;

pub(crate) fn bind_tcp(address: SocketAddr, backlog: i32) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // As in memcached: an IPv4 wildcard and an IPv6 one must not clash.
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(backlog)?;
    Ok(socket.into())
}

pub(crate) fn bind_unix(path: &Path, mode: u32) -> io::Result<UnixListener> {
    // Removes only a socket that an earlier server left behind: one that answers belongs to a live server.
    if UnixStream::connect(path).is_ok() {
        return Err(io::Error::new(io::ErrorKind::AddrInUse, "a running server uses this socket"));
    }
    if path.symlink_metadata().is_ok_and(|meta| meta.file_type().is_socket()) {
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Pauses after a failure. Descriptors have most likely run out, and an immediate retry would fail, too.
pub(crate) async fn pause(error: io::Error) {
    if let Some(suppressed) = FAILURES.admit(tokio::time::Instant::now()) {
        tracing::warn!(%error, suppressed, "cannot accept");
    }
    tokio::time::sleep(ACCEPT_AGAIN_AFTER).await;
}

static FAILURES: logging::Limit = logging::Limit::new();
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(10);
