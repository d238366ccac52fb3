//! The service over real HTTP: one module per endpoint.

mod cors;
mod database;
mod fixture;
mod health;
mod login;
mod me;
mod shutdown;
mod store;
