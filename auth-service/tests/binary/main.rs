//! The binary as an operator meets it: exit codes, one line on stderr, signals, commands.

mod accounts;
mod crash;
mod fixture;
mod memory;
mod redis;
mod reload;
mod secret;
mod serving;
mod store;
