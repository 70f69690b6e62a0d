//! The side of the server that comes next. Nothing else runs in it yet: it waits where it stands.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use nix::unistd::{User, geteuid};
use rustix::net::sockopt::socket_peercred;

use super::descriptors::{self, LINE_BYTES_MAX};
use super::{HELLO, PATIENCE, WRITING, socket_beside};
use crate::process::{Inherited, systemd};

/// The server that serves now, and whose sockets are known already.
pub struct Predecessor {
    /// Its process.
    pub(super) pid: i32,
    /// How often systemd wants to hear from the server.
    pub watchdog: Option<Duration>,
    stream: BufReader<UnixStream>,
}

/// What a predecessor leaves.
#[derive(Debug)]
pub(super) enum HandoverOutcome {
    /// Nothing, for that reason.
    Empty(String),
    /// Its items, in the memory file.
    Items,
    /// It is gone without a word: perhaps the file.
    Unsaid,
}

impl Predecessor {
    /// Asks the server that uses this memory file for its sockets. It serves on.
    ///
    /// # Errors
    /// If there is none, if it belongs neither to this user nor to `user` (whom root will become), or if it refuses.
    pub fn ask(memory_file: &Path, user: Option<&str>) -> io::Result<(Predecessor, Inherited)> {
        let named = |error: io::Error| {
            let file = memory_file.display();
            io::Error::new(
                error.kind(),
                format!("cannot take over from the server that uses {file}: {error}"),
            )
        };
        Predecessor::asked(memory_file, user).map_err(named)
    }

    fn asked(memory_file: &Path, user: Option<&str>) -> io::Result<(Predecessor, Inherited)> {
        let stream = UnixStream::connect(socket_beside(memory_file))?;
        let peer = socket_peercred(&stream)?;
        if !is_trusted(peer.uid.as_raw(), user)? {
            return Err(io::Error::other(format!("it belongs to user {}", peer.uid.as_raw())));
        }
        stream.set_read_timeout(Some(PATIENCE))?;
        (&stream).write_all(format!("{HELLO}\n").as_bytes())?;
        let mut line = Vec::new();
        let descriptors =
            descriptors::receive(&stream, &mut line).map_err(|error| silent(error, PATIENCE))?;
        let mut stream = BufReader::new(stream);
        if !line.ends_with(b"\n") {
            (&mut stream).take(LINE_BYTES_MAX as u64).read_until(b'\n', &mut line)?;
        }
        let line = String::from_utf8_lossy(&line);
        let (watchdog, admin) =
            read_offer(line.trim_end()).ok_or_else(|| io::Error::other("it refuses; its log says why"))?;
        let pid = peer.pid.as_raw_nonzero().get();
        Ok((Predecessor { pid, watchdog, stream }, Inherited::from_descriptors(descriptors, admin)?))
    }

    /// Has it stop and leave its items; returns when it serves nobody any more and is out of the way.
    ///
    /// # Errors
    /// If it neither goes nor says so in time: then it may still serve.
    pub(super) fn take(self, max_gap: Duration) -> io::Result<HandoverOutcome> {
        let mut stream = self.stream;
        let take = format!("take {} {}\n", std::process::id(), max_gap.as_millis());
        stream.get_mut().write_all(take.as_bytes())?;
        stream.get_mut().set_read_timeout(Some(max_gap + PATIENCE))?;
        let mut line = String::new();
        loop {
            line.clear();
            match (&mut stream).take(LINE_BYTES_MAX as u64).read_line(&mut line) {
                Err(error) if error.kind() != io::ErrorKind::ConnectionReset => {
                    let why = silent(error, max_gap + PATIENCE);
                    return Err(io::Error::new(
                        why.kind(),
                        format!("process {} neither ends nor says why: {why}", self.pid),
                    ));
                }
                Ok(_) if line.trim_end() == WRITING => systemd::extend_timeout(),
                Ok(_) | Err(_) => break,
            }
        }
        let (word, rest) = line.trim_end().split_once(' ').unwrap_or_default();
        Ok(match word {
            "kept" => HandoverOutcome::Items,
            "empty" => HandoverOutcome::Empty(rest.to_owned()),
            _ => HandoverOutcome::Unsaid,
        })
    }
}

/// What the system calls temporarily unavailable is a peer that did not speak in time.
fn silent(error: io::Error, patience: Duration) -> io::Error {
    match error.kind() {
        kind @ io::ErrorKind::WouldBlock => {
            io::Error::new(kind, format!("it says nothing for {} s", patience.as_secs()))
        }
        _ => error,
    }
}

/// How often systemd wants to hear from the server, and where `--admin` is.
fn read_offer(line: &str) -> Option<(Option<Duration>, Option<SocketAddr>)> {
    let (micros, admin) = line.strip_prefix("sockets ")?.split_once(' ')?;
    let micros = micros.parse().ok()?;
    Some(((micros > 0).then(|| Duration::from_micros(micros)), admin.parse().ok()))
}

/// Whether what that user says is to be believed: who can write beside the file could listen there, too.
fn is_trusted(uid: u32, user: Option<&str>) -> io::Result<bool> {
    let own = geteuid();
    let later = user.filter(|_| own.is_root()).map(User::from_name).transpose()?.flatten();
    Ok(uid == 0 || uid == own.as_raw() || later.is_some_and(|user| user.uid.as_raw() == uid))
}
