//! Events of the audit log before they are stored. [`super::audit`] stores them.

use serde_json::{Map, Value};

/// The name of the event that erases a person.
pub(super) const ACCOUNT_DELETED: &str = "account_deleted";

/// The members of a detail that name a person. They are stored beside the hash, so that they can be
/// erased.
pub(super) const PERSONAL_MEMBERS: [&str; 5] = ["address", "claims", "device", "roles", "room"];

/// Kinds of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// An account was made.
    AccountAdded,
    /// An account was shut.
    AccountDisabled,
    /// An account that was shut was opened again.
    AccountEnabled,
    /// The profile of an account was changed.
    AccountEdited,
    /// The roles or the custom claims of an account were changed.
    ClaimsChanged,
    /// An account was deleted, and what names the person was erased.
    AccountDeleted,
    /// An account was made from a dump of another system.
    AccountImported,
    /// A password was set.
    PasswordChanged,
    /// Somebody signed in.
    LoggedIn,
    /// A session was ended.
    SessionEnded,
    /// A spent refresh token came again.
    RefreshTokenReused,
    /// A right to rooms was given, or its actions were changed.
    GrantAdded,
    /// A right to rooms was taken back.
    GrantRemoved,
    /// A client was made.
    ClientAdded,
    /// A client got another secret.
    ClientRotated,
    /// A client was removed.
    ClientRemoved,
    /// Another key signs.
    KeyRotated,
    /// A link was mailed with which the password can be set.
    PasswordResetSent,
    /// An account was asked to get another address for mail.
    EmailChangeRequested,
    /// An address for mail was verified, and is the account's.
    EmailVerified,
    /// A second factor was set up.
    SecondFactorAdded,
    /// A second factor was taken away.
    SecondFactorRemoved,
    /// A recovery code was used up.
    RecoveryCodeUsed,
    /// A passkey was enrolled.
    PasskeyAdded,
    /// A passkey was removed.
    PasskeyRemoved,
    /// A passkey was shown at a login.
    PasskeyUsed,
}

impl EventKind {
    /// The name in the table.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::AccountAdded => "account_added",
            Self::AccountDisabled => "account_disabled",
            Self::AccountEnabled => "account_enabled",
            Self::AccountEdited => "account_edited",
            Self::ClaimsChanged => "claims_changed",
            Self::AccountDeleted => ACCOUNT_DELETED,
            Self::AccountImported => "account_imported",
            Self::PasswordChanged => "password_changed",
            Self::LoggedIn => "logged_in",
            Self::SessionEnded => "session_ended",
            Self::RefreshTokenReused => "refresh_token_reused",
            Self::GrantAdded => "grant_added",
            Self::GrantRemoved => "grant_removed",
            Self::ClientAdded => "client_added",
            Self::ClientRotated => "client_rotated",
            Self::ClientRemoved => "client_removed",
            Self::KeyRotated => "key_rotated",
            Self::PasswordResetSent => "password_reset_sent",
            Self::EmailChangeRequested => "email_change_requested",
            Self::EmailVerified => "email_verified",
            Self::SecondFactorAdded => "second_factor_added",
            Self::SecondFactorRemoved => "second_factor_removed",
            Self::RecoveryCodeUsed => "recovery_code_used",
            Self::PasskeyAdded => "passkey_added",
            Self::PasskeyRemoved => "passkey_removed",
            Self::PasskeyUsed => "passkey_used",
        }
    }
}

/// Author of the request or command that causes an event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Actor {
    /// The owner of the account, over HTTP.
    #[default]
    Owner,
    /// An operator, by a command.
    Command,
    /// The service itself: a rotation of keys, or the end of a session whose token was copied.
    Service,
    /// A client of the operator's HTTP API, by its id.
    Client(String),
}

impl Actor {
    /// The value of the member `by` in an event's detail.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Owner => "self".to_owned(),
            Self::Command => "command".to_owned(),
            Self::Service => "service".to_owned(),
            Self::Client(id) => format!("client:{id}"),
        }
    }
}

/// An event that is to be recorded.
#[derive(Clone, Debug)]
pub struct Event<'a> {
    /// The kind of the event.
    pub kind: EventKind,
    /// The time, in seconds since the epoch.
    pub at: i64,
    /// The account that it is about.
    pub user_id: Option<&'a str>,
    /// The session that it is about.
    pub session_id: Option<&'a str>,
    /// Further data: a JSON object without secrets, and without what was typed as a name, which may
    /// be a password.
    pub detail: serde_json::Value,
}

/// An event that waits for the commit of its transaction.
#[derive(Debug)]
pub(super) struct RecordedEvent {
    pub(super) name: &'static str,
    pub(super) at: i64,
    pub(super) user_id: Option<String>,
    pub(super) session_id: Option<String>,
    pub(super) detail: Map<String, Value>,
    /// The members of the detail that name a person.
    pub(super) personal: Map<String, Value>,
}

impl Event<'_> {
    /// Copies the event, adds its actor to the detail as the member `by`, and moves what names a person
    /// out of the detail.
    pub(super) fn recorded(self, actor: &Actor) -> RecordedEvent {
        let mut detail = match self.detail {
            Value::Object(members) => members,
            _ => Map::new(),
        };
        let take = |name: &str| Some((name.to_owned(), detail.remove(name)?));
        let personal = PERSONAL_MEMBERS.into_iter().filter_map(take).collect();
        detail.insert("by".to_owned(), actor.name().into());
        RecordedEvent {
            name: self.kind.name(),
            at: self.at,
            user_id: self.user_id.map(str::to_owned),
            session_id: self.session_id.map(str::to_owned),
            detail,
            personal,
        }
    }
}
