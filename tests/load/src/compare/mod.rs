//! `cargo load compare`: measures servers in turn, judges ours, and writes `docs/performance.md`.

pub(crate) mod backends;
mod bars;
mod cell;
mod cells;
pub(crate) mod cluster;
mod document;
mod figures;
mod machine;
mod prepare;
mod process;
mod rounds;
mod section;
mod servers;
mod verdict;

use std::collections::HashSet;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, Parser};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;

use crate::compare::cell::{Cell, Work};
use crate::compare::document::Setting;
use crate::compare::prepare::{ACCOUNT, CALLED_EVENT, Home};
use crate::compare::process::{Cores, Process};
use crate::compare::servers::{Programs, Server};
use crate::compare::verdict::{Outcome, bar_table, is_success};
use crate::measurement::{Format, Measurement, number};
use crate::modes::{burst, connect, fan_out, http, idle, presence, publish, reconnect};
use crate::target::{Credential, Target};

/// Time between the warm-up and the measurement, in which the server forgets the first clients.
const PAUSE: Duration = Duration::from_millis(500);
/// Files that a process needs besides its connections.
const OTHER_FILES: u64 = 200;

/// Options of the comparison.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Cells to measure, separated by commas; all by default.
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    cells: Vec<String>,
    /// Servers to measure, separated by commas; all by default.
    #[arg(long, value_delimiter = ',', value_enum)]
    servers: Vec<Server>,
    /// Rounds; figures are their medians.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=50))]
    rounds: u32,
    /// Program of an earlier realtime-service, for the bars that compare with it.
    #[arg(long, value_name = "PROGRAM")]
    baseline: Option<PathBuf>,
    /// File for the document. A run of all cells and servers writes docs/performance.md by default,
    /// and any other run writes none.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Format of standard output.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Lists the cells and measures nothing.
    #[arg(long)]
    list: bool,
}

/// Compares the servers. Returns whether no bar is missed.
///
/// # Errors
///
/// Returns an error if a program cannot be built, or the result cannot be written. A failed
/// measurement is part of the result.
pub(crate) fn run(options: &Options) -> anyhow::Result<bool> {
    let cells = chosen_cells(&options.cells)?;
    if options.list {
        cells
            .iter()
            .for_each(|cell| println!("{:<22} {}", cell.name, cell.title));
        return Ok(true);
    }
    let root = prepare::root()?;
    let programs = prepare::programs(&root, options.baseline.as_deref())?;
    let home = Home::new(&programs.issuer)?;
    let cores = Cores::available()?;
    raise_file_limit();
    cores.pin_generator()?;
    let comparison = Comparison {
        options,
        programs,
        home,
        cores,
    };
    let outcomes: Vec<_> = cells
        .into_iter()
        .map(|cell| comparison.measure(cell))
        .collect();
    comparison.cores.unpin()?;
    comparison.print(&outcomes);

    let is_complete = options.cells.is_empty() && options.servers.is_empty();
    let default = is_complete.then(|| root.join("docs/performance.md"));
    if let Some(path) = options.output.clone().or(default) {
        let setting = Setting {
            rounds: options.rounds,
            cores: comparison.cores.count(),
            machine: machine::describe(),
            versions: machine::versions(&root, comparison.programs.bun.as_deref()),
        };
        document::write(&path, &outcomes, &setting)?;
    }
    Ok(is_success(&outcomes))
}

fn chosen_cells(names: &[String]) -> anyhow::Result<Vec<Cell>> {
    let all = cells::all();
    let known: HashSet<_> = all.iter().map(|cell| cell.name).collect();
    if let Some(unknown) = names.iter().find(|name| !known.contains(name.as_str())) {
        bail!("there is no cell `{unknown}`; `cargo load compare --list` lists the cells");
    }
    let is_chosen = |cell: &Cell| names.is_empty() || names.iter().any(|name| name == cell.name);
    Ok(all.into_iter().filter(is_chosen).collect())
}

/// Raises the limit of open files of this process, and so of the servers, as far as is allowed.
fn raise_file_limit() {
    let wanted = 250_000;
    let limit = |maximum| Rlimit {
        current: Some(maximum),
        maximum: Some(maximum),
    };
    if setrlimit(Resource::Nofile, limit(wanted)).is_err()
        && let Some(maximum) = getrlimit(Resource::Nofile).maximum
    {
        // Without the right to raise the hard limit, the soft limit is raised to it.
        let _ = setrlimit(Resource::Nofile, limit(maximum));
    }
}

struct Comparison<'a> {
    options: &'a Options,
    programs: Programs,
    home: Home,
    cores: Cores,
}

