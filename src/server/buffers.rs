//! The pool of connection buffers of one thread. A connection has buffers only while they contain
//! something: an idle one holds nothing but its state, and the next active one works in memory that is
//! still in the processor's caches.

use std::cell::RefCell;

use crate::protocol::{Output, Requests};

thread_local! {
    static FREE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Lends a connection buffers to work with.
pub(super) fn lend(requests: &mut Requests, output: &mut Output) {
    FREE.with_borrow_mut(|free| {
        requests.lend(|| free.pop().unwrap_or_default());
        output.lend(|| free.pop().unwrap_or_default());
    });
}

/// Takes back the empty ones.
pub(super) fn take_back(requests: &mut Requests, output: &mut Output) {
    let idle = [requests.take_idle(), output.take_idle()].into_iter().flatten();
    FREE.with_borrow_mut(|free| {
        let room = BUFFERS_MAX.saturating_sub(free.len());
        let is_useful = |buffer: &Vec<u8>| (1..=BUFFER_BYTES_MAX).contains(&buffer.capacity());
        free.extend(idle.filter(is_useful).take(room));
    });
}

/// The limit on pooled buffers of a thread: 4 MiB.
const BUFFERS_MAX: usize = 64;
/// Longer buffers are freed.
const BUFFER_BYTES_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Protocols, ReplyForm, Request};

    /// Between two reads of a large value, a pooled buffer used to keep the line of its command, and the
    /// next connection parsed that as its own.
    #[test]
    fn lent_buffers_are_empty() {
        let (mut one, mut other) = (Requests::new(Protocols::Any), Requests::new(Protocols::Any));
        let (mut form, mut output) = (ReplyForm::default(), Output::default());
        one.limit_values(1 << 20);
        lend(&mut one, &mut output);
        one.space().put_slice(b"set k 0 0 100000\r\nbegin");
        assert!(one.decode(&mut form).is_none());
        take_back(&mut one, &mut output);
        lend(&mut other, &mut output);
        assert!(other.decode(&mut form).is_none() && output.is_empty());
        other.space().put_slice(b"quit\r\n");
        assert_eq!(other.decode(&mut form), Some(Ok(Request::Quit)));
    }
}
