//! Latchkey's issuer: people sign in over HTTP and get a JSON Web Token, which the gateway
//! verifies. This is the only process that signs, and the only one that sees a password.
//!
//! A request flows one way: [`routes`] → [`login`] → [`users`] → [`tokens`]; SQL is in [`store`]
//! and nowhere else. [`serve`] is the front door for the binary and for tests alike.

mod admin;
pub mod bearer;
mod body;
pub mod cli;
pub mod config;
mod docs;
pub mod error;
pub mod health;
pub mod login;
pub mod me;
pub mod metrics;
mod observe;
mod openapi;
pub mod routes;
mod server;
mod sessions;
pub mod state;
pub mod store;
pub mod telemetry;
pub mod tokens;
pub mod users;
pub mod vault;
mod visitor;

pub use config::{Config, Settings};
pub use server::serve;
