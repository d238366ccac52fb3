//! Events of the audit log that a service of the operator's is told, and what it is told.

use serde_json::{Map, Value};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::event::{Event, EventKind};

/// Members of an event's detail that are told.
const MEMBERS: [&str; 4] = ["reason", "way", "address", "device"];

/// An event to be told, before its transaction commits.
#[derive(Debug)]
pub(super) struct OutgoingEvent {
    pub(super) user_id: String,
    /// A message after Standard Webhooks: `type`, `timestamp` and `data`.
    pub(super) payload: String,
    pub(super) at: i64,
}

/// Returns what is told of an event, or `None` when it is the service's own affair.
pub(super) fn of(event: &Event<'_>, by: &str) -> Option<OutgoingEvent> {
    let name = name_of(event)?;
    let user_id = event.user_id?;
    let mut data = Map::new();
    data.insert("user_id".to_owned(), user_id.into());
    if let Some(session_id) = event.session_id {
        data.insert("session_id".to_owned(), session_id.into());
    }
    data.insert("by".to_owned(), by.into());
    for member in MEMBERS {
        if let Some(value) = event.detail.get(member) {
            data.insert(member.to_owned(), value.clone());
        }
    }
    let at = OffsetDateTime::from_unix_timestamp(event.at).ok()?;
    let payload = serde_json::json!({
        "type": name,
        "timestamp": at.format(&Rfc3339).ok()?,
        "data": data,
    });
    Some(OutgoingEvent {
        user_id: user_id.to_owned(),
        payload: payload.to_string(),
        at: event.at,
    })
}

/// Returns the `type` of the message.
fn name_of(event: &Event<'_>) -> Option<&'static str> {
    let is_new_device = event.detail.get("new_device") == Some(&Value::Bool(true));
    match event.kind {
        EventKind::AccountAdded => Some("user.created"),
        EventKind::AccountDisabled => Some("user.disabled"),
        EventKind::AccountEnabled => Some("user.enabled"),
        EventKind::AccountDeleted => Some("user.deleted"),
        EventKind::PasswordChanged => Some("password.changed"),
        EventKind::LoggedIn if is_new_device => Some("login.new_device"),
        EventKind::SessionEnded => Some("session.ended"),
        EventKind::PasskeyAdded => Some("passkey.added"),
        EventKind::PasskeyRemoved => Some("passkey.removed"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(kind: EventKind, detail: Value) -> Event<'static> {
        Event {
            kind,
            at: 1_700_000_000,
            user_id: Some("alice"),
            session_id: Some("session"),
            detail,
        }
    }

    #[test]
    fn a_message_has_a_type_a_time_and_what_happened() {
        let detail = json!({"new_device": true, "device": "Firefox", "address": "192.0.2.1"});
        let told = of(&event(EventKind::LoggedIn, detail), "self").expect("an event");
        let payload: Value = serde_json::from_str(&told.payload).expect("JSON");
        let expected = json!({
            "type": "login.new_device",
            "timestamp": "2023-11-14T22:13:20Z",
            "data": {
                "user_id": "alice",
                "session_id": "session",
                "by": "self",
                "device": "Firefox",
                "address": "192.0.2.1",
            },
        });
        assert_eq!(payload, expected);
    }

    #[test]
    fn a_login_on_a_known_device_and_the_services_own_affairs_are_not_told() {
        let known = json!({"new_device": false, "device": "Firefox"});
        assert!(of(&event(EventKind::LoggedIn, known), "self").is_none());
        assert!(of(&event(EventKind::KeyRotated, json!({})), "service").is_none());
        assert!(of(&event(EventKind::PasswordResetSent, json!({})), "service").is_none());
        assert!(of(&event(EventKind::SessionEnded, json!({})), "self").is_some());
    }
}
