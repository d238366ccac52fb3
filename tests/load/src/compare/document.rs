//! `docs/performance.md` and its chart.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::Context;

use crate::compare::section;
use crate::compare::servers::Server;
use crate::compare::verdict::{Outcome, Verdict};
use crate::measurement::number;
use crate::svg::{Bar, bar_chart};

/// Circumstances of the figures in a document.
pub(crate) struct Setting {
    pub(crate) rounds: u32,
    pub(crate) cores: usize,
    pub(crate) machine: Vec<(String, String)>,
    pub(crate) versions: Vec<(String, String)>,
}

/// Writes the document to `path`, and the chart beside it with the extension `svg`.
///
/// # Errors
///
/// Returns an error if a file cannot be written.
pub(crate) fn write(path: &Path, outcomes: &[Outcome], setting: &Setting) -> anyhow::Result<()> {
    let chart = path.with_extension("svg");
    let chart_name = chart
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    if let Some(folder) = path.parent() {
        let failed = || format!("the folder {} cannot be created", folder.display());
        fs::create_dir_all(folder).with_context(failed)?;
    }
    let failed = || format!("the document {} cannot be written", path.display());
    fs::write(&chart, ratio_chart(outcomes)).with_context(failed)?;
    let former = fs::read_to_string(path).unwrap_or_default();
    let mut text = render(outcomes, setting, &chart_name);
    // Other commands have measured these.
    for section in section::ALL.iter().filter_map(|it| it.of(&former)) {
        let _ = write!(text, "\n{section}");
    }
    fs::write(path, text).with_context(failed)
}

fn render(outcomes: &[Outcome], setting: &Setting, chart: &str) -> String {
    let mut text = String::from("# Performance\n\n");
    let _ = writeln!(
        text,
        "`cargo load compare` writes this page; [its README](../tests/load/README.md) explains the cells. The server\n\
         runs on the first core of one machine and the load generator on the last, over loopback without TLS. The\n\
         servers alternate within one run, and each measurement starts a new server process. Figures are medians of\n\
         {} rounds, and each ratio is formed within its round.\n",
        setting.rounds
    );
    text.push_str("## Bars\n\n");
    let _ = writeln!(text, "![Ratios to other servers]({chart})\n");
    bars(&mut text, outcomes);
    text.push_str("\n## Figures\n\nIn parentheses: the ratio to the first figure of the row.\n\n");
    figures(&mut text, outcomes);
    notes(&mut text, outcomes, setting);
    for (heading, lines) in [
        ("Machine", &setting.machine),
        ("Versions", &setting.versions),
    ] {
        let _ = writeln!(text, "\n## {heading}\n\n| | |\n|---|---|");
        for (name, value) in lines {
            let _ = writeln!(text, "| {name} | {value} |");
        }
    }
    text
}

fn bars(text: &mut String, outcomes: &[Outcome]) {
    text.push_str("| bar | bound | measured | |\n|---|---|---|---|\n");
    for judged in outcomes.iter().flat_map(Outcome::judge) {
        let value = judged.value.map_or_else(|| "–".to_owned(), number);
        let (bound, word) = (judged.bar.bound_text(), judged.word());
        let _ = writeln!(
            text,
            "| {} | {bound} | {value} | {word} |",
            judged.bar.title
        );
    }
}

fn figures(text: &mut String, outcomes: &[Outcome]) {
    let servers = [
        Server::Node,
        Server::Bun,
        Server::Bare,
        Server::Limit,
        Server::Baseline,
        Server::Ours,
        Server::Express,
        Server::Issuer,
    ];
    let has_figures = |server: &Server| {
        outcomes.iter().any(|outcome| {
            outcome
                .rounds
                .iter()
                .any(|(measured, _)| measured == server)
        })
    };
    let servers: Vec<_> = servers.into_iter().filter(has_figures).collect();
    text.push_str("| cell | unit |");
    servers
        .iter()
        .for_each(|server| text.extend([" ", server.label(), " |"]));
    text.push_str("\n|---|---|");
    text.push_str(&"---|".repeat(servers.len()));
    text.push('\n');
    for outcome in outcomes {
        let (metric, unit) = outcome.cell.shown;
        let _ = write!(text, "| {} | {unit} |", outcome.cell.title);
        for server in &servers {
            let value = figure(outcome, *server, metric);
            let mark = if outcome.failure(*server).is_some() {
                " (!)"
            } else {
                ""
            };
            let _ = write!(text, " {value}{mark} |");
        }
        text.push('\n');
    }
}

