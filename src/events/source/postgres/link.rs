//! The framing of PostgreSQL's protocol over a byte stream.
//!
//! All that is half received or half sent is in the [`Link`], so that each of its futures can be dropped.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

use super::failure::Failure;

/// A connected socket, with TLS or without.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Sync + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Sync + Unpin> Stream for S {}

/// A connection, as messages.
pub(super) struct Link {
    input: BytesMut,
    is_flushed: bool,
    /// Bytes to be sent.
    pub(super) output: BytesMut,
    /// Bytes of a message that is too long, which are dropped as they arrive.
    skipped: usize,
    stream: Box<dyn Stream>,
}

/// A message of the server.
pub(super) struct Frame {
    /// Its content, or the beginning if it is too long.
    pub(super) body: Bytes,
    /// The length of its content.
    pub(super) length: usize,
    pub(super) tag: u8,
}

impl Frame {
    /// Whether `body` is only the beginning.
    pub(super) fn is_cut(&self) -> bool {
        self.body.len() < self.length
    }
}

impl Link {
    pub(super) fn new(stream: Box<dyn Stream>) -> Link {
        let (input, output) = (BytesMut::new(), BytesMut::new());
        Link { input, is_flushed: true, output, skipped: 0, stream }
    }

    /// The next message, if it has arrived.
    pub(super) fn frame(&mut self) -> Result<Option<Frame>, Failure> {
        let skipped = self.skipped.min(self.input.len());
        self.input.advance(skipped);
        self.skipped -= skipped;
        let Some((head, rest)) = self.input.split_first_chunk::<HEAD_BYTES>() else { return Ok(None) };
        let [tag, length @ ..] = *head;
        let length = (u32::from_be_bytes(length) as usize).checked_sub(4);
        let length = length.ok_or_else(|| Failure::Protocol("a message shorter than its head".to_owned()))?;
        let kept = if length > FRAME_BYTES_MAX { CUT_BYTES } else { length };
        if rest.len() < kept {
            return Ok(None);
        }
        self.input.advance(HEAD_BYTES);
        let body = self.input.split_to(kept).freeze();
        self.skipped = length - kept;
        Ok(Some(Frame { body, length, tag }))
    }

    /// Waits for the next message, and sends meanwhile.
    pub(super) async fn receive(&mut self) -> Result<Frame, Failure> {
        loop {
            if let Some(frame) = self.frame()? {
                return Ok(frame);
            }
            self.turn().await?;
        }
    }

    /// Sends and receives until something has been received.
    pub(super) async fn turn(&mut self) -> io::Result<()> {
        poll_fn(|context| self.poll_turn(context)).await
    }

    /// Sends and receives as far as possible without waiting; returns whether something was received.
    pub(super) async fn turn_at_once(&mut self) -> io::Result<bool> {
        poll_fn(|context| match self.poll_turn(context) {
            Poll::Ready(done) => Poll::Ready(done.map(|()| true)),
            Poll::Pending => Poll::Ready(Ok(false)),
        })
        .await
    }

    /// Sends as far as possible without waiting.
    pub(super) async fn send_at_once(&mut self) -> io::Result<()> {
        poll_fn(|context| match self.poll_send(context) {
            Poll::Ready(sent) => Poll::Ready(sent),
            Poll::Pending => Poll::Ready(Ok(())),
        })
        .await
    }

    fn poll_turn(&mut self, context: &mut Context) -> Poll<io::Result<()>> {
        if let Poll::Ready(Err(_)) = self.poll_send(context) {
            // The server may have given a reason before it closed the connection: reading finds it, or the
            // end.
            self.output.clear();
            self.is_flushed = true;
        }
        self.input.reserve(READ_BYTES);
        let read = pin!(self.stream.read_buf(&mut self.input)).poll(context);
        read.map(|read| match read? {
            0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection")),
            _ => Ok(()),
        })
    }

    fn poll_send(&mut self, context: &mut Context) -> Poll<io::Result<()>> {
        while !self.output.is_empty() {
            let sent = match Pin::new(&mut *self.stream).poll_write(context, &self.output) {
                Poll::Ready(sent) => sent?,
                Poll::Pending => return Poll::Pending,
            };
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.output.advance(sent);
            self.is_flushed = false;
        }
        if !self.is_flushed {
            match Pin::new(&mut *self.stream).poll_flush(context) {
                Poll::Ready(flushed) => flushed?,
                Poll::Pending => return Poll::Pending,
            }
            self.is_flushed = true;
        }
        Poll::Ready(Ok(()))
    }
}

/// The tag and the length.
const HEAD_BYTES: usize = 5;
/// A longer message is not kept: a row of PostgreSQL can have 1 GiB.
const FRAME_BYTES_MAX: usize = 64 << 20;
/// The part of a message that is too long, which is kept.
const CUT_BYTES: usize = 1024;
const READ_BYTES: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test]
    async fn messages_arrive_whole_in_pieces_of_any_size() {
        let (near, mut far) = tokio::io::duplex(3);
        let mut link = Link::new(Box::new(near));
        let sender = async {
            far.write_all(b"Z\0\0\0\x05ID\0\0\0\x04").await.expect("it is read");
            far
        };
        let receiver = async {
            let (first, second) = (link.receive().await, link.receive().await);
            (first.expect("sent"), second.expect("sent"))
        };
        let ((first, second), far) = tokio::join!(receiver, sender);
        assert_eq!((first.tag, &first.body[..], first.is_cut()), (b'Z', &b"I"[..], false));
        assert_eq!((second.tag, second.body.len()), (b'D', 0));
        drop(far);
        assert!(
            matches!(link.receive().await, Err(Failure::Io(error)) if error.kind() == io::ErrorKind::UnexpectedEof)
        );
    }

    #[tokio::test]
    async fn a_message_that_is_too_long_is_skipped_and_the_next_is_read() {
        let (near, mut far) = tokio::io::duplex(1 << 20);
        let mut link = Link::new(Box::new(near));
        let sender = tokio::spawn(async move {
            let length = u32::try_from(FRAME_BYTES_MAX + 1 + 4).expect("it fits");
            far.write_all(b"d").await.expect("it is read");
            far.write_all(&length.to_be_bytes()).await.expect("it is read");
            far.write_all(&vec![7; FRAME_BYTES_MAX + 1]).await.expect("it is read");
            far.write_all(b"Z\0\0\0\x05I").await.expect("it is read");
            far
        });
        let cut = link.receive().await.expect("sent");
        assert_eq!((cut.tag, cut.body.len(), cut.length), (b'd', CUT_BYTES, FRAME_BYTES_MAX + 1));
        assert_eq!(link.receive().await.expect("sent").tag, b'Z');
        assert!(link.input.capacity() < 4 << 20, "the message was not kept");
        drop(sender);
    }
}
