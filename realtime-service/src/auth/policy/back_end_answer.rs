//! The answer of a back end about an action in a room, as an explanation shows it.

use std::fmt;

use serde::Serialize;

/// The answer of a back end that was asked about an action in a room.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BackEndAnswer {
    /// Whether it allows the action; `false` when it gave no answer.
    pub allow: bool,
    /// Time for which the answer holds, in seconds.
    pub cache_secs: u64,
    /// The text for the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The code of the error, when it gave no answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<&'static str>,
}

impl fmt::Display for BackEndAnswer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(error) = self.error {
            return write!(formatter, "has not decided: {error}");
        }
        formatter.write_str(if self.allow {
            "allows it"
        } else {
            "refuses it"
        })?;
        if self.cache_secs > 0 {
            write!(formatter, " for {} s", self.cache_secs)?;
        }
        match &self.reason {
            Some(reason) => write!(formatter, ": {reason}"),
            None => Ok(()),
        }
    }
}
