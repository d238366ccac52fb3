//! The payload of CONNECT, and the other places where a client can put its token.

use http::HeaderValue;
use serde_json::{Map, Value};
use shared_claims::Rejection;

use self::credentials::{Payload, find_token};
use crate::{config::CredentialSource, transport::RequestCredentials};

// The gateway's own file, compiled here without the gateway, which would take minutes.
#[expect(unreachable_pub, reason = "it is public in the gateway")]
#[path = "../../../realtime-service/src/auth/credentials.rs"]
mod credentials;

/// Looks for the token in a payload, the first line; an `Authorization` header, the second; and
/// `token`s in the query, the rest. An empty line stands for nothing.
///
/// # Panics
///
/// When what must hold does not.
pub fn check(input: &[u8]) {
    let mut lines = input.split(|byte| *byte == b'\n');
    let payload = lines.next().unwrap_or_default();
    let header = lines.next().filter(|line| !line.is_empty());
    let authorization = header.map(HeaderValue::from_bytes).transpose();
    let query: Result<Vec<String>, _> =
        lines.map(|line| String::from_utf8(line.to_vec())).collect();
    let (Ok(authorization), Ok(query_tokens)) = (authorization, query) else {
        return;
    };
    let request = RequestCredentials {
        authorization: authorization.into_iter().collect(),
        query_tokens,
        cookies: Vec::new(),
    };
    let found = find(payload, &request);
    if let Ok(token) = &found {
        let presented = presented(payload, &request);
        assert!(!token.is_empty(), "an empty token is none");
        assert!(presented.contains(token), "found what nobody presented");
        assert!(
            presented.iter().all(|one| one == token),
            "chosen among several"
        );
    }
    check_doubled(payload, found.is_err());
}

fn find(payload: &[u8], request: &RequestCredentials) -> Result<String, Rejection> {
    const ALL: [CredentialSource; 3] = [
        CredentialSource::Auth,
        CredentialSource::Header,
        CredentialSource::Query,
    ];
    let payload: Payload = if payload.is_empty() {
        Payload::default()
    } else {
        serde_json::from_slice(payload).map_err(|_| Rejection::PayloadMalformed)?
    };
    find_token(&ALL, &payload, request)
}

/// Every token that is presented, each in the simplest reading of its place.
fn presented(payload: &[u8], request: &RequestCredentials) -> Vec<String> {
    let members = members_of(payload).expect("a payload that is accepted is an object or missing");
    let in_payload = match members.get("token") {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => Some(without_scheme(text).unwrap_or_else(|| text.clone())),
        Some(other) => panic!("accepted: {other}"),
    };
    let in_header = request.authorization.first().and_then(|value| {
        let text = value.to_str().expect("an accepted header is ASCII");
        without_scheme(text)
    });
    let all = in_payload.into_iter().chain(in_header);
    let all = all.chain(request.query_tokens.iter().cloned());
    all.filter(|token| !token.is_empty()).collect()
}

fn members_of(payload: &[u8]) -> Option<Map<String, Value>> {
    if payload.is_empty() {
        return Some(Map::new());
    }
    match serde_json::from_slice(payload).ok()? {
        Value::Object(members) => Some(members),
        Value::Null => Some(Map::new()),
        _ => None,
    }
}

fn without_scheme(text: &str) -> Option<String> {
    let (scheme, token) = text.split_at_checked("bearer ".len())?;
    let is_bearer = scheme.eq_ignore_ascii_case("bearer ");
    is_bearer.then(|| token.to_owned())
}

/// The same payload with a second `token` in it is refused, whatever it was before.
fn check_doubled(payload: &[u8], was_refused: bool) {
    let Some(members) = members_of(payload) else {
        assert!(was_refused, "a payload that is no object was accepted");
        return;
    };
    let Some(token) = members.get("token") else {
        return;
    };
    let rest = String::from_utf8_lossy(payload);
    let rest = rest.trim_start().strip_prefix('{').expect("an object");
    let doubled = format!(r#"{{"\u0074oken":{token},{rest}"#);
    let refused = find(doubled.as_bytes(), &RequestCredentials::default());
    assert_eq!(refused, Err(Rejection::PayloadMalformed), "{doubled}");
}
