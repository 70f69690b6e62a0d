//! A server of fixed replies: the upper limit that the kernel sets for any server.

use std::io::{self, Read, Write};
use std::net::TcpStream as Client;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};

use leasehold::bench::{Dialect, Server};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};
use nix::unistd::{Pid, gettid};

use crate::peers::{Cores, Fleet, Kind, busy_seconds};
use crate::rows::Row;

/// A thread that serves until this is dropped.
pub struct Limit {
    pub server: Server,
    ending: Arc<AtomicBool>,
    /// The id of its thread.
    id: Pid,
    thread: Option<JoinHandle<()>>,
    waker: Waker,
}

/// A connection.
struct Peer {
    /// Received lines of an unfinished request.
    lines: usize,
    /// Bytes of replies that are not sent yet.
    unsent: usize,
    stream: TcpStream,
}

/// The part of the protocol that it implements.
struct Fixed {
    /// Lines of a request.
    lines: usize,
    /// The reply to each request.
    reply: Vec<u8>,
}

impl Limit {
    /// `None` if it does not support the requests of this row.
    pub fn start(row: &Row, fleet: &Fleet, keys: usize) -> io::Result<Option<Limit>> {
        let Some(flags) = row.flags(Kind::Limit, keys) else { return Ok(None) };
        let Some(leasehold) = fleet.of(Kind::Leasehold) else { return Ok(None) };
        let fixed = Fixed::like(&leasehold.server, &flags)?;
        let listener = TcpListener::bind("127.0.0.1:0".parse().expect("it is an address"))?;
        let server = Server { address: listener.local_addr()?.to_string(), dialect: Dialect::Text };
        let (poll, ending) = (Poll::new()?, Arc::new(AtomicBool::new(false)));
        let (waker, cores, ends) = (Waker::new(poll.registry(), WAKER)?, fleet.cores, Arc::clone(&ending));
        let (sender, begun) = mpsc::channel();
        let serve = move || {
            sender.send(gettid()).expect("the starter waits for it");
            serve(poll, listener, &fixed, cores, &ends).expect("loopback works");
        };
        let thread = Some(thread::spawn(serve));
        let id = begun.recv().expect("the thread sends it first");
        Ok(Some(Limit { server, ending, id, thread, waker }))
    }

    /// Seconds of processor time that it has used.
    pub fn busy_seconds(&self) -> f64 {
        busy_seconds(&format!("/proc/self/task/{}/stat", self.id))
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Release);
        self.waker.wake().expect("its thread polls");
        self.thread.take().expect("it ends once").join().expect("it does not panic");
    }
}

impl Fixed {
    /// Fixes the reply to that of leasehold.
    fn like(leasehold: &Server, flags: &str) -> io::Result<Fixed> {
        if flags.contains("-m set") {
            return Ok(Fixed { lines: 2, reply: b"STORED\r\n".to_vec() });
        }
        let mut client = Client::connect(&leasehold.address)?;
        client.write_all(b"get bench:000000000000000000\r\n")?;
        let (mut reply, mut piece) = (Vec::new(), [0; 1024]);
        while !reply.ends_with(b"END\r\n") {
            match client.read(&mut piece)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                bytes => reply.extend_from_slice(&piece[..bytes]),
            }
        }
        Ok(Fixed { lines: 1, reply })
    }
}

fn serve(
    mut poll: Poll,
    mut listener: TcpListener,
    fixed: &Fixed,
    cores: Cores,
    ends: &AtomicBool,
) -> io::Result<()> {
    cores.be_server();
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut connections: Vec<Peer> = Vec::new();
    let replies = fixed.reply.repeat(REPLIES_MAX);
    let (mut events, mut inbox) = (Events::with_capacity(1024), vec![0; INBOX_BYTES]);
    while !ends.load(Ordering::Acquire) {
        poll.poll(&mut events, None)?;
        for event in &events {
            match event.token() {
                LISTENER => accept(&poll, &listener, &mut connections)?,
                WAKER => {}
                Token(index) => {
                    answer(&mut connections[index], fixed, &replies, &mut inbox);
                }
            }
        }
    }
    Ok(())
}

fn accept(poll: &Poll, listener: &TcpListener, connections: &mut Vec<Peer>) -> io::Result<()> {
    loop {
        match listener.accept() {
            Ok((mut stream, _)) => {
                stream.set_nodelay(true)?;
                let interest = Interest::READABLE | Interest::WRITABLE;
                poll.registry().register(&mut stream, Token(connections.len()), interest)?;
                connections.push(Peer { lines: 0, unsent: 0, stream });
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// Reads once and writes once.
fn answer(peer: &mut Peer, fixed: &Fixed, replies: &[u8], inbox: &mut [u8]) {
    // A closed connection is ignored.
    let bytes = peer.stream.read(inbox).unwrap_or(0);
    peer.lines += memchr::memchr_iter(b'\n', &inbox[..bytes]).count();
    peer.unsent += peer.lines / fixed.lines * fixed.reply.len();
    peer.lines %= fixed.lines;
    if peer.unsent > 0 {
        // The last write may have ended within a reply.
        let begin = (fixed.reply.len() - peer.unsent % fixed.reply.len()) % fixed.reply.len();
        peer.unsent -= peer.stream.write(&replies[begin..begin + peer.unsent]).unwrap_or(0);
    }
}

/// More than the pipeline of any row.
const REPLIES_MAX: usize = 64;
const INBOX_BYTES: usize = 16 * 1024;
const LISTENER: Token = Token(usize::MAX);
const WAKER: Token = Token(usize::MAX - 1);
