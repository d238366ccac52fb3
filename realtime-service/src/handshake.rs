//! From token text to a [`Session`], or a refusal. Token text goes no further than this file.

use std::{fmt, sync::Arc, time::SystemTime};

use http::HeaderValue;
use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Visitor},
};
use serde_json::Value;
use shared_claims::Rejection;
use socketioxide::extract::{HttpExtension, SocketRef, State, TryData};

use crate::{
    config::CredentialSource, engine::EngineSession, events, gateway::Gateway, keys::Unverified,
    metrics::Cause, session::Session,
};

/// What the requests of a session carry as credentials. It has no `Debug`: it holds tokens.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct RequestCredentials {
    /// The `Authorization` header.
    pub authorization: Option<HeaderValue>,
    /// Every `token` in the query.
    pub query_tokens: Vec<String>,
}

/// Admits a socket, or refuses it: the connect middleware of the namespace `/`.
///
/// Everything that a socket can do is set up here, before CONNECT is acknowledged; what the client
/// sends right after the acknowledgement finds its handler.
///
/// # Errors
///
/// The refusal that the client is told.
pub async fn admit(
    socket: SocketRef,
    TryData(payload): TryData<Payload>,
    HttpExtension(engine): HttpExtension<Arc<EngineSession>>,
    State(gateway): State<Arc<Gateway>>,
) -> Result<(), Rejection> {
    engine.wait_if_ending().await;
    let now = SystemTime::now();
    let token = payload
        .map_err(|_| Rejection::PayloadMalformed)
        .and_then(|payload| find_token(&gateway.credentials, &payload, engine.credentials()));
    let claims = match token {
        Ok(token) => gateway.keys.verify(&token, now).await,
        Err(rejection) => Err(Unverified::Rejected(rejection)),
    };
    match claims.and_then(|claims| engine.take_seat(claims)) {
        Ok(_) if !engine.admit() => {
            // The end was decided meanwhile. What is returned after it reaches nobody.
            engine.wait_if_ending().await;
            Err(Rejection::TokenMissing)
        }
        Ok(claims) => {
            let session = Session::open(&claims, &gateway.rules, engine, now);
            events::register(&socket, &session, &gateway);
            socket.extensions.insert(session);
            Ok(())
        }
        Err(Unverified::Rejected(rejection)) => {
            tracing::info!(reason = rejection.reason(), "refused");
            engine.refuse(rejection);
            Err(rejection)
        }
        Err(Unverified::NoKeys) => {
            tracing::warn!("nobody can be admitted: no keys are known");
            // The client is not to blame. A closed transport brings it back by itself, where a
            // refusal would make it give up.
            engine.end(Cause::NoKeys);
            Err(Rejection::KeyUnknown)
        }
    }
}

/// The payload of CONNECT, of which only `token` is read.
///
/// It is an object or missing. A `token` that stands there twice is refused like two tokens in two
/// places: a JSON value would keep the last and say nothing.
#[derive(Default)]
pub struct Payload {
    token: Option<Value>,
}

impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PayloadVisitor)
    }
}

struct PayloadVisitor;

