//! The command line.

use std::{ffi::OsString, fmt::Write as _, path::PathBuf};

use anyhow::{Context, ensure};
use clap::{Parser, ValueEnum};

use crate::run;

/// Minimum time of a run with faults, in seconds: the calm at its end takes half of it.
const LEAST_SECONDS: u64 = 30;

/// Way of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// Faults from a seed.
    Faults,
    /// Every gateway hands its clients over and is replaced, one after the other.
    Rolling,
    /// Redis is stopped, and then dead: latencies of the clients of one gateway, and the time until publishing
    /// works again.
    Outage,
    /// Sessions are revoked: the time until their sockets on three gateways are closed, also when a gateway
    /// was cut off from Redis.
    Revocation,
}

/// Runs three gateways and Redis on this machine, harms them, and checks that every promise holds.
#[derive(Parser, Debug)]
#[command(name = "cargo chaos", bin_name = "cargo chaos")]
pub(crate) struct Options {
    /// What happens to the cluster.
    #[arg(value_enum, default_value_t = Mode::Faults)]
    pub(crate) mode: Mode,
    /// Time in seconds: between the last subscriber's arrival and the judgement (600), of each outage (30), or
    /// for which a gateway is cut off (60). A rolling restart has its own.
    #[arg(long, value_parser = clap::value_parser!(u64).range(5..=86_400))]
    pub(crate) seconds: Option<u64>,
    /// Takes a Redis Cluster of three primaries and three replicas in place of one server and its replica.
    #[arg(long)]
    pub(crate) cluster: bool,
    /// Seed of the faults; without it a new one, which is printed.
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Number of subscribers.
    #[arg(long, default_value = "3000", value_parser = sockets)]
    pub(crate) sockets: usize,
    /// Subscribers of a room.
    #[arg(long, default_value_t = 30, value_parser = room_size)]
    pub(crate) room_size: usize,
    /// Messages published in a second, to all rooms together.
    #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) rate: u32,
    /// Folder for chaos.svg and chaos.json; without it, `chaos` in the target folder of cargo.
    #[arg(long, value_name = "DIR")]
    pub(crate) output: Option<PathBuf>,
    /// Document whose section gets the figures of a rolling restart, an outage or revocations.
    #[arg(long, value_name = "FILE")]
    pub(crate) document: Option<PathBuf>,
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

fn room_size(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count @ 1..=1000) => Ok(count),
        _ => Err("must be 1 to 1000".to_owned()),
    }
}

impl Mode {
    /// Returns the command of the mode.
    pub(crate) fn command(self) -> &'static str {
        match self {
            Self::Faults => "cargo chaos",
            Self::Rolling => "cargo chaos rolling",
            Self::Outage => "cargo chaos outage",
            Self::Revocation => "cargo chaos revocation",
        }
    }

    /// Whether clients use the cluster the whole time.
    fn has_load(self) -> bool {
        matches!(self, Self::Faults | Self::Rolling)
    }

    fn default_seconds(self) -> u64 {
        match self {
            Self::Faults | Self::Rolling => 600,
            Self::Outage => 30,
            Self::Revocation => 60,
        }
    }
}

impl Options {
    /// Returns the time of the run in seconds.
    pub(crate) fn seconds(&self) -> u64 {
        self.seconds.unwrap_or_else(|| self.mode.default_seconds())
    }

    /// Whether the run is long enough to judge latencies.
    pub(crate) fn is_whole(&self) -> bool {
        self.seconds() >= self.mode.default_seconds()
    }

    /// Returns the command with the options that make the run.
    pub(crate) fn describe(&self) -> String {
        let mut text = self.mode.command().to_owned();
        if self.cluster {
            text.push_str(" --cluster");
        }
        if self.mode != Mode::Rolling {
            let _ = write!(text, " --seconds {}", self.seconds());
        }
        if self.mode.has_load() {
            let (sockets, room_size, rate) = (self.sockets, self.room_size, self.rate);
            let _ = write!(
                text,
                " --sockets {sockets} --room-size {room_size} --rate {rate}"
            );
        }
        text
    }

    /// Returns a line on the run and its machine.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no gateway.
    pub(crate) fn circumstances(&self) -> anyhow::Result<String> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let program = self.program()?;
        let build = program.parent().and_then(|folder| folder.file_name());
        Ok(format!(
            "`{}`, with the {} build of the gateway, and all processes on one machine of {cores} cores:",
            self.describe(),
            build.unwrap_or_default().display()
        ))
    }

    /// Checks that the options go together.
    ///
    /// # Errors
    ///
    /// Returns an error if they do not.
    fn check(&self) -> anyhow::Result<()> {
        ensure!(
            self.mode != Mode::Faults || self.seconds() >= LEAST_SECONDS,
            "a run with faults takes --seconds {LEAST_SECONDS} or more"
        );
        ensure!(
            self.mode != Mode::Outage || !self.cluster,
            "an outage is that of one server: leave --cluster out"
        );
        ensure!(
            self.mode != Mode::Faults || self.document.is_none(),
            "a run with faults has no figures: leave --document out"
        );
        Ok(())
    }

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
    options.check()?;
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
            (Some(90), Some(7), 300)
        );
        assert_eq!(options.mode, Mode::Faults);
        assert_eq!(parse(&["rolling"]).expect("a mode").mode, Mode::Rolling);
        for wrong in [["--seconds", "4"], ["--sockets", "2"], ["--rate", "0"]] {
            assert!(parse(&wrong).is_err(), "{wrong:?}");
        }
        let check = |arguments: &[&str]| parse(arguments).expect("options").check();
        assert!(check(&["--seconds", "30", "--cluster"]).is_ok());
        assert!(check(&["--seconds", "29"]).is_err());
        assert!(check(&["outage", "--seconds", "29", "--document", "a"]).is_ok());
        assert!(check(&["outage", "--cluster"]).is_err());
        assert!(check(&["--document", "a"]).is_err());
    }

    #[test]
    fn a_shorter_run_than_by_default_is_not_whole() {
        let options = |arguments: &[&str]| {
            Options::try_parse_from([&["chaos"], arguments].concat()).expect("options")
        };
        let run = options(&["revocation", "--cluster"]);
        assert!(run.is_whole());
        assert_eq!(
            run.describe(),
            "cargo chaos revocation --cluster --seconds 60"
        );
        assert!(!options(&["outage", "--seconds", "5"]).is_whole());
        assert_eq!(
            options(&["rolling", "--rate", "9"]).describe(),
            "cargo chaos rolling --sockets 3000 --room-size 30 --rate 9"
        );
    }
}
