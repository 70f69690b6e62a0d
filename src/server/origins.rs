//! The origins of connections: all connections of one address share an origin, and so do all Unix sockets.
//!
//! An origin is remembered as long as it has a connection.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::client_limits::ClientAddress;
use crate::cache::Origin;

/// All origins that have connections.
#[derive(Default)]
pub(super) struct Origins(Mutex<HashMap<Option<ClientAddress>, Weak<Origin>>>);

impl Origins {
    /// The origin of a connection from this address, or from a Unix socket.
    pub(super) fn of(&self, client: Option<ClientAddress>) -> Arc<Origin> {
        let mut origins = self.0.lock();
        if let Some(origin) = origins.get(&client).and_then(Weak::upgrade) {
            return origin;
        }
        // Before the table would grow, origins without a connection are removed.
        if origins.len() == origins.capacity() {
            origins.retain(|_, origin| origin.strong_count() > 0);
        }
        let origin = Arc::default();
        origins.insert(client, Arc::downgrade(&origin));
        origin
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    #[test]
    fn connections_of_one_address_share_an_origin_while_any_is_open() {
        let origins = Origins::default();
        let of = |number: u32| origins.of(Some(IpAddr::V4(Ipv4Addr::from_bits(number)).into()));
        let (one, other) = (of(1), of(2));
        assert!(Arc::ptr_eq(&one, &of(1)) && !Arc::ptr_eq(&one, &other));
        assert!(Arc::ptr_eq(&origins.of(None), &origins.of(None)) || origins.0.lock().len() == 3);
        (0..10_000).for_each(|number| drop(of(number)));
        assert!(origins.0.lock().capacity() < 1_000, "origins without connections are removed");
        assert!(Arc::ptr_eq(&one, &of(1)));
    }
}
