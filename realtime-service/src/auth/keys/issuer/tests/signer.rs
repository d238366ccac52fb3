//! Key pairs of providers, and the tokens that they sign.

use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::{
    encoding::{AsBigEndian as _, EcPublicKeyUncompressedBin},
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};

/// Whom the tokens are for.
pub(super) const AUDIENCE: &str = "https://gateway.example";

/// The time of every test, by the clock on the wall.
pub(super) fn now() -> SystemTime {
    SystemTime::now()
}

/// A key pair.
pub(super) struct Signer {
    algorithm: Algorithm,
    private: EncodingKey,
    /// The key as it is published.
    pub(super) public: Value,
}

impl Signer {
    pub(super) fn ec(id: &str) -> Self {
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let document = EcdsaKeyPair::generate_pkcs8(algorithm, &SystemRandom::new());
        let document = document.expect("a key");
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref()).expect("a key");
        let point: EcPublicKeyUncompressedBin = pair.public_key().as_be_bytes().expect("a point");
        let (x, y) = point.as_ref()[1..].split_at(32);
        let [x, y] = [x, y].map(|bytes| URL_SAFE_NO_PAD.encode(bytes));
        Self {
            algorithm: Algorithm::ES256,
            private: EncodingKey::from_ec_der(document.as_ref()),
            public: json!({"kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": id}),
        }
    }

    pub(super) fn ed(id: &str) -> Self {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("a key");
        let pair = Ed25519KeyPair::from_pkcs8(document.as_ref()).expect("a key");
        let x = URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
        Self {
            algorithm: Algorithm::EdDSA,
            private: EncodingKey::from_ed_der(document.as_ref()),
            public: json!({"kty": "OKP", "crv": "Ed25519", "x": x, "kid": id}),
        }
    }

    /// A token that `issuer` would sign.
    pub(super) fn token(&self, issuer: &str) -> String {
        let id = self.public["kid"].as_str().expect("an id");
        self.token_under(id, issuer)
    }

    /// The same under another key's id.
    pub(super) fn token_under(&self, id: &str, issuer: &str) -> String {
        let algorithm = format!("{:?}", self.algorithm);
        self.token_with(issuer, json!({"alg": algorithm, "kid": id}))
    }

    /// The same with another header; its `typ` is that of an access token.
    pub(super) fn token_with(&self, issuer: &str, mut header: Value) -> String {
        header["typ"] = json!("at+jwt");
        let iat = now().duration_since(UNIX_EPOCH).expect("a time").as_secs();
        let claims = json!({
            "iss": issuer, "sub": "alice", "aud": AUDIENCE, "iat": iat, "exp": iat + 900,
        });
        let [header, claims] =
            [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
        let signed = format!("{header}.{claims}");
        let signature =
            jsonwebtoken::crypto::sign(signed.as_bytes(), &self.private, self.algorithm);
        format!("{signed}.{}", signature.expect("a signature"))
    }
}
