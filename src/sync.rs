//! The primitives that concurrent parts are built from: the real ones, or those of the model checker.

#[cfg(not(shuttle))]
pub(crate) use {
    dashmap::DashMap,
    parking_lot::Mutex,
    std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering},
    std::thread_local,
};
#[cfg(shuttle)]
pub(crate) use {
    shuttle::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering},
    shuttle::thread_local,
    shuttle_dashmap::DashMap,
    shuttle_parking_lot::Mutex,
};
