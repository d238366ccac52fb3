//! The body of a request: one CloudEvent (CloudEvents 1.0, JSON format, structured mode).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{SHA256, digest};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde::Serialize;
use serde_json::{Map, Value, value::RawValue};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use utoipa::ToSchema;

use crate::{clock::unix_millis, rooms::Data};

/// The media type of an event in structured mode.
pub(super) const MEDIA_TYPE: &str = "application/cloudevents+json; charset=utf-8";

/// The media type of a list of events (CloudEvents 1.0, JSON batch format).
pub(super) const BATCH_TYPE: &str = "application/cloudevents-batch+json; charset=utf-8";

/// The source of all events: a gateway. Each id is unique among all gateways.
const SOURCE: &str = "urn:latchkey:realtime";

/// Room for the body of a usual event, in bytes.
const USUAL_BYTES: usize = 1024;

/// Number of bytes of a hash that is an id.
const ID_BYTES: usize = 16;

/// An event with its context attributes. Those without a place in the specification are extension
/// attributes, whose names are lower-case letters.
#[derive(Serialize, ToSchema)]
pub struct CloudEvent<'a, T> {
    #[schema(example = "1.0")]
    specversion: &'static str,
    /// The `webhook-id` of the request.
    id: &'a str,
    #[schema(example = "urn:latchkey:realtime")]
    source: &'static str,
    #[schema(example = "latchkey.client.event")]
    r#type: &'static str,
    /// The time of the event (RFC 3339).
    time: String,
    #[schema(example = "application/json")]
    datacontenttype: &'static str,
    /// The `sub` of the token; a guest has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<&'a str>,
    /// The `iss` of the token, of our own issuer too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<&'a str>,
    /// The `sid` of the token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<&'a str>,
    /// The public id of the connection; a question about a user has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection: Option<&'a str>,
    /// The namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<&'a str>,
    /// The room that a lifecycle event is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub room: Option<&'a str>,
    /// The name of a client's event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event: Option<&'a str>,
    /// The content.
    pub data: T,
}

/// The kind of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventType {
    /// An event of the application's that a client has sent.
    ClientEvent,
    /// The question whether a client may connect, or renew its token.
    Connect,
    /// The question whether a user may do something in a room.
    Authorize,
}

impl EventType {
    /// The value of the attribute `type`.
    fn name(self) -> &'static str {
        match self {
            Self::ClientEvent => "latchkey.client.event",
            Self::Connect => "latchkey.client.connect",
            Self::Authorize => "latchkey.room.authorize",
        }
    }
}

/// The content of a client's event.
#[derive(Serialize, ToSchema)]
pub struct CallData<'a> {
    /// The arguments, with `{"_placeholder": true, "num": N}` in the places of binary data.
    #[schema(value_type = Vec<Value>)]
    args: &'a RawValue,
    /// The binary data of the placeholders, in base64.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    attachments: Vec<String>,
    /// The claims of the token; a guest has none.
    #[schema(value_type = Object)]
    claims: Claims<'a>,
}

/// The claims of the sender of an event, a JSON object.
#[derive(Serialize)]
#[serde(untagged)]
enum Claims<'a> {
    OfToken(&'a RawValue),
    OfGuest {},
}

impl<'a> CallData<'a> {
    /// The content of an event with these arguments, a JSON array, of the holder of a token with these
    /// `claims`, a JSON object; a guest has none.
    #[must_use]
    pub fn new(args: &'a Data, claims: Option<&'a RawValue>) -> Self {
        let attachments = args.attachments().iter();
        Self {
            args: args.raw(),
            attachments: attachments.map(|data| STANDARD.encode(data)).collect(),
            claims: claims.map_or(Claims::OfGuest {}, Claims::OfToken),
        }
    }
}

impl<'a, T: Serialize> CloudEvent<'a, T> {
    /// An event of this moment, `sent_at`, in a namespace. Its other attributes are added by their fields.
    #[must_use]
    pub fn new(
        kind: EventType,
        (id, sent_at): (&'a str, SystemTime),
        namespace: &'a str,
        data: T,
    ) -> Self {
        Self {
            namespace: Some(namespace),
            ..Self::of_gateway(kind.name(), (id, sent_at), data)
        }
    }

    /// An event of this `type` that happened at a time, without optional attributes.
    #[must_use]
    pub(super) fn of_gateway(
        r#type: &'static str,
        (id, happened_at): (&'a str, SystemTime),
        data: T,
    ) -> Self {
        Self {
            specversion: "1.0",
            id,
            source: SOURCE,
            r#type,
            time: timestamp(happened_at),
            datacontenttype: "application/json",
            subject: None,
            issuer: None,
            session: None,
            connection: None,
            namespace: None,
            room: None,
            event: None,
            data,
        }
    }

    /// Returns the id, which is also the `webhook-id` of the request.
    #[must_use]
    pub fn id(&self) -> &str {
        self.id
    }

    /// Encodes the body of the request.
    ///
    /// # Errors
    ///
    /// When the content is no JSON.
    pub(super) fn to_body(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut body = Vec::with_capacity(USUAL_BYTES);
        serde_json::to_writer(&mut body, self)?;
        Ok(body)
    }
}

/// Completes the draft of a closing event: `time` is the end, in milliseconds since the Unix epoch, and
/// `data.cause` its cause. Returns `None` for a draft that is no event.
pub(super) fn complete(draft: &[u8], (cause, at): (&str, u64)) -> Option<Vec<u8>> {
    let mut event: Map<String, Value> = serde_json::from_slice(draft).ok()?;
    let at = UNIX_EPOCH + Duration::from_millis(at);
    event.insert("time".to_owned(), timestamp(at).into());
    let data = event.get_mut("data")?.as_object_mut()?;
    data.insert("cause".to_owned(), cause.into());
    serde_json::to_vec(&event).ok()
}

/// Returns an id that is made of texts, which have no line breaks.
pub(super) fn id_of(parts: &[&str]) -> String {
    let hash = digest(&SHA256, parts.join("\n").as_bytes());
    URL_SAFE_NO_PAD.encode(&hash.as_ref()[..ID_BYTES])
}

/// Formats a moment after RFC 3339, in milliseconds.
pub(super) fn timestamp(at: SystemTime) -> String {
    let nanos = i128::from(unix_millis(at)) * 1_000_000;
    let moment = OffsetDateTime::from_unix_timestamp_nanos(nanos);
    // No clock of this machine is beyond the year 9999.
    moment
        .ok()
        .and_then(|moment| moment.format(&Rfc3339).ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_embedded_as_they_are_kept_and_a_guest_has_none() {
        let args = RawValue::from_string("[ 1 ]".to_owned()).expect("JSON");
        let args = Data::new(args, Vec::new()).expect("arguments");
        let claims = RawValue::from_string(r#"{"sub": "a", "n": 1.50}"#.to_owned()).expect("JSON");
        for (claims, expected) in [(Some(&*claims), claims.get()), (None, "{}")] {
            let data = CallData::new(&args, claims);
            let event = CloudEvent::new(EventType::ClientEvent, ("1", UNIX_EPOCH), "/", data);
            let body = event.to_body().expect("JSON");
            let body = String::from_utf8(body).expect("text");
            let data = format!(r#""data":{{"args":[ 1 ],"claims":{expected}}}}}"#);
            assert!(body.ends_with(&data), "{body}");
        }
    }
}
