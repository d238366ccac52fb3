//! From token text to a [`Session`], or a refusal. Token text goes no further than this file.

use std::{fmt, future::ready, sync::Arc, time::SystemTime};

use http::HeaderValue;
use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Visitor},
};
use serde_json::Value;
use shared_claims::Rejection;
use socketioxide::extract::{HttpExtension, SocketRef, State, TryData};

use crate::{
    config::CredentialSource,
    engine::EngineSession,
    gateway::Gateway,
    keys::Unverified,
    metrics::Cause,
    session::{Identity, Session, random_id},
};

/// What the requests of a session carry as credentials. It has no `Debug`: it holds tokens.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct RequestCredentials {
    /// The `Authorization` header.
    pub authorization: Option<HeaderValue>,
    /// Every `token` in the query.
    pub query_tokens: Vec<String>,
    /// The values of the cookie that holds a token, from a page whose origin is listed.
    pub cookies: Vec<String>,
}

/// Admits a socket, or refuses it: the first connect middleware of every namespace.
///
/// What comes after it finds an `Arc<Session>` among the socket's extensions. Everything that a
/// socket can do is set up in middlewares, before CONNECT is acknowledged, so that what the client
/// sends right after the acknowledgement finds its handler.
///
/// # Errors
///
/// The refusal that the client is told.
pub async fn authenticate(
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
    let identity = match token {
        Ok(token) => identify(&gateway, &token, now).await,
        Err(Rejection::TokenMissing) if gateway.auth.admits_guests() => {
            Ok(Identity::guest(&gateway.policy, random_id()))
        }
        Err(rejection) => Err(Unverified::Rejected(rejection)),
    };
    match identity.and_then(|identity| open(&gateway, &engine, &socket, identity)) {
        Ok(session) if !engine.admit() => {
            session.forget();
            // The end was decided meanwhile. What is returned after it reaches nobody.
            engine.wait_if_ending().await;
            Err(Rejection::TokenMissing)
        }
        Ok(session) => {
            set_up(&socket, &session);
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

/// Whom a token stands for.
async fn identify(gateway: &Gateway, token: &str, now: SystemTime) -> Result<Identity, Unverified> {
    let claims = gateway.keys.verify(token, now).await?;
    Ok(gateway.identity_of(claims, random_id(), now))
}

/// Opens a session, unless what it stands for is revoked.
fn open(
    gateway: &Arc<Gateway>,
    engine: &Arc<EngineSession>,
    socket: &SocketRef,
    identity: Identity,
) -> Result<Arc<Session>, Unverified> {
    let session =
        Session::open(gateway, engine.clone(), socket, identity).map_err(Unverified::Rejected)?;
    // Asked once the session can be found: whoever revokes at the same time finds it, or is seen here.
    let is_revoked = session
        .identity()
        .claims()
        .is_some_and(|claims| gateway.revocations.covers(claims));
    if is_revoked {
        session.forget();
        return Err(Unverified::Rejected(Rejection::TokenRevoked));
    }
    Ok(session)
}

/// Sets up what every socket can do, and what is done when it goes.
fn set_up(socket: &SocketRef, session: &Arc<Session>) {
    session.on_authenticate(socket);
    let gone = session.clone();
    socket.on_disconnect(move || {
        tracing::info!(connection = %gone.connection, "disconnected");
        gone.disconnected();
        ready(())
    });
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
    let from_payload = payload.token.as_ref().map(token_of_text).transpose()?;
    let from_payload = from_payload.flatten();
    let mut tokens: Vec<&str> = Vec::new();
    if sources.contains(&CredentialSource::Auth) {
        tokens.extend(from_payload.as_deref());
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
    if sources.contains(&CredentialSource::Cookie) {
        tokens.extend(request.cookies.iter().map(String::as_str));
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

/// The token in a payload, with or without `Bearer` before it.
pub(crate) fn token_of_text(value: &Value) -> Result<Option<String>, Rejection> {
    let text = match value {
        Value::Null => return Ok(None),
        Value::String(text) => text,
        _ => return Err(Rejection::TokenNotAString),
    };
    match text.split_once(' ') {
        None => Ok(Some(text.clone())),
        Some((scheme, token)) if is_bearer(scheme) && is_one_word(token) => {
            Ok(Some(token.to_owned()))
        }
        Some(_) => Err(Rejection::CredentialsMalformed),
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
            cookies: Vec::new(),
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
