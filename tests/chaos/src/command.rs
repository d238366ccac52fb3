//! The command line.

use std::{ffi::OsString, path::PathBuf};

use anyhow::{Context, ensure};
use clap::{Parser, ValueEnum};

use crate::run;

/// Way of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// Faults from a seed.
    Faults,
    /// Every gateway hands its clients over and is replaced, one after the other.
    Rolling,
}

/// Runs three gateways and Redis on this machine, harms them, and checks that every promise holds.
#[derive(Parser, Debug)]
#[command(name = "cargo chaos", bin_name = "cargo chaos")]
pub(crate) struct Options {
    /// What happens to the cluster.
    #[arg(value_enum, default_value_t = Mode::Faults)]
    pub(crate) mode: Mode,
    /// Time between the last subscriber's arrival and the judgement, in seconds; a rolling restart has its
    /// own.
    #[arg(long, default_value_t = 600, value_parser = clap::value_parser!(u64).range(30..=86_400))]
    pub(crate) seconds: u64,
    /// Seed of the faults; without it a new one, which is printed.
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Number of subscribers.
    #[arg(long, default_value = "3000", value_parser = sockets)]
    pub(crate) sockets: usize,
    /// Messages published in a second, to all rooms together.
    #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) rate: u32,
    /// Folder for chaos.svg and chaos.json; without it, `chaos` in the target folder of cargo.
    #[arg(long, value_name = "DIR")]
    pub(crate) output: Option<PathBuf>,
    /// Program of the gateway; without it, the one that `cargo build --workspace` made.
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) gateway: Option<PathBuf>,
}

fn sockets(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count @ 3..=20_000) => Ok(count),
        _ => Err("must be 3 to 20000".to_owned()),
    }
}

impl Options {
    /// Returns the program of the gateway.
    ///
    /// # Errors
    ///
    /// Returns an error if there is none.
    pub(crate) fn program(&self) -> anyhow::Result<PathBuf> {
        let program = match &self.gateway {
            Some(program) => std::path::absolute(program)?,
            None => own_folder()?.join("realtime-service"),
        };
        ensure!(
            program.is_file(),
            "{} is missing: run cargo build --workspace first, or name a program with --gateway",
            program.display()
        );
        Ok(program)
    }

    /// Returns the folder of the result.
    ///
    /// # Errors
    ///
    /// Returns an error if the path of this program is not known.
    pub(crate) fn folder(&self) -> anyhow::Result<PathBuf> {
        match &self.output {
            Some(folder) => Ok(folder.clone()),
            None => Ok(own_folder()?.with_file_name("chaos")),
        }
    }
}

/// Returns the folder of this program: cargo puts the gateway beside it.
fn own_folder() -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe().context("the path of this program")?;
    let folder = program.parent().context("the folder of this program")?;
    Ok(folder.to_owned())
}

/// Runs the command. Returns whether no promise was broken.
///
/// # Errors
///
/// Returns an error if the run cannot be made.
pub fn run<I>(arguments: I) -> anyhow::Result<bool>
where
    I: IntoIterator<Item = OsString>,
{
    let options = Options::parse_from(arguments);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    runtime.context("no runtime")?.block_on(run::run(&options))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_have_bounds() {
        let parse = |arguments: &[&str]| Options::try_parse_from([&["chaos"], arguments].concat());
        let options =
            parse(&["--seconds", "90", "--seed", "7", "--sockets", "300"]).expect("options");
        assert_eq!(
            (options.seconds, options.seed, options.sockets),
            (90, Some(7), 300)
        );
        assert_eq!(options.mode, Mode::Faults);
        assert_eq!(parse(&["rolling"]).expect("a mode").mode, Mode::Rolling);
        for wrong in [["--seconds", "10"], ["--sockets", "2"], ["--rate", "0"]] {
            assert!(parse(&wrong).is_err(), "{wrong:?}");
        }
    }
}
