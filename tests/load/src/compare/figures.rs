//! Figures of a measurement, their bars, and their medians.

use std::collections::HashMap;
use std::fmt::{Debug, Write as _};
use std::hash::Hash;

use serde_json::{Value, json};

use crate::measurement::number;
use crate::statistics::median;

/// A figure with its text in tables, its unit, and its upper bound, if it is a bar.
pub(super) type Row<F> = (F, &'static str, &'static str, Option<f64>);

/// The values of all rounds.
pub(super) struct Figures<F: 'static> {
    rows: &'static [Row<F>],
    values: HashMap<F, Vec<f64>>,
    failures: HashMap<F, String>,
}

impl<F: Copy + Debug + Eq + Hash> Figures<F> {
    pub(super) fn new(rows: &'static [Row<F>]) -> Self {
        Self {
            rows,
            values: HashMap::new(),
            failures: HashMap::new(),
        }
    }

    /// Notes the value of one round. A failure misses the bar.
    pub(super) fn note(&mut self, figure: F, value: anyhow::Result<f64>) {
        match value {
            Ok(value) => self.values.entry(figure).or_default().push(value),
            Err(error) => {
                eprintln!("cargo load: {figure:?} FAILED: {error:#}");
                self.failures.insert(figure, format!("{error:#}"));
            }
        }
    }

    /// Returns whether every figure was measured, and no bar is missed.
    pub(super) fn are_good(&self) -> bool {
        let is_good = |(figure, _, _, bound): &Row<F>| self.verdict(*figure, *bound) != "FAIL";
        self.failures.is_empty() && self.rows.iter().all(is_good)
    }

    /// Returns the median, unless a round has failed.
    fn value(&self, figure: F) -> Option<f64> {
        let values = self.values.get(&figure)?;
        (!self.failures.contains_key(&figure)).then(|| median(values))?
    }

    fn verdict(&self, figure: F, bound: Option<f64>) -> &'static str {
        match (bound, self.value(figure)) {
            (None, _) => "",
            (Some(bound), Some(value)) if value <= bound => "pass",
            _ => "FAIL",
        }
    }

    /// Returns the figures as a table in Markdown.
    pub(super) fn table(&self) -> String {
        let mut text = String::from("| figure | bound | measured | |\n|---|---|---|---|\n");
        for (figure, title, unit, bound) in self.rows.iter().copied() {
            let value = self.value(figure);
            let value = value.map_or_else(|| "–".to_owned(), |it| format!("{} {unit}", number(it)));
            let limit = bound.map_or_else(String::new, |it| format!("≤ {} {unit}", number(it)));
            let (value, limit) = (value.trim_end(), limit.trim_end());
            let _ = writeln!(
                text,
                "| {title} | {limit} | {value} | {} |",
                self.verdict(figure, bound)
            );
        }
        text
    }

    /// Returns the figures as JSON.
    pub(super) fn to_json(&self, rounds: u32) -> Value {
        let figures = self.rows.iter().map(|(figure, title, unit, bound)| {
            json!({
                "figure": title, "unit": unit, "bound": bound, "median": self.value(*figure),
                "rounds": self.values.get(figure), "verdict": self.verdict(*figure, *bound),
                "failure": self.failures.get(figure),
            })
        });
        json!({ "rounds": rounds, "figures": figures.collect::<Vec<_>>() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROWS: [Row<u8>; 2] = [(0, "delay", "ms", Some(20.0)), (1, "CPU", "µs", None)];

    #[test]
    fn a_bar_is_missed_by_its_median_and_by_a_failure() {
        let mut figures = Figures::new(&ROWS);
        for (figure, ..) in ROWS {
            figures.note(figure, Ok(0.0));
        }
        assert!(figures.are_good());
        figures.note(0, Ok(45.0));
        assert!(!figures.are_good());
        let table = figures.table();
        assert!(table.contains("| ≤ 20.0 ms | 22.5 ms | FAIL |"), "{table}");
        figures.note(0, Ok(1.0));
        assert!(figures.are_good());
        figures.note(1, Err(anyhow::anyhow!("it broke")));
        assert!(!figures.are_good());
        assert_eq!(figures.to_json(3)["figures"][1]["failure"], "it broke");
    }
}
