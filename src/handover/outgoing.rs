//! The old server's side of a handover: it offers its sockets, and stops once they are taken.

use std::collections::VecDeque;
use std::fs;
use std::future::poll_fn;
use std::io::{self, Write};
use std::net::TcpListener;
use std::os::fd::BorrowedFd;
use std::os::unix::net;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use nix::unistd::geteuid;
use rustix::net::{SendFlags, send};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Interest};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

use super::descriptors::{self, LINE_BYTES_MAX};
use super::{HELLO, PATIENCE, WRITING, socket_beside};
use crate::process::sockets::{bind_unix, pause};

/// The Unix socket at which a new server asks for a handover.
pub struct ControlSocket {
    listener: net::UnixListener,
    path: PathBuf,
}

/// The process that takes over; this process must serve no requests from now on.
pub struct Successor {
    /// Its process id.
    pub pid: u32,
    /// The longest gap in service after which the successor still takes the items.
    pub max_gap: Duration,
    stream: net::UnixStream,
}

/// The last line to the successor, sent once sockets and files are free.
#[must_use]
pub struct Completion {
    pub(crate) line: String,
    pub(crate) successor: Successor,
}

/// The sockets and settings that a successor receives.
pub struct Offer<'s> {
    /// The socket of `--admin`, which is also in `sockets`.
    pub admin: Option<&'s TcpListener>,
    /// Checks that this server can write its items.
    pub may: &'s (dyn Fn() -> io::Result<()> + Sync),
    /// All listening sockets of this server.
    pub sockets: Vec<BorrowedFd<'s>>,
    /// The period of systemd's watchdog.
    pub watchdog: Option<Duration>,
}

impl Offer<'_> {
    fn line(&self) -> io::Result<String> {
        let admin = self.admin.map(TcpListener::local_addr).transpose()?;
        let admin = admin.map_or("-".to_owned(), |address| address.to_string());
        Ok(format!("sockets {} {admin}\n", self.watchdog.unwrap_or_default().as_micros()))
    }
}

impl ControlSocket {
    /// # Errors
    /// If the socket cannot be created next to that file.
    pub fn bind(memory_file: &Path) -> io::Result<ControlSocket> {
        let path = socket_beside(memory_file);
        let listener = bind_unix(&path, 0o600).map_err(|error| {
            io::Error::new(error.kind(), format!("cannot listen on {}: {error}", path.display()))
        })?;
        Ok(ControlSocket { listener, path })
    }

    /// Makes the offer to each process that asks, until one of them takes over.
    ///
    /// # Errors
    /// If the socket fails.
    pub async fn successor(&self, offer: &Offer<'_>) -> io::Result<Successor> {
        let listener = UnixListener::from_std(self.listener.try_clone()?)?;
        // All at once: a process that connects and says nothing delays no other.
        let mut negotiations = VecDeque::new();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                negotiated = first(&mut negotiations) => match negotiated {
                    Ok(successor) => return Ok(successor),
                    Err(error) => {
                        tracing::warn!("a handover was given up, serving on: {error}");
                        continue;
                    }
                },
            };
            match accepted {
                Ok((stream, _)) => {
                    if negotiations.len() == NEGOTIATIONS_MAX {
                        negotiations.pop_front();
                    }
                    negotiations.push_back(Box::pin(negotiate(stream, offer)));
                }
                Err(error) => pause(error).await,
            }
        }
    }
}

/// The result of the first future that is ready, which is removed; never ready while there are none.
async fn first<T>(futures: &mut VecDeque<Pin<Box<impl Future<Output = T>>>>) -> T {
    poll_fn(|context| {
        for index in 0..futures.len() {
            if let Poll::Ready(done) = futures[index].as_mut().poll(context) {
                futures.remove(index);
                return Poll::Ready(done);
            }
        }
        Poll::Pending
    })
    .await
}

/// Removes the socket when the process ends.
impl Drop for ControlSocket {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

impl Successor {
    /// Reports that the items are still being written. Never blocks.
    pub(crate) fn be_patient(&self) {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let _ = send(&self.stream, format!("{WRITING}\n").as_bytes(), flags);
    }
}

impl Completion {
    /// Sends the line. A failure changes nothing: this process ends anyway.
    pub fn send(mut self) {
        if let Err(error) = self.successor.stream.write_all(self.line.as_bytes()) {
            tracing::warn!("process {} has ended: {error}", self.successor.pid);
        }
    }
}

/// The limit on processes that ask at the same time; a further one replaces the first.
const NEGOTIATIONS_MAX: usize = 16;

async fn negotiate(stream: UnixStream, offer: &Offer<'_>) -> io::Result<Successor> {
    let uid = stream.peer_cred()?.uid();
    if uid != 0 && uid != geteuid().as_raw() {
        return Err(io::Error::other(format!("user {uid} is not allowed to ask for it")));
    }
    let mut stream = BufReader::new(stream);
    let hello = line(&mut stream).await?;
    if hello != HELLO {
        return Err(io::Error::other(format!("unknown request: {hello:?}")));
    }
    (offer.may)()?;
    let (socket, line_sent) = (stream.get_ref(), offer.line()?);
    socket.async_io(Interest::WRITABLE, || descriptors::send(socket, &line_sent, &offer.sockets)).await?;
    let take = line(&mut stream).await?;
    let mut words = take.split(' ');
    let (Some("take"), Some(Ok(pid)), Some(Ok(millis)), None) =
        (words.next(), words.next().map(str::parse), words.next().map(str::parse), words.next())
    else {
        return Err(io::Error::other("it did not take them"));
    };
    let stream = stream.into_inner().into_std()?;
    stream.set_nonblocking(false)?;
    Ok(Successor { pid, max_gap: Duration::from_millis(millis), stream })
}

/// Reads a line without its end; the line may be cut off if the end is missing.
async fn line(stream: &mut BufReader<UnixStream>) -> io::Result<String> {
    let mut text = String::new();
    timeout(PATIENCE, stream.take(LINE_BYTES_MAX as u64).read_line(&mut text)).await??;
    Ok(text.trim_end().to_owned())
}
