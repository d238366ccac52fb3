//! The question whether a client may connect, and the answer.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, value::RawValue};
use shared_claims::{
    authorization::{Action, AuthorizationDetail, is_room_pattern},
    json,
};
use utoipa::ToSchema;

use super::{
    Asker, BackEnd, CallError, EventType,
    asker::{check_reason, unusable},
};
use crate::{
    config::{ConfigError, NamespaceView, OnFailure},
    ids::random_id,
    rooms::{RoomName, is_portable},
};

/// Maximum number of grants of one answer, of rooms to join, and of patterns in one grant.
const MAXIMUM_ENTRIES: usize = 64;

/// Maximum size of the data for presence, in bytes of JSON.
const MAXIMUM_PRESENCE_BYTES: usize = 1024;

/// The moment at which a back end is asked about a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum AdmissionStage {
    /// The client connects, or a guest presents its first token.
    Connect,
    /// A token is renewed.
    Renew,
}

/// The contributions of a back end to a client that it admits.
#[derive(Debug, Default)]
pub struct Admission {
    /// Grants in addition to those of the token and the rules.
    pub grants: Vec<AuthorizationDetail>,
    /// Rooms that the client joins at once.
    pub rooms: Vec<RoomName>,
    /// JSON that presence shows beside the user.
    pub presence: Option<Arc<RawValue>>,
}

/// The answer about a client.
#[derive(Debug)]
pub enum AdmissionAnswer {
    /// The client is admitted.
    Admitted(Admission),
    /// The client is refused, with a text for it.
    Refused(Option<Box<str>>),
}

/// The back end that is asked about clients.
pub(super) struct Admitter {
    back_end: Arc<BackEnd>,
    on_failure: OnFailure,
}

/// The content of the question.
#[derive(Serialize, ToSchema)]
pub(super) struct AdmissionQuestion<'a> {
    stage: AdmissionStage,
    /// The claims of the token.
    #[schema(value_type = Object)]
    claims: &'a Map<String, Value>,
}

/// An answer as it is written.
#[derive(Deserialize, ToSchema)]
#[schema(as = AdmissionAnswer)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenAdmission {
    allow: bool,
    /// The text that a refused client gets.
    reason: Option<String>,
    /// Grants in addition to those of the token and the rules: 64 at most.
    #[serde(default)]
    grants: Vec<WrittenGrant>,
    /// Rooms that the client joins at once: 64 at most.
    #[serde(default)]
    rooms: Vec<String>,
    /// Data that presence shows beside the user: 1024 bytes at most.
    #[schema(value_type = Option<serde_json::Value>)]
    presence: Option<Box<RawValue>>,
}

#[derive(Deserialize, ToSchema)]
#[schema(as = AdmissionGrant)]
#[serde(deny_unknown_fields)]
struct WrittenGrant {
    /// `sub`, `pub`, `hst` or `prs`.
    #[schema(value_type = Vec<String>)]
    actions: Vec<Action>,
    /// Patterns of rooms.
    rooms: Vec<String>,
}

impl Admitter {
    /// Returns the back end of a namespace, if it has one.
    ///
    /// # Errors
    ///
    /// When no back end has the name.
    pub(super) fn new(
        namespace: &NamespaceView<'_>,
        all: &[Arc<BackEnd>],
    ) -> Result<Option<Self>, ConfigError> {
        let settings = namespace.connect;
        if !settings.is_on() {
            return Ok(None);
        }
        let back_end = all.iter().find(|one| one.name() == settings.backend);
        let back_end = back_end.ok_or_else(|| ConfigError::Invalid {
            setting: format!("{}connect.backend", namespace.place),
            problem: "no [[backends]] entry has this name".to_owned(),
        })?;
        Ok(Some(Self {
            back_end: back_end.clone(),
            on_failure: settings.on_failure,
        }))
    }

    /// Asks whether the user of `connection` is admitted. The rooms of the answer are in `namespace`.
    ///
    /// # Errors
    ///
    /// When there is no answer that can be used, unless clients are admitted then and the back end may answer
    /// later.
    pub(super) async fn ask(
        &self,
        asker: &Asker<'_>,
        (connection, namespace): (&str, &str),
        stage: AdmissionStage,
    ) -> Result<AdmissionAnswer, CallError> {
        let id = random_id();
        let claims = asker.claims;
        let mut event = asker.event(EventType::Connect, &id, AdmissionQuestion { stage, claims });
        event.connection = Some(connection);
        let parse = |body: &[u8]| parse(namespace, body);
        let answer = self.back_end.ask(&event, (asker.key, 0), parse).await;
        answer.or_else(|error| without_answer(error, self.on_failure))
    }
}

/// Decides about a client when the question failed. Only a back end that gives no answer now can admit it: an
/// answer that cannot be used, or of which a part is missing, may be a refusal.
fn without_answer(error: CallError, on_failure: OnFailure) -> Result<AdmissionAnswer, CallError> {
    let is_unanswered = error.retry_after.is_some() && !error.is_answer_begun;
    match on_failure == OnFailure::Admit && is_unanswered {
        true => Ok(AdmissionAnswer::Admitted(Admission::default())),
        false => Err(error),
    }
}

