//! The service over real HTTP: one module per endpoint.

mod admin;
mod bearer;
mod cookie;
mod cors;
mod database;
mod fixture;
mod headers;
mod health;
mod injection;
mod keys;
mod limits;
mod login;
mod logout;
mod me;
mod oauth;
mod oauth_sessions;
mod openapi;
mod outbox;
mod password;
mod refresh;
mod register;
mod second_factor;
mod shutdown;
mod store;
mod timing;
mod tls;
