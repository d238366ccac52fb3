//! Latchkey's issuer: people sign in over HTTP and get a JSON Web Token, which the gateway
//! verifies. This is the only process that signs, and the only one that sees a password.
//!
//! A request flows one way: [`routes`] → [`login`] → [`users`] → [`tokens`]; SQL is in [`store`]
//! and nowhere else. [`serve`] is the front door for the binary and for tests alike.

mod admin;
mod background;
pub mod bearer;
mod body;
mod change_email;
mod change_password;
mod claims_webhook;
pub mod cli;
mod client_info;
pub mod clients;
mod clock;
pub mod config;
mod cookies;
pub mod credentials;
mod current_user;
mod device_proof;
mod discovery;
mod docs;
pub mod error;
mod exposure;
pub mod guard;
pub mod health;
pub mod ids;
pub mod keys;
mod listener;
#[cfg(test)]
mod log_lines;
pub mod login;
mod mail;
mod mail_request;
pub mod me;
pub mod metrics;
mod new_password;
mod oauth;
mod observe;
mod open_files;
mod openapi;
pub mod outbox;
mod passkeys;
mod public_path;
mod refresh;
mod register;
mod reset_password;
pub mod routes;
mod second_factor;
mod server;
mod sessions;
pub mod state;
pub mod store;
pub mod telemetry;
pub mod tls;
pub mod tokens;
pub mod user_claims;
pub mod users;
pub mod vault;
mod waiting;
mod webhook;

pub use config::{Config, Settings};
pub use server::serve;
