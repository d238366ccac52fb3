//! Measurements of a section: the rounds, the judgement, and the place of the result.

use std::fmt::Debug;
use std::hash::Hash;
use std::path::PathBuf;

use clap::Args;

use super::figures::{Figures, Row};
use super::prepare::{self, Home};
use super::process::Cores;
use super::raise_file_limit;
use super::section::Section;
use super::servers::Programs;
use crate::measurement::Format;

/// Options of every section.
#[derive(Args, Debug)]
pub(super) struct Rounds {
    /// Rounds; figures are their medians.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=50))]
    rounds: u32,
    /// Document whose section is written; docs/performance.md by default.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Format of standard output: a table or JSON.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// The means of a measurement.
pub(super) struct Bench {
    pub(super) programs: Programs,
    pub(super) home: Home,
    pub(super) cores: Cores,
}

/// Measures in rounds, and writes the section. Returns whether no bar is missed.
///
/// # Errors
///
/// Returns an error if a program cannot be built, or the result cannot be written. A failed
/// measurement is part of the result.
pub(super) fn run<F: Copy + Debug + Eq + Hash>(
    options: &Rounds,
    (section, rows): (&Section, &'static [Row<F>]),
    measure: impl Fn(&Bench, &mut Figures<F>),
) -> anyhow::Result<bool> {
    let root = prepare::root()?;
    let programs = prepare::programs(&root, None)?;
    let home = Home::new(&programs.issuer)?;
    let cores = Cores::available()?;
    raise_file_limit();
    cores.pin_generator()?;
    let bench = Bench {
        programs,
        home,
        cores,
    };
    let mut figures = Figures::new(rows);
    for round in 1..=options.rounds {
        eprintln!("cargo load: round {round} of {}", options.rounds);
        measure(&bench, &mut figures);
    }
    bench.cores.unpin()?;
    match options.format {
        Format::Json => println!("{}", figures.to_json(options.rounds)),
        _ => println!("{}", figures.table()),
    }
    let output = options.output.clone();
    let output = output.unwrap_or_else(|| root.join("docs/performance.md"));
    section.write(&output, &root, (&figures.table(), options.rounds))?;
    Ok(figures.are_good())
}
