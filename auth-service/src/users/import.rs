//! Import of accounts from other systems, one JSON object a line.
//!
//! A line that cannot be taken is named in the report, and the others go in. Lines are written in batches,
//! each in one transaction that is short enough for logins to pass between two. A repetition finds its
//! names taken and changes nothing.

use std::{collections::HashMap, time::SystemTime};

use anyhow::Context as _;
use serde::{Serialize, de::IgnoredAny};
use shared_claims::{claims::Profile, ids::is_identifier, json};
use utoipa::ToSchema;

use super::{Administration, change::check_profile, grants};
use crate::{
    clients::is_reserved_subject,
    clock::seconds_since_epoch,
    config::Settings,
    credentials::{
        CredentialError, Username,
        foreign::{FirebaseParameters, ForeignHash},
        hash::{Cost, HashError, StoredHash},
        schemes,
    },
    ids::random_id,
    store::{Added, ImportedAccount, NewAccount, NewGrant, Store, StoreError},
    user_claims::UserClaims,
};

/// The longest line, in bytes.
const MAXIMUM_LINE_BYTES: usize = 16 * 1024;

/// Number of accounts that are written in one transaction.
const BATCH: usize = 100;

/// Maximum number of lines that a report names; further ones are only counted.
const MAXIMUM_NAMED: usize = 1_000;

/// The longest id, in bytes: it stands in every token.
const MAXIMUM_ID_BYTES: usize = 64;

mod line;

use line::{AccountLine, CONFIG_MEMBER, ConfigLine, FirebaseHash, HashConfig};

/// Reason that a line was not imported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum LineError {
    /// Not an object of an account.
    #[error("not a JSON object with the members of an account")]
    Malformed,
    /// Too long.
    #[error("longer than {MAXIMUM_LINE_BYTES} bytes")]
    TooLong,
    /// The id cannot be one.
    #[error(
        "an id has 1 to {MAXIMUM_ID_BYTES} bytes and no control characters, and does not start with client: or backend:"
    )]
    Id,
    /// The name cannot be one.
    #[error("the username, or the email in its place, cannot be a name to sign in with")]
    Username,
    /// The address for mail is none.
    #[error("the email is no address, or is missing and said to be verified")]
    Email,
    /// The profile cannot be one.
    #[error("a name of the profile is too long, or has control characters")]
    Profile,
    /// The rights to rooms cannot be given.
    #[error("a grant is none, stands twice, or a token has no room for all of them")]
    Grants,
    /// The roles or the custom claims cannot be given.
    #[error(
        "a role or a claim is none, stands twice, is reserved, or a token has no room for all of them"
    )]
    Claims,
    /// A time before 1970, or far off.
    #[error("created_at is no time in seconds since 1970 that has passed")]
    CreatedAt,
    /// There is no hash, or one of another scheme.
    #[error("there is no password hash of a scheme that is known")]
    HashUnknown,
    /// The hash is too cheap to guess.
    #[error("the password hash is weaker than the floor")]
    HashTooWeak,
    /// The hash takes too long.
    #[error("verifying the password hash takes longer than the ceiling")]
    HashTooCostly,
    /// A Firebase hash without the parameters of its project.
    #[error("a hash of Firebase, and no hash_config before it")]
    HashConfigMissing,
    /// Somebody has the id, or had it.
    #[error("the id was given before")]
    IdTaken,
    /// Somebody has the name, or one that looks the same.
    #[error("the name is taken, or looks like one that is")]
    UsernameTaken,
    /// Somebody has the address for mail.
    #[error("another account has the email")]
    EmailTaken,
}

/// A line that was not imported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct RefusedLine {
    /// The line, counted from 1.
    pub line: u64,
    /// Error code, for programs.
    pub code: LineError,
    /// Error text, for people.
    pub detail: String,
}

/// Outcome of an import.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct ImportReport {
    /// Number of accounts that were made.
    pub imported: u64,
    /// Number of lines that were not imported.
    pub refused: u64,
    /// The first 1,000 of these lines.
    pub lines: Vec<RefusedLine>,
}

