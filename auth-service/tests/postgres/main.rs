//! The service on a PostgreSQL server that fails: it is stopped, killed, frozen and made a server
//! for reading; several issuers on one server, and on one Redis. Each test has servers of its own.

mod outage;
mod redis_counters;
mod redis_server;
mod server;
mod shared_limits;
mod start;
