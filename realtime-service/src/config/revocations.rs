//! Where revocations are kept.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Where revocations are kept, and how many.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RevocationSettings {
    /// File to which revocations are appended, created when it does not exist. An acknowledged
    /// revocation survives a restart. `REALTIME__REVOCATIONS__FILE`, default
    /// `latchkey-revocations.jsonl`.
    pub file: PathBuf,
    /// Maximum number of revocations in force. Further logout tokens are answered 503. A revocation
    /// is dropped when the last token that it concerns has expired.
    /// `REALTIME__REVOCATIONS__ENTRIES`, default 1000000.
    pub entries: usize,
}

impl Default for RevocationSettings {
    fn default() -> Self {
        Self {
            file: PathBuf::from("latchkey-revocations.jsonl"),
            entries: 1_000_000,
        }
    }
}
