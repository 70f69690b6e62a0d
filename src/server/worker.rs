//! One worker thread: the connections that were handed to it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinSet;

use super::Service;
use super::connection;
use super::listener::Accepted;

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
    let ended = match socket {
        Accepted::Tcp(stream) => match stream.try_into() {
            Ok(stream) => connection::serve::<tokio::net::TcpStream>(&service, index, stream).await,
            Err(error) => Err(error),
        },
        Accepted::Unix(stream) => match stream.try_into() {
            Ok(stream) => connection::serve::<tokio::net::UnixStream>(&service, index, stream).await,
            Err(error) => Err(error),
        },
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection lost");
    }
    service.metrics.connections.fetch_sub(1, Ordering::Relaxed);
}
