//! Limits per client address: open connections, and the delay after wrong passwords.
//!
//! Connections over Unix sockets are not limited: they all come from this machine.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use crate::clock::Now;
use crate::metrics::Address;

/// A client: an IPv4 address, or the first 64 bits of an IPv6 address, which a provider assigns to one
/// customer.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct ClientAddress(IpAddr);

/// The open connections of each client.
pub(super) struct ConnectionLimits {
    /// Limit for each client; 0 for none.
    limit: u32,
    open: HashMap<ClientAddress, u32>,
}

/// Recent wrong passwords by client; all clients over Unix sockets count as one.
#[derive(Default)]
pub(super) struct WrongPasswords(HashMap<Option<ClientAddress>, Wrong>);

struct Wrong {
    /// In monotonic milliseconds.
    last: u64,
    times: u32,
}

impl From<IpAddr> for ClientAddress {
    fn from(address: IpAddr) -> Self {
        ClientAddress(match address.to_canonical() {
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << HOST_BITS)).into(),
            address @ IpAddr::V4(_) => address,
        })
    }
}

impl ClientAddress {
    /// The client at that address; `None` on a Unix socket.
    pub(super) fn of(address: &Address) -> Option<ClientAddress> {
        match address {
            Address::Tcp(address) => Some(address.ip().into()),
            Address::Unix(_) => None,
        }
    }
}

impl ConnectionLimits {
    pub(super) fn new(limit: u32) -> Self {
        ConnectionLimits { limit, open: HashMap::new() }
    }

    /// Counts a connection; false if the client is at its limit.
    pub(super) fn acquire(&mut self, client: ClientAddress) -> bool {
        if self.limit == 0 {
            return true;
        }
        let open = self.open.entry(client).or_default();
        let may = *open < self.limit;
        *open += u32::from(may);
        may
    }

    /// Records that a counted connection has closed.
    pub(super) fn release(&mut self, client: ClientAddress) {
        let Some(open) = self.open.get_mut(&client) else { return };
        *open -= 1;
        if *open == 0 {
            self.open.remove(&client);
        }
    }
}

impl WrongPasswords {
    /// Records a wrong password; returns the delay of the answer.
    pub(super) fn record(&mut self, client: Option<ClientAddress>, now: Now) -> Duration {
        let forgotten = |wrong: &Wrong| now.millis.saturating_sub(wrong.last) >= FORGET_AFTER_MS;
        if self.0.len() >= CLIENTS_MAX && !self.0.contains_key(&client) {
            self.0.retain(|_, wrong| !forgotten(wrong));
        }
        if self.0.len() >= CLIENTS_MAX && !self.0.contains_key(&client) {
            // The table is full: all other clients get the longest delay.
            return DELAY_MAX;
        }
        let wrong = self.0.entry(client).or_insert(Wrong { last: now.millis, times: 0 });
        if forgotten(wrong) {
            wrong.times = 0;
        }
        let delay = DELAY_MIN * (1 << wrong.times.min(DOUBLINGS));
        *wrong = Wrong { last: now.millis, times: wrong.times + 1 };
        delay.min(DELAY_MAX)
    }
}

/// The part of an IPv6 address that a customer may choose.
const HOST_BITS: u32 = 64;
/// The delay after the first wrong password; each further one doubles it.
const DELAY_MIN: Duration = Duration::from_millis(100);
const DELAY_MAX: Duration = Duration::from_secs(3);
/// Doublings from the shortest delay to beyond the longest.
const DOUBLINGS: u32 = 5;
/// After this long without a wrong password, the delay starts over.
const FORGET_AFTER_MS: u64 = 60_000;
/// The limit on clients with remembered wrong passwords.
const CLIENTS_MAX: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    fn client(address: &str) -> ClientAddress {
        address.parse::<IpAddr>().unwrap().into()
    }

    #[test]
    fn a_customers_addresses_are_one_client() {
        assert_eq!(client("2001:db8::1"), client("2001:db8::ffff:1"));
        assert_ne!(client("2001:db8::1"), client("2001:db8:0:1::1"));
        assert_eq!(client("::ffff:10.0.0.1"), client("10.0.0.1"));
        assert_ne!(client("::ffff:10.0.0.1"), client("::ffff:10.0.0.2"));
    }

    #[test]
    fn connections_are_limited_for_each_client() {
        let mut clients = ConnectionLimits::new(2);
        let (one, other) = (client("10.0.0.1"), client("10.0.0.2"));
        assert_eq!([one, one, one, other].map(|client| clients.acquire(client)), [true, true, false, true]);
        clients.release(one);
        assert_eq!([one, one].map(|client| clients.acquire(client)), [true, false]);
        [one, one, other].into_iter().for_each(|client| clients.release(client));
        assert!(clients.open.is_empty(), "clients without connections are removed");
        let mut unlimited = ConnectionLimits::new(0);
        assert!((0..9).all(|_| unlimited.acquire(one)) && unlimited.open.is_empty());
    }

    #[test]
    fn the_delay_doubles_until_wrong_passwords_are_forgotten() {
        let (mut wrong, one) = (WrongPasswords::default(), Some(client("10.0.0.1")));
        let at = |millis| Now { millis, unix: 0 };
        let delays: Vec<_> = (0..40).map(|_| wrong.record(one, at(0)).as_millis()).collect();
        assert_eq!(delays[..7], [100, 200, 400, 800, 1_600, 3_000, 3_000]);
        assert!(delays[7..].iter().all(|delay| *delay == 3_000));
        assert_eq!(wrong.record(None, at(0)), DELAY_MIN, "another client");
        assert_eq!(wrong.record(one, at(59_999)), DELAY_MAX);
        assert_eq!(wrong.record(one, at(119_999)), DELAY_MIN);
    }

    #[test]
    fn new_clients_get_the_longest_delay_while_the_table_is_full() {
        let mut wrong = WrongPasswords::default();
        let at = |millis| Now { millis, unix: 0 };
        let nth = |n: usize| Some(ClientAddress(IpAddr::V4((n as u32).into())));
        assert!((0..CLIENTS_MAX).all(|n| wrong.record(nth(n), at(0)) == DELAY_MIN));
        assert_eq!(wrong.record(nth(CLIENTS_MAX), at(0)), DELAY_MAX);
        assert_eq!(wrong.record(nth(0), at(0)), DELAY_MIN * 2);
        assert_eq!(wrong.record(nth(CLIENTS_MAX), at(60_000)), DELAY_MIN);
        assert_eq!(wrong.0.len(), 1);
    }
}
