//! Listening sockets opened by another process: systemd (`LISTEN_FDS`), or a server that hands over.
//!
//! The command line decides how an address is protected, even if another process bound it.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use listenfd::ListenFd;
use socket2::Socket;

/// Inherited listening sockets. Dropping this closes those that were not taken.
#[derive(Debug, Default)]
pub struct Inherited {
    /// The socket of `--admin`, as marked by the old server: it never serves keys and values.
    admin: Option<(SocketAddr, TcpListener)>,
    tcp: Vec<(SocketAddr, TcpListener)>,
    unix: Vec<(PathBuf, UnixListener)>,
}

impl Inherited {
    /// The sockets that systemd opened for this process. Call this once, before any thread is started.
    ///
    /// # Errors
    /// If one of them is not a stream socket.
    pub fn from_systemd() -> io::Result<Inherited> {
        let mut passed = ListenFd::from_env();
        let mut inherited = Inherited::default();
        for index in 0..passed.len() {
            let descriptor = match passed.take_tcp_listener(index) {
                Ok(listener) => listener.map(OwnedFd::from),
                Err(_) => passed.take_unix_listener(index)?.map(OwnedFd::from),
            };
            descriptor.into_iter().try_for_each(|descriptor| inherited.add(descriptor))?;
        }
        Ok(inherited)
    }

    /// Sockets received as descriptors, which may include that of `--admin`.
    ///
    /// # Errors
    /// If one of them does not listen.
    pub(crate) fn from_descriptors(
        descriptors: Vec<OwnedFd>,
        admin: Option<SocketAddr>,
    ) -> io::Result<Inherited> {
        let mut inherited = Inherited::default();
        descriptors.into_iter().try_for_each(|descriptor| inherited.add(descriptor))?;
        inherited.admin =
            admin.and_then(|address| inherited.take_tcp(address).map(|listener| (address, listener)));
        Ok(inherited)
    }

    /// Whether no sockets are left.
    pub fn is_empty(&self) -> bool {
        self.tcp.is_empty() && self.unix.is_empty()
    }

    /// Takes the socket that listens at this address; port 0 matches any port.
    pub(crate) fn take_tcp(&mut self, wanted: SocketAddr) -> Option<TcpListener> {
        let index = self.tcp.iter().position(|(found, _)| is_there(*found, wanted))?;
        Some(self.tcp.remove(index).1)
    }

    /// Takes the socket for `--admin` that listens at this address; port 0 matches any port.
    pub fn take_admin(&mut self, wanted: SocketAddr) -> Option<TcpListener> {
        let former = self.admin.take_if(|(found, _)| is_there(*found, wanted));
        former.map(|(_, listener)| listener).or_else(|| self.take_tcp(wanted))
    }

    /// Takes the socket that listens at this path.
    pub(crate) fn take_unix(&mut self, wanted: &Path) -> Option<UnixListener> {
        let index = self.unix.iter().position(|(found, _)| found == wanted)?;
        Some(self.unix.remove(index).1)
    }

    /// Takes all remaining sockets.
    pub(crate) fn take_all(self) -> (Vec<TcpListener>, Vec<UnixListener>) {
        let tcp = self.tcp.into_iter().map(|(_, listener)| listener);
        (tcp.collect(), self.unix.into_iter().map(|(_, listener)| listener).collect())
    }

    /// The TCP addresses of the remaining sockets.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.tcp.iter().map(|(address, _)| *address)
    }

    /// The names of the remaining sockets.
    pub(crate) fn names(&self) -> Vec<String> {
        let tcp = self.addresses().map(|address| address.to_string());
        tcp.chain(self.unix.iter().map(|(path, _)| path.display().to_string())).collect()
    }

    fn add(&mut self, descriptor: OwnedFd) -> io::Result<()> {
        let socket = Socket::from(descriptor);
        let address = socket.local_addr()?;
        if !socket.is_listener()? {
            return Err(io::Error::other("a socket that was passed does not listen"));
        }
        socket.set_nonblocking(true)?;
        match (address.as_socket(), address.as_pathname()) {
            (Some(address), _) => self.tcp.push((address, socket.into())),
            (None, Some(path)) => self.unix.push((path.to_owned(), OwnedFd::from(socket).into())),
            (None, None) => return Err(io::Error::other("a socket that was passed has no address")),
        }
        Ok(())
    }
}

fn is_there(found: SocketAddr, wanted: SocketAddr) -> bool {
    found == wanted || (wanted.port() == 0 && found.ip() == wanted.ip())
}