impl<'de> Visitor<'de> for PayloadVisitor {
    type Value = Payload;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_unit<E>(self) -> Result<Payload, E> {
        Ok(Payload::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Payload, A::Error> {
        let mut payload = Payload::default();
        while let Some(name) = members.next_key::<String>()? {
            let value: Value = members.next_value()?;
            if name == "token" && payload.token.replace(value).is_some() {
                return Err(A::Error::duplicate_field("token"));
            }
        }
        Ok(payload)
    }
}

/// Finds the one token that a client presents, in the sources that are read.
///
/// More than one is fine as long as they are the same; which of two would win is nobody's guess
/// (RFC 6750, section 2).
fn find_token(
    sources: &[CredentialSource],
    payload: &Payload,
    request: &RequestCredentials,
) -> Result<String, Rejection> {
    let from_payload = token_of_payload(payload)?;
    let mut tokens: Vec<&str> = Vec::new();
    if sources.contains(&CredentialSource::Auth) {
        tokens.extend(from_payload);
    }
    if sources.contains(&CredentialSource::Header) {
        tokens.extend(
            request
                .authorization
                .as_ref()
                .map(token_of_header)
                .transpose()?
                .flatten(),
        );
    }
    if sources.contains(&CredentialSource::Query) {
        tokens.extend(request.query_tokens.iter().map(String::as_str));
    }
    tokens.retain(|token| !token.is_empty());
    match tokens.split_first() {
        None => Err(Rejection::TokenMissing),
        Some((first, others)) if others.iter().all(|other| other == first) => {
            Ok((*first).to_owned())
        }
        Some(_) => Err(Rejection::CredentialsAmbiguous),
    }
}

/// The token in the payload of CONNECT, with or without `Bearer` before it.
fn token_of_payload(payload: &Payload) -> Result<Option<&str>, Rejection> {
    match &payload.token {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => match text.split_once(' ') {
            None => Ok(Some(text)),
            Some((scheme, token)) if is_bearer(scheme) && is_one_word(token) => Ok(Some(token)),
            Some(_) => Err(Rejection::CredentialsMalformed),
        },
        Some(_) => Err(Rejection::TokenNotAString),
    }
}

/// The token in an `Authorization` header; none when it is of another scheme than `Bearer`.
fn token_of_header(value: &HeaderValue) -> Result<Option<&str>, Rejection> {
    let text = value
        .to_str()
        .map_err(|_| Rejection::CredentialsMalformed)?;
    match text.split_once(' ') {
        Some((scheme, token)) if is_one_word(token) => Ok(is_bearer(scheme).then_some(token)),
        _ => Err(Rejection::CredentialsMalformed),
    }
}

/// Authentication schemes are compared without regard to case (RFC 9110, section 11.1).
fn is_bearer(scheme: &str) -> bool {
    scheme.eq_ignore_ascii_case("bearer")
}

fn is_one_word(text: &str) -> bool {
    !text.is_empty() && !text.contains(char::is_whitespace)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ALL: [CredentialSource; 3] = [
        CredentialSource::Auth,
        CredentialSource::Header,
        CredentialSource::Query,
    ];

    fn request(authorization: Option<&'static str>, query: &[&str]) -> RequestCredentials {
        RequestCredentials {
            authorization: authorization.map(HeaderValue::from_static),
            query_tokens: query.iter().map(|token| (*token).to_owned()).collect(),
        }
    }

    fn find(payload: Value, request: &RequestCredentials) -> Result<String, Rejection> {
        find_in(&payload.to_string(), request)
    }

    fn find_in(payload: &str, request: &RequestCredentials) -> Result<String, Rejection> {
        let payload = serde_json::from_str(payload).map_err(|_| Rejection::PayloadMalformed)?;
        find_token(&ALL, &payload, request)
    }

    #[test]
    fn a_token_that_stands_twice_in_a_payload_is_refused() {
        let none = request(None, &[]);
        let found = find_in(r#"{"token":"abc","other":1,"more":1}"#, &none);
        assert_eq!(found.as_deref(), Ok("abc"));
        let doubled = find_in(r#"{"token":"abc","token":"abc"}"#, &none);
        assert_eq!(doubled, Err(Rejection::PayloadMalformed));
    }

    #[test]
    fn each_way_to_present_a_token_is_read() {
        let none = request(None, &[]);
        for (payload, request) in [
            (json!({"token": "abc"}), none.clone()),
            (json!({"token": "Bearer abc"}), none.clone()),
            (json!({"token": "bearer abc"}), none),
            (Value::Null, request(Some("Bearer abc"), &[])),
            (json!({}), request(Some("bEARER abc"), &[])),
            (json!({}), request(None, &["abc"])),
            (
                json!({"token": "abc"}),
                request(Some("Bearer abc"), &["abc", "abc"]),
            ),
            (
                json!({"token": null}),
                request(Some("Basic eDp5"), &["abc"]),
            ),
        ] {
            assert_eq!(find(payload, &request).as_deref(), Ok("abc"));
        }
    }

    #[test]
    fn what_is_no_single_token_is_refused() {
        let none = request(None, &[]);
        for (payload, request, rejection) in [
            (json!({}), none.clone(), Rejection::TokenMissing),
            (json!({"token": ""}), none.clone(), Rejection::TokenMissing),
            (json!("abc"), none.clone(), Rejection::PayloadMalformed),
            (json!([1]), none.clone(), Rejection::PayloadMalformed),
            (
                json!({"token": 7}),
                none.clone(),
                Rejection::TokenNotAString,
            ),
            (
                json!({"token": {"a": 1}}),
                none.clone(),
                Rejection::TokenNotAString,
            ),
            (
                json!({"token": "Basic abc"}),
                none.clone(),
                Rejection::CredentialsMalformed,
            ),
            (
                json!({"token": "Bearer a b"}),
                none,
                Rejection::CredentialsMalformed,
            ),
            (
                json!({}),
                request(Some("abc"), &["abc"]),
                Rejection::CredentialsMalformed,
            ),
            (
                json!({}),
                request(Some("Bearer a b"), &[]),
                Rejection::CredentialsMalformed,
            ),
            (
                json!({"token": "a"}),
                request(None, &["b"]),
                Rejection::CredentialsAmbiguous,
            ),
            (
                json!({}),
                request(Some("Bearer a"), &["b"]),
                Rejection::CredentialsAmbiguous,
            ),
            (
                json!({}),
                request(None, &["a", "b"]),
                Rejection::CredentialsAmbiguous,
            ),
        ] {
            assert_eq!(find(payload, &request), Err(rejection));
        }
    }

    #[test]
    fn a_source_that_is_not_listed_is_ignored() {
        let request = request(Some("Bearer abc"), &["def"]);
        let find = |source| {
            let token = Some(json!("ghi"));
            find_token(&[source], &Payload { token }, &request)
        };
        assert_eq!(find(CredentialSource::Auth).as_deref(), Ok("ghi"));
        assert_eq!(find(CredentialSource::Header).as_deref(), Ok("abc"));
        assert_eq!(find(CredentialSource::Query).as_deref(), Ok("def"));
    }
}
