//! The keys of two issuers, the verifiers that know them, and a mint for what the fuzzer makes up.

use std::{
    sync::LazyLock,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::{
    hmac,
    signature::{Ed25519KeyPair, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::Algorithm;
use serde_json::{Value, json};
use shared_claims::{
    TokenRules, Verifier,
    claims::REALTIME_AUDIENCE,
    key_set::KeySet,
    secret::{SECRET_VARIABLE, Secrets},
};

/// The issuer that shares its secrets with us.
pub(crate) const OURS: &str = "https://issuer.example";

/// The issuer that publishes its keys.
pub(crate) const PROVIDER: &str = "https://provider.example";

/// Our `client_id` at [`PROVIDER`].
pub(crate) const CLIENT_ID: &str = "client-1";

/// The second at which everything is verified.
pub(crate) const NOW: u64 = 1_800_000_000;

/// The `kid` of [`PROVIDER`]'s key.
pub(crate) const PUBLISHED_ID: &str = "own";

/// Not one of our keys.
const STRANGER: &[u8] = b"nobody gave this key to anybody, not even us";

/// Everything that signs, and those who check it.
pub(crate) struct Mint {
    /// The secrets that we share with [`OURS`], by their `kid`.
    secrets: Vec<(String, hmac::Key)>,
    /// The key of [`PROVIDER`].
    pair: Ed25519KeyPair,
    stranger: hmac::Key,
    pub(crate) ours: Verifier,
    pub(crate) provider: Verifier,
}

/// The one mint.
pub(crate) static MINT: LazyLock<Mint> = LazyLock::new(Mint::open);

impl Mint {
    fn open() -> Self {
        let texts = "mZq3vX8pL1rT6wYc9sHd2kFg5jBn7uEa,Qe7Rt2Yu9Io4Pa1Sd6Fg3Hj8Kl5Zx0Cv";
        let shared = Secrets::parse(SECRET_VARIABLE, texts, ',').expect("two good secrets");
        let secrets = shared.iter().map(|secret| {
            let id = secret.key_id().expect("a key id");
            (id, hmac::Key::new(hmac::HMAC_SHA256, secret.expose()))
        });
        let keys = KeySet::from_secrets(&shared).expect("keys");
        let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("a key");
        let document = json!({ "keys": [published(&pair)] }).to_string();
        let published = KeySet::from_jwks(document.as_bytes()).expect("a set");
        Self {
            secrets: secrets.collect(),
            pair,
            stranger: hmac::Key::new(hmac::HMAC_SHA256, STRANGER),
            ours: Verifier::new(OURS, REALTIME_AUDIENCE, keys),
            provider: Verifier::with_rules(rules_of_provider(), published),
        }
    }

    /// The public key of [`PROVIDER`], as it publishes it.
    pub(crate) fn published(&self) -> Value {
        published(&self.pair)
    }

    /// A token with this header and these claims, signed by the key that the header asks for.
    pub(crate) fn sign(&self, header: &str, claims: &str) -> String {
        let signed = signed_part(header, claims);
        let asked: Value = serde_json::from_str(header).unwrap_or_default();
        let signature = if asked["alg"] == "EdDSA" {
            self.sign_by_pair(&signed)
        } else {
            let named = self.secrets.iter().position(|(id, _)| asked["kid"] == **id);
            mac(&self.secrets[named.unwrap_or(0)].1, &signed)
        };
        format!("{signed}.{signature}")
    }

    /// The same by a key that is nobody's.
    pub(crate) fn sign_as_stranger(&self, header: &str, claims: &str) -> String {
        let signed = signed_part(header, claims);
        let signature = mac(&self.stranger, &signed);
        format!("{signed}.{signature}")
    }

    /// What the shared secret of this id makes of `signed`, if there is one.
    pub(crate) fn sign_by_secret(&self, id: &str, signed: &str) -> Option<String> {
        let (_, key) = self.secrets.iter().find(|(one, _)| one == id)?;
        Some(mac(key, signed))
    }

    /// What [`PROVIDER`]'s key makes of `signed`; Ed25519 always makes the same.
    pub(crate) fn sign_by_pair(&self, signed: &str) -> String {
        URL_SAFE_NO_PAD.encode(self.pair.sign(signed.as_bytes()).as_ref())
    }
}

/// What a provider's tokens look like that is as lenient as we allow.
pub(crate) fn rules_of_provider() -> TokenRules {
    TokenRules {
        is_ours: false,
        types: ["at+jwt", "jwt", ""].map(str::to_owned).to_vec(),
        logout_audiences: vec![CLIENT_ID.to_owned()],
        algorithms: vec![Algorithm::ES256, Algorithm::EdDSA, Algorithm::RS256],
        ..TokenRules::of_our_issuer(PROVIDER, REALTIME_AUDIENCE)
    }
}

/// The time at `seconds` since the epoch.
pub(crate) fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

/// Calls `verify` with the token that the input is; or, when the input has two lines, with one that an
/// issuer signed, of that header and those claims, both as the fuzzer likes. What a stranger signs of
/// them is refused.
pub(crate) fn check_each(
    input: &[u8],
    verify: impl Fn(&str),
    refuses: impl Fn(&Verifier, &str) -> bool,
) {
    let Ok(input) = std::str::from_utf8(input) else {
        return;
    };
    let Some((header, claims)) = input.split_once('\n') else {
        return verify(input);
    };
    verify(&MINT.sign(header, claims));
    let forged = MINT.sign_as_stranger(header, claims);
    for verifier in [&MINT.ours, &MINT.provider] {
        assert!(refuses(verifier, &forged), "a stranger's");
    }
}

fn published(pair: &Ed25519KeyPair) -> Value {
    let x = URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
    json!({"kty": "OKP", "crv": "Ed25519", "x": x, "kid": PUBLISHED_ID})
}

fn signed_part(header: &str, claims: &str) -> String {
    let [header, claims] = [header, claims].map(|text| URL_SAFE_NO_PAD.encode(text));
    format!("{header}.{claims}")
}

fn mac(key: &hmac::Key, signed: &str) -> String {
    URL_SAFE_NO_PAD.encode(hmac::sign(key, signed.as_bytes()).as_ref())
}
