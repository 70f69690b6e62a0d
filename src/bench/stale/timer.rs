//! Pauses with microsecond precision: tokio's timers end at whole milliseconds, and loads may be that
//! short.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::task::{Poll, Waker};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::net::unix::pipe::Receiver;

use crate::clock::Clock;

/// One system timer for all tasks of the thread.
pub struct Timer {
    /// When the system timer expires; `u64::MAX` for never.
    armed: Cell<u64>,
    clock: Clock,
    late: Cell<Lateness>,
    /// Read like a pipe that receives eight bytes when the timer expires; `AsyncFd` needs `unsafe` for an
    /// owned descriptor.
    system: Receiver,
    /// Ordered by due time; the number separates sleepers with the same time.
    sleepers: RefCell<BTreeMap<(u64, u64), Waker>>,
    sleepers_ever: Cell<u64>,
}

/// By how much pauses were too long.
#[derive(Clone, Copy, Debug, Default)]
struct Lateness {
    nanos: u64,
    pauses: u64,
}

impl Timer {
    /// Must be called within a runtime.
    ///
    /// # Errors
    /// If the system has no timer left.
    pub fn new(clock: Clock) -> io::Result<Timer> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let system = Receiver::from_owned_fd_unchecked(timerfd_create(TimerfdClockId::Monotonic, flags)?)?;
        Ok(Timer {
            armed: Cell::new(u64::MAX),
            clock,
            late: Cell::default(),
            system,
            sleepers: RefCell::default(),
            sleepers_ever: Cell::new(0),
        })
    }

    /// Nanoseconds of the clock.
    pub fn now(&self) -> u64 {
        self.clock.nanos()
    }

    /// Pauses a task for this many nanoseconds, while another one runs [`Timer::drive`].
    pub async fn sleep(&self, nanos: u64) {
        self.sleep_until(self.now().saturating_add(nanos)).await;
    }

    /// Pauses a task until the clock shows this time.
    pub async fn sleep_until(&self, due: u64) {
        poll_fn(|context| {
            if self.now() >= due {
                return Poll::Ready(());
            }
            let number = self.sleepers_ever.get();
            self.sleepers_ever.set(number + 1);
            self.sleepers.borrow_mut().insert((due, number), context.waker().clone());
            if due < self.armed.get() {
                // If this fails, the driver meets the error when it arms the timer itself.
                let _ = self.arm(due);
            }
            Poll::Pending
        })
        .await;
    }

    /// Wakes sleepers as long as it is polled.
    ///
    /// # Errors
    /// If the system timer fails.
    pub async fn drive(&self) -> io::Result<Infallible> {
        loop {
            let next = self.wake();
            self.arm(next)?;
            self.system.readable().await?;
            match self.system.try_read(&mut [0; 8]) {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                Ok(_) | Err(_) => {}
            }
        }
    }

    /// By how many nanoseconds pauses were too long on average since the last call.
    pub fn take_lateness(&self) -> u64 {
        let Lateness { nanos, pauses } = self.late.take();
        nanos / pauses.max(1)
    }

    /// Wakes all tasks that are due; returns when the next one is due.
    fn wake(&self) -> u64 {
        let (now, mut late) = (self.now(), self.late.get());
        let mut sleepers = self.sleepers.borrow_mut();
        while let Some(first) = sleepers.first_entry() {
            let (due, _) = *first.key();
            if due > now {
                self.late.set(late);
                return due;
            }
            late = Lateness { nanos: late.nanos + (now - due), pauses: late.pauses + 1 };
            first.remove().wake();
        }
        self.late.set(late);
        u64::MAX
    }

    fn arm(&self, due: u64) -> io::Result<()> {
        self.armed.set(due);
        // 0 would disarm the timer.
        let nanos = if due == u64::MAX { 0 } else { due.saturating_sub(self.now()).max(1) };
        let span = |nanos: u64| Timespec {
            tv_sec: (nanos / NANOS_PER_SECOND) as i64,
            tv_nsec: (nanos % NANOS_PER_SECOND) as _,
        };
        let once = Itimerspec { it_interval: span(0), it_value: span(nanos) };
        timerfd_settime(&self.system, TimerfdTimerFlags::empty(), &once)?;
        Ok(())
    }
}

const NANOS_PER_SECOND: u64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use tokio::runtime::Builder;

    use super::*;

    #[test]
    fn sleepers_wake_in_the_order_of_their_due_times() {
        let runtime = Builder::new_current_thread().enable_io().build().unwrap();
        let woken = runtime.block_on(async {
            let timer = Rc::new(Timer::new(Clock::system()).unwrap());
            let woken = RefCell::new(Vec::new());
            let start = timer.now();
            let sleeper = async |millis: u64| {
                timer.sleep_until(start + millis * 1_000_000).await;
                assert!(timer.now() >= start + millis * 1_000_000);
                woken.borrow_mut().push(millis);
            };
            tokio::select! {
                ended = timer.drive() => panic!("{ended:?}"),
                _ = async { tokio::join!(sleeper(30), sleeper(0), sleeper(10), sleeper(10), sleeper(20)) } => {}
            }
            woken.into_inner()
        });
        assert_eq!(woken, [0, 10, 10, 20, 30]);
    }
}
