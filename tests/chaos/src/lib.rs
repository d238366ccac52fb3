//! The runner behind `cargo chaos`: a cluster of real processes on loopback, faults from a seed, and the
//! promises that have to hold all the same.

mod attendance;
mod chart;
mod cluster;
pub mod command;
mod figures;
mod follower;
mod ledger;
mod link;
mod outage;
mod plan;
mod ports;
mod processes;
mod proxy;
mod publishers;
mod report;
mod resp;
mod revocation;
mod run;
mod shards;
mod subscribers;
mod tokens;
mod verdict;
mod world;
