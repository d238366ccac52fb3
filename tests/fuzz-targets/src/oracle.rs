//! What must be true of a token that was accepted, read from its text once more and in other words.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::Value;

use crate::mint::{MINT, NOW, OURS, PROVIDER};

/// The claims of an accepted token of `issuer`.
///
/// # Panics
///
/// When it should not have been accepted for what it says of itself: its size, its header, its
/// signature, its issuer, its `iat`.
pub(crate) fn claims_of_accepted(token: &str, issuer: &str) -> Value {
    assert!(token.len() <= 8_192, "{} bytes long", token.len());
    let segments: Vec<&str> = token.split('.').collect();
    let [header, claims, signature] = segments[..] else {
        panic!("accepted with {} segments", segments.len());
    };
    let [header, claims] = [header, claims].map(json_of);
    let is_named = |name: &str| header.get(name).is_some();
    assert!(
        !["crit", "zip", "b64"].into_iter().any(is_named),
        "{header}"
    );
    let signed = token.rsplit_once('.').expect("three segments").0;
    let id = header["kid"].as_str().expect("a key id");
    let expected = match (issuer, header["alg"].as_str()) {
        (OURS, Some("HS256")) => MINT.sign_by_secret(id, signed).expect("our key"),
        (PROVIDER, Some("EdDSA")) if id == crate::mint::PUBLISHED_ID => MINT.sign_by_pair(signed),
        _ => panic!("accepted with the header {header}"),
    };
    assert_eq!(signature, expected, "accepted, and nobody signed it");
    assert_eq!(claims["iss"], issuer);
    let iat = seconds(&claims["iat"]);
    assert!(iat <= NOW + 30, "issued in the future");
    claims
}

/// A time in whole seconds: what stands before the point of a number that is not negative.
///
/// # Panics
///
/// When it is no such number.
pub(crate) fn seconds(time: &Value) -> u64 {
    time.as_u64().unwrap_or_else(|| {
        let secs = time.as_f64().expect("a time");
        let whole = format!("{:.0}", secs.trunc());
        whole.parse().expect("a time that is not negative")
    })
}

/// Whether a claim that may be missing is missing.
pub(crate) fn is_absent(claim: &Value) -> bool {
    claim.is_null() || claim == ""
}

/// Whether `claims` are for `audience`, alone or among others.
pub(crate) fn is_for(claims: &Value, audience: &str) -> bool {
    let aud = &claims["aud"];
    let among = |all: &Vec<Value>| all.iter().any(|one| one == audience);
    aud == audience || aud.as_array().is_some_and(among)
}

/// Whether a claim identifies somebody: a text that is neither empty, too long nor deceptive.
pub(crate) fn identifies(claim: &Value) -> bool {
    claim.as_str().is_some_and(|text| {
        (1..256).contains(&text.len())
            && text.chars().all(|one| !one.is_control())
            && !text.contains(['\u{202E}', '\u{2066}', '\u{200B}', '\u{FEFF}'])
    })
}

/// The media type in a token's header, in lower case and without its prefix.
pub(crate) fn type_of(token: &str) -> String {
    let header = json_of(token.split('.').next().expect("a segment"));
    let typ = header["typ"].as_str().unwrap_or_default().to_lowercase();
    let bare = typ.strip_prefix("application/").map(str::to_owned);
    bare.unwrap_or(typ)
}

fn json_of(segment: &str) -> Value {
    let bytes = URL_SAFE_NO_PAD.decode(segment).expect("base64url");
    let value: Value = serde_json::from_slice(&bytes).expect("JSON");
    assert!(value.is_object(), "accepted: {value}");
    value
}
