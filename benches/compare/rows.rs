//! What is measured, and what we want to reach.

use crate::peers::Who;

/// A line of the table.
pub struct Row {
    pub name: &'static str,
    pub machine: Machine,
    /// As for `leasehold bench`.
    flags: &'static str,
    /// Who is asked something else, and who nothing at all.
    others: &'static [(Who, Option<&'static str>)],
    pub unit: Unit,
    pub goal: Goal,
}

/// How servers run.
#[derive(Clone, Copy, Eq, PartialEq)]
pub enum Machine {
    /// One worker thread on one core, the generator on another.
    OneCoreEach,
    /// Two worker threads, which share both cores with the generator.
    TwoThreads,
}

/// What a figure counts.
#[derive(Clone, Copy, Eq, PartialEq)]
pub enum Unit {
    /// Resident memory of so many idle connections, divided by their number: less is better.
    BytesEach(usize),
    Keys,
    MegabytesRead,
    /// Microseconds, at 70 % of the rate that memcached has reached in `get/1`: less is better.
    P99,
    Requests,
}

/// So many times another's figure.
pub enum Goal {
    All(&'static [(Who, f64)]),
    Any(&'static [(Who, f64)]),
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
    /// What this one is asked, of so many keys unless the row says of how many.
    pub fn flags(&self, who: Who, keys: usize) -> Option<String> {
        let of = |(other, flags): &(Who, Option<&'static str>)| (*other == who).then_some(*flags);
        let flags = self.others.iter().find_map(of).unwrap_or(Some(self.flags))?;
        // The limit has one answer, so it is asked for one key. The last word counts.
        let more = if who == Who::Limit { " -K 1" } else { "" };
        Some(format!("-K {keys} {flags}{more}"))
    }
}

/// The limit, and Redis, know none of it.
const MEMCACHED_ONLY: &[(Who, Option<&str>)] = &[(Who::Limit, None), (Who::Redis, None)];
const NO_LIMIT: &[(Who, Option<&str>)] = &[(Who::Limit, None)];

pub const ROWS: [Row; 15] = [
    Row {
        name: "get/1",
        machine: Machine::OneCoreEach,
        flags: "-m get",
        others: &[],
        unit: Unit::Requests,
        goal: Goal::Any(&[(Who::Memcached, 1.25), (Who::Limit, 0.9)]),
    },
    Row {
        name: "set/1",
        machine: Machine::OneCoreEach,
        flags: "-m set",
        others: &[],
        unit: Unit::Requests,
        goal: Goal::Any(&[(Who::Memcached, 1.25), (Who::Limit, 0.9)]),
    },
    Row {
        name: "get/16",
        machine: Machine::OneCoreEach,
        flags: "-m get -P 16",
        others: &[],
        unit: Unit::Requests,
        goal: Goal::All(&[(Who::Redis, 2.0), (Who::Limit, 0.6)]),
    },
    Row {
        name: "set/16",
        machine: Machine::OneCoreEach,
        flags: "-m set -P 16",
        others: &[],
        unit: Unit::Requests,
        goal: Goal::All(&[(Who::Redis, 1.7)]),
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
        goal: Goal::All(&[(Who::Memcached, 2.0)]),
    },
    Row {
        name: "get-50",
        machine: Machine::OneCoreEach,
        flags: "-m get -k 50",
        others: NO_LIMIT,
        unit: Unit::Keys,
        goal: Goal::All(&[(Who::Redis, 1.6)]),
    },
    // Delete, lease-get, lease-set; beside it, what Redis and memcached do without leases.
    Row {
        name: "lease/16",
        machine: Machine::OneCoreEach,
        flags: "-m set -P 16",
        others: &[(Who::Leasehold, Some("-m cycle -P 16")), (Who::Limit, None)],
        unit: Unit::Requests,
        goal: Goal::All(&[(Who::Redis, 1.0)]),
    },
    Row {
        name: "get-16k",
        machine: Machine::OneCoreEach,
        flags: "-m get -s 16384 -K 1000",
        others: &[],
        unit: Unit::MegabytesRead,
        goal: Goal::All(&[(Who::Memcached, 1.2)]),
    },
    Row {
        name: "get-512k",
        machine: Machine::OneCoreEach,
        flags: "-m get -s 524288 -K 64",
        others: NO_LIMIT,
        unit: Unit::MegabytesRead,
        goal: Goal::All(&[(Who::Memcached, 1.0)]),
    },
    Row {
        name: "p99",
        machine: Machine::OneCoreEach,
        flags: "-m get",
        others: NO_LIMIT,
        unit: Unit::P99,
        goal: Goal::All(&[(Who::Memcached, 1.0)]),
    },
    two_threads("get/1-t2", "-m get"),
    two_threads("set/1-t2", "-m set"),
    two_threads("get/16-t2", "-m get -P 16"),
    two_threads("set/16-t2", "-m set -P 16"),
];

/// What becomes of a get as there is more of everything, or only one key.
pub const GROWTH: [Row; 12] = [
    // Each ten times as many, so that memory that the ones before have left hardly counts.
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
        // Redis has no second one.
        others: MEMCACHED_ONLY,
        unit: Unit::Requests,
        goal: Goal::All(&[(Who::Memcached, 1.0)]),
    }
}
