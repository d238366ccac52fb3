//! The keys of an issuer, in words: which are used, which are not, and why.

use std::{collections::BTreeSet, fmt};

use jsonwebtoken::Algorithm;
use shared_claims::key_set::KeySet;

/// The longest part of an id that is printed, in characters. Ids come from elsewhere.
const MAXIMUM_ID_CHARS: usize = 64;

/// The most keys that one line names. A set has as many as its issuer likes.
const MAXIMUM_KEYS_IN_A_LINE: usize = 20;

/// The use of each key of an issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyReport(Vec<KeyUse>);

/// The use of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
struct KeyUse {
    id: String,
    /// The algorithms that the key verifies, or why it verifies none.
    outcome: Result<Vec<Algorithm>, String>,
}

impl KeyReport {
    /// Reports on `keys` for an issuer that may use `algorithms`.
    pub(super) fn of(keys: &KeySet, algorithms: &[Algorithm]) -> Self {
        let usable = keys.usable().map(|(id, of_key)| {
            let accepted: Vec<Algorithm> = of_key
                .iter()
                .copied()
                .filter(|one| algorithms.contains(one))
                .collect();
            KeyUse {
                id: printable(id),
                outcome: match accepted.is_empty() {
                    true => Err(format!("{} is not among algorithms", names(of_key))),
                    false => Ok(accepted),
                },
            }
        });
        let unusable = keys.unusable().iter().map(|key| KeyUse {
            id: key.id.as_deref().map_or("none".to_owned(), printable),
            outcome: Err(key.reason.to_string()),
        });
        Self(usable.chain(unusable).collect())
    }

    /// Whether any key verifies tokens.
    #[must_use]
    pub fn has_usable_key(&self) -> bool {
        self.0.iter().any(|key| key.outcome.is_ok())
    }

    /// Returns a line for each key.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(ToString::to_string)
    }

    fn ids(&self) -> BTreeSet<&str> {
        let used = self.0.iter().filter(|key| key.outcome.is_ok());
        used.map(|key| key.id.as_str()).collect()
    }
}

impl fmt::Display for KeyReport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.lines().take(MAXIMUM_KEYS_IN_A_LINE).collect();
        formatter.write_str(&lines.join(", "))?;
        match self.0.len() - lines.len() {
            0 => Ok(()),
            rest => write!(formatter, ", and {rest} more"),
        }
    }
}

impl fmt::Display for KeyUse {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.outcome {
            Ok(algorithms) => write!(formatter, "key {} used for {}", self.id, names(algorithms)),
            Err(why) => write!(formatter, "key {} not used: {why}", self.id),
        }
    }
}

/// The keys that are used now and were not before, and the other way round.
pub(super) struct KeyChange {
    new: Vec<String>,
    gone: Vec<String>,
}

impl KeyChange {
    pub(super) fn between(before: &KeyReport, after: &KeyReport) -> Self {
        let (before, after) = (before.ids(), after.ids());
        let only = |one: &BTreeSet<&str>, other| -> Vec<String> {
            one.difference(other).map(|&id| id.to_owned()).collect()
        };
        Self {
            new: only(&after, &before),
            gone: only(&before, &after),
        }
    }
}

impl fmt::Display for KeyChange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |ids: &[String]| match ids {
            [] => "none".to_owned(),
            ids => ids[..ids.len().min(MAXIMUM_KEYS_IN_A_LINE)].join(" "),
        };
        write!(
            formatter,
            "new {}, gone {}",
            list(&self.new),
            list(&self.gone)
        )
    }
}

fn names(algorithms: &[Algorithm]) -> String {
    let names: Vec<String> = algorithms.iter().map(|one| format!("{one:?}")).collect();
    names.join(" ")
}

/// An id as it may be printed: in quotes, escaped, and cut off.
fn printable(id: &str) -> String {
    let start: String = id.chars().take(MAXIMUM_ID_CHARS).collect();
    format!("{start:?}")
}
