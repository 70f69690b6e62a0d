//! A worker thread: it serves the connections passed to it.

use std::io;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinSet;

use super::connection::{self, Closed};
use super::listener::{Accepted, ConnectionPermit};
use super::service::Service;
use super::tls::Tls;
use crate::metrics::{ConnectionStats, Count, Event, Reason, Topic};
use crate::options::{Security, Verify};
use crate::protocol::Protocols;

/// Serves connections until the server stops; each of them is a task.
pub(super) async fn work(
    service: Arc<Service>,
    index: usize,
    mut accepted: UnboundedReceiver<(Accepted, ConnectionPermit)>,
) {
    let (mut heartbeat, mut tasks) = (service.heartbeat.responder(), JoinSet::new());
    loop {
        tokio::select! {
            next = accepted.recv() => match next {
                Some((socket, permit)) => {
                    // This is not a function, because arguments of an async function take up space twice in
                    // each task.
                    tasks.spawn(async move {
                        if let Err(error) = converse(permit.service(), index, socket).await {
                            tracing::debug!(%error, "connection lost");
                        }
                    });
                }
                None => break,
            },
            Some(done) = tasks.join_next() => done.expect("connections do not panic"),
            () = heartbeat.requested() => heartbeat.answer(),
        }
    }
    while let Some(done) = tasks.join_next().await {
        done.expect("connections do not panic");
    }
}

async fn converse(service: &Service, index: usize, socket: Accepted) -> io::Result<()> {
    let connection = Arc::new(socket.connection(service.now())?);
    service.metrics.open.open(Arc::clone(&connection));
    publish(service, &Event::Opened { connection: &connection });
    let ended = match socket {
        Accepted::Tcp(stream, listening) => match TcpStream::try_from(stream) {
            Ok(stream) => match (listening.security, &service.tls) {
                // Boxed, because it is four times as large as a connection without TLS.
                (Security::Tls(verify), Some(tls)) => {
                    let stream = (stream, tls, verify);
                    Box::pin(secured(service, index, stream, listening.protocols, &connection)).await
                }
                (Security::Plain, _) | (_, None) => {
                    connection::serve(service, index, stream, listening.protocols, &connection).await
                }
            },
            Err(error) => Err(error),
        },
        Accepted::Unix(stream) => match tokio::net::UnixStream::try_from(stream) {
            Ok(stream) => connection::serve(service, index, stream, service.protocols, &connection).await,
            Err(error) => Err(error),
        },
    };
    publish(service, &Event::Closed { connection: &connection, reason: reason(&ended) });
    service.metrics.open.close(&connection);
    ended.map(|_| ())
}

/// Publishes an event to clients that watch connections.
fn publish(service: &Service, event: &Event) {
    let watchers = &service.metrics.watchers;
    if watchers.topics().has(Topic::Connections) {
        watchers.publish(event);
    }
}

fn reason(ended: &io::Result<Closed>) -> Reason {
    match ended {
        Err(_) | Ok(Closed::Refused) => Reason::Error,
        Ok(Closed::Idle | Closed::Slow) => Reason::Idle,
        Ok(Closed::Peer) => Reason::Normal,
        Ok(Closed::Stopping) => Reason::Shutdown,
    }
}

/// Completes the TLS handshake, then serves.
async fn secured(
    service: &Service,
    index: usize,
    (stream, tls, verify): (TcpStream, &Tls, Verify),
    protocols: Protocols,
    connection: &ConnectionStats,
) -> io::Result<Closed> {
    let counters = service.metrics.of_thread(index);
    let shaken = tokio::select! {
        shaken = tls.accept(stream, verify) => shaken,
        _ = service.shutdown.requested() => return Ok(Closed::Stopping),
    };
    match shaken {
        Ok((stream, is_new)) => {
            if is_new {
                counters.add(Count::SslNewSessions);
            }
            connection::serve(service, index, stream, protocols, connection).await
        }
        Err(error) => {
            counters.add(Count::SslHandshakeErrors);
            let (connection, why) = (connection.number, error.to_string());
            publish(service, &Event::HandshakeFailed { connection, why: &why });
            Err(error)
        }
    }
}
