//! The rows of the table, and their goals.

use crate::peers::Kind;

/// A line of the table.
pub struct Row {
    pub name: &'static str,
    pub machine: Machine,
    /// The flags of `leasehold bench`.
    flags: &'static str,
    /// Servers with other flags, or `None` for those that are left out.
    others: &'static [(Kind, Option<&'static str>)],
    pub unit: Unit,
    pub goal: Goal,
}

/// The threads and cores of servers.
#[derive(Clone, Copy, Eq, PartialEq)]
pub enum Machine {
    /// One worker thread on one core, the generator on another.
    OneCoreEach,
    /// Two worker threads, which share both cores with the generator.
    TwoThreads,
}

/// The unit of a figure.
#[derive(Clone, Copy, Eq, PartialEq)]
pub enum Unit {
    /// Resident memory per connection, for this number of idle connections: less is better.
    BytesEach(usize),
    Keys,
    MegabytesRead,
    /// Microseconds, at 70 % of the rate that memcached has reached in `get/1`: less is better.
    P99,
    Requests,
}

/// The goal, as multiples of other servers' figures.
pub enum Goal {
    All(&'static [(Kind, f64)]),
    Any(&'static [(Kind, f64)]),
}

impl Unit {
    pub fn less_is_better(self) -> bool {
        match self {
            Unit::BytesEach(_) | Unit::P99 => true,
            Unit::Keys | Unit::MegabytesRead | Unit::Requests => false,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Unit::BytesEach(_) => "bytes",
            Unit::Keys => "keys/s",
            Unit::MegabytesRead => "MB/s",
            Unit::P99 => "us",
            Unit::Requests => "1/s",
        }
    }
}

impl Row {
    /// The flags for a server, with this number of keys unless the row sets it.
    pub fn flags(&self, kind: Kind, keys: usize) -> Option<String> {
        let of = |(other, flags): &(Kind, Option<&'static str>)| (*other == kind).then_some(*flags);
        let flags = self.others.iter().find_map(of).unwrap_or(Some(self.flags))?;
        // The limit has one fixed reply, so it is asked for one key. The last flag wins.
        let more = if kind == Kind::Limit { " -K 1" } else { "" };
        Some(format!("-K {keys} {flags}{more}"))
    }
}

/// Requests that neither the limit nor Redis supports.
const MEMCACHED_ONLY: &[(Kind, Option<&str>)] = &[(Kind::Limit, None), (Kind::Redis, None)];
const NO_LIMIT: &[(Kind, Option<&str>)] = &[(Kind::Limit, None)];

pub const ROWS: [Row; 15] = [
    Row {
        name: "get/1",
        machine: Machine::OneCoreEach,
        flags: "-m get",
        others: &[],
        unit: Unit::Requests,
        goal: Goal::Any(&[(Kind::Memcached, 1.25), (Kind::Limit, 0.9)]),
    },
    Row {
        name: "set/1",
        machine: Machine::OneCoreEach,
        flags: "-m set",
        others: &[],
        unit: Unit::Requests,
        goal: Goal::Any(&[(Kind::Memcached, 1.25), (Kind::Limit, 0.9)]),
    },
    Row {
        name: "get/16",
        machine: Machine::OneCoreEach,
        flags: "-m get -P 16",
        others: &[],
        unit: Unit::Requests,
        goal: Goal::All(&[(Kind::Redis, 2.0), (Kind::Limit, 0.6)]),
    },
    Row {
        name: "set/16",
        machine: Machine::OneCoreEach,
        flags: "-m set -P 16",
        others: &[],
        unit: Unit::Requests,
        goal: Goal::All(&[(Kind::Redis, 1.7)]),
    },
    Row {
        name: "set+delete/16",
        machine: Machine::OneCoreEach,
        flags: "-m set,delete -P 16",
        others: NO_LIMIT,
        unit: Unit::Requests,
        goal: Goal::All(&[]),
    },
    Row {
        name: "mg/16",
        machine: Machine::OneCoreEach,
        flags: "-m mg -P 16",
        others: MEMCACHED_ONLY,
        unit: Unit::Requests,
        goal: Goal::All(&[(Kind::Memcached, 2.0)]),
    },
    Row {
        name: "get-50",
        machine: Machine::OneCoreEach,
        flags: "-m get -k 50",
        others: NO_LIMIT,
        unit: Unit::Keys,
        goal: Goal::All(&[(Kind::Redis, 1.6)]),
    },
    // Delete, lease-get and lease-set, compared with a set in Redis and memcached, which have no leases.
    Row {
        name: "lease/16",
        machine: Machine::OneCoreEach,
        flags: "-m set -P 16",
        others: &[(Kind::Leasehold, Some("-m cycle -P 16")), (Kind::Limit, None)],
        unit: Unit::Requests,
        goal: Goal::All(&[(Kind::Redis, 1.0)]),
    },
    Row {
        name: "get-16k",
        machine: Machine::OneCoreEach,
        flags: "-m get -s 16384 -K 1000",
        others: &[],
        unit: Unit::MegabytesRead,
        goal: Goal::All(&[(Kind::Memcached, 1.2)]),
    },
    Row {
        name: "get-512k",
        machine: Machine::OneCoreEach,
        flags: "-m get -s 524288 -K 64",
        others: NO_LIMIT,
        unit: Unit::MegabytesRead,
        goal: Goal::All(&[(Kind::Memcached, 1.0)]),
    },
    Row {
        name: "p99",
        machine: Machine::OneCoreEach,
        flags: "-m get",
        others: NO_LIMIT,
        unit: Unit::P99,
        goal: Goal::All(&[(Kind::Memcached, 1.0)]),
    },
    two_threads("get/1-t2", "-m get"),
    two_threads("set/1-t2", "-m set"),
    two_threads("get/16-t2", "-m get -P 16"),
    two_threads("set/16-t2", "-m set -P 16"),
];

/// Requests with one key, with growing numbers of items, and with growing numbers of connections.
pub const GROWTH: [Row; 12] = [
    // Each has ten times as many as the previous one, so that memory freed by the previous one hardly counts.
    idle("idle-100", 100),
    idle("idle-1000", 1_000),
    idle("idle-10000", 10_000),
    growth("hot-key", "-m get -P 16 -K 1"),
    growth("items-10k", "-m get -P 16 -K 10000"),
    growth("items-100k", "-m get -P 16 -K 100000"),
    growth("items-1m", "-m get -P 16 -K 1000000"),
    growth("items-4m", "-m get -P 16 -K 4000000"),
    growth("set-1m", "-m set -P 16 -K 1000000"),
    Row { others: MEMCACHED_ONLY, ..growth("mg-1m", "-m mg -P 16 -K 1000000") },
    Row { unit: Unit::Keys, ..growth("get-50-1m", "-m get -k 50 -K 1000000") },
    growth("connections", "-m get -P 16 -c 1000"),
];

const fn growth(name: &'static str, flags: &'static str) -> Row {
    Row {
        name,
        machine: Machine::OneCoreEach,
        flags,
        others: NO_LIMIT,
        unit: Unit::Requests,
        goal: Goal::All(&[]),
    }
}

const fn idle(name: &'static str, connections: usize) -> Row {
    Row { unit: Unit::BytesEach(connections), ..growth(name, "") }
}

const fn two_threads(name: &'static str, flags: &'static str) -> Row {
    Row {
        name,
        machine: Machine::TwoThreads,
        flags,
        // Redis has no second worker thread.
        others: MEMCACHED_ONLY,
        unit: Unit::Requests,
        goal: Goal::All(&[(Kind::Memcached, 1.0)]),
    }
}
