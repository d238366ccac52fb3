//! The result of one measurement: named values, written as text, JSON or SVG.

use std::fmt::Write as _;

use clap::ValueEnum;
use serde_json::{Map, Value};

use crate::statistics::Histogram;
use crate::svg::{self, Bar};
use crate::usage::Used;

/// Format of a result.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub(crate) enum Format {
    /// One value a line.
    Text,
    /// One JSON object.
    Json,
    /// A bar chart.
    Svg,
}

/// Values of one measurement, in the order in which they are shown.
#[derive(Clone, Debug, Default)]
pub(crate) struct Measurement {
    mode: &'static str,
    values: Vec<(&'static str, f64)>,
    /// Failed operations and lost connections.
    failures: u64,
    first_failure: Option<String>,
}

impl Measurement {
    /// Creates a measurement without values.
    pub(crate) fn new(mode: &'static str) -> Self {
        Self {
            mode,
            ..Self::default()
        }
    }

    /// Adds a value.
    pub(crate) fn set(&mut self, name: &'static str, value: f64) {
        self.values.push((name, value));
    }

    /// Adds the percentiles of latencies in microseconds.
    pub(crate) fn set_latency(&mut self, latency: &Histogram) {
        if latency.count() == 0 {
            return;
        }
        let quantiles = [
            ("p50_ms", 0.5),
            ("p90_ms", 0.9),
            ("p99_ms", 0.99),
            ("p99_9_ms", 0.999),
        ];
        for (name, quantile) in quantiles {
            self.set(name, latency.quantile(quantile) as f64 / 1000.0);
        }
        self.set("maximum_ms", latency.maximum() as f64 / 1000.0);
    }

    /// Adds the rates of `operations`, by elapsed time and by the server's CPU time.
    pub(crate) fn set_rates(&mut self, operations: u64, used: &Used) {
        let count = operations as f64;
        self.set("operations", count);
        self.set("operations_per_sec", count / used.wall_secs);
        self.set(
            "generator_cpu_percent",
            100.0 * used.generator_secs / used.wall_secs,
        );
        if let Some(server_secs) = used.server_secs {
            self.set("server_cpu_secs", server_secs);
            self.set("server_cpu_percent", 100.0 * server_secs / used.wall_secs);
            self.set(
                "server_cpu_us_per_operation",
                1e6 * server_secs / count.max(1.0),
            );
            self.set(
                "operations_per_server_cpu_sec",
                count / server_secs.max(1e-6),
            );
        }
    }

    /// Counts a failure and keeps the text of the first one.
    pub(crate) fn fail(&mut self, cause: &str) {
        self.failures += 1;
        self.first_failure.get_or_insert_with(|| cause.to_owned());
    }

    /// Returns a value by its name.
    pub(crate) fn get(&self, name: &str) -> Option<f64> {
        let found = self.values.iter().find(|(candidate, _)| *candidate == name);
        found
            .map(|(_, value)| *value)
            .filter(|value| value.is_finite())
    }

    /// Returns a description of the failures, if there are any.
    pub(crate) fn failure(&self) -> Option<String> {
        let first = self.first_failure.as_deref()?;
        Some(format!("{} failures, the first: {first}", self.failures))
    }

    /// Returns the values as JSON.
    pub(crate) fn to_json(&self) -> Value {
        let mut members = Map::new();
        members.insert("mode".to_owned(), self.mode.into());
        for (name, value) in &self.values {
            members.insert(
                (*name).to_owned(),
                ((value * 1000.0).round() / 1000.0).into(),
            );
        }
        members.insert("failures".to_owned(), self.failures.into());
        if let Some(first) = &self.first_failure {
            members.insert("first_failure".to_owned(), first.as_str().into());
        }
        Value::Object(members)
    }

    /// Writes the measurement in a format.
    pub(crate) fn render(&self, format: Format) -> String {
        match format {
            Format::Json => self.to_json().to_string(),
            Format::Svg => self.to_svg(),
            Format::Text => self.to_text(),
        }
    }

    fn to_text(&self) -> String {
        let mut text = format!("{}\n", self.mode);
        for (name, value) in &self.values {
            let _ = writeln!(text, "  {name:<32} {:>14}", number(*value));
        }
        if let Some(failure) = self.failure() {
            let _ = writeln!(text, "  {failure}");
        }
        text
    }

    /// Draws the latencies if they were measured, else the memory, else all values.
    fn to_svg(&self) -> String {
        let group = ["_ms", "_mb", ""]
            .into_iter()
            .find(|unit| self.values.iter().any(|(name, _)| name.ends_with(unit)))
            .unwrap_or_default();
        let bars: Vec<_> = self
            .values
            .iter()
            .filter(|(name, _)| name.ends_with(group))
            .map(|(name, value)| Bar {
                label: (*name).to_owned(),
                value: *value,
                bound: None,
            })
            .collect();
        svg::bar_chart(self.mode, &bars)
    }
}

/// Writes a number with at least three significant digits, and groups of thousands.
pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        large if large >= 100.0 => {
            let digits = format!("{value:.0}");
            let (sign, digits) = digits
                .strip_prefix('-')
                .map_or(("", &*digits), |rest| ("-", rest));
            let mut grouped = String::from(sign);
            for (index, digit) in digits.chars().enumerate() {
                if index > 0 && (digits.len() - index).is_multiple_of(3) {
                    grouped.push(',');
                }
                grouped.push(digit);
            }
            grouped
        }
        medium if medium >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measurement() -> Measurement {
        let mut measurement = Measurement::new("publish");
        let used = Used {
            wall_secs: 2.0,
            server_secs: Some(0.5),
            generator_secs: 1.0,
        };
        measurement.set_rates(1000, &used);
        let mut latency = Histogram::new();
        latency.record(1500);
        measurement.set_latency(&latency);
        measurement
    }

    #[test]
    fn rates_are_by_time_and_by_the_servers_cpu_time() {
        let measurement = measurement();
        assert_eq!(measurement.get("operations_per_sec"), Some(500.0));
        assert_eq!(
            measurement.get("operations_per_server_cpu_sec"),
            Some(2000.0)
        );
        assert_eq!(measurement.get("server_cpu_us_per_operation"), Some(500.0));
        assert_eq!(measurement.get("p99_9_ms"), Some(1.5));
        assert_eq!(measurement.get("unknown"), None);
    }

    #[test]
    fn every_format_shows_values_and_failures() {
        let mut measurement = measurement();
        measurement.fail("refused");
        measurement.fail("refused again");
        let json: Value = serde_json::from_str(&measurement.render(Format::Json)).expect("JSON");
        assert_eq!(json["operations"], 1000.0);
        assert_eq!(
            (&json["failures"], &json["first_failure"]),
            (&2.into(), &"refused".into())
        );
        let text = measurement.render(Format::Text);
        assert!(text.contains("2 failures, the first: refused"), "{text}");
        assert!(measurement.render(Format::Svg).contains("p99_9_ms"));
    }

    #[test]
    fn numbers_have_three_digits_and_groups() {
        assert_eq!(number(1_234_567.8), "1,234,568");
        assert_eq!(number(-1234.0), "-1,234");
        assert_eq!(number(123.4), "123");
        assert_eq!(
            (number(12.34), number(0.216)),
            ("12.3".to_owned(), "0.22".to_owned())
        );
    }
}
