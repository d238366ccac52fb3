//! A software authenticator (Web Authentication Level 3, section 6), whose every answer can be made wrong.

use aws_lc_rs::{
    digest::{SHA256, digest},
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

/// Flags of authenticator data (section 6.1).
const USER_PRESENT: u8 = 0x01;
const USER_VERIFIED: u8 = 0x04;
const ATTESTED: u8 = 0x40;

enum Key {
    Es256(EcdsaKeyPair),
    EdDsa(Ed25519KeyPair),
}

/// An authenticator with one credential, and the browser in front of it.
pub(crate) struct Authenticator {
    key: Key,
    pub(crate) credential_id: Vec<u8>,
    /// The handle of the account that the credential was made for.
    pub(crate) user_handle: String,
    /// The page in which the browser asks.
    pub(crate) origin: String,
    /// The domain whose hash the authenticator signs; by default that of the options.
    pub(crate) rp_id: Option<String>,
    /// Whether it asks for a PIN or a fingerprint.
    pub(crate) verifies_user: bool,
    /// Whether the browser says that the page was in a frame of another site.
    pub(crate) in_frame: bool,
    /// The signature counter of the next answer.
    pub(crate) counter: u32,
    /// The algorithm that the public key claims to be for, if it is another one.
    pub(crate) claimed_algorithm: Option<u8>,
    /// The point that stands in the public key for EdDSA, if it is another one.
    pub(crate) claimed_point: Option<[u8; 32]>,
    /// The modulus of a public key for RS256 that stands in the place of the own key.
    pub(crate) claimed_modulus: Option<Vec<u8>>,
}

impl Authenticator {
    /// An authenticator with a key for ES256, in the page of the default settings.
    pub(crate) fn new() -> Self {
        let signing = &ECDSA_P256_SHA256_ASN1_SIGNING;
        Self::with(Key::Es256(EcdsaKeyPair::generate(signing).expect("a key")))
    }

    /// An authenticator with a key for EdDSA.
    pub(crate) fn with_ed25519() -> Self {
        Self::with(Key::EdDsa(Ed25519KeyPair::generate().expect("a key")))
    }

    fn with(key: Key) -> Self {
        let mut credential_id = vec![0; 16];
        aws_lc_rs::rand::fill(&mut credential_id).expect("randomness");
        Self {
            key,
            credential_id,
            user_handle: String::new(),
            origin: "http://localhost:9000".to_owned(),
            rp_id: None,
            verifies_user: true,
            in_frame: false,
            counter: 1,
            claimed_algorithm: None,
            claimed_point: None,
            claimed_modulus: None,
        }
    }

    /// Answers `navigator.credentials.create`.
    pub(crate) fn create(&mut self, options: &Value) -> Value {
        self.user_handle = text(&options["user"]["id"]);
        let rp_id = text(&options["rp"]["id"]);
        let mut data = self.authenticator_data(&rp_id, ATTESTED);
        data.extend([0; 16]);
        let length = u16::try_from(self.credential_id.len()).expect("a length");
        data.extend(length.to_be_bytes());
        data.extend(&self.credential_id);
        data.extend(self.public_key());
        // {"fmt": "none", "attStmt": {}, "authData": data} in CBOR.
        let mut attestation = b"\xa3\x63fmt\x64none\x67attStmt\xa0\x68authData".to_vec();
        match u8::try_from(data.len()) {
            Ok(length) => attestation.extend([0x58, length]),
            Err(_) => attestation.extend(long_bytes(&data)),
        }
        attestation.extend(&data);
        let response = json!({
            "clientDataJSON": encode(&self.client_data("webauthn.create", options)),
            "attestationObject": encode(&attestation),
            "transports": ["internal"],
        });
        self.credential(response)
    }

    /// Answers `navigator.credentials.get`.
    pub(crate) fn get(&mut self, options: &Value) -> Value {
        let data = self.authenticator_data(&text(&options["rpId"]), 0);
        let client_data = self.client_data("webauthn.get", options);
        let signed = [&data[..], digest(&SHA256, &client_data).as_ref()].concat();
        let signature = match &self.key {
            Key::Es256(key) => key.sign(&SystemRandom::new(), &signed).expect("signed"),
            Key::EdDsa(key) => key.sign(&signed),
        };
        let response = json!({
            "clientDataJSON": encode(&client_data),
            "authenticatorData": encode(&data),
            "signature": encode(signature.as_ref()),
            "userHandle": self.user_handle,
        });
        self.credential(response)
    }

    fn credential(&self, response: Value) -> Value {
        json!({
            "id": encode(&self.credential_id),
            "rawId": encode(&self.credential_id),
            "type": "public-key",
            "authenticatorAttachment": "platform",
            "clientExtensionResults": {},
            "response": response,
        })
    }

    fn authenticator_data(&mut self, rp_id: &str, further_flags: u8) -> Vec<u8> {
        let rp_id = self.rp_id.as_deref().unwrap_or(rp_id);
        let mut data = digest(&SHA256, rp_id.as_bytes()).as_ref().to_vec();
        let verified = if self.verifies_user { USER_VERIFIED } else { 0 };
        data.push(USER_PRESENT | verified | further_flags);
        data.extend(self.counter.to_be_bytes());
        self.counter += 1;
        data
    }

    fn client_data(&self, kind: &str, options: &Value) -> Vec<u8> {
        let data = json!({
            "type": kind,
            "challenge": options["challenge"],
            "origin": self.origin,
            "crossOrigin": self.in_frame,
        });
        data.to_string().into_bytes()
    }

    /// The public key as a COSE key (RFC 9053, section 7).
    fn public_key(&self) -> Vec<u8> {
        if let Some(modulus) = &self.claimed_modulus {
            let head = b"\xa4\x01\x03\x03\x39\x01\x00\x20";
            let exponent = b"\x21\x43\x01\x00\x01";
            return [&head[..], &long_bytes(modulus), modulus, exponent].concat();
        }
        let (mut key, algorithm_at) = match &self.key {
            Key::Es256(key) => {
                let point = key.public_key().as_ref();
                let head = b"\xa5\x01\x02\x03\x26\x20\x01\x21\x58\x20";
                let key = [head, &point[1..33], b"\x22\x58\x20", &point[33..]].concat();
                (key, 4)
            }
            Key::EdDsa(key) => {
                let head = b"\xa4\x01\x01\x03\x27\x20\x06\x21\x58\x20";
                let own = key.public_key().as_ref();
                let point = self.claimed_point.as_ref().map_or(own, |point| &point[..]);
                ([head, point].concat(), 4)
            }
        };
        if let Some(claimed) = self.claimed_algorithm {
            key[algorithm_at] = claimed;
        }
        key
    }
}

/// The head in CBOR of a string of 256 bytes or more.
fn long_bytes(bytes: &[u8]) -> [u8; 3] {
    let [high, low] = u16::try_from(bytes.len()).expect("a length").to_be_bytes();
    [0x59, high, low]
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
