//! The lines of a dump as JSON.

use serde::Deserialize;
use serde_json::{Map, Value};
use shared_claims::{authorization::Action, json};

use crate::store::NewGrant;

/// One account of a dump.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AccountLine {
    pub(super) id: Option<String>,
    pub(super) username: Option<String>,
    pub(super) password_hash: Option<String>,
    pub(super) firebase: Option<FirebaseHash>,
    pub(super) name: Option<String>,
    pub(super) given_name: Option<String>,
    pub(super) family_name: Option<String>,
    pub(super) email: Option<String>,
    #[serde(default)]
    pub(super) email_verified: bool,
    pub(super) created_at: Option<i64>,
    #[serde(default)]
    pub(super) disabled: bool,
    #[serde(default)]
    pub(super) grants: Vec<GrantLine>,
    #[serde(default)]
    pub(super) roles: Vec<String>,
    #[serde(default, deserialize_with = "json::unambiguous_members")]
    pub(super) claims: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GrantLine {
    pub(super) room: String,
    pub(super) actions: Vec<Action>,
}

/// A hash as `firebase auth:export` writes it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FirebaseHash {
    pub(super) hash: String,
    pub(super) salt: String,
}

/// The parameters of the Firebase hashes of the lines that follow, as the console shows them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ConfigLine {
    pub(super) hash_config: HashConfig,
}

/// The member that makes a line one of parameters, also where it stands twice.
pub(super) const CONFIG_MEMBER: &str = "hash_config";

#[derive(Deserialize)]
pub(super) struct HashConfig {
    pub(super) base64_signer_key: String,
    pub(super) base64_salt_separator: String,
    pub(super) rounds: u32,
    pub(super) mem_cost: u8,
}

impl From<GrantLine> for NewGrant {
    fn from(line: GrantLine) -> Self {
        let mut actions = line.actions;
        actions.sort();
        actions.dedup();
        Self {
            room: line.room,
            actions,
        }
    }
}
