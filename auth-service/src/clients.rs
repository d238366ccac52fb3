//! The back ends that ask for tokens of their own, as their commands manage them.

use std::time::SystemTime;

use shared_claims::{claims::LOGIN_CLIENT_ID, ids::MAXIMUM_IDENTIFIER_BYTES};
use zeroize::Zeroizing;

use crate::{
    clock::seconds_since_epoch,
    config::Settings,
    ids::random_token,
    store::{Client, open_for_command},
    vault::Hash,
};

/// Prefix of a client's id in a token's `sub`, so that no client is taken for a user.
const SUBJECT_PREFIX: &str = "client:";

/// The longest list of scopes, in bytes: it stands in every token of the client.
const MAXIMUM_SCOPE_BYTES: usize = 1024;

/// The longest overlap of two secrets, in seconds: 30 days.
const MAXIMUM_OVERLAP_SECS: u32 = 30 * 24 * 60 * 60;

/// The scope that lets a client read the accounts over the operator's API.
pub const READ_USERS: &str = "users.read";

/// The scope that lets a client read and change the accounts over the operator's API.
pub const WRITE_USERS: &str = "users.write";

/// The scope that lets a client ask about tokens (RFC 7662).
pub const INTROSPECT: &str = "introspect";

/// The scopes that Latchkey's own services know: the issuer's, and those of the gateway's HTTP API.
pub const KNOWN_SCOPES: [&str; 7] = [
    READ_USERS,
    WRITE_USERS,
    INTROSPECT,
    "rt.publish",
    "rt.read",
    "rt.kick",
    "rt.webhooks",
];

/// The scopes of the operator's API.
pub(crate) const ADMIN_SCOPES: [&str; 2] = [READ_USERS, WRITE_USERS];

/// The `sub` of a client's tokens.
#[must_use]
pub fn subject_of(client_id: &str) -> String {
    format!("{SUBJECT_PREFIX}{client_id}")
}

/// The id of the client that has this `sub`, if it is a client's.
#[must_use]
pub fn client_of(subject: &str) -> Option<&str> {
    subject.strip_prefix(SUBJECT_PREFIX)
}

/// Prefix of the `sub` of a message that a called back end publishes through the gateway.
const CALLED_BACKEND_PREFIX: &str = "backend:";

/// Returns whether a `sub` can be no user's, since it stands for something else.
#[must_use]
pub fn is_reserved_subject(subject: &str) -> bool {
    client_of(subject).is_some()
        || subject.starts_with(CALLED_BACKEND_PREFIX)
        || subject == LOGIN_CLIENT_ID
}

/// Returns the scopes of a text that no service of Latchkey knows: those of other APIs, or mistyped ones.
#[must_use]
pub fn unknown_scopes(scopes: &str) -> Vec<&str> {
    let scopes = scopes.split(' ').filter(|scope| !scope.is_empty());
    scopes
        .filter(|scope| !KNOWN_SCOPES.contains(scope))
        .collect()
}

/// Reason that a client was not made or changed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Not an id.
    #[error("a client's id has 1 to 64 of A-Z, a-z, 0-9 and ._-")]
    Id,
    /// The id of the logins of people.
    #[error("the id {LOGIN_CLIENT_ID} is that of people's logins; take another one")]
    Reserved,
    /// Not scopes.
    #[error("scopes are visible ASCII without quotes and backslashes, separated by spaces")]
    Scope,
    /// The old secret would live too long.
    #[error("an overlap is 0 to {MAXIMUM_OVERLAP_SECS} seconds")]
    Overlap,
    /// The id was given before, maybe to a client that was removed.
    #[error("the id {0} was given before")]
    Taken(String),
    /// There is no such client.
    #[error("there is no client {0}")]
    Unknown(String),
    /// The database did not take it, or there was no randomness.
    #[error("{0:#}")]
    Other(#[from] anyhow::Error),
}

/// Makes a client and returns its secret, which is stored nowhere.
///
/// # Errors
///
/// When the id or the scopes cannot be such, or the id was given before.
pub async fn add_client(
    settings: &Settings,
    id: &str,
    scopes: &str,
) -> Result<Zeroizing<String>, ClientError> {
    let is_id = (1..=64).contains(&id.len())
        && id
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    if !is_id || subject_of(id).len() > MAXIMUM_IDENTIFIER_BYTES {
        return Err(ClientError::Id);
    }
    if id.eq_ignore_ascii_case(LOGIN_CLIENT_ID) {
        return Err(ClientError::Reserved);
    }
    let client = Client {
        id: id.to_owned(),
        scopes: normal_scopes(scopes).ok_or(ClientError::Scope)?,
        created_at: seconds_since_epoch(SystemTime::now())?,
    };
    let secret = random_token()?;
    let store = open_for_command(settings).await?;
    let added = store.insert_client(&client, &Hash::of(&secret)).await;
    store.close().await;
    match added.map_err(anyhow::Error::from)? {
        true => Ok(secret),
        false => Err(ClientError::Taken(client.id)),
    }
}

