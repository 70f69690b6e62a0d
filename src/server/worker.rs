//! One worker thread: the connections that were handed to it.

use std::io;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinSet;

use super::Service;
use super::connection;
use super::listener::Accepted;
use super::tls::Security;
use crate::metrics::{Connection, Count};

/// Serves connections until the server stops; each of them is a task.
pub(super) async fn work(service: Arc<Service>, index: usize, mut accepted: UnboundedReceiver<Accepted>) {
    let mut tasks = JoinSet::new();
    loop {
        tokio::select! {
            next = accepted.recv() => match next {
                Some(socket) => { tasks.spawn(serve(Arc::clone(&service), index, socket)); }
                None => break,
            },
            Some(done) = tasks.join_next() => done.expect("connections do not panic"),
        }
    }
    while let Some(done) = tasks.join_next().await {
        done.expect("connections do not panic");
    }
}

async fn serve(service: Arc<Service>, index: usize, socket: Accepted) {
    if let Err(error) = converse(&service, index, socket).await {
        tracing::debug!(%error, "connection lost");
    }
    service.left();
}

async fn converse(service: &Service, index: usize, socket: Accepted) -> io::Result<()> {
    let (number, connection) = socket.connection(service.now())?;
    let connection = Arc::new(connection);
    service.metrics.open.open(number, Arc::clone(&connection));
    let ended = match socket {
        Accepted::Tcp(stream, security) => match TcpStream::try_from(stream) {
            Ok(stream) => secured(service, index, stream, security, &connection).await,
            Err(error) => Err(error),
        },
        Accepted::Unix(stream) => match tokio::net::UnixStream::try_from(stream) {
            Ok(stream) => connection::serve(service, index, stream, &connection).await,
            Err(error) => Err(error),
        },
    };
    service.metrics.open.close(number, &connection);
    ended
}

/// Shakes hands first, where that is wanted.
async fn secured(
    service: &Service,
    index: usize,
    stream: TcpStream,
    security: Security,
    connection: &Connection,
) -> io::Result<()> {
    let (Security::Tls(verify), Some(tls)) = (security, &service.tls) else {
        return connection::serve(service, index, stream, connection).await;
    };
    let counters = service.metrics.of_thread(index);
    let shaken = tokio::select! {
        shaken = tls.accept(stream, verify) => shaken,
        () = service.stopping() => return Ok(()),
    };
    match shaken {
        Ok((stream, is_new)) => {
            if is_new {
                counters.add(Count::SslNewSessions);
            }
            connection::serve(service, index, stream, connection).await
        }
        Err(error) => {
            counters.add(Count::SslHandshakeErrors);
            Err(error)
        }
    }
}
