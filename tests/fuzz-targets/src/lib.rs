//! What must hold of whatever strangers send: one module for each fuzz target.
//!
//! "It does not panic" is the least of it. The targets hold the keys, so they know for each input
//! whether anybody signed it, and say so in other words than the code that they test: nothing may
//! be accepted that they did not sign themselves.

#![forbid(unsafe_code)]

pub mod jwks;
pub mod logout;
pub mod payload;
pub mod token;

mod mint;
mod oracle;
