//! Figures of a run, their bars, and the section of a document that has them.

use std::{fmt::Write as _, path::Path};

use anyhow::Context;

/// Bound of a figure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Bar {
    /// There is none.
    None,
    /// The figure is this much at most.
    AtMost(f64),
    /// The figure is this much at least.
    AtLeast(f64),
}

/// A figure.
struct Figure {
    title: String,
    unit: &'static str,
    bar: Bar,
    value: f64,
    is_judged: bool,
}

/// The figures of a run.
pub(crate) struct Figures {
    /// The command that measures them, which marks their section of a document.
    command: &'static str,
    figures: Vec<Figure>,
    /// Whether the run is long enough to judge latencies.
    judges_latencies: bool,
}

impl Figures {
    /// Begins the figures of a command. A run that is too short to judge latencies shows them all the same.
    pub(crate) fn new(command: &'static str, judges_latencies: bool) -> Self {
        Self {
            command,
            figures: Vec::new(),
            judges_latencies,
        }
    }

    /// Notes a figure.
    pub(crate) fn note(&mut self, title: &str, unit: &'static str, value: f64, bar: Bar) {
        self.figures.push(Figure {
            title: title.to_owned(),
            unit,
            bar,
            value,
            is_judged: bar != Bar::None,
        });
    }

    /// Notes a latency, or a ratio of latencies.
    pub(crate) fn note_latency(&mut self, title: &str, unit: &'static str, value: f64, bar: Bar) {
        self.note(title, unit, value, bar);
        if let Some(figure) = self.figures.last_mut() {
            figure.is_judged &= self.judges_latencies;
        }
    }

    /// Whether no bar is missed.
    pub(crate) fn are_good(&self) -> bool {
        self.figures.iter().all(|it| it.verdict() != "FAIL")
    }

    /// Renders the figures as a table in Markdown.
    pub(crate) fn table(&self) -> String {
        let mut text = String::from("| figure | bound | measured | |\n|---|---|---|---|\n");
        for figure in &self.figures {
            let bound = match figure.bar {
                Bar::None => String::new(),
                Bar::AtMost(bound) => format!("≤ {} {}", number(bound), figure.unit),
                Bar::AtLeast(bound) => format!("≥ {} {}", number(bound), figure.unit),
            };
            let value = format!("{} {}", number(figure.value), figure.unit);
            let (bound, value) = (bound.trim_end(), value.trim_end());
            let _ = writeln!(
                text,
                "| {} | {bound} | {value} | {} |",
                figure.title,
                figure.verdict()
            );
        }
        text
    }

    /// Writes the figures into the document at `path`, in place of their former section or at the end, with
    /// a line on the circumstances.
    ///
    /// # Errors
    ///
    /// Returns an error if the file cannot be read or written.
    pub(crate) fn write(&self, path: &Path, circumstances: &str) -> anyhow::Result<()> {
        let failed = || format!("the document {} cannot be written", path.display());
        let text = std::fs::read_to_string(path).with_context(failed)?;
        std::fs::write(path, self.put(&text, circumstances)).with_context(failed)
    }

    fn put(&self, document: &str, circumstances: &str) -> String {
        let (begin, end) = (
            format!("<!-- {} -->\n", self.command),
            format!("<!-- end of {} -->\n", self.command),
        );
        let section = format!("{begin}{circumstances}\n\n{}{end}", self.table());
        let found = document.split_once(&begin);
        match found.and_then(|(before, rest)| Some((before, rest.split_once(&end)?.1))) {
            Some((before, after)) => format!("{before}{section}{after}"),
            None => format!("{document}\n{section}"),
        }
    }
}

impl Figure {
    fn verdict(&self) -> &'static str {
        let is_met = match self.bar {
            Bar::None => return "",
            Bar::AtMost(bound) => self.value <= bound,
            Bar::AtLeast(bound) => self.value >= bound,
        };
        match (self.is_judged, is_met) {
            (false, _) => "not judged",
            (true, true) => "pass",
            (true, false) => "FAIL",
        }
    }
}

/// Three digits, or all of a whole number.
fn number(value: f64) -> String {
    match value {
        value if value.fract() == 0.0 || value.abs() >= 100.0 => format!("{value:.0}"),
        value if value.abs() >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

/// Returns the 99th percentile of at least one value.
///
/// # Errors
///
/// Returns an error if there is none.
pub(crate) fn p99(mut values: Vec<f64>) -> anyhow::Result<f64> {
    values.sort_by(f64::total_cmp);
    let rank = (values.len() * 99).div_ceil(100).saturating_sub(1);
    values.get(rank).copied().context("nothing was measured")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_missed_and_a_latency_of_a_short_run_is_not_judged() {
        for (value, is_good) in [(1.2, true), (1.21, false)] {
            let mut figures = Figures::new("cargo chaos test", true);
            figures.note("alone", "", 9.0, Bar::None);
            figures.note_latency("ratio", "", value, Bar::AtMost(1.2));
            assert_eq!(figures.are_good(), is_good, "{}", figures.table());
        }
        let mut figures = Figures::new("cargo chaos test", false);
        figures.note_latency("ratio", "", 3.0, Bar::AtMost(1.2));
        assert!(figures.are_good() && figures.table().contains("| ≤ 1.20 | 3 | not judged |"));
        figures.note("rate", "a second", 1899.0, Bar::AtLeast(1900.0));
        assert!(!figures.are_good() && figures.table().contains("≥ 1900 a second"));
    }

    #[test]
    fn a_section_takes_the_place_of_the_former_one() {
        let section = |value| {
            let mut figures = Figures::new("cargo chaos test", true);
            figures.note("figure", "s", value, Bar::None);
            figures
        };
        let document = section(1.0).put("# Page\n", "here");
        assert!(document.starts_with("# Page\n\n<!-- cargo chaos test -->\nhere\n\n| figure"));
        let more = format!("{document}\n## More\n");
        let document = section(2.0).put(&more, "here");
        assert_eq!(document, more.replace("| 1 s |", "| 2 s |"));
    }

    #[test]
    fn a_percentile_is_the_value_that_99_of_100_do_not_exceed() {
        let values = |count: u32| (1..=count).rev().map(f64::from).collect();
        assert_eq!(p99(values(100)).expect("values"), 99.0);
        assert_eq!(p99(values(1)).expect("values"), 1.0);
        assert!(p99(Vec::new()).is_err());
    }
}
