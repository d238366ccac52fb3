//! The load generator behind `cargo load`, and the comparison of servers behind
//! `cargo load compare`.
//!
//! The generator is one thread with raw WebSocket frames on epoll. It connects to loopback addresses
//! only, and every count and duration has a maximum.

pub mod back_end;
pub mod bare;
pub mod command;
mod compare;
pub mod limit;
mod links;
mod measurement;
mod modes;
mod progress;
mod session;
mod sockets;
mod statistics;
mod svg;
mod target;
mod usage;
mod wire;
