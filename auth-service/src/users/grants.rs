//! Rights to rooms.

use std::time::SystemTime;

use serde_json::json;
use shared_claims::authorization::{Action, AuthorizationDetail, is_room_pattern};

use crate::{
    clients,
    clock::seconds_since_epoch,
    config::Settings,
    credentials::{CredentialError, Username},
    store::{
        NewGrant, Store, StoreError,
        event::{Event, EventKind},
        open_for_command,
    },
    user_claims::UserClaims,
};

/// The most grants of one subject, besides those of everybody: with patterns of the longest kind
/// they would not fit into a token, so their length counts too.
const MAXIMUM_GRANTS: i64 = 32;

/// Owner of rights.
#[derive(Clone, Debug)]
pub enum Subject {
    /// A user, by name.
    User(Username),
    /// A client, by id.
    Client(String),
}

/// Reason that a right was not given or taken.
#[derive(Debug, thiserror::Error)]
pub enum GrantError {
    /// Not a pattern.
    #[error(
        "a pattern is a room's name of up to 255 bytes, in which * stands for one segment between \
         colons and a last :** for one or more"
    )]
    Pattern,
    /// Not actions.
    #[error("actions are some of sub, pub, hst and prs, separated by commas")]
    Actions,
    /// More than a token has room for.
    #[error("these are more grants than a token has room for")]
    TooMany,
    /// There is no such right.
    #[error("there is no grant for {0}")]
    Missing(String),
    /// There is nobody of that name.
    #[error("there is no such user or client")]
    NoSuchSubject,
    /// The name cannot be one.
    #[error(transparent)]
    Name(#[from] CredentialError),
    /// The database did not take it.
    #[error("{0:#}")]
    Other(#[from] anyhow::Error),
}

impl From<StoreError> for GrantError {
    fn from(error: StoreError) -> Self {
        Self::Other(error.into())
    }
}

/// Checks the rights that a subject is to have, and no others.
///
/// # Errors
///
/// When a pattern is none or stands twice, has no action, or a token has no room for all of them and
/// `claims`.
pub(super) fn check_new(
    settings: &Settings,
    grants: &[NewGrant],
    claims: &UserClaims,
) -> Result<(), GrantError> {
    let mut rooms: Vec<&str> = grants.iter().map(|grant| grant.room.as_str()).collect();
    let bytes: usize = rooms.iter().map(|room| room.len()).sum();
    rooms.sort_unstable();
    let is_repeated = rooms.windows(2).any(|pair| pair[0] == pair[1]);
    if is_repeated || !rooms.iter().all(|room| is_room_pattern(room)) {
        return Err(GrantError::Pattern);
    }
    if grants.iter().any(|grant| grant.actions.is_empty()) {
        return Err(GrantError::Actions);
    }
    let most = usize::try_from(MAXIMUM_GRANTS).unwrap_or(usize::MAX);
    if grants.len() > most || !fit(settings, bytes, claims) {
        return Err(GrantError::TooMany);
    }
    Ok(())
}

/// Returns whether a token has room for patterns of so many bytes and for `claims`.
pub(super) fn fit(settings: &Settings, pattern_bytes: usize, claims: &UserClaims) -> bool {
    let claims = claims.bytes_in_token(&settings.token);
    pattern_bytes.saturating_add(claims) <= settings.subject_bytes()
}

/// The actions that a list such as `sub,pub` names.
///
/// # Errors
///
/// When it names none, or something else.
pub fn parse_actions(text: &str) -> Result<Vec<Action>, GrantError> {
    let parse = |name: &str| Action::named(name.trim()).ok_or(GrantError::Actions);
    let mut actions = text.split(',').map(parse).collect::<Result<Vec<_>, _>>()?;
    actions.sort();
    actions.dedup();
    Ok(actions)
}

/// Lets a subject do `actions` in the rooms of `room`. New tokens say so at once.
///
/// # Errors
///
/// When the pattern is none, or a token would have no room for it.
pub async fn add_grant(
    settings: &Settings,
    subject: &Subject,
    room: &str,
    actions: &[Action],
) -> Result<(), GrantError> {
    if !is_room_pattern(room) {
        return Err(GrantError::Pattern);
    }
    let store = open_for_command(settings).await?;
    let added = put(&store, settings, subject, (room, actions)).await;
    store.close().await;
    added
}

async fn put(
    store: &Store,
    settings: &Settings,
    subject: &Subject,
    (room, actions): (&str, &[Action]),
) -> Result<(), GrantError> {
    let id = find_subject(store, subject).await?;
    let fits = |claims: &UserClaims, others: usize| fit(settings, others + room.len(), claims);
    let names: Vec<&str> = actions.iter().map(|action| action.name()).collect();
    let detail = json!({"subject": id, "room": room, "actions": names});
    let event = event(EventKind::GrantAdded, user_of(subject, &id), detail)?;
    let grant = (room, actions);
    let put = store.put_grant(&id, grant, MAXIMUM_GRANTS, event, fits);
    match put.await? {
        true => Ok(()),
        false => Err(GrantError::TooMany),
    }
}

/// Takes a right back, by the very pattern that it was given with.
///
/// # Errors
///
/// When there is none.
pub async fn remove_grant(
    settings: &Settings,
    subject: &Subject,
    room: &str,
) -> Result<(), GrantError> {
    let store = open_for_command(settings).await?;
    let removed = async {
        let id = find_subject(&store, subject).await?;
        let event = event(
            EventKind::GrantRemoved,
            user_of(subject, &id),
            json!({"subject": id, "room": room}),
        )?;
        match store.delete_grant(&id, room, event).await? {
            true => Ok(()),
            false => Err(GrantError::Missing(room.to_owned())),
        }
    };
    let removed = removed.await;
    store.close().await;
    removed
}

/// The rights of a subject, by pattern, without those of everybody.
///
/// # Errors
///
/// When there is nobody of that name.
pub async fn list_grants(
    settings: &Settings,
    subject: &Subject,
) -> Result<Vec<AuthorizationDetail>, GrantError> {
    let store = open_for_command(settings).await?;
    let grants = async {
        let id = find_subject(&store, subject).await?;
        Ok(store.list_grants(&id).await?)
    };
    let grants = grants.await;
    store.close().await;
    grants
}

/// Returns the grants of a token: those of everybody and those of its subject. Rooms with the same
/// actions share one detail, which keeps the token short.
#[must_use]
pub fn merge(
    everybody: Vec<AuthorizationDetail>,
    own: Vec<AuthorizationDetail>,
) -> Vec<AuthorizationDetail> {
    let mut merged = everybody;
    for grant in own {
        match merged
            .iter_mut()
            .find(|other| other.actions == grant.actions)
        {
            Some(other) => other.rooms.extend(grant.rooms),
            None => merged.push(grant),
        }
    }
    merged
}

/// Returns the `sub` of a subject.
async fn find_subject(store: &Store, subject: &Subject) -> Result<String, GrantError> {
    let found = match subject {
        Subject::User(name) => {
            let found = store.find_account_by_name(name.as_str()).await?;
            found.map(|found| found.account.id)
        }
        Subject::Client(id) => {
            let found = store.find_client(id).await?;
            found.map(|client| clients::subject_of(&client.id))
        }
    };
    found.ok_or(GrantError::NoSuchSubject)
}

/// The account that an event about a grant of `subject` is about.
fn user_of<'a>(subject: &Subject, id: &'a str) -> Option<&'a str> {
    matches!(subject, Subject::User(_)).then_some(id)
}

fn event<'a>(
    kind: EventKind,
    user_id: Option<&'a str>,
    detail: serde_json::Value,
) -> anyhow::Result<Event<'a>> {
    Ok(Event {
        kind,
        at: seconds_since_epoch(SystemTime::now())?,
        user_id,
        session_id: None,
        detail,
    })
}

#[cfg(test)]
mod tests;
