//! Locks, atomics and the state of threads, for code that several threads run at once.
//!
//! The standard library has them; with `--cfg shuttle` shuttle does, which runs the threads of a test in
//! one order after the other: see `tests/interleavings`.

#[cfg(not(shuttle))]
pub(crate) use std::{
    sync::{Mutex, MutexGuard, atomic},
    thread_local,
};

#[cfg(shuttle)]
pub(crate) use shuttle::{
    sync::{Mutex, MutexGuard, atomic},
    thread_local,
};
