//! Where revocations are kept.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Where revocations are kept, and how many.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RevocationSettings {
    /// The file to which revocations are appended, made when it is missing: what was acknowledged to
    /// an issuer survives a restart. `REALTIME__REVOCATIONS__FILE`, default
    /// `latchkey-revocations.jsonl`.
    pub file: PathBuf,
    /// How many are kept at once; beyond it logout tokens are answered 503. Each goes when the last
    /// token that it concerns has expired. `REALTIME__REVOCATIONS__ENTRIES`, default 1000000.
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