impl Comparison<'_> {
    /// Measures a cell: all its servers in turn, as often as there are rounds.
    fn measure(&self, cell: Cell) -> Outcome {
        let mut outcome = Outcome {
            rounds: Vec::new(),
            missing: Vec::new(),
            cell,
        };
        let chosen = &self.options.servers;
        for server in outcome.cell.servers {
            if !chosen.is_empty() && !chosen.contains(server) {
                outcome
                    .missing
                    .push((*server, "it is not among --servers".to_owned()));
                continue;
            }
            match self.reason_to_skip(&outcome.cell, *server) {
                Some(reason) => {
                    eprintln!("cargo load: {} is SKIPPED: {reason}", server.label());
                    outcome.missing.push((*server, reason));
                }
                None => outcome.rounds.push((*server, Vec::new())),
            }
        }
        for round in 1..=self.options.rounds {
            for (server, measurements) in &mut outcome.rounds {
                let result = self
                    .measure_once(&outcome.cell, *server)
                    .unwrap_or_else(|error| {
                        let mut failed = Measurement::new("failed");
                        failed.fail(&format!("{error:#}"));
                        failed
                    });
                if self.options.format == Format::Text {
                    println!("{}", progress_line(&outcome.cell, *server, round, &result));
                }
                measurements.push(result);
            }
        }
        outcome
    }

    fn reason_to_skip(&self, cell: &Cell, server: Server) -> Option<String> {
        let files = cell.work.connections() + OTHER_FILES;
        let allowed = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        if files > allowed {
            return Some(format!(
                "it needs {files} open files, and this system allows {allowed}"
            ));
        }
        self.programs.missing(server).map(str::to_owned)
    }

    fn measure_once(&self, cell: &Cell, server: Server) -> anyhow::Result<Measurement> {
        let mut process =
            self.programs
                .start(server, &self.home, &self.cores, cell.server_cores)?;
        let mut target = self.target(cell, server, &process)?;
        if cell.warm_up > 0 {
            connect::run(
                &target,
                &connect::Options {
                    count: cell.warm_up,
                },
            )
            .context("the warm-up failed")?;
            thread::sleep(PAUSE);
        }
        target.transport = cell.transport;
        if let Work::Reconnect { .. } = cell.work {
            // Addresses from the warm-up wait in TIME_WAIT: a client that got one of them again would wait
            // for seconds.
            target.sources = 20;
        }
        self.run_work(&cell.work, &target, &mut process)
    }

    fn run_work(
        &self,
        work: &Work,
        target: &Target,
        process: &mut Process,
    ) -> anyhow::Result<Measurement> {
        match work {
            Work::Connect(options) => connect::run(target, options),
            Work::Idle(options) => idle::run(target, options),
            Work::Publish(options) | Work::Call(options) => publish::run(target, options),
            Work::FanOut(options) => fan_out::run(target, options),
            Work::Presence(options) => presence::run(target, options),
            Work::Burst(options) => burst::run(target, options),
            Work::Reconnect {
                options,
                kills_server: false,
            } => reconnect::run(target, options, None),
            Work::Reconnect {
                options,
                kills_server: true,
            } => reconnect::run(target, options, Some(&mut || process.restart())),
            Work::Issuer { call, duration_ms } => {
                let options = http::Options {
                    address: process.address,
                    username: ACCOUNT.to_owned(),
                    password: self.home.password.clone(),
                    pid: Some(process.pid()),
                    connections: 8,
                    duration_ms: *duration_ms,
                    warm_up_ms: 2000,
                };
                http::run(&options, *call)
            }
        }
    }

    /// Describes a running server to the modes.
    fn target(&self, cell: &Cell, server: Server, process: &Process) -> anyhow::Result<Target> {
        #[derive(Parser)]
        struct Defaults {
            #[command(flatten)]
            target: Target,
        }
        let mut target = Defaults::try_parse_from(["load"])?.target;
        target.address = process.address;
        target.pid = Some(process.pid());
        let room = format!("user:{ACCOUNT}");
        target.events.acknowledged_args = target.events.acknowledged_args.replace("{room}", &room);
        if let Work::Call(_) = cell.work {
            target.events.publish_event = CALLED_EVENT.to_owned();
            target.events.acknowledged_args = "{data}".to_owned();
        }
        if cell.work.connections() > 50_000 {
            target.sources = 20;
        }
        if !server.takes_tokens() {
            target.credential = Credential::None;
        } else if let Work::Presence(_) | Work::Call(_) = &cell.work {
            // One subject may have a share of the calls.
            let subject = |number| self.home.token(&format!("user-{number}"));
            target.tokens = (0..cell.work.connections())
                .map(subject)
                .collect::<Result<_, _>>()?;
        } else {
            target.tokens = vec![self.home.token(ACCOUNT)?];
        }
        Ok(target)
    }

    fn print(&self, outcomes: &[Outcome]) {
        match self.options.format {
            Format::Text => println!("\n{}", bar_table(outcomes)),
            Format::Svg => println!("{}", document::ratio_chart(outcomes)),
            Format::Json => {
                let cells: Vec<_> = outcomes.iter().map(to_json).collect();
                println!(
                    "{}",
                    json!({ "rounds": self.options.rounds, "cells": cells })
                );
            }
        }
    }
}

fn progress_line(cell: &Cell, server: Server, round: u32, result: &Measurement) -> String {
    let (metric, unit) = cell.shown;
    let value = result.get(metric).map_or_else(|| "none".to_owned(), number);
    let failure = result
        .failure()
        .map(|failure| format!("  {failure}"))
        .unwrap_or_default();
    let (name, label) = (cell.name, server.label());
    format!("{name:<22} round {round:<2} {label:<18} {value:>12} {unit}{failure}")
}

fn to_json(outcome: &Outcome) -> serde_json::Value {
    let bars = outcome.judge().into_iter().map(|judged| {
        let bar = judged.bar;
        json!({
            "title": bar.title, "bound": bar.bound_text(), "value": judged.value,
            "verdict": judged.word(),
        })
    });
    let servers = outcome.rounds.iter().map(|(server, rounds)| {
        let rounds: Vec<_> = rounds.iter().map(Measurement::to_json).collect();
        json!({ "server": server.label(), "rounds": rounds })
    });
    json!({
        "cell": outcome.cell.name,
        "bars": bars.collect::<Vec<_>>(),
        "servers": servers.collect::<Vec<_>>(),
        "missing": outcome.missing.iter().map(|(server, reason)| {
            json!({ "server": server.label(), "reason": reason })
        }).collect::<Vec<_>>(),
    })
}
