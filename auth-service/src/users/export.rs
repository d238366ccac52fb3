//! Export of accounts, one JSON object a line, as the import takes them.

use anyhow::Context as _;
use serde_json::{Map, Value, json};

use super::{Administration, change::ChangeError};
use crate::store::AccountWithHash;

/// Number of accounts that are read at a time.
const PAGE: i64 = 500;

impl Administration<'_> {
    /// Calls `write` with the line of each account, by name, without a line break. The hashes of the
    /// passwords are in the lines only `with_hashes`: whoever has them can guess passwords as fast as
    /// their machines allow.
    ///
    /// # Errors
    ///
    /// Errors of `write`, and failures of the database.
    pub async fn export(
        &self,
        with_hashes: bool,
        mut write: impl FnMut(&str) -> anyhow::Result<()>,
    ) -> Result<u64, ChangeError> {
        let (mut count, mut after) = (0, String::new());
        loop {
            let page = self.store.list_with_hashes(&after, PAGE).await?;
            let Some(last) = page.last() else {
                return Ok(count);
            };
            after.clone_from(&last.account.username);
            for found in &page {
                let mut line = self.line_of(found).await?;
                if with_hashes {
                    let hash = found.password_hash.as_str();
                    line.insert("password_hash".to_owned(), hash.into());
                }
                let line = serde_json::to_string(&line).context("an account is no JSON")?;
                write(&line)?;
                count += 1;
            }
        }
    }

    async fn line_of(&self, found: &AccountWithHash) -> Result<Map<String, Value>, ChangeError> {
        let account = &found.account;
        let mut line = Map::new();
        let mut add = |name: &str, value: Value| {
            if !value.is_null() {
                line.insert(name.to_owned(), value);
            }
        };
        add("id", json!(account.id));
        add("username", json!(account.username));
        add("name", json!(account.name));
        add("given_name", json!(account.given_name));
        add("family_name", json!(account.family_name));
        add("email", json!(account.email));
        add("email_verified", json!(account.profile().email_verified));
        add("created_at", json!(account.created_at));
        add("disabled", json!(account.disabled_at.map(|_| true)));
        if !account.claims.roles.is_empty() {
            add("roles", json!(account.claims.roles));
        }
        if !account.claims.custom.is_empty() {
            add("claims", json!(account.claims.custom));
        }
        let details = self.store.list_grants(&account.id).await?;
        let grants: Vec<Value> = details
            .iter()
            .flat_map(|detail| {
                let grant = |room| json!({"room": room, "actions": detail.actions});
                detail.rooms.iter().map(grant)
            })
            .collect();
        if !grants.is_empty() {
            line.insert("grants".to_owned(), grants.into());
        }
        Ok(line)
    }
}