/// Returns a figure, with its ratio to that of the first server in parentheses.
fn figure(outcome: &Outcome, server: Server, metric: &str) -> String {
    let Some(value) = outcome.median(server, metric) else {
        return String::new();
    };
    let first = outcome.rounds.first().map_or(server, |(first, _)| *first);
    match outcome.ratio(server, first, metric) {
        Some(ratio) if first != server => format!("{} ({})", number(value), number(ratio)),
        _ => number(value),
    }
}

/// Writes the reasons for missing and doubtful figures.
fn notes(text: &mut String, outcomes: &[Outcome], setting: &Setting) {
    let mut notes = Vec::new();
    for outcome in outcomes {
        let title = outcome.cell.title;
        for (server, reason) in &outcome.missing {
            notes.push(format!(
                "**{} was not measured**, {title}: {reason}.",
                server.label()
            ));
        }
        for (server, _) in &outcome.rounds {
            if let Some(failure) = outcome.failure(*server) {
                notes.push(format!("(!) {}, {title}: {failure}.", server.label()));
            }
        }
        if outcome.cell.server_cores >= setting.cores {
            notes.push(format!(
                "{title}: the generator shares a core with the server."
            ));
        }
        for judged in outcome.judge() {
            if let Verdict::Unjudged(reason) = &judged.verdict {
                notes.push(format!("{}: not judged, {reason}.", judged.bar.title));
            }
        }
    }
    notes.sort();
    notes.dedup();
    if !notes.is_empty() {
        text.push('\n');
        notes
            .iter()
            .for_each(|note| text.extend(["- ", note, "\n"]));
    }
}

/// Draws each judged ratio with its bound.
pub(crate) fn ratio_chart(outcomes: &[Outcome]) -> String {
    let bars: Vec<_> = outcomes
        .iter()
        .flat_map(Outcome::judge)
        .filter(|judged| judged.bar.against.is_some())
        .filter_map(|judged| {
            let bound = Some(judged.bar.bound);
            Some(Bar {
                label: judged.bar.title.to_owned(),
                value: judged.value?,
                bound,
            })
        })
        .collect();
    bar_chart("Ratios to other servers; the mark is the bound", &bars)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::cells;
    use crate::measurement::Measurement;

    #[test]
    fn the_document_has_ratios_figures_notes_and_versions() {
        let cell = cells::with_one_bar();
        let round = |value| {
            let mut measurement = Measurement::new("connect");
            measurement.set("server_cpu_us_per_operation", value);
            vec![measurement]
        };
        let outcome = Outcome {
            cell,
            rounds: vec![(Server::Node, round(100.0)), (Server::Ours, round(20.0))],
            missing: vec![(Server::Bun, "Bun is not installed".to_owned())],
        };
        let setting = Setting {
            rounds: 1,
            cores: 2,
            machine: vec![("Cores".to_owned(), "2".to_owned())],
            versions: vec![("Node".to_owned(), "v20".to_owned())],
        };
        let text = render(&[outcome], &setting, "performance.svg");
        assert!(
            text.contains("| CPU of a handshake, to Node's | ≤ 0.22 | 0.20 | pass |"),
            "{text}"
        );
        assert!(
            text.contains("| handshake | µs of CPU | 100 | 20.0 (0.20) |"),
            "{text}"
        );
        assert!(text.contains("**Bun was not measured**"), "{text}");
        assert!(text.contains("| Node | v20 |"), "{text}");
    }
}
