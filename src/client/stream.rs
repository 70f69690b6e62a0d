//! A socket to one server, opened and logged in.

use std::io::{self, ErrorKind};
use std::sync::Arc;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::config::{Config, Place, Server};
use super::wire::{Reply, Request, Word};

/// A TCP or Unix socket, with or without TLS.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A server, and the way to connect to it.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) config: Config,
    pub(super) name: Arc<str>,
    pub(super) server: Server,
}

impl Target {
    /// A connection that is ready for questions.
    pub(super) async fn open(&self) -> io::Result<Box<dyn Stream>> {
        let opened = timeout(self.config.connect_timeout, async {
            let mut stream = self.server.connect().await?;
            if let Some(login) = &self.config.login {
                log_in(&mut stream, Request::login(&login.user, &login.password)).await?;
            }
            greet(&mut stream).await?;
            Ok(stream)
        });
        opened.await.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()))
    }
}

impl Server {
    /// A new connection to it, without a login.
    pub(crate) async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        match &self.place {
            Place::Tcp { port, .. } => {
                let stream = TcpStream::connect((self.host(), *port)).await?;
                stream.set_nodelay(true)?;
                Ok(Box::new(stream))
            }
            Place::Unix(path) => Ok(Box::new(UnixStream::connect(path).await?)),
        }
    }
}

/// Sends two requests before the first reply, which a single-threaded worker never does. This shows the
/// server that tasks share the connection, so that it does not ignore an invalidation by one task when
/// another task sets a value that it had read before.
async fn greet(stream: &mut Box<dyn Stream>) -> io::Result<()> {
    const REPLY: [u8; 8] = *b"MN\r\nMN\r\n";
    stream.write_all(b"mn\r\nmn\r\n").await?;
    let mut reply = [0; REPLY.len()];
    stream.read_exact(&mut reply).await?;
    if reply == REPLY { Ok(()) } else { Err(ErrorKind::InvalidData.into()) }
}

async fn log_in(stream: &mut Box<dyn Stream>, request: Request) -> io::Result<()> {
    let Request { bytes, mut parser } = request;
    stream.write_all(&bytes).await?;
    let mut input = BytesMut::new();
    loop {
        if stream.read_buf(&mut input).await? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        match parser.feed(&mut input) {
            Ok(None) => {}
            Ok(Some(Reply::Word(Word::Stored))) => return Ok(()),
            _ => return Err(ErrorKind::PermissionDenied.into()),
        }
    }
}
