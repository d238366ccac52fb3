//! Latchkey from the outside: log in over HTTP, connect over Socket.IO, and everything that must
//! not work.

mod abuse;
mod binaries;
mod credentials;
mod documentation;
mod expiry;
mod kill_switch;
mod limits;
mod login;
mod metrics;
mod order;
mod origins;
mod own_app;
mod own_handlers;
mod payloads;
mod proxies;
mod refusals;
mod renewal;
mod revocation;
mod rooms;
mod rotation;
mod session_ids;
mod stall;
mod stock;
mod tls;
