//! A worker thread: it serves the connections passed to it.

use std::io;
use std::sync::Arc;

use tokio::net::{TcpStream, UnixStream};
use tokio::sync::mpsc::UnboundedReceiver;

use super::connection::Connection;
use super::listener::Accepted;
use super::permit::{Admission, Closed, ConnectionPermit};
use super::service::Service;
use super::tasks::{Task, Tasks};
use crate::metrics::{Count, Event};
use crate::options::{Security, Verify};
use crate::protocol::Protocols;

/// Serves connections until the server stops; each of them is a task.
pub(super) async fn work(
    service: Arc<Service>,
    index: usize,
    mut accepted: UnboundedReceiver<(Accepted, Admission)>,
) {
    let (mut heartbeat, tasks) = (service.heartbeat.responder(), Arc::new(Tasks::default()));
    loop {
        tokio::select! {
            next = accepted.recv() => match next {
                Some((socket, admission)) => {
                    if let Err(error) = begin(index, tasks.begin(), socket, admission) {
                        tracing::debug!(%error, "connection lost");
                    }
                }
                None => break,
            },
            never = tasks.panicked() => match never {},
            () = heartbeat.requested() => heartbeat.answer(),
        }
    }
    tasks.wake();
    tasks.ended().await;
}

/// Begins to serve a connection on the worker of this index.
fn begin(index: usize, task: Task, socket: Accepted, admission: Admission) -> io::Result<()> {
    let stats = socket.connection(admission.service().now())?;
    // The entry is allocated between the socket and the task: these leave a gap of that size in glibc's heap.
    match socket {
        Accepted::Tcp(stream, listening) => {
            let (stream, protocols) = (TcpStream::try_from(stream)?, listening.protocols);
            let permit = admission.open(stats);
            match listening.security {
                Security::Tls(verify) if permit.service().tls.is_some() => {
                    tokio::spawn(secured((permit, index, task), stream, verify, protocols));
                }
                Security::Plain | Security::Tls(_) => {
                    tokio::spawn(Connection::new(permit, index, stream, protocols).serve(task));
                }
            }
        }
        Accepted::Unix(stream) => {
            let stream = UnixStream::try_from(stream)?;
            let protocols = admission.service().protocols;
            let permit = admission.open(stats);
            tokio::spawn(Connection::new(permit, index, stream, protocols).serve(task));
        }
    }
    Ok(())
}

/// Completes the TLS handshake, then serves.
async fn secured(
    (permit, index, task): (ConnectionPermit, usize, Task),
    stream: TcpStream,
    verify: Verify,
    protocols: Protocols,
) {
    task.register().await;
    let service = permit.service();
    let tls = service.tls.as_ref().expect("there is TLS where it is used");
    let shaken = tokio::select! {
        shaken = tls.accept(stream, verify) => shaken,
        _ = service.shutdown.requested() => return permit.close(&Ok(Closed::Stopping)),
    };
    let counters = service.metrics.of_thread(index);
    match shaken {
        Ok((stream, is_new)) => {
            if is_new {
                counters.add(Count::SslNewSessions);
            }
            let _ = Connection::new(permit, index, stream, protocols).serve(task).await;
        }
        Err(error) => {
            counters.add(Count::SslHandshakeErrors);
            permit.publish(&Event::HandshakeFailed {
                connection: permit.stats().number,
                why: &error.to_string(),
            });
            permit.close(&Err(error));
        }
    }
}
