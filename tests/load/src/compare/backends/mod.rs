//! `cargo load backends`: two back ends of one gateway, one of which is stopped for a while; and events that are stored.

mod calling;
mod storing;

use std::fs;
use std::path::Path;

use anyhow::Context;
use clap::{Args, Parser};

use self::calling::{Calls, Phases};
use super::cluster::group::Kind;
use super::figures::{Figures, Row};
use super::prepare::Home;
use super::process::{Process, free_address};
use super::rounds::{self, Bench, Rounds};
use super::section::Section;
use super::servers::{gateway, listening};
use crate::measurement::number;
use crate::target::Target;

/// The section of the figures.
pub(super) const SECTION: Section = Section {
    command: "cargo load backends",
    title: "Back ends",
    introduction: "Half of 1,000 clients call one back end and half another, twice a second\n\
                   each. The first back end is stopped (SIGSTOP), and goes on later. Then 16 clients send events of `notify` to a gateway of\n\
                   its own, one at a time each, which are delivered meanwhile in lists of up to 100. The gateway has the first core, with Redis if there is one, and\n\
                   CPU time is that of the gateway.",
};

/// Clients, half of which call each back end.
const CLIENTS: usize = 1000;
/// The events that the back ends answer.
const EVENTS: [&str; 2] = ["load:stopped", "load:other"];
/// Maximum time of a back end for its answer, in milliseconds.
const TIMEOUT_MS: u64 = 1000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Figure {
    Told,
    OtherP99,
    OtherRatio,
    Memory,
    Back,
    Later,
    StoredCpu,
    CopiedRatio,
}

/// All figures. A refusal may take the back end's time and a twentieth of it.
const ALL: [Row<Figure>; 8] = [
    (
        Figure::Told,
        "slowest refusal while the back end is stopped, whose timeout is 1,000 ms",
        "ms",
        Some(TIMEOUT_MS as f64 * 1.05),
    ),
    (
        Figure::OtherP99,
        "call of the other back end before that, p99",
        "ms",
        None,
    ),
    (
        Figure::OtherRatio,
        "the same while the first is stopped, to that before",
        "",
        Some(1.2),
    ),
    (
        Figure::Memory,
        "memory that the gateway gains meanwhile",
        "MB",
        Some(32.0),
    ),
    (
        Figure::Back,
        "time until the back end that goes on answers a call",
        "s",
        None,
    ),
    (
        Figure::Later,
        "refused calls, from 5 s after that",
        "",
        Some(0.0),
    ),
    (
        Figure::StoredCpu,
        "CPU of an acknowledged event of `notify` and its delivery, queue in SQLite alone",
        "µs",
        None,
    ),
    (
        Figure::CopiedRatio,
        "the same with a copy of the queue in Redis, to that without",
        "",
        None,
    ),
];

/// Options of the measurement.
#[derive(Args, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    rounds: Rounds,
    /// Time before, during and after the stop, in seconds each.
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u64).range(8..=60))]
    phase_secs: u64,
}

/// Measures the calls. Returns whether no bar is missed.
///
/// # Errors
///
/// Returns an error if a program cannot be built, or the result cannot be written. A failed
/// measurement is part of the result.
pub(crate) fn run(options: &Options) -> anyhow::Result<bool> {
    rounds::run(&options.rounds, (&SECTION, &ALL), |bench, figures| {
        match measure(bench, options.phase_secs) {
            Ok(calls) => note(figures, &calls),
            Err(error) => figures.note(Figure::Told, Err(error)),
        }
        note_stored(bench, figures);
    })
}

/// Measures events that are stored, without a copy of the queue and with one.
fn note_stored(bench: &Bench, figures: &mut Figures<Figure>) {
    match storing::cpu_of_event(bench, Kind::Storing) {
        Ok(alone) => {
            let copied = storing::cpu_of_event(bench, Kind::Copying);
            figures.note(Figure::StoredCpu, Ok(alone));
            figures.note(Figure::CopiedRatio, copied.map(|copied| copied / alone));
        }
        Err(error) => figures.note(Figure::StoredCpu, Err(error)),
    }
}

fn note(figures: &mut Figures<Figure>, calls: &Calls) {
    let ms = |us: u64| us as f64 / 1e3;
    let before = ms(calls.other_before.quantile(0.99));
    let during = ms(calls.other_during.quantile(0.99));
    figures.note(Figure::Told, Ok(ms(calls.refusals.maximum())));
    figures.note(Figure::OtherP99, Ok(before));
    figures.note(Figure::OtherRatio, Ok(during / before));
    figures.note(Figure::Memory, Ok(calls.gained_mb));
    let back = calls.back.context("the back end did not come back");
    figures.note(Figure::Back, back.map(|back| back.as_secs_f64()));
    figures.note(Figure::Later, Ok(calls.refused_later as f64));
    eprintln!(
        "cargo load: {} refusals, p99 of the other back end {} ms",
        calls.refusals.count(),
        number(during)
    );
}

fn measure(bench: &Bench, phase_secs: u64) -> anyhow::Result<Calls> {
    let Bench {
        programs,
        home,
        cores,
    } = bench;
    let state = home.new_state()?;
    let mut back_ends = Vec::new();
    for event in EVENTS {
        let address = free_address()?;
        let command = listening(&programs.back_end, address);
        let log = state.join(format!("{}.log", event.replace(':', "-")));
        back_ends.push(Process::start(
            command,
            (cores.clone(), cores.count()),
            address,
            &log,
        )?);
    }
    let file = state.join("gateway.toml");
    fs::write(&file, settings(home, &back_ends)).context("the settings cannot be written")?;
    let address = free_address()?;
    let mut command = gateway(&programs.gateway, home, address, &file);
    command.current_dir(&state);
    let log = state.join("log");
    let process = Process::start(command, (cores.clone(), 1), address, &log)?;
    let phases = Phases::of_secs(phase_secs);
    calling::run(&target(&process, home)?, &process, (&back_ends[0], phases))
}

/// Two back ends, each with its event.
fn settings(home: &Home, back_ends: &[Process]) -> String {
    let secret: &Path = &home.signing_file();
    let of = |(event, process): (&&str, &Process)| {
        format!(
            "[[backends]]\nname = '{name}'\nurl = 'http://{address}/'\nsecret_file = '{secret}'\n\
             timeout_ms = {TIMEOUT_MS}\n\
             [[events]]\nevents = ['{event}']\nbackend = '{name}'\nmode = 'call'\n",
            name = event.replace(':', "-"),
            address = process.address,
            secret = secret.display(),
        )
    };
    EVENTS.iter().zip(back_ends).map(of).collect()
}

fn target(process: &Process, home: &Home) -> anyhow::Result<Target> {
    #[derive(Parser)]
    struct Defaults {
        #[command(flatten)]
        target: Target,
    }
    let mut target = Defaults::try_parse_from(["load"])?.target;
    (target.address, target.pid) = (process.address, Some(process.pid()));
    // One subject may have a share of the calls.
    let token = |number| home.token(&format!("user-{number}"));
    target.tokens = (0..CLIENTS).map(token).collect::<Result<_, _>>()?;
    Ok(target)
}