/// All clients, by id.
///
/// # Errors
///
/// When the database does not answer.
pub async fn list_clients(settings: &Settings) -> anyhow::Result<Vec<Client>> {
    let store = open_for_command(settings).await?;
    let clients = store.list_clients().await;
    store.close().await;
    Ok(clients?)
}

/// Gives a client another secret and returns it; the old one works for `overlap_secs` more.
///
/// # Errors
///
/// When there is no such client, or the overlap is too long.
pub async fn rotate_client(
    settings: &Settings,
    id: &str,
    overlap_secs: u32,
) -> Result<Zeroizing<String>, ClientError> {
    if overlap_secs > MAXIMUM_OVERLAP_SECS {
        return Err(ClientError::Overlap);
    }
    let now = seconds_since_epoch(SystemTime::now())?;
    let times = (now, now + i64::from(overlap_secs));
    let secret = random_token()?;
    let store = open_for_command(settings).await?;
    let rotated = store.rotate_client(id, &Hash::of(&secret), times).await;
    store.close().await;
    match rotated.map_err(anyhow::Error::from)? {
        true => Ok(secret),
        false => Err(ClientError::Unknown(id.to_owned())),
    }
}

/// Removes a client; its tokens end at their own time.
///
/// # Errors
///
/// When there is no such client.
pub async fn remove_client(settings: &Settings, id: &str) -> Result<(), ClientError> {
    let now = seconds_since_epoch(SystemTime::now())?;
    let store = open_for_command(settings).await?;
    let removed = store.remove_client(id, now).await;
    store.close().await;
    match removed.map_err(anyhow::Error::from)? {
        true => Ok(()),
        false => Err(ClientError::Unknown(id.to_owned())),
    }
}

/// Scopes with one space between them and none twice (RFC 6749, section 3.3), or `None` when they
/// are none.
#[must_use]
pub fn normal_scopes(text: &str) -> Option<String> {
    let mut scopes: Vec<&str> = Vec::new();
    for scope in text.split(' ').filter(|scope| !scope.is_empty()) {
        let is_scope = scope
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\'));
        if !is_scope {
            return None;
        }
        if !scopes.contains(&scope) {
            scopes.push(scope);
        }
    }
    let scopes = scopes.join(" ");
    (scopes.len() <= MAXIMUM_SCOPE_BYTES).then_some(scopes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

    #[test]
    fn scopes_are_separated_by_spaces_and_by_nothing_else() {
        assert_eq!(normal_scopes(" b  a b ").as_deref(), Some("b a"));
        assert_eq!(normal_scopes("").as_deref(), Some(""));
        for bad in ["a\tb", "a\nb", "a\"b", "a\\b", "é"] {
            assert_eq!(normal_scopes(bad), None, "{bad:?}");
        }
        assert_eq!(normal_scopes(&"a".repeat(1025)), None);
    }

    #[test]
    fn a_scope_that_no_service_knows_is_named() {
        for scope in KNOWN_SCOPES {
            assert!(unknown_scopes(scope).is_empty(), "{scope}");
        }
        let unknown = unknown_scopes(" users.read user.read  rt.publsh");
        assert_eq!(unknown, ["user.read", "rt.publsh"]);
    }

    #[test]
    fn a_subject_that_stands_for_something_else_is_reserved() {
        for reserved in ["client:billing", "backend:billing", "latchkey-login"] {
            assert!(is_reserved_subject(reserved), "{reserved}");
        }
        for fine in ["billing", "clients", "backend", "latchkey-login2"] {
            assert!(!is_reserved_subject(fine), "{fine}");
        }
    }

    #[tokio::test]
    async fn the_id_of_the_logins_of_people_is_no_client() {
        let folder = tempfile::tempdir().expect("a folder");
        let settings = Settings {
            database_url: crate::config::DatabaseUrl::sqlite(&folder.path().join("auth.db")),
            ..Settings::default()
        };
        let made = Store::open(&settings.database_url).await;
        made.expect("a database").close().await;
        for reserved in [LOGIN_CLIENT_ID, "Latchkey-Login"] {
            let refused = add_client(&settings, reserved, "").await;
            assert!(matches!(refused, Err(ClientError::Reserved)), "{reserved}");
        }
        assert!(add_client(&settings, "latchkey-logins", "").await.is_ok());
    }

    #[test]
    fn a_client_is_told_from_a_user_by_its_subject() {
        assert_eq!(client_of(&subject_of("billing")), Some("billing"));
        assert_eq!(client_of("billing"), None);
    }
}
