//! Latchkey's gateway: admits Socket.IO clients by their token, and carries their messages.
//!
//! The modules form floors, and each uses only those below its own. From the top: [`App`] and the
//! commands; what speaks HTTP and admits clients ([`api`], [`http`], [`connect`]); the state that
//! these share; [`events`]; [`session`]; [`rooms`]; [`outbox`]; [`auth`]; [`transport`]; and the
//! ground. `docs/architecture.md` walks through them, and `tests/check-layers` checks them.
//!
//! The crate is also a library: an [`App`] takes namespaces, events and routes of another application
//! instead of Latchkey's own. `docs/library.md` describes it.

pub mod api;
pub mod app;
pub mod auth;
pub mod backends;
pub mod cli;
mod clock;
pub mod cluster;
pub mod config;
pub mod connect;
pub mod events;
pub mod http;
mod ids;
pub mod limits;
pub mod metrics;
mod namespaces;
pub mod outbox;
pub mod rooms;
pub mod session;
mod state;
mod sync;
pub mod telemetry;
pub mod timers;
pub mod transport;

// An application must use the versions that the types of this crate come from.
pub use axum;
pub use socketioxide;

pub use crate::{
    app::{App, own_app, serve},
    connect::{SessionRef, guard},
};