/// An import that is under way.
pub struct Import {
    store: Store,
    cost: Cost,
    settings: Settings,
    firebase: Option<FirebaseParameters>,
    line: u64,
    /// The beginning of a line whose end has not come yet.
    rest: Vec<u8>,
    /// Whether that line is too long, and the rest of it is skipped.
    is_skipping: bool,
    batch: Vec<(u64, ImportedAccount)>,
    report: ImportReport,
}

impl Administration<'_> {
    /// Starts an import.
    ///
    /// # Errors
    ///
    /// When the settings for a new hash are none.
    pub fn import(&self) -> anyhow::Result<Import> {
        Ok(Import {
            store: self.store.clone(),
            cost: self.settings.password.cost()?,
            settings: self.settings.clone(),
            firebase: None,
            line: 0,
            rest: Vec::new(),
            is_skipping: false,
            batch: Vec::with_capacity(BATCH),
            report: ImportReport::default(),
        })
    }
}

impl Import {
    /// Takes the `hash_config` of a Firebase project, as its console shows it, for all lines.
    ///
    /// # Errors
    ///
    /// When it is none, or its costs are out of bounds.
    pub fn configure(&mut self, config: &[u8]) -> anyhow::Result<()> {
        let config: HashConfig = json::from_object(config.trim_ascii())
            .context("not a hash_config of Firebase, as JSON")?;
        self.firebase = Some(parameters(&config)?);
        Ok(())
    }

