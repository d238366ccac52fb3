//! The service over real HTTP: one module per endpoint.

mod admin;
mod cors;
mod database;
mod fixture;
mod headers;
mod health;
mod login;
mod me;
mod openapi;
mod shutdown;
mod store;
