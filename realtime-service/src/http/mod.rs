//! The gateway's HTTP beside Socket.IO: the page, health, back-channel logout and the operator's
//! listener.

pub mod admin;
pub mod backchannel_logout;
pub mod client_bundle;
pub mod console;
mod document;
pub mod health;