    /// Takes the next bytes of the dump, which end anywhere in a line.
    ///
    /// # Errors
    ///
    /// When the database fails; the batches before are written.
    pub async fn feed(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            if !self.is_skipping {
                self.rest.extend_from_slice(piece);
                self.is_skipping = self.rest.len() > MAXIMUM_LINE_BYTES;
            }
            if piece.ends_with(b"\n") {
                self.end_line().await?;
            }
        }
        Ok(())
    }

    /// Takes a line whose end has come. An empty one counts and is nothing.
    async fn end_line(&mut self) -> anyhow::Result<()> {
        self.line += 1;
        let rest = std::mem::take(&mut self.rest);
        let line = rest.trim_ascii();
        if std::mem::take(&mut self.is_skipping) {
            self.refuse(self.line, LineError::TooLong);
            return Ok(());
        }
        if line.is_empty() {
            return Ok(());
        }
        let members = json::from_object::<HashMap<String, IgnoredAny>>(line);
        if members.is_some_and(|members| members.contains_key(CONFIG_MEMBER)) {
            self.take_config(line);
            return Ok(());
        }
        let now = seconds_since_epoch(SystemTime::now())?;
        let parsed = json::from_object(line).ok_or(LineError::Malformed);
        match parsed.and_then(|parsed| self.account(parsed, now)) {
            Ok(mut account) => {
                if account.account.id.is_empty() {
                    account.account.id = random_id()?;
                }
                let id = &account.account.id;
                // Outcome of an account is looked up by its id.
                let is_repeated = self.batch.iter().any(|(_, other)| other.account.id == *id);
                if is_repeated || self.batch.len() >= BATCH {
                    self.write(now).await?;
                }
                self.batch.push((self.line, account));
            }
            Err(error) => self.refuse(self.line, error),
        }
        Ok(())
    }

    /// Takes the parameters of a Firebase project from a line. When they cannot be used, the lines that
    /// follow have none: those of the project before are not theirs.
    fn take_config(&mut self, line: &[u8]) {
        let config = json::from_object::<ConfigLine>(line).ok_or(LineError::Malformed);
        let taken = config.and_then(|line| Ok(parameters(&line.hash_config)?));
        self.firebase = taken.as_ref().ok().cloned();
        if let Err(error) = taken {
            self.refuse(self.line, error);
        }
    }

    /// Writes what is left, and returns the report.
    ///
    /// # Errors
    ///
    /// When the database fails; the batches before are written.
    pub async fn finish(mut self) -> anyhow::Result<ImportReport> {
        if !self.rest.is_empty() {
            self.end_line().await?;
        }
        self.write(seconds_since_epoch(SystemTime::now())?).await?;
        self.report.lines.sort_by_key(|refused| refused.line);
        Ok(self.report)
    }

    async fn write(&mut self, now: i64) -> Result<(), StoreError> {
        let (lines, accounts): (Vec<u64>, Vec<ImportedAccount>) = self.batch.drain(..).unzip();
        let outcomes = self.store.import_accounts(&accounts, now).await?;
        for (line, outcome) in lines.into_iter().zip(outcomes) {
            match outcome {
                Added::Fine => self.report.imported += 1,
                Added::NameTaken => self.refuse(line, LineError::UsernameTaken),
                Added::EmailTaken => self.refuse(line, LineError::EmailTaken),
                Added::IdTaken => self.refuse(line, LineError::IdTaken),
            }
        }
        Ok(())
    }

    fn refuse(&mut self, line: u64, code: LineError) {
        self.report.refused += 1;
        if self.report.lines.len() < MAXIMUM_NAMED {
            self.report.lines.push(RefusedLine {
                line,
                code,
                detail: code.to_string(),
            });
        }
    }

    /// Returns the account of a line. Its id is empty when the line has none.
    fn account(&self, line: AccountLine, now: i64) -> Result<ImportedAccount, LineError> {
        let (password_hash, hash_scheme) = self.hash(&line)?;
        let id = line.id.unwrap_or_default();
        let is_id = is_identifier(&id) && id.len() <= MAXIMUM_ID_BYTES && !is_reserved_subject(&id);
        if !id.is_empty() && !is_id {
            return Err(LineError::Id);
        }
        let profile = Profile {
            preferred_username: None,
            name: line.name,
            given_name: line.given_name,
            family_name: line.family_name,
            email: line.email,
            email_verified: Some(line.email_verified),
        };
        let email = check_profile(&profile).map_err(|error| match error {
            CredentialError::Email | CredentialError::EmailMissing => LineError::Email,
            _ => LineError::Profile,
        })?;
        let name = line.username.as_deref();
        let name = name.or(email.as_ref().map(|email| email.as_str()));
        let username =
            Username::parse(name.unwrap_or_default()).map_err(|_| LineError::Username)?;
        let created_at = line.created_at.unwrap_or(now);
        if !(0..=now).contains(&created_at) {
            return Err(LineError::CreatedAt);
        }
        let grants: Vec<NewGrant> = line.grants.into_iter().map(NewGrant::from).collect();
        let claims = UserClaims {
            roles: line.roles,
            custom: line.claims,
        };
        claims
            .check(&self.settings.token)
            .map_err(|_| LineError::Claims)?;
        grants::check_new(&self.settings, &grants, &claims).map_err(|_| LineError::Grants)?;
        Ok(ImportedAccount {
            account: NewAccount {
                id,
                skeleton: username.skeleton(),
                username: username.as_str().to_owned(),
                password_hash,
                profile,
                email,
                created_at,
            },
            hash_scheme,
            is_disabled: line.disabled,
            grants,
            claims,
        })
    }

    /// Returns the hash of a line as it is stored, and its scheme.
    fn hash(&self, line: &AccountLine) -> Result<(StoredHash, Option<String>), LineError> {
        match (&line.password_hash, &line.firebase) {
            (Some(text), None) => Ok(schemes::import(text, &self.cost)?),
            (None, Some(FirebaseHash { hash, salt })) => {
                let parameters = self.firebase.as_ref();
                let parameters = parameters.ok_or(LineError::HashConfigMissing)?;
                let foreign = ForeignHash::firebase(parameters, salt, hash)?;
                Ok((foreign.stored(), Some(foreign.scheme())))
            }
            _ => Err(LineError::HashUnknown),
        }
    }
}

fn parameters(config: &HashConfig) -> Result<FirebaseParameters, HashError> {
    FirebaseParameters::parse(
        &config.base64_signer_key,
        &config.base64_salt_separator,
        config.rounds,
        config.mem_cost,
    )
}

impl From<HashError> for LineError {
    fn from(error: HashError) -> Self {
        match error {
            HashError::Malformed => Self::HashUnknown,
            HashError::TooWeak => Self::HashTooWeak,
            HashError::TooCostly => Self::HashTooCostly,
        }
    }
}

#[cfg(test)]
mod tests;
