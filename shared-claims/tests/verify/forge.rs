//! A mint for tokens that no issuer would sign, with the keys that it would sign them with.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Map, Value, json};
use shared_claims::{
    Rejection, VerifiedClaims, Verifier,
    claims::{LOGIN_CLIENT_ID, REALTIME_AUDIENCE},
    key_set::KeySet,
    secret::{SECRET_VARIABLE, Secrets},
};

pub(crate) const ISSUER: &str = "https://issuer.example";

/// The second at which everything here is verified.
pub(crate) const NOW: u64 = 1_800_000_000;

/// The secret that signs, and an older one that still verifies.
pub(crate) const SECRET: &str = "mZq3vX8pL1rT6wYc9sHd2kFg5jBn7uEa";
pub(crate) const OLDER_SECRET: &str = "Qe7Rt2Yu9Io4Pa1Sd6Fg3Hj8Kl5Zx0Cv";

pub(crate) fn secrets() -> Secrets {
    Secrets::parse(SECRET_VARIABLE, &format!("{SECRET},{OLDER_SECRET}"), ',')
        .expect("two good secrets")
}

fn key_id(position: usize) -> String {
    let secrets = secrets();
    let secret = secrets.iter().nth(position).expect("a secret");
    secret.key_id().expect("a key id")
}

/// A token in the making. [`Forge::valid`] would be accepted; each change attacks one property.
#[derive(Clone)]
pub(crate) struct Forge {
    header: Map<String, Value>,
    claims: Map<String, Value>,
    algorithm: Algorithm,
    key: EncodingKey,
}

impl Forge {
    pub(crate) fn valid() -> Self {
        let header = json!({"typ": "at+jwt", "alg": "HS256", "kid": key_id(0)});
        let claims = json!({
            "iss": ISSUER, "sub": "u_1", "aud": REALTIME_AUDIENCE, "exp": NOW + 900, "iat": NOW,
            "jti": "t_1", "sid": "s_1", "client_id": LOGIN_CLIENT_ID, "scope": "rooms:read",
            "preferred_username": "alice",
        });
        Self {
            header: object(header),
            claims: object(claims),
            algorithm: Algorithm::HS256,
            key: EncodingKey::from_secret(SECRET.as_bytes()),
        }
    }

    /// Signed by the older secret, and saying so.
    pub(crate) fn of_the_older_secret() -> Self {
        let key = EncodingKey::from_secret(OLDER_SECRET.as_bytes());
        Self::valid()
            .signed_by(Algorithm::HS256, key)
            .header("kid", key_id(1))
    }

    pub(crate) fn header(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.header.insert(name.to_owned(), value.into());
        self
    }

    pub(crate) fn without_header(mut self, name: &str) -> Self {
        self.header.remove(name).expect("a member to remove");
        self
    }

    pub(crate) fn claim(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.claims.insert(name.to_owned(), value.into());
        self
    }

    pub(crate) fn without_claim(mut self, name: &str) -> Self {
        self.claims.remove(name).expect("a claim to remove");
        self
    }

    /// Signs with another key or algorithm; what the header says of it stays as it was.
    pub(crate) fn signed_by(mut self, algorithm: Algorithm, key: EncodingKey) -> Self {
        self.algorithm = algorithm;
        self.key = key;
        self
    }

    pub(crate) fn header_json(&self) -> String {
        Value::Object(self.header.clone()).to_string()
    }

    pub(crate) fn claims_json(&self) -> String {
        Value::Object(self.claims.clone()).to_string()
    }

    pub(crate) fn token(&self) -> String {
        self.sign_json(self.header_json().as_bytes(), self.claims_json().as_bytes())
    }

    /// Signs these very bytes in place of the header's and the claims' own.
    pub(crate) fn sign_json(&self, header: &[u8], claims: &[u8]) -> String {
        self.sign_segments(
            &URL_SAFE_NO_PAD.encode(header),
            &URL_SAFE_NO_PAD.encode(claims),
        )
    }

    /// Signs these very segments, which need not be base64url.
    pub(crate) fn sign_segments(&self, header: &str, claims: &str) -> String {
        let signed = format!("{header}.{claims}");
        let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), &self.key, self.algorithm)
            .expect("a signature");
        format!("{signed}.{signature}")
    }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        other => panic!("{other} is no object"),
    }
}

/// What a verifier for [`ISSUER`] with both secrets says, `after` seconds past [`NOW`].
pub(crate) fn verdict_after(token: &str, after: u64) -> Result<VerifiedClaims, Rejection> {
    let keys = KeySet::from_secrets(&secrets()).expect("named keys");
    let now: SystemTime = UNIX_EPOCH + Duration::from_secs(NOW + after);
    Verifier::new(ISSUER, REALTIME_AUDIENCE, keys).verify(token, now)
}

#[track_caller]
pub(crate) fn assert_accepted(what: &str, token: &str) -> VerifiedClaims {
    match verdict_after(token, 0) {
        Ok(claims) => claims,
        Err(rejection) => panic!("{what}: refused with {rejection:?}, not accepted"),
    }
}

#[track_caller]
pub(crate) fn assert_refused(what: &str, token: &str, expected: Rejection) {
    match verdict_after(token, 0) {
        Ok(_) => panic!("{what}: accepted, not refused with {expected:?}"),
        Err(rejection) => assert_eq!(rejection, expected, "{what}"),
    }
}

/// Refuses each of `attacks` on one claim, and accepts each of `twins` in its place.
#[track_caller]
pub(crate) fn claim_table(
    name: &str,
    attacks: impl IntoIterator<Item = (Value, Rejection)>,
    twins: impl IntoIterator<Item = Value>,
) {
    for (value, expected) in attacks {
        let token = Forge::valid().claim(name, value.clone()).token();
        assert_refused(&format!("{name} = {value}"), &token, expected);
    }
    for value in twins {
        let token = Forge::valid().claim(name, value.clone()).token();
        assert_accepted(&format!("{name} = {value}"), &token);
    }
}

/// Refuses each of `attacks` on one member of the header, and accepts each of `twins`.
#[track_caller]
pub(crate) fn header_table(
    name: &str,
    attacks: impl IntoIterator<Item = (Value, Rejection)>,
    twins: impl IntoIterator<Item = Value>,
) {
    for (value, expected) in attacks {
        let token = Forge::valid().header(name, value.clone()).token();
        assert_refused(&format!("{name} = {value}"), &token, expected);
    }
    for value in twins {
        let token = Forge::valid().header(name, value.clone()).token();
        assert_accepted(&format!("{name} = {value}"), &token);
    }
}
