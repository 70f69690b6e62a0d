//! Passes file descriptors between processes, in messages with a line of text each (`SCM_RIGHTS`).

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::cmsg_space;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

/// Sends a line with copies of descriptors.
///
/// # Errors
/// If the other end is closed or does not read, or there are more than [`DESCRIPTORS_MAX`].
pub(super) fn send(socket: impl AsFd, line: &str, descriptors: &[BorrowedFd]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); SPACE];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if descriptors.len() > DESCRIPTORS_MAX || !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::other(format!("more than {DESCRIPTORS_MAX} sockets")));
    }
    let sent = sendmsg(socket, &[IoSlice::new(line.as_bytes())], &mut ancillary, SendFlags::NOSIGNAL)?;
    assert!(sent == line.len(), "a fresh socket has room for a line");
    Ok(())
}

/// Receives the message of one [`send`]: the line, or its beginning, and the descriptors.
///
/// # Errors
/// If the other end is closed, or the read times out.
pub(super) fn receive(socket: impl AsFd, line: &mut Vec<u8>) -> io::Result<Vec<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); SPACE];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = [0; LINE_BYTES_MAX];
    let flags = RecvFlags::CMSG_CLOEXEC;
    let received = recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, flags)?;
    line.extend(&bytes[..received.bytes]);
    let mut descriptors = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    Ok(descriptors)
}

/// Linux's limit for one message (`SCM_MAX_FD`).
pub(super) const DESCRIPTORS_MAX: usize = 253;
/// The longest line of the conversation.
pub(super) const LINE_BYTES_MAX: usize = 512;
const SPACE: usize = cmsg_space!(ScmRights(DESCRIPTORS_MAX));

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn sent_descriptors_arrive_as_the_same_sockets() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        for count in [0, 1, DESCRIPTORS_MAX] {
            let (here, there) = UnixStream::pair().unwrap();
            send(&here, "sockets\n", &vec![listener.as_fd(); count]).unwrap();
            let mut line = Vec::new();
            let received = receive(&there, &mut line).unwrap();
            assert_eq!((received.len(), &line[..]), (count, &b"sockets\n"[..]));
            for descriptor in received {
                let address = TcpListener::from(descriptor).local_addr().unwrap();
                assert_eq!(address, listener.local_addr().unwrap());
            }
        }
        let (here, _there) = UnixStream::pair().unwrap();
        assert!(send(&here, "", &vec![listener.as_fd(); DESCRIPTORS_MAX + 1]).is_err());
    }
}
