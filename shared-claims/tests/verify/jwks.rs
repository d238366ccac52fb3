//! Keys that an issuer publishes: good ones are used, and the others do no harm.

use std::time::{Duration, UNIX_EPOCH};

use aws_lc_rs::{
    encoding::AsBigEndian as _,
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
        EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _, RsaKeyPair,
    },
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};
use shared_claims::{
    Rejection, TokenRules, Verifier,
    claims::REALTIME_AUDIENCE,
    key_set::{JwksError, KeySet, UnusableReason},
};

use crate::forge::{Forge, ISSUER, NOW};

/// A key pair of the issuer: what signs, and what is published.
struct Pair {
    algorithm: Algorithm,
    name: &'static str,
    private: EncodingKey,
    public: Value,
}

impl Pair {
    fn ec() -> Self {
        let curve = ("P-256", &ECDSA_P256_SHA256_FIXED_SIGNING);
        Self::on_curve(curve, (Algorithm::ES256, "ES256"))
    }

    fn ec_384() -> Self {
        let curve = ("P-384", &ECDSA_P384_SHA384_FIXED_SIGNING);
        Self::on_curve(curve, (Algorithm::ES384, "ES384"))
    }

    fn on_curve(
        (curve, signing): (&str, &'static EcdsaSigningAlgorithm),
        (algorithm, name): (Algorithm, &'static str),
    ) -> Self {
        let document = EcdsaKeyPair::generate_pkcs8(signing, &SystemRandom::new());
        let document = document.expect("a key");
        let pair = EcdsaKeyPair::from_pkcs8(signing, document.as_ref()).expect("a key");
        let point: aws_lc_rs::encoding::EcPublicKeyUncompressedBin =
            pair.public_key().as_be_bytes().expect("a point");
        let coordinates = &point.as_ref()[1..];
        let (x, y) = coordinates.split_at(coordinates.len() / 2);
        let [x, y] = [x, y].map(|bytes| URL_SAFE_NO_PAD.encode(bytes));
        Self {
            algorithm,
            name,
            private: EncodingKey::from_ec_der(document.as_ref()),
            public: json!({"kty": "EC", "crv": curve, "x": x, "y": y, "kid": "own"}),
        }
    }

    /// The same pair, signing with another algorithm.
    fn signing_with(self, algorithm: Algorithm, name: &'static str) -> Self {
        Self {
            algorithm,
            name,
            ..self
        }
    }

    fn ed() -> Self {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("a key");
        let pair = Ed25519KeyPair::from_pkcs8(document.as_ref()).expect("a key");
        let x = URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
        Self {
            algorithm: Algorithm::EdDSA,
            name: "EdDSA",
            private: EncodingKey::from_ed_der(document.as_ref()),
            public: json!({"kty": "OKP", "crv": "Ed25519", "x": x, "kid": "own"}),
        }
    }

    fn rsa() -> Self {
        use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).expect("a key");
        let private: Pkcs8V1Der<'_> = pair.as_der().expect("PKCS #8");
        let public = pair.public_key();
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let n = encode(public.modulus().big_endian_without_leading_zero());
        let e = encode(public.exponent().big_endian_without_leading_zero());
        // jsonwebtoken reads PKCS #1, which stands at the end of PKCS #8.
        let pkcs1 = &private.as_ref()[26..];
        Self {
            algorithm: Algorithm::RS256,
            name: "RS256",
            private: EncodingKey::from_rsa_der(pkcs1),
            public: json!({"kty": "RSA", "n": n, "e": e, "kid": "own"}),
        }
    }

    fn with(&self, name: &str, value: impl Into<Value>) -> Value {
        let mut key = self.public.clone();
        key[name] = value.into();
        key
    }

    /// A token of this pair that says what it is.
    fn token(&self) -> String {
        Forge::valid()
            .header("alg", self.name)
            .header("kid", "own")
            .signed_by(self.algorithm, self.private.clone())
            .token()
    }
}

fn verdict(keys: &[Value], token: &str) -> Result<(), Rejection> {
    use Algorithm::{ES256, EdDSA, RS256};

    verdict_with(vec![ES256, EdDSA, RS256], keys, token)
}

fn verdict_with(algorithms: Vec<Algorithm>, keys: &[Value], token: &str) -> Result<(), Rejection> {
    let document = json!({ "keys": keys }).to_string();
    let keys = KeySet::from_jwks(document.as_bytes()).expect("a set");
    let now = UNIX_EPOCH + Duration::from_secs(NOW);
    let rules = TokenRules {
        algorithms,
        ..TokenRules::of_our_issuer(ISSUER, REALTIME_AUDIENCE)
    };
    let verifier = Verifier::with_rules(rules, keys);
    verifier.verify(token, now).map(|_| ())
}

#[test]
fn keys_of_three_kinds_verify_what_they_signed_and_nothing_else() {
    let pairs = [Pair::ec(), Pair::ed(), Pair::rsa()];
    for pair in &pairs {
        assert_eq!(
            verdict(std::slice::from_ref(&pair.public), &pair.token()),
            Ok(()),
            "{}",
            pair.name
        );
        for other in pairs.iter().filter(|other| other.name != pair.name) {
            let refused = verdict(std::slice::from_ref(&pair.public), &other.token());
            assert_eq!(refused, Err(Rejection::AlgorithmInvalid));
        }
    }
    let stranger = Pair::ec();
    let refused = verdict(&[pairs[0].public.clone()], &stranger.token());
    assert_eq!(refused, Err(Rejection::SignatureInvalid));
    let hmac = verdict(&[pairs[0].public.clone()], &Forge::valid().token());
    assert_eq!(hmac, Err(Rejection::AlgorithmInvalid));
}

#[test]
fn further_algorithms_are_accepted_where_the_rules_list_them() {
    use Algorithm::{ES384, PS256, RS256, RS384, RS512};

    let pairs = [
        Pair::ec_384(),
        Pair::rsa().signing_with(RS384, "RS384"),
        Pair::rsa().signing_with(RS512, "RS512"),
        Pair::rsa().signing_with(PS256, "PS256"),
    ];
    for pair in &pairs {
        let key = std::slice::from_ref(&pair.public);
        let token = pair.token();
        let refused = Err(Rejection::AlgorithmInvalid);
        assert_eq!(verdict(key, &token), refused, "{}", pair.name);
        let listed = vec![RS256, pair.algorithm];
        assert_eq!(verdict_with(listed.clone(), key, &token), Ok(()));
        // A key that names an algorithm is for that one alone.
        let named = [pair.with("alg", pair.name)];
        assert_eq!(verdict_with(listed.clone(), &named, &token), Ok(()));
        let other = [pair.with("alg", "RS256")];
        assert_eq!(verdict_with(listed, &other, &token), refused);
    }
    let all = vec![ES384, RS384, RS512, PS256];
    let stranger = Pair::ec_384();
    let refused = verdict_with(all, &[pairs[0].public.clone()], &stranger.token());
    assert_eq!(refused, Err(Rejection::SignatureInvalid));
}

#[test]
fn keys_that_are_left_out_are_listed_with_the_reason() {
    use UnusableReason::{EmptyId, Malformed, OtherAlgorithm, OtherUse, SharedId};
    use UnusableReason::{UnsupportedKind, Weak};

    let (ec, rsa) = (Pair::ec(), Pair::rsa());
    let twice = ec.with("kid", "twice");
    let good = ec.with("kid", "good");
    let keys = [
        (good.clone(), None),
        (json!({"kid": "1"}), Some(Malformed)),
        (ec.with("kid", ""), Some(EmptyId)),
        (ec.with("use", "enc"), Some(OtherUse)),
        (
            json!({"kty": "oct", "k": "eA", "kid": "2"}),
            Some(UnsupportedKind),
        ),
        (rsa.with("n", "gA"), Some(Weak)),
        (rsa.with("alg", "RSA-OAEP"), Some(OtherAlgorithm)),
        (twice.clone(), Some(SharedId)),
        (twice, Some(SharedId)),
    ];
    let keys = keys.map(|(mut key, reason)| {
        // Ids that do not matter must not be shared.
        if key["kid"] == "own" {
            key["kid"] = json!(format!("{reason:?}"));
        }
        (key, reason)
    });
    let document = json!({"keys": keys.iter().map(|(key, _)| key).collect::<Vec<_>>()});
    let set = KeySet::from_jwks(document.to_string().as_bytes()).expect("a set");
    let usable: Vec<_> = set.usable().collect();
    assert_eq!(usable, [("good", &[Algorithm::ES256][..])]);
    let listed: Vec<_> = set.unusable().iter().map(|key| Some(key.reason)).collect();
    let expected: Vec<_> = keys[1..].iter().map(|(_, reason)| *reason).collect();
    assert_eq!(listed, expected);
    assert_eq!(set.unusable()[0].id.as_deref(), Some("1"));
}

#[test]
fn a_public_key_signs_no_hmac() {
    let pair = Pair::ec();
    let jwk = pair.public.to_string();
    for secret in [
        jwk.as_bytes(),
        pair.public["x"].as_str().expect("text").as_bytes(),
    ] {
        let token = Forge::valid()
            .header("kid", "own")
            .signed_by(Algorithm::HS256, EncodingKey::from_secret(secret))
            .token();
        assert_eq!(
            verdict(std::slice::from_ref(&pair.public), &token),
            Err(Rejection::AlgorithmInvalid)
        );
    }
}

#[test]
fn a_bad_key_is_left_out_and_a_good_one_beside_it_is_used() {
    let (ec, rsa) = (Pair::ec(), Pair::rsa());
    let other = ec.with("kid", "other");
    let short = URL_SAFE_NO_PAD.encode([0x80; 128]);
    for (what, bad) in [
        (
            "a secret",
            json!({"kty": "oct", "k": "c2VjcmV0", "kid": "bad"}),
        ),
        ("for encryption", ec.with("use", "enc")),
        ("for signing alone", ec.with("key_ops", json!(["sign"]))),
        ("for another algorithm", ec.with("alg", "ES384")),
        ("of another curve", ec.with("crv", "P-384")),
        ("of another kind", ec.with("kty", "XX")),
        ("not on a curve by length", ec.with("x", "AAAA")),
        ("a number for an id", ec.with("kid", 7)),
        ("an empty id", ec.with("kid", "")),
        ("of 1024 bits", rsa.with("n", short)),
        ("with an exponent of 1", rsa.with("e", "AQ")),
        ("with an even exponent", rsa.with("e", "Ag")),
        ("a text", json!("key")),
    ] {
        let mut renamed = bad.clone();
        if renamed["kid"] == "own" {
            renamed["kid"] = json!("bad");
        }
        let keys = [renamed, ec.public.clone()];
        assert_eq!(
            verdict(&keys, &ec.token()),
            Ok(()),
            "{what} beside a good one"
        );
        let refused = verdict(&[bad, other.clone()], &ec.token());
        assert!(refused.is_err(), "{what} alone");
    }
    for good in [
        ec.with("use", "sig"),
        ec.with("key_ops", json!(["verify"])),
        ec.with("alg", "ES256"),
        ec.with("unknown", "member"),
    ] {
        assert_eq!(verdict(&[good], &ec.token()), Ok(()));
    }
}

#[test]
fn a_point_of_small_order_is_no_key() {
    const ORDER_8: [&str; 2] = [
        "JuiVj8KyJ7BFw_SJ8u-Y8NXfrAXTxjM5sTgCiG1T_AU",
        "xxdqcD1N2E-6PAt2DRBnDyogU_osOczGTsf9d5KsA3o",
    ];
    let ed = Pair::ed();
    let is_left_out = |x: &[u8]| {
        let document = json!({ "keys": [ed.with("x", URL_SAFE_NO_PAD.encode(x))] });
        let keys = KeySet::from_jwks(document.to_string().as_bytes()).expect("a set");
        keys.is_empty()
    };
    // The numbers 0 and 1, their like beyond the prime, and the prime less one.
    let mut points = vec![[0; 32], [0; 32], [0xFF; 32], [0xFF; 32], [0xFF; 32]];
    points[1][0] = 1;
    for (point, first) in points[2..].iter_mut().zip([0xEC, 0xED, 0xEE]) {
        (point[0], point[31]) = (first, 0x7F);
    }
    let order_8 = ORDER_8.map(|text| URL_SAFE_NO_PAD.decode(text).expect("base64url"));
    points.extend(order_8.map(|bytes| <[u8; 32]>::try_from(bytes).expect("32 bytes")));
    for mut point in points {
        assert!(is_left_out(&point), "{point:x?}");
        point[31] |= 0x80;
        assert!(is_left_out(&point), "{point:x?}, of the other sign");
        point[0] ^= 0x10;
        assert!(!is_left_out(&point), "another point than {point:x?}");
    }
}

#[test]
fn a_signature_of_nobody_matches_no_key_of_small_order() {
    let neutral = {
        let mut point = [0; 32];
        point[0] = 1;
        point
    };
    let key = Pair::ed().with("x", URL_SAFE_NO_PAD.encode(neutral));
    // Whatever is signed: the neutral point, and nought.
    let signature = URL_SAFE_NO_PAD.encode([neutral, [0; 32]].concat());
    let honest = Pair::ed().token();
    let (signed, _) = honest.rsplit_once('.').expect("three segments");
    let refused = verdict(&[key], &format!("{signed}.{signature}"));
    assert_eq!(refused, Err(Rejection::AlgorithmInvalid));
}

#[test]
fn two_keys_with_one_id_are_neither_used() {
    let (ec, stranger) = (Pair::ec(), Pair::ec());
    let keys = [ec.public.clone(), stranger.public];
    assert_eq!(
        verdict(&keys, &ec.token()),
        Err(Rejection::AlgorithmInvalid)
    );
}

#[test]
fn a_document_that_is_no_set_is_refused_and_its_length_is_bounded() {
    let ec = Pair::ec();
    for bad in [
        "",
        "[]",
        "[[]]",
        "{}",
        r#"{"keys": {}}"#,
        "{\"keys\": []} rubbish",
        "\u{feff}{}",
    ] {
        let refused = KeySet::from_jwks(bad.as_bytes()).err();
        assert_eq!(refused, Some(JwksError::Malformed), "{bad}");
    }
    // Nobody reads that member, and its text is looked at all the same.
    let refused = KeySet::from_jwks(b"{\"keys\": [], \"x\": \"\xC4\"}").err();
    assert_eq!(refused, Some(JwksError::Malformed));
    assert!(KeySet::from_jwks("{\"keys\": [], \"x\": \"\u{c4}\"}".as_bytes()).is_ok());
    let many: Vec<Value> = (0..101).map(|id| ec.with("kid", id.to_string())).collect();
    let of = |keys: &[Value]| KeySet::from_jwks(json!({ "keys": keys }).to_string().as_bytes());
    assert_eq!(of(&many).err(), Some(JwksError::TooMany));
    assert!(of(&many[1..]).is_ok_and(|keys| !keys.is_empty()));
    let long = format!("{{\"keys\": [], \"x\": \"{}\"}}", "a".repeat(256 * 1024));
    assert_eq!(
        KeySet::from_jwks(long.as_bytes()).err(),
        Some(JwksError::TooLarge)
    );
    assert!(of(&[]).is_ok_and(|keys| keys.is_empty()));
}
