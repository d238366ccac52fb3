//! The set of keys that an issuer publishes: bad keys do no harm, and good ones beside them work.

use std::sync::LazyLock;

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::Algorithm;
use serde_json::{Value, json};
use shared_claims::{
    TokenRules, Verifier,
    key_set::{KeySet, MAXIMUM_KEYS},
};

use crate::mint::{MINT, NOW, PROVIDER, PUBLISHED_ID, at, rules_of_provider};

/// How many keys of a set are attacked; each costs some dozen signatures.
const ATTACKED_KEYS: usize = 4;

/// Rules by which HMAC would be taken, if only a set had a key for it.
static RULES: LazyLock<TokenRules> = LazyLock::new(|| {
    let mut rules = rules_of_provider();
    rules.algorithms.push(Algorithm::HS256);
    rules
});

/// A token that the provider signed by the key that it publishes.
static SIGNED: LazyLock<String> = LazyLock::new(|| {
    let header = json!({"alg": "EdDSA", "kid": PUBLISHED_ID, "typ": "at+jwt"});
    MINT.sign(&header.to_string(), &claims())
});

/// Reads the input as a set of keys.
///
/// # Panics
///
/// When what must hold does not.
pub fn check(input: &[u8]) {
    let document: Option<Value> = serde_json::from_slice(input).ok();
    let listed = document
        .as_ref()
        .and_then(|document| document["keys"].as_array());
    let Ok(keys) = KeySet::from_jwks(input) else {
        return;
    };
    let is_empty = keys.is_empty();
    let listed = listed.expect("a document without a list of keys was taken");
    assert!(listed.len() <= MAXIMUM_KEYS);
    assert!(is_empty || !listed.is_empty(), "keys out of nothing");
    let verifier = Verifier::with_rules(RULES.clone(), keys);
    let own: Vec<&Value> = listed
        .iter()
        .filter(|key| key["kid"] == PUBLISHED_ID)
        .collect();
    if accepts(&verifier, &SIGNED) {
        assert_eq!(own.len(), 1, "two keys of one id");
        for name in ["kty", "crv", "x"] {
            assert_eq!(
                own[0][name],
                MINT.published()[name],
                "not the key that signed"
            );
        }
        assert_ne!(own[0]["use"], "enc");
    }
    for key in listed.iter().take(ATTACKED_KEYS) {
        attack(&verifier, key, input);
    }
    if own.is_empty() && listed.len() + 2 <= MAXIMUM_KEYS {
        check_beside(listed.clone());
    }
}

/// Whatever a set holds, the provider's own key beside it is used; but not when it stands there twice.
fn check_beside(mut keys: Vec<Value>) {
    for (copies, is_used) in [(1, true), (2, false)] {
        keys.push(MINT.published());
        let document = json!({ "keys": keys }).to_string();
        let set = KeySet::from_jwks(document.as_bytes()).expect("a set");
        let verifier = Verifier::with_rules(RULES.clone(), set);
        assert_eq!(
            accepts(&verifier, &SIGNED),
            is_used,
            "{copies} in {document}"
        );
    }
}

/// Tries signatures that anybody can make who has read the document.
fn attack(verifier: &Verifier, key: &Value, document: &[u8]) {
    let decode = |name: &str| {
        let text = key[name].as_str().unwrap_or_default();
        URL_SAFE_NO_PAD.decode(text).unwrap_or_default()
    };
    let text_of_key = key.to_string();
    for secret in [
        &decode("k")[..],
        &decode("x"),
        &decode("n"),
        key["k"].as_str().unwrap_or_default().as_bytes(),
        text_of_key.as_bytes(),
        document,
        b"",
    ] {
        let secret = hmac::Key::new(hmac::HMAC_SHA256, secret);
        assert_refused(verifier, "HS256", key, |signed| {
            hmac::sign(&secret, signed).as_ref().to_vec()
        });
    }
    for byte in [0, 1] {
        for algorithm in ["ES256", "EdDSA"] {
            assert_refused(verifier, algorithm, key, |_| vec![byte; 64]);
        }
    }
    // The neutral point, twice: a signature for every text by a key of small order.
    assert_refused(verifier, "EdDSA", key, |_| {
        let mut signature = vec![0; 64];
        signature[0] = 1;
        signature
    });
    let length = decode("n").len().clamp(64, 1_024);
    assert_refused(verifier, "RS256", key, |signed| padded(signed, length));
    assert_refused(verifier, "RS256", key, |_| vec![0; length]);
}

fn assert_refused(
    verifier: &Verifier,
    algorithm: &str,
    key: &Value,
    sign: impl Fn(&[u8]) -> Vec<u8>,
) {
    let header = json!({"alg": algorithm, "kid": key["kid"], "typ": "at+jwt"});
    let [header, claims] = [header.to_string(), claims()].map(|text| URL_SAFE_NO_PAD.encode(text));
    let signed = format!("{header}.{claims}");
    let signature = URL_SAFE_NO_PAD.encode(sign(signed.as_bytes()));
    let token = format!("{signed}.{signature}");
    assert!(
        !accepts(verifier, &token),
        "{algorithm}: {key} verifies what nobody signed"
    );
}

/// What an RSA signature holds before it is raised to a power (RFC 8017, section 9.2), and is
/// itself when the exponent is 1.
fn padded(signed: &[u8], length: usize) -> Vec<u8> {
    const SHA256_INFO: [u8; 19] = [
        0x30, 0x31, 0x30, 0x0D, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01,
        0x05, 0x00, 0x04, 0x20,
    ];
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, signed);
    let filling = length - 3 - SHA256_INFO.len() - hash.as_ref().len();
    let parts: [&[u8]; 5] = [
        &[0, 1],
        &vec![0xFF; filling],
        &[0],
        &SHA256_INFO,
        hash.as_ref(),
    ];
    parts.concat()
}

fn claims() -> String {
    json!({
        "iss": PROVIDER, "sub": "u_1", "aud": "latchkey-realtime", "iat": NOW, "exp": NOW + 900,
    })
    .to_string()
}

fn accepts(verifier: &Verifier, token: &str) -> bool {
    verifier.verify(token, at(NOW)).is_ok()
}
