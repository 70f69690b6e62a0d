//! The lines of the log that wait to be written, so that a log that nobody reads never stops the server.

use std::collections::VecDeque;
use std::io::Write;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// Waiting lines, at most [`WAITING_LINES_MAX`]; further ones are dropped and counted.
pub(super) struct Queue {
    /// Notified when there is a line.
    arrived: Condvar,
    lines: Mutex<Lines>,
    /// Notified when all lines are written.
    written: Condvar,
}

struct Lines {
    /// Dropped lines that no report has named.
    dropped: u64,
    is_writing: bool,
    waiting: VecDeque<Vec<u8>>,
}

impl Queue {
    pub(super) const fn new() -> Queue {
        let lines = Lines { dropped: 0, is_writing: false, waiting: VecDeque::new() };
        Queue { arrived: Condvar::new(), lines: Mutex::new(lines), written: Condvar::new() }
    }

    /// Adds a line, or drops it. The first line after dropped ones begins with a report of their number.
    pub(super) fn push(&self, line: &[u8], report: impl FnOnce(u64) -> Vec<u8>) {
        let mut lines = self.lines.lock();
        if lines.waiting.len() >= WAITING_LINES_MAX {
            lines.dropped += 1;
            return;
        }
        let mut text = match std::mem::take(&mut lines.dropped) {
            0 => Vec::new(),
            dropped => report(dropped),
        };
        text.extend_from_slice(line);
        lines.waiting.push_back(text);
        self.arrived.notify_one();
    }

    /// Writes one line after another, for ever.
    pub(super) fn write(&self, mut output: impl Write) {
        loop {
            let line = self.next();
            // Nobody is left to report it to.
            let _ = output.write_all(&line);
        }
    }

    /// Waits until all lines are written, or for so long.
    pub(super) fn finish(&self, limit: Duration) {
        let mut lines = self.lines.lock();
        let is_busy = |lines: &mut Lines| lines.is_writing || !lines.waiting.is_empty();
        self.written.wait_while_for(&mut lines, is_busy, limit);
    }

    fn next(&self) -> Vec<u8> {
        let mut lines = self.lines.lock();
        lines.is_writing = false;
        loop {
            if let Some(line) = lines.waiting.pop_front() {
                lines.is_writing = true;
                return line;
            }
            self.written.notify_all();
            self.arrived.wait(&mut lines);
        }
    }
}

/// The largest number of lines that wait to be written.
pub const WAITING_LINES_MAX: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropped_lines_are_counted_exactly() {
        let queue = Queue::new();
        let push = |line: &[u8]| queue.push(line, |dropped| format!("{dropped} dropped\n").into_bytes());
        (0..WAITING_LINES_MAX + 3).for_each(|_| push(b"line\n"));
        assert_eq!(queue.next(), b"line\n");
        push(b"later\n");
        push(b"too late\n");
        let mut rest: Vec<_> = (0..WAITING_LINES_MAX).map(|_| queue.next()).collect();
        assert_eq!(rest.pop().unwrap(), b"3 dropped\nlater\n");
        assert!(rest.iter().all(|line| line == b"line\n"));
        push(b"last\n");
        assert_eq!(queue.next(), b"1 dropped\nlast\n");
        push(b"end\n");
        assert_eq!(queue.next(), b"end\n");
    }
}
