//! The service over real HTTP: one module per endpoint.

mod cookie;
mod cors;
mod fixture;
mod health;
mod keys;
mod limits;
mod login;
mod logout;
mod me;
mod oauth;
mod outbox;
mod password;
mod refresh;
mod register;
mod second_factor;
mod shutdown;
