//! Creates listening sockets, and handles failures to accept.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

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
    if is_answered(path)? {
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

/// Whether a server listens there. A full queue of connections shows one, too; waiting for it could take for
/// ever.
fn is_answered(path: &Path) -> io::Result<bool> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    let connected = socket.connect(&SockAddr::unix(path)?);
    Ok(connected.map_or_else(|error| error.kind() == io::ErrorKind::WouldBlock, |()| true))
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A blocking connect waited for ever for a server that was stopped while its queue was full.
    #[test]
    fn a_full_queue_shows_a_server_and_a_left_socket_none() {
        let path = std::env::temp_dir().join(format!("leasehold-full-queue-{}", std::process::id()));
        let listener = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        listener.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        listener.listen(0).unwrap();
        // Each look leaves a connection in the queue.
        assert!((0..8).all(|_| is_answered(&path).unwrap()));
        drop(listener);
        assert!(!is_answered(&path).unwrap());
        std::fs::remove_file(&path).unwrap();
        assert!(!is_answered(&path).unwrap());
    }
}
