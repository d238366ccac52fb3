//! The runner behind `cargo chaos`: a cluster of real processes on loopback, faults from a seed, and the
//! promises that have to hold all the same.

mod chart;
mod cluster;
pub mod command;
mod follower;
mod ledger;
mod link;
mod plan;
mod processes;
mod proxy;
mod publishers;
mod report;
mod resp;
mod run;
mod subscribers;
mod tokens;
mod verdict;
mod world;
