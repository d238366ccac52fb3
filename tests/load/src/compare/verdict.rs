//! Medians of rounds, ratios within a round, and the judgement of the bars.

use std::fmt::Write as _;

use crate::compare::cell::{Bar, Cell};
use crate::compare::servers::Server;
use crate::measurement::{Measurement, number};
use crate::statistics::median;

/// Measurements of one cell.
pub(crate) struct Outcome {
    pub(crate) cell: Cell,
    /// Measurements of each server, one for each round.
    pub(crate) rounds: Vec<(Server, Vec<Measurement>)>,
    /// Servers that were not measured, and why.
    pub(crate) missing: Vec<(Server, String)>,
}

/// Judgement of one bar.
#[derive(Debug, PartialEq)]
pub(crate) enum Verdict {
    /// The bar is met.
    Pass,
    /// The bar is missed.
    Fail,
    /// A server of the bar was not measured, for this reason.
    Unjudged(String),
}

/// One judged bar.
pub(crate) struct Judged {
    pub(crate) bar: &'static Bar,
    /// Median of the values or ratios of all rounds.
    pub(crate) value: Option<f64>,
    pub(crate) verdict: Verdict,
}

impl Outcome {
    /// Returns the measurements of a server.
    fn of(&self, server: Server) -> &[Measurement] {
        let found = self
            .rounds
            .iter()
            .find(|(candidate, _)| *candidate == server);
        found.map_or(&[], |(_, rounds)| rounds.as_slice())
    }

    /// Returns the median of a value of a server.
    pub(crate) fn median(&self, server: Server, metric: &str) -> Option<f64> {
        let values: Vec<_> = self
            .of(server)
            .iter()
            .filter_map(|round| round.get(metric))
            .collect();
        median(&values)
    }

    /// Returns the median of the ratios of two servers, each formed within one round.
    pub(crate) fn ratio(&self, server: Server, against: Server, metric: &str) -> Option<f64> {
        let pairs = self.of(server).iter().zip(self.of(against));
        let ratios: Vec<_> = pairs
            .filter_map(|(ours, theirs)| Some(ours.get(metric)? / theirs.get(metric)?))
            .filter(|ratio| ratio.is_finite())
            .collect();
        median(&ratios)
    }

    /// Returns the first failure of a server in any round.
    pub(crate) fn failure(&self, server: Server) -> Option<String> {
        self.of(server).iter().find_map(Measurement::failure)
    }

    /// Judges all bars of the cell.
    pub(crate) fn judge(&self) -> Vec<Judged> {
        self.cell
            .bars
            .iter()
            .map(|bar| self.judge_bar(bar))
            .collect()
    }

    fn judge_bar(&self, bar: &'static Bar) -> Judged {
        let value = match bar.against {
            Some(server) => self.ratio(bar.subject, server, bar.metric),
            None => self.median(bar.subject, bar.metric),
        };
        let missing = self
            .missing
            .iter()
            .find(|(server, _)| *server == bar.subject || bar.against == Some(*server));
        let verdict = match (value, missing, self.failure(bar.subject)) {
            (_, Some((_, reason)), _) => Verdict::Unjudged(reason.clone()),
            (_, _, Some(_)) | (None, ..) => Verdict::Fail,
            (Some(value), ..) if bar.is_met_by(value) => Verdict::Pass,
            _ => Verdict::Fail,
        };
        Judged {
            bar,
            value,
            verdict,
        }
    }
}

impl Judged {
    /// Returns the verdict as a word.
    pub(crate) fn word(&self) -> &'static str {
        match self.verdict {
            Verdict::Pass => "pass",
            Verdict::Fail => "FAIL",
            Verdict::Unjudged(_) => "not judged",
        }
    }
}

/// Writes the table of all bars, for a terminal.
pub(crate) fn bar_table(outcomes: &[Outcome]) -> String {
    let mut text = format!("{:<52} {:>10} {:>10}\n", "bar", "bound", "measured");
    for outcome in outcomes {
        for judged in outcome.judge() {
            let value = judged.value.map_or_else(|| "none".to_owned(), number);
            let bound = judged.bar.bound_text();
            let _ = writeln!(
                text,
                "{:<52} {bound:>10} {value:>10}  {}",
                judged.bar.title,
                judged.word()
            );
            if let Verdict::Unjudged(reason) = &judged.verdict {
                let _ = writeln!(text, "    {reason}");
            }
            if let Some(failure) = outcome.failure(judged.bar.subject) {
                let _ = writeln!(text, "    {failure}");
            }
        }
    }
    text
}

/// Returns whether no bar is missed. A bar that cannot be judged is not missed.
pub(crate) fn is_success(outcomes: &[Outcome]) -> bool {
    let judged = outcomes.iter().flat_map(Outcome::judge);
    judged
        .into_iter()
        .all(|judged| judged.verdict != Verdict::Fail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::cells;

    fn rounds(values: &[f64]) -> Vec<Measurement> {
        values
            .iter()
            .map(|value| {
                let mut measurement = Measurement::new("connect");
                measurement.set("server_cpu_us_per_operation", *value);
                measurement
            })
            .collect()
    }

    fn outcome(ours: &[f64], node: &[f64]) -> Outcome {
        let cell = cells::with_one_bar();
        let rounds = vec![(Server::Node, rounds(node)), (Server::Ours, rounds(ours))];
        Outcome {
            cell,
            rounds,
            missing: Vec::new(),
        }
    }

    #[test]
    fn ratios_are_formed_within_a_round() {
        let outcome = outcome(&[10.0, 40.0, 21.0], &[100.0, 200.0, 100.0]);
        let ratio = outcome.ratio(Server::Ours, Server::Node, "server_cpu_us_per_operation");
        assert_eq!(ratio, Some(0.2));
        assert_eq!(outcome.judge()[0].verdict, Verdict::Pass);
        assert!(is_success(&[outcome]));
    }

    #[test]
    fn a_missed_bar_fails() {
        let outcome = outcome(&[30.0], &[100.0]);
        assert_eq!(outcome.judge()[0].verdict, Verdict::Fail);
        let table = bar_table(std::slice::from_ref(&outcome));
        assert!(table.contains("0.30  FAIL"), "{table}");
        assert!(!is_success(&[outcome]));
    }

    #[test]
    fn a_failed_operation_of_ours_fails_its_bars() {
        let mut outcome = outcome(&[10.0], &[100.0]);
        outcome.rounds[1].1[0].fail("refused");
        assert_eq!(outcome.judge()[0].verdict, Verdict::Fail);
    }

    #[test]
    fn a_bar_without_its_server_is_not_judged() {
        let mut outcome = outcome(&[10.0], &[]);
        assert_eq!(outcome.judge()[0].verdict, Verdict::Fail);
        outcome
            .missing
            .push((Server::Node, "not installed".to_owned()));
        assert_eq!(
            outcome.judge()[0].verdict,
            Verdict::Unjudged("not installed".to_owned())
        );
        assert!(is_success(&[outcome]));
    }
}