/// Parses the body of an answer about a client of `namespace`, in which its rooms are. Either all of it can be
/// used, or none of it is.
///
/// # Errors
///
/// When the body has another shape, or a part of it cannot work.
fn parse(namespace: &str, body: &[u8]) -> Result<AdmissionAnswer, CallError> {
    let written: WrittenAdmission = json::from_object(body).ok_or_else(|| {
        unusable("it is no object with allow, reason, grants, rooms and presence alone, or one of them has another shape")
    })?;
    check_reason(written.allow, written.reason.as_deref())?;
    if !written.allow {
        let is_bare = written.grants.is_empty() && written.rooms.is_empty();
        return match is_bare && written.presence.is_none() {
            true => Ok(AdmissionAnswer::Refused(written.reason.map(Into::into))),
            false => Err(unusable("it refuses, and has grants, rooms or presence")),
        };
    }
    let is_too_long =
        written.grants.len() > MAXIMUM_ENTRIES || written.rooms.len() > MAXIMUM_ENTRIES;
    if is_too_long {
        return Err(unusable("it has more than 64 grants or rooms"));
    }
    let rooms = written.rooms.into_iter();
    let rooms = rooms.map(|text| RoomName::parse_in(namespace, text));
    Ok(AdmissionAnswer::Admitted(Admission {
        grants: written
            .grants
            .into_iter()
            .map(WrittenGrant::check)
            .collect::<Result<_, _>>()?,
        rooms: rooms
            .collect::<Result<_, _>>()
            .map_err(|_| unusable("a room has no such name"))?,
        presence: written.presence.map(check_presence).transpose()?,
    }))
}

impl WrittenGrant {
    fn check(self) -> Result<AuthorizationDetail, CallError> {
        let are_patterns = self.rooms.iter().all(|room| is_room_pattern(room));
        match are_patterns && self.rooms.len() <= MAXIMUM_ENTRIES {
            true => Ok(AuthorizationDetail::new(self.actions, self.rooms)),
            false => Err(unusable(
                "a grant has more than 64 rooms, or one that is no pattern",
            )),
        }
    }
}

fn check_presence(data: Box<RawValue>) -> Result<Arc<RawValue>, CallError> {
    match data.get().len() <= MAXIMUM_PRESENCE_BYTES && is_portable(data.get()) {
        true => Ok(data.into()),
        false => Err(unusable(
            "presence must have at most 1024 bytes, of JSON that every client can parse",
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{backends::Failure, namespaces::MAIN};

    #[test]
    fn every_part_of_an_answer_is_understood() {
        let body = br#"{"allow":true,"grants":[{"actions":["sub"],"rooms":["desk:*"]}],
            "rooms":["desk:7"],"presence":{"mood":"busy"}}"#;
        let Ok(AdmissionAnswer::Admitted(admission)) = parse(MAIN, body) else {
            panic!("the answer admits");
        };
        assert_eq!(admission.grants[0].rooms, ["desk:*"]);
        assert_eq!(admission.rooms[0].to_string(), "desk:7");
        let presence = admission.presence.expect("data");
        assert_eq!(presence.get(), r#"{"mood":"busy"}"#);
        for (body, text) in [
            (r#"{"allow":false}"#, None),
            (r#"{"allow":false,"reason":"closed"}"#, Some("closed")),
        ] {
            let Ok(AdmissionAnswer::Refused(reason)) = parse(MAIN, body.as_bytes()) else {
                panic!("{body} refuses");
            };
            assert_eq!(reason.as_deref(), text);
        }
    }

    #[test]
    fn only_a_back_end_that_gives_no_answer_now_admits_by_the_settings() {
        let pause = Duration::from_secs(1);
        for (error, is_admitted) in [
            (CallError::temporary(Failure::Failed, "500"), true),
            (CallError::temporary(Failure::TimedOut, "late"), true),
            (CallError::postponed("429", pause), true),
            (CallError::unsent("full"), true),
            (CallError::cut_off(pause), true),
            (CallError::permanent("403"), false),
            (
                CallError::temporary(Failure::Failed, "half an answer").within_answer(),
                false,
            ),
            (unusable("it refuses, and has rooms"), false),
        ] {
            let admitted = |on_failure| without_answer(error.clone(), on_failure).is_ok();
            assert_eq!(admitted(OnFailure::Admit), is_admitted, "{}", error.reason);
            assert!(!admitted(OnFailure::Refuse), "{}", error.reason);
        }
    }

    #[test]
    fn one_fault_spoils_the_whole_answer() {
        let long = format!(r#"{{"allow":true,"presence":"{}"}}"#, "x".repeat(1024));
        for body in [
            "",
            "{}",
            "true",
            r#"{"allow":1}"#,
            r#"{"allow":true,"more":1}"#,
            r#"{"allow":true,"reason":"welcome"}"#,
            r#"{"allow":false,"reason":""}"#,
            r#"{"allow":false,"reason":"a\nb"}"#,
            r#"{"allow":false,"rooms":["a"]}"#,
            r#"{"allow":true,"rooms":["a:*"]}"#,
            r#"{"allow":true,"grants":[{"actions":["sub"],"rooms":["a**"]}]}"#,
            r#"{"allow":true,"grants":[{"actions":["see"],"rooms":["a"]}]}"#,
            r#"{"allow":true,"presence":{"_placeholder":true}}"#,
            &long,
        ] {
            assert!(parse(MAIN, body.as_bytes()).is_err(), "{body}");
        }
        assert!(parse(MAIN, br#"{"allow":true}"#).is_ok());
    }
}
