//! What must hold of whatever strangers send: one module for each fuzz target.
//!
//! "It does not panic" is the least of it. The targets hold the keys, so they know for each input
//! whether anybody signed it, and say so in other words than the code that they test: nothing may
//! be accepted that they did not sign themselves.

#![forbid(unsafe_code)]

pub mod engine;
pub mod jwks;
pub mod logout;
pub mod payload;
pub mod token;

mod mint;
mod oracle;

// The gateway's own files, compiled here without the gateway, which would take minutes.
#[path = "../../../realtime-service/src/config/credentials.rs"]
#[expect(unreachable_pub, reason = "it is public in the gateway")]
mod credential_source;
#[path = "../../../realtime-service/src/transport/credentials.rs"]
#[expect(unreachable_pub, reason = "it is public in the gateway")]
mod request_credentials;

mod config {
    pub(crate) use super::credential_source::CredentialSource;
}

mod transport {
    pub(crate) use super::request_credentials::RequestCredentials;
}
