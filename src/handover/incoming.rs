//! The new server's side of a handover. Nothing else runs in that process yet, so it blocks.

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

/// The running server, whose sockets have been received.
pub struct Predecessor {
    /// Its process id.
    pub(super) pid: i32,
    /// The period of systemd's watchdog.
    pub watchdog: Option<Duration>,
    stream: BufReader<UnixStream>,
}

/// The result of a handover for the items.
#[derive(Debug)]
pub(super) enum HandoverOutcome {
    /// There are no items, for this reason.
    Empty(String),
    /// All items are in the snapshot file.
    Items,
    /// The process ended without a report; the items may be in the snapshot file.
    Unreported,
}

impl Predecessor {
    /// Asks the server that uses this snapshot file for its sockets. That server keeps serving.
    ///
    /// # Errors
    /// If there is none, if it runs neither as this user nor as `user` (to whom root will switch), or if it
    /// refuses.
    pub fn ask(memory_file: &Path, user: Option<&str>) -> io::Result<(Predecessor, Inherited)> {
        let named = |error: io::Error| {
            let file = memory_file.display();
            io::Error::new(
                error.kind(),
                format!("cannot take over from the server that uses {file}: {error}"),
            )
        };
        Predecessor::connect(memory_file, user).map_err(named)
    }

    fn connect(memory_file: &Path, user: Option<&str>) -> io::Result<(Predecessor, Inherited)> {
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

    /// Makes the predecessor stop and write its items; returns once its sockets and files are free.
    ///
    /// # Errors
    /// If it neither ends nor answers in time: then it may still serve.
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
                        format!("process {} neither ends nor answers: {why}", self.pid),
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
            _ => HandoverOutcome::Unreported,
        })
    }
}

/// The system reports a read that timed out as temporarily unavailable.
fn silent(error: io::Error, patience: Duration) -> io::Error {
    match error.kind() {
        kind @ io::ErrorKind::WouldBlock => {
            io::Error::new(kind, format!("no answer within {} s", patience.as_secs()))
        }
        _ => error,
    }
}

/// The period of systemd's watchdog, and the address of `--admin`.
fn read_offer(line: &str) -> Option<(Option<Duration>, Option<SocketAddr>)> {
    let (micros, admin) = line.strip_prefix("sockets ")?.split_once(' ')?;
    let micros = micros.parse().ok()?;
    Some(((micros > 0).then(|| Duration::from_micros(micros)), admin.parse().ok()))
}

/// Whether that user is trusted: anyone who can write next to the file could listen there, too.
fn is_trusted(uid: u32, user: Option<&str>) -> io::Result<bool> {
    let own = geteuid();
    let later = user.filter(|_| own.is_root()).map(User::from_name).transpose()?.flatten();
    Ok(uid == 0 || uid == own.as_raw() || later.is_some_and(|user| user.uid.as_raw() == uid))
}
