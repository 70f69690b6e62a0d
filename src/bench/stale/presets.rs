//! Named workloads: the rows of the table that the fence of implicit leases was designed with.

use clap::ValueEnum;

use super::workload::{Connections, Invalidate, LoadTime, ONE, Order, Share, Workload};
use crate::bench::popularity::Popularity;
use crate::bench::sizes::Sizes;

/// A named workload: defaults for all knobs.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Preset {
    /// 8 workers, a connection each; 20 keys, 60 deletes a second, loads of 1 to 10 ms
    Storm,
    /// storm; 1 % of the loads take 20 times as long
    Tail,
    /// 64 workers, a connection each; 20 keys, 60 deletes a second, loads of 1 to 10 ms
    Own,
    /// own, through a pool of 10 connections, last in first out
    Lifo,
    /// own, through a pool of 10 connections, first in first out
    Fifo,
    /// own, through one connection for all
    One,
    /// own, from 8 client addresses
    Addresses,
    /// own; popularity zipf:1.2, loads of 30 to 70 ms
    Zipf,
    /// zipf with 5 deletes a second
    ZipfCalm,
    /// own with 1 delete a second
    Calm,
    /// own; 5 % of the misses are never stored
    Never5,
    /// own; 30 % of the misses are never stored
    Never30,
    /// own; loads with a median of 5 ms and a 99.9th percentile of 500 ms
    Heavy,
    /// own; 100 deletes of a key in a row, once a second
    Burst,
    /// own; values are never equal
    Noise,
    /// own; 30 % of the writes store the value and delete nothing
    Through,
    /// 64 workers, 10,000 keys, zipf:0.9, 500 deletes a second, loads of 1 to 10 ms, 1 ms between reads
    Mix,
    /// mix; 3 % of the misses are never stored
    MixNever3,
    /// mix; 30 % of the misses are never stored
    MixNever30,
    /// mix; 30 % of the keys are never stored
    MixKeys30,
    /// mix; 30 % of the writes store the value and delete nothing
    MixThrough,
    /// mix; values are never equal
    MixNoise,
    /// mix; loads as in heavy
    MixHeavy,
    /// mix; loads as in heavy, and 30 % of the misses are never stored
    MixHeavyNever30,
    /// 1,600 workers at 100 client addresses, 1,000 keys, zipf:0.9, 300 deletes a second, 20 ms between reads
    MixAddresses,
}

impl Preset {
    /// All knobs as this preset sets them.
    pub fn workload(self) -> Workload {
        match self {
            Preset::Storm => storm(),
            Preset::Tail => Workload { tail: Share::new(0.01), ..storm() },
            Preset::Own => own(),
            Preset::Lifo => Workload { connections: pool(Order::Lifo), ..own() },
            Preset::Fifo => Workload { connections: pool(Order::Fifo), ..own() },
            Preset::One => Workload { connections: ONE, ..own() },
            Preset::Addresses => Workload { addresses: 8, ..own() },
            Preset::Zipf => zipf(),
            Preset::ZipfCalm => Workload { deletes: 5.0, ..zipf() },
            Preset::Calm => Workload { deletes: 1.0, ..own() },
            Preset::Never5 => Workload { never: Share::new(0.05), ..own() },
            Preset::Never30 => Workload { never: Share::new(0.3), ..own() },
            Preset::Heavy => Workload { load: heavy(), ..own() },
            Preset::Burst => Workload { burst: 100, deletes: 100.0, ..own() },
            Preset::Noise => Workload { noise: true, ..own() },
            Preset::Through => Workload { through: Share::new(0.3), ..own() },
            Preset::Mix => mix(),
            Preset::MixNever3 => Workload { never: Share::new(0.03), ..mix() },
            Preset::MixNever30 => Workload { never: Share::new(0.3), ..mix() },
            Preset::MixKeys30 => Workload { never_keys: Share::new(0.3), ..mix() },
            Preset::MixThrough => Workload { through: Share::new(0.3), ..mix() },
            Preset::MixNoise => Workload { noise: true, ..mix() },
            Preset::MixHeavy => Workload { load: heavy(), ..mix() },
            Preset::MixHeavyNever30 => Workload { load: heavy(), never: Share::new(0.3), ..mix() },
            Preset::MixAddresses => Workload {
                addresses: 100,
                deletes: 300.0,
                keys: 1_000,
                think_ms: 20.0,
                workers: 1_600,
                ..mix()
            },
        }
    }
}

fn storm() -> Workload {
    Workload {
        addresses: 1,
        burst: 1,
        connections: Connections::Own,
        deletes: 60.0,
        flush: None,
        invalidate: Invalidate::Delete,
        keys: 20,
        load: LoadTime::Range { from_ms: 1.0, to_ms: 10.0 },
        never: Share::default(),
        never_keys: Share::default(),
        noise: false,
        popularity: Popularity::Uniform,
        tail: Share::default(),
        think_ms: 0.5,
        through: Share::default(),
        value_bytes: Sizes::Fixed(100),
        workers: 8,
        writers_apart: false,
    }
}

fn own() -> Workload {
    Workload { workers: 64, ..storm() }
}

fn zipf() -> Workload {
    let load = LoadTime::Range { from_ms: 30.0, to_ms: 70.0 };
    Workload { load, popularity: Popularity::Zipf { exponent: 1.2 }, ..own() }
}

fn mix() -> Workload {
    let popularity = Popularity::Zipf { exponent: 0.9 };
    Workload { deletes: 500.0, keys: 10_000, popularity, think_ms: 1.0, ..own() }
}

fn heavy() -> LoadTime {
    LoadTime::log_normal(5.0, 1.49).expect("this sigma is legal")
}

fn pool(order: Order) -> Connections {
    Connections::Pool { order, size: 10 }
}
