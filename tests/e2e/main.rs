//! Latchkey from the outside: log in over HTTP, connect over Socket.IO, and everything that must
//! not work.

mod abuse;
mod api;
mod api_messages;
mod api_tokens;
mod backends;
mod binaries;
mod credentials;
mod documentation;
mod escape;
mod expiry;
mod history;
mod kill_switch;
mod limits;
mod login;
mod metrics;
mod oidc_provider;
mod order;
mod origins;
mod other_issuers;
mod own_app;
mod own_handlers;
mod payloads;
mod policy;
mod presence;
mod proxies;
mod recovery;
mod refusals;
mod renewal;
mod revocation;
mod rooms;
mod rotation;
mod session_ids;
mod stall;
mod stock;
mod tls;
