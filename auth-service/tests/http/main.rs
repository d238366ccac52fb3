//! The service over real HTTP: one module per endpoint.

mod cors;
mod fixture;
mod health;
mod login;
mod me;
mod shutdown;
