//! The command line.

use std::ffi::OsString;
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};

use crate::compare;
use crate::measurement::{Format, Measurement};
use crate::modes::{burst, connect, fan_out, http, idle, presence, publish, reconnect};
use crate::target::Target;

/// Measures Socket.IO servers on this machine.
#[derive(Parser)]
#[command(name = "cargo load", bin_name = "cargo load")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measures handshakes, each closed as soon as it is acknowledged.
    Connect(Run<connect::Options>),
    /// Measures the memory of clients that only answer heartbeats.
    Idle(Run<idle::Options>),
    /// Measures acknowledged messages of many clients.
    Publish(Run<publish::Options>),
    /// Measures the deliveries of one client's messages to a room.
    FanOut(Run<fan_out::Options>),
    /// Measures clients that join one room with full presence within a few seconds.
    Presence(Run<presence::Options>),
    /// Measures clients that are dropped at once and reconnect with socket.io-client's backoff.
    Reconnect(Run<reconnect::Options>),
    /// Measures the memory before, during and after large messages to a room.
    Burst(Run<burst::Options>),
    /// Measures logins at an issuer.
    Login(Issuer),
    /// Measures refreshes at an issuer, each with the token of the answer before.
    Refresh(Issuer),
    /// Measures several servers in turn, judges ours, and writes docs/performance.md.
    Compare(compare::Options),
    /// Measures several gateways over one Redis, and writes their section of docs/performance.md.
    Cluster(compare::cluster::Options),
    /// Measures the calls of two back ends, one of which is stopped, and writes their section of docs/performance.md.
    Backends(compare::backends::Options),
}

#[derive(Args)]
struct Run<O: Args> {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    options: O,
    #[command(flatten)]
    output: Output,
}

#[derive(Args)]
struct Issuer {
    #[command(flatten)]
    options: http::Options,
    #[command(flatten)]
    output: Output,
}

#[derive(Args)]
struct Output {
    /// Format of the result.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// File for the result, instead of standard output.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl Output {
    fn write(&self, result: &Measurement) -> anyhow::Result<()> {
        let mut text = result.render(self.format);
        if !text.ends_with('\n') {
            text.push('\n');
        }
        match &self.output {
            None => std::io::stdout()
                .write_all(text.as_bytes())
                .context("the result cannot be written"),
            Some(path) => fs::write(path, text)
                .with_context(|| format!("the result cannot be written to {}", path.display())),
        }
    }
}

impl<O: Args> Run<O> {
    fn measure(
        mut self,
        mode: impl FnOnce(&Target, &O) -> anyhow::Result<Measurement>,
    ) -> anyhow::Result<bool> {
        self.target.load_tokens()?;
        let result = mode(&self.target, &self.options)?;
        self.output.write(&result)?;
        Ok(result.failure().is_none())
    }
}

impl Issuer {
    fn measure(&self, call: http::Call) -> anyhow::Result<bool> {
        let result = http::run(&self.options, call)?;
        self.output.write(&result)?;
        Ok(result.failure().is_none())
    }
}

/// Runs one command. Returns whether it succeeded: no operation failed, and no bar was missed.
///
/// # Errors
///
/// Returns an error if the measurement cannot be made.
pub fn run<I>(arguments: I) -> anyhow::Result<bool>
where
    I: IntoIterator<Item = OsString>,
{
    match Arguments::parse_from(arguments).command {
        Command::Connect(run) => run.measure(connect::run),
        Command::Idle(run) => run.measure(idle::run),
        Command::Publish(run) => run.measure(publish::run),
        Command::FanOut(run) => run.measure(fan_out::run),
        Command::Presence(run) => run.measure(presence::run),
        Command::Reconnect(run) => {
            run.measure(|target, options| reconnect::run(target, options, None))
        }
        Command::Burst(run) => run.measure(burst::run),
        Command::Login(issuer) => issuer.measure(http::Call::Login),
        Command::Refresh(issuer) => issuer.measure(http::Call::Refresh),
        Command::Compare(options) => compare::run(&options),
        Command::Cluster(options) => compare::cluster::run(&options),
        Command::Backends(options) => compare::backends::run(&options),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn each_command_and_option_has_its_own_name() {
        Arguments::command().debug_assert();
    }
}
