//! Signatures of requests, after Standard Webhooks 1.0.

use aws_lc_rs::{hmac, signature::Ed25519KeyPair};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

/// Maximum number of secrets at a time: the one in use and the one before or after it.
const MAXIMUM_SECRETS: usize = 2;

/// The sizes that Standard Webhooks allow for a symmetric secret, in bytes.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// The size of an Ed25519 seed, and of a public key, in bytes (RFC 8032, section 5.1.5).
const ED25519_BYTES: usize = 32;

/// Room for one signature and a space, in bytes.
const SIGNATURE_BYTES: usize = 96;

/// The secrets with which the requests to one back end are signed.
pub(super) struct Signer(Vec<Key>);

/// A key, by the version of the signatures that it makes.
enum Key {
    /// `v1`: HMAC-SHA256.
    Symmetric(Box<hmac::Key>),
    /// `v1a`: Ed25519.
    Asymmetric(Ed25519KeyPair),
}

impl Signer {
    /// Parses secrets, one a line: `whsec_` with the base64 of 24 to 64 bytes, or `whsk_` with that
    /// of an Ed25519 seed and its public key.
    ///
    /// # Errors
    ///
    /// The fault of the text, which is not repeated.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let keys: Vec<Key> = lines.map(Key::parse).collect::<Result<_, _>>()?;
        match keys.len() {
            0 => Err(
                "the file holds no secret: write whsec_ and the base64 of 24 to 64 random bytes",
            ),
            1..=MAXIMUM_SECRETS => Ok(Self(keys)),
            _ => Err("the file holds more than two secrets"),
        }
    }

    /// Returns the value of `webhook-signature` for a body that is sent as `id` at `timestamp`, in
    /// seconds since the Unix epoch.
    pub(super) fn sign(&self, id: &str, timestamp: u64, body: &[u8]) -> String {
        let head = format!("{id}.{timestamp}.");
        let mut signatures = String::with_capacity(self.0.len() * SIGNATURE_BYTES);
        for key in &self.0 {
            if !signatures.is_empty() {
                signatures.push(' ');
            }
            key.sign(&[head.as_bytes(), body], &mut signatures);
        }
        signatures
    }
}

impl Key {
    fn parse(line: &str) -> Result<Self, &'static str> {
        let decode = |text: &str| STANDARD.decode(text).map(Zeroizing::new);
        if let Some(text) = line.strip_prefix("whsec_") {
            let bytes = decode(text).map_err(|_| "a secret is not base64 after whsec_")?;
            if !SECRET_BYTES.contains(&bytes.len()) || bytes.iter().all(|byte| *byte == bytes[0]) {
                return Err("a secret must have 24 to 64 random bytes");
            }
            let key = hmac::Key::new(hmac::HMAC_SHA256, &bytes);
            return Ok(Self::Symmetric(Box::new(key)));
        }
        let Some(text) = line.strip_prefix("whsk_") else {
            return Err("a secret must begin with whsec_ or whsk_");
        };
        let bytes = decode(text).map_err(|_| "a key is not base64 after whsk_")?;
        let pair = bytes
            .split_at_checked(ED25519_BYTES)
            .and_then(|(seed, public)| Ed25519KeyPair::from_seed_and_public_key(seed, public).ok());
        pair.map(Self::Asymmetric)
            .ok_or("a key after whsk_ must be an Ed25519 seed and its public key, 64 bytes")
    }

    /// Appends the signature of these `parts`, one after the other, to `signatures`.
    fn sign(&self, parts: &[&[u8]], signatures: &mut String) {
        match self {
            Self::Symmetric(key) => {
                let mut context = hmac::Context::with_key(key);
                parts.iter().for_each(|part| context.update(part));
                signatures.push_str("v1,");
                STANDARD.encode_string(context.sign(), signatures);
            }
            Self::Asymmetric(pair) => {
                signatures.push_str("v1a,");
                STANDARD.encode_string(pair.sign(&parts.concat()), signatures);
            }
        }
    }
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Signer([redacted])")
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{ED25519, KeyPair as _, UnparsedPublicKey};

    use super::*;

    #[test]
    fn the_example_of_the_specification_is_signed_as_there() {
        let signer = Signer::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("a secret");
        let signature = signer.sign(
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            br#"{"test": 2432232314}"#,
        );
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn each_of_two_secrets_signs_and_an_asymmetric_one_as_v1a() {
        let seed = [7; ED25519_BYTES];
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).expect("a key");
        let public = pair.public_key().as_ref();
        let secret = STANDARD.encode([&seed[..], public].concat());
        let text = format!("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n\nwhsk_{secret}\n");
        let signature = Signer::parse(&text)
            .expect("two secrets")
            .sign("id", 1, b"body");
        let (first, second) = signature.split_once(' ').expect("two signatures");
        assert!(first.starts_with("v1,"));
        let second = STANDARD
            .decode(second.strip_prefix("v1a,").expect("v1a"))
            .expect("base64");
        let key = UnparsedPublicKey::new(&ED25519, public);
        assert!(key.verify(b"id.1.body", &second).is_ok());
        assert!(key.verify(b"id.1.other", &second).is_err());
    }

    #[test]
    fn what_is_no_secret_is_refused_and_not_repeated() {
        let short = format!("whsec_{}", STANDARD.encode([1, 2, 3]));
        let flat = format!("whsec_{}", STANDARD.encode([0; 32]));
        let fine = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n";
        for text in [
            "",
            "hunter2",
            "whsec_***",
            "whsk_AAAA",
            &short,
            &flat,
            &fine.repeat(3),
        ] {
            let problem = Signer::parse(text).expect_err(text);
            assert!(!problem.contains("hunter2"), "{problem}");
        }
        assert!(Signer::parse(&fine.repeat(2)).is_ok());
    }
}
