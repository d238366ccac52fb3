//! The guard of passwords and codes: counted attempts, places in the queue, known devices, and the one
//! judgement of a name and a password.

pub(crate) mod address_count;
pub(crate) mod attempts;
pub(crate) mod connections;
pub(crate) mod counters;
pub(crate) mod devices;
pub mod limits;
pub(crate) mod redis;
pub(crate) mod shared;
