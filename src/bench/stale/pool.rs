//! Connections that several tasks share.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::ops::{Deref, DerefMut};

use tokio::sync::{Semaphore, SemaphorePermit};

use super::link::Link;
use super::workload::Order;
use crate::bench::connection::Fault;
use crate::bench::server::Dialect;

/// A pool of connections. Tasks that find none free wait in order of arrival.
pub struct Pool {
    free: RefCell<VecDeque<Link>>,
    order: Order,
    turns: Semaphore,
}

/// A borrowed connection, which returns to the pool when this is dropped.
pub struct Borrowed<'a> {
    link: Option<Link>,
    pool: &'a Pool,
    _turn: SemaphorePermit<'a>,
}

impl Pool {
    /// Opens all connections of a pool.
    pub async fn connect(
        size: usize,
        order: Order,
        addresses: &[SocketAddr],
        from: Option<IpAddr>,
        dialect: Dialect,
    ) -> Result<Pool, Fault> {
        let mut free = VecDeque::with_capacity(size);
        for _ in 0..size {
            free.push_back(Link::connect(addresses, from, dialect).await?);
        }
        Ok(Pool { free: RefCell::new(free), order, turns: Semaphore::new(size) })
    }

    /// Takes a connection, as soon as one is free.
    pub async fn take(&self) -> Borrowed<'_> {
        let turn = self.turns.acquire().await.expect("the semaphore is never closed");
        let mut free = self.free.borrow_mut();
        let link = match self.order {
            Order::Fifo => free.pop_front(),
            Order::Lifo => free.pop_back(),
        };
        Borrowed { link, pool: self, _turn: turn }
    }
}

impl Deref for Borrowed<'_> {
    type Target = Link;

    fn deref(&self) -> &Link {
        self.link.as_ref().expect("it goes back only when this is dropped")
    }
}

impl DerefMut for Borrowed<'_> {
    fn deref_mut(&mut self) -> &mut Link {
        self.link.as_mut().expect("it goes back only when this is dropped")
    }
}

impl Drop for Borrowed<'_> {
    fn drop(&mut self) {
        self.pool.free.borrow_mut().extend(self.link.take());
    }
}
