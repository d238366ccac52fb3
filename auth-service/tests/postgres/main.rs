//! The service on a PostgreSQL server that fails: it is stopped, killed, frozen and made a server
//! for reading. Each test has a server of its own.

mod outage;
mod server;
mod shared_limits;
mod start;
