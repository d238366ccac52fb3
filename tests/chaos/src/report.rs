//! The result of a run: a table for people, and JSON for programs.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::{
    ledger::{Ledger, Violation},
    plan::Event,
};

/// Renders the numbers and the violations as a table.
pub(crate) fn table(ledger: &Ledger, events: &[Event], seed: u64) -> String {
    let totals = ledger.totals();
    let mut text = format!("seed {seed}\n\n");
    for (label, count) in [
        ("faults", events.len() as u64),
        ("messages acknowledged", totals.published),
        ("messages delivered", totals.deliveries),
        ("joins and leaves announced", totals.announced),
        ("connections admitted", totals.admitted),
        ("returns that missed nothing", totals.recovered),
        ("returns that were told of a loss", totals.unrecovered),
        ("gaps that were told", totals.gaps),
        ("sessions revoked", totals.revoked),
        ("events stored for the back end", totals.stored),
    ] {
        let _ = writeln!(text, "{label:<40}{count:>12}");
    }
    text.push('\n');
    let violations = ledger.violations();
    for kind in Violation::ALL {
        let count = violations.get(&kind).map_or(0, |(count, _)| *count);
        let verdict = if count == 0 { "ok" } else { "VIOLATED" };
        let _ = writeln!(text, "{:<40}{count:>12}  {verdict}", kind.label());
    }
    for (kind, (count, texts)) in &violations {
        let _ = writeln!(text, "\n{} ({count}):", kind.label());
        for one in texts {
            let _ = writeln!(text, "  {one}");
        }
    }
    text
}

/// Renders everything that is known of a run.
pub(crate) fn document(ledger: &Ledger, events: &[Event], seed: u64) -> Value {
    let totals = ledger.totals();
    let faults = events.iter().map(|event| {
        json!({
            "at_ms": event.at.as_millis() as u64, "length_ms": event.length.as_millis() as u64,
            "fault": event.fault.to_string(),
        })
    });
    let seconds = ledger.seconds();
    let seconds = seconds.iter().map(|second| {
        json!({
            "deliveries": second.deliveries, "told": second.told, "admitted": second.admitted,
        })
    });
    let violations = ledger.violations();
    let violations = Violation::ALL.iter().map(|kind| {
        let (count, texts) = violations.get(kind).cloned().unwrap_or_default();
        json!({ "kind": kind.label(), "count": count, "first": texts })
    });
    json!({
        "seed": seed,
        "published": totals.published, "deliveries": totals.deliveries,
        "announced": totals.announced, "admitted": totals.admitted,
        "recovered": totals.recovered, "unrecovered": totals.unrecovered, "gaps": totals.gaps,
        "revoked": totals.revoked, "stored": totals.stored,
        "violations": violations.collect::<Vec<_>>(),
        "faults": faults.collect::<Vec<_>>(),
        "seconds": seconds.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_violation_is_in_the_table_and_in_the_document() {
        let ledger = Ledger::default();
        assert!(!table(&ledger, &[], 7).contains("VIOLATED"));
        ledger.violated(Violation::Ghost, "a ghost".to_owned());
        let text = table(&ledger, &[], 7);
        assert!(
            text.contains("seed 7") && text.contains("VIOLATED"),
            "{text}"
        );
        assert!(text.contains("a ghost"), "{text}");
        let document = document(&ledger, &[], 7);
        let ghosts = document["violations"].as_array().expect("a list");
        let ghosts = ghosts
            .iter()
            .find(|it| it["kind"] == Violation::Ghost.label());
        assert_eq!(ghosts.expect("a kind")["count"], 1);
    }
}
