//! A network that can swallow everything without closing a connection.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// A proxy to this port, and a number: connections made while it was less are swallowed.
pub async fn proxy(server: u16) -> (u16, watch::Sender<u32>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    let (flows, switch) = watch::channel(0);
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let Ok(far) = TcpStream::connect(("127.0.0.1", server)).await else { continue };
            let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
            let made = *switch.borrow();
            tokio::spawn(forward(near_in, far_out, made, switch.clone()));
            tokio::spawn(forward(far_in, near_out, made, switch.clone()));
        }
    });
    (port, flows)
}

/// As [`proxy`], in a thread that ends with the process.
pub fn proxy_beside(server: u16) -> (u16, watch::Sender<u32>) {
    let (sender, made) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("the system has room for a runtime").block_on(async {
            sender.send(proxy(server).await).expect("it is waited for");
            std::future::pending::<()>().await;
        });
    });
    made.recv().expect("it starts")
}

async fn forward(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, made: u32, switch: watch::Receiver<u32>) {
    let mut piece = [0; 4096];
    while let Ok(length @ 1..) = from.read(&mut piece).await {
        if *switch.borrow() == made && to.write_all(&piece[..length]).await.is_err() {
            return;
        }
    }
    if *switch.borrow() != made {
        // Neither side learns of the end of the other.
        std::future::pending::<()>().await;
    }
}
