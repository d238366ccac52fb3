//! The one token among what a client presents: in the payload of CONNECT, and with its requests.
//!
//! The fuzz target for the payload compiles this file outside of the gateway.

use std::fmt;

use http::HeaderValue;
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::Value;
use shared_claims::Rejection;

use crate::{config::CredentialSource, transport::RequestCredentials};

/// The payload of CONNECT, of which only `token` is read.
///
/// It is an object or missing. A `token` that stands there twice is refused like two tokens in two
/// places: a JSON value would keep the last and say nothing.
#[derive(Default)]
pub struct Payload {
    token: Option<Value>,
    /// Whether `token` stands there more than once.
    is_ambiguous: bool,
}

impl Payload {
    /// The token in it, if there is one.
    fn token(&self) -> Result<Option<&str>, Rejection> {
        match &self.token {
            Some(_) if self.is_ambiguous => Err(Rejection::PayloadMalformed),
            Some(value) => token_of_text(value),
            None => Ok(None),
        }
    }
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
            if name == "token" {
                payload.is_ambiguous |= payload.token.replace(value).is_some();
            }
        }
        Ok(payload)
    }
}

/// Finds the one token that a client presents, in the sources that are read.
///
/// More than one is fine as long as they are the same; which of two would win is nobody's guess
/// (RFC 6750, section 2).
pub fn find_token(
    sources: &[CredentialSource],
    payload: &Payload,
    request: &RequestCredentials,
) -> Result<String, Rejection> {
    let mut tokens: Vec<&str> = Vec::new();
    // What is wrong with a source that is not read is nobody's concern.
    if sources.contains(&CredentialSource::Auth) {
        tokens.extend(payload.token()?);
    }
    if sources.contains(&CredentialSource::Header) {
        tokens.extend(token_of_headers(&request.authorization)?);
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
pub fn token_of_text(value: &Value) -> Result<Option<&str>, Rejection> {
    let text = match value {
        Value::Null => return Ok(None),
        Value::String(text) => text,
        _ => return Err(Rejection::TokenNotAString),
    };
    match text.split_once(' ') {
        None => Ok(Some(text)),
        Some((scheme, token)) if is_bearer(scheme) && is_one_word(token) => Ok(Some(token)),
        Some(_) => Err(Rejection::CredentialsMalformed),
    }
}

/// The token in the `Authorization` headers. There should be one at most (RFC 9110, section 5.3);
/// several are fine as long as they say the same.
fn token_of_headers(values: &[HeaderValue]) -> Result<Option<&str>, Rejection> {
    let mut tokens = values.iter().map(token_of_header);
    let first = tokens.next().transpose()?.flatten();
    for other in tokens {
        if other? != first {
            return Err(Rejection::CredentialsAmbiguous);
        }
    }
    Ok(first)
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
            authorization: Vec::from_iter(authorization.map(HeaderValue::from_static)),
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
    fn two_authorization_headers_that_differ_are_refused() {
        let find = |headers: &[&'static str]| {
            let authorization = headers.iter().map(|text| HeaderValue::from_static(text));
            let request = RequestCredentials {
                authorization: authorization.collect(),
                ..RequestCredentials::default()
            };
            find(json!({}), &request)
        };
        let ambiguous = Err(Rejection::CredentialsAmbiguous);
        let same = find(&["Bearer abc", "bearer abc"]);
        assert_eq!(same.as_deref(), Ok("abc"));
        assert_eq!(find(&["Bearer abc", "Bearer def"]), ambiguous);
        assert_eq!(find(&["Bearer abc", "Basic eDp5"]), ambiguous);
        assert_eq!(find(&["Basic eDp5", "Bearer abc"]), ambiguous);
    }

    #[test]
    fn what_is_wrong_in_a_source_that_is_not_listed_is_ignored() {
        let request = request(None, &["abc"]);
        for payload in [
            r#"{"token":7}"#,
            r#"{"token":"a b c"}"#,
            r#"{"token":"def","token":"ghi"}"#,
        ] {
            let payload: Payload = serde_json::from_str(payload).expect("a payload");
            let find = |sources: &[_]| find_token(sources, &payload, &request);
            let query = [CredentialSource::Query];
            assert_eq!(find(&query).as_deref(), Ok("abc"));
            assert!(find(&ALL).is_err());
        }
    }

    #[test]
    fn a_source_that_is_not_listed_is_ignored() {
        let request = request(Some("Bearer abc"), &["def"]);
        let find = |source| {
            let payload = Payload {
                token: Some(json!("ghi")),
                ..Payload::default()
            };
            find_token(&[source], &payload, &request)
        };
        assert_eq!(find(CredentialSource::Auth).as_deref(), Ok("ghi"));
        assert_eq!(find(CredentialSource::Header).as_deref(), Ok("abc"));
        assert_eq!(find(CredentialSource::Query).as_deref(), Ok("def"));
    }
}
