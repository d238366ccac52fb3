//! The header: algorithms, keys, types, extensions.

use Rejection::{
    AlgorithmInvalid, HeaderUnsupported, KeyUnknown, SignatureInvalid, SignatureMissing,
    TokenMalformed, TokenTooLarge, TypeInvalid,
};
use aws_lc_rs::{
    encoding::{AsDer, PublicKeyX509Der},
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};
use shared_claims::Rejection;

use crate::forge::{
    Forge, OLDER_SECRET, SECRET, assert_accepted, assert_refused, header_table, secrets,
};

fn hmac(secret: impl AsRef<[u8]>) -> EncodingKey {
    EncodingKey::from_secret(secret.as_ref())
}

#[test]
fn a_valid_token_is_accepted_and_says_who() {
    let claims = assert_accepted("valid", &Forge::valid().token());
    assert_eq!(claims.sub, "u_1");
    assert_eq!(claims.profile.preferred_username.as_deref(), Some("alice"));
    assert_eq!(claims.scope.as_deref(), Some("rooms:read"));
}

#[test]
fn a_token_without_a_signature_is_refused_whatever_alg_says() {
    for alg in ["none", "None", "nOnE", "NONE", "HS256", "hs256", ""] {
        let token = Forge::valid().header("alg", alg).token();
        let end = token.rfind('.').expect("three segments") + 1;
        assert_refused(alg, &token[..end], SignatureMissing);
    }
    assert_accepted("with its signature", &Forge::valid().token());
}

#[test]
fn only_the_algorithm_of_the_key_is_taken_and_only_as_it_is_written() {
    let names = [
        "none", "nOnE", "NONE", "hs256", "Hs256", "HS256 ", "", "RS256", "EdDSA",
    ];
    let values = [
        json!(256),
        json!(null),
        json!(["HS256"]),
        json!({"alg": "HS256"}),
    ];
    let attacks = names.into_iter().map(Value::from).chain(values);
    header_table(
        "alg",
        attacks.map(|alg| (alg, AlgorithmInvalid)),
        [json!("HS256")],
    );
    let token = Forge::valid().without_header("alg").token();
    assert_refused("no alg", &token, AlgorithmInvalid);
}

#[test]
fn a_longer_hmac_with_the_same_secret_is_refused() {
    for (name, algorithm) in [("HS384", Algorithm::HS384), ("HS512", Algorithm::HS512)] {
        let honest = Forge::valid()
            .signed_by(algorithm, hmac(SECRET))
            .header("alg", name);
        assert_refused("its own signature", &honest.token(), AlgorithmInvalid);
        let mixed = Forge::valid().header("alg", name);
        assert_refused("over HS256", &mixed.token(), AlgorithmInvalid);
        let reversed = Forge::valid().signed_by(algorithm, hmac(SECRET));
        assert_refused("under HS256", &reversed.token(), SignatureInvalid);
    }
    let token = Forge::valid().signed_by(Algorithm::HS256, hmac(SECRET));
    assert_accepted("HS256", &token.token());
}

#[test]
fn an_asymmetric_token_is_refused_by_an_issuer_with_a_shared_secret() {
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(
        &ECDSA_P256_SHA256_FIXED_SIGNING,
        &aws_lc_rs::rand::SystemRandom::new(),
    )
    .expect("a key pair");
    let key = EncodingKey::from_ec_der(pkcs8.as_ref());
    let signed = Forge::valid().signed_by(Algorithm::ES256, key);
    let honest = signed.clone().header("alg", "ES256");
    assert_refused("ES256", &honest.token(), AlgorithmInvalid);
    assert_refused("ES256 said to be HS256", &signed.token(), SignatureInvalid);
}

#[test]
fn a_public_key_is_no_hmac_secret() {
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(
        &ECDSA_P256_SHA256_FIXED_SIGNING,
        &aws_lc_rs::rand::SystemRandom::new(),
    )
    .expect("a key pair");
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref())
        .expect("the same key pair");
    let point = pair.public_key().as_ref().to_vec();
    let der: PublicKeyX509Der<'_> = pair.public_key().as_der().expect("DER");
    let pem = format!(
        "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
        STANDARD.encode(der.as_ref())
    );
    let jwk = json!({
        "kty": "EC", "crv": "P-256",
        "x": URL_SAFE_NO_PAD.encode(&point[1..33]), "y": URL_SAFE_NO_PAD.encode(&point[33..]),
    });
    for (what, bytes) in [
        ("PEM", pem.into_bytes()),
        ("DER", der.as_ref().to_vec()),
        ("JWK", jwk.to_string().into_bytes()),
        ("point", point),
        ("key id", Forge::valid().header_json().into_bytes()),
    ] {
        let token = Forge::valid().signed_by(Algorithm::HS256, hmac(bytes));
        assert_refused(what, &token.token(), SignatureInvalid);
    }
    let token = Forge::valid().signed_by(Algorithm::HS256, hmac(SECRET));
    assert_accepted("the secret", &token.token());
}

#[test]
fn an_empty_or_foreign_secret_signs_nothing() {
    let foreign = SECRET.to_lowercase();
    for secret in ["", "s", "secret", foreign.as_str(), &SECRET[1..]] {
        let token = Forge::valid().signed_by(Algorithm::HS256, hmac(secret));
        assert_refused(secret, &token.token(), SignatureInvalid);
    }
}

#[test]
fn each_secret_verifies_under_its_own_kid_only() {
    assert_accepted("older", &Forge::of_the_older_secret().token());
    let swapped = Forge::valid().signed_by(Algorithm::HS256, hmac(OLDER_SECRET));
    assert_refused("newer kid, older key", &swapped.token(), SignatureInvalid);
    let swapped = Forge::of_the_older_secret().signed_by(Algorithm::HS256, hmac(SECRET));
    assert_refused("older kid, newer key", &swapped.token(), SignatureInvalid);
}

#[test]
fn a_key_in_the_header_is_never_used() {
    const ATTACKER: &str = "the attacker chose this key himself";
    let jwk = json!({"kty": "oct", "k": URL_SAFE_NO_PAD.encode(ATTACKER), "alg": "HS256"});
    let links = [
        ("jwk", jwk),
        ("jku", json!("http://127.0.0.1:1/jwks.json")),
        ("x5u", json!("http://127.0.0.1:1/chain.pem")),
        ("x5c", json!(["MIIB"])),
    ];
    for (name, value) in links {
        let honest = Forge::valid().header(name, value);
        let forged = honest.clone().signed_by(Algorithm::HS256, hmac(ATTACKER));
        assert_refused(name, &forged.token(), SignatureInvalid);
        let unnamed = forged.without_header("kid");
        assert_refused(name, &unnamed.token(), KeyUnknown);
        // The member is passed over, not obeyed and not held against the token.
        assert_accepted(name, &honest.token());
    }
}

#[test]
fn a_kid_is_compared_and_nothing_else_is_done_with_it() {
    let good = secrets().signing().key_id().expect("a key id");
    let mut attacks: Vec<Value> = [
        "../../dev/null",
        "/proc/self/environ",
        "' OR 1=1--",
        "%00",
        "\0",
        "🔑",
        "",
        "x\r\nx: y",
    ]
    .map(Value::from)
    .to_vec();
    let lower = good.to_lowercase();
    assert_ne!(lower, good, "a key id with a capital letter");
    attacks.extend([
        json!(lower),
        json!(format!("{good} ")),
        json!(format!("{good}\0")),
        json!(&good[..good.len() - 1]),
        json!(null),
        json!(1),
        json!(true),
        json!([good]),
        json!({ "kid": good }),
        json!("k".repeat(5_000)),
    ]);
    header_table(
        "kid",
        attacks.into_iter().map(|kid| (kid, KeyUnknown)),
        [json!(good)],
    );
    header_table("kid", [(json!("k".repeat(10_240)), TokenTooLarge)], []);
    let token = Forge::valid().without_header("kid").token();
    assert_refused("no kid", &token, KeyUnknown);
}

#[test]
fn an_extension_that_is_not_understood_is_refused() {
    let values = [
        json!(["x"]),
        json!(["b64"]),
        json!(["exp"]),
        json!([]),
        json!(null),
        json!("x"),
    ];
    header_table("crit", values.map(|crit| (crit, HeaderUnsupported)), []);
    header_table(
        "b64",
        [json!(false), json!(true), json!(null)].map(|b64| (b64, HeaderUnsupported)),
        [],
    );
    header_table(
        "zip",
        [json!("DEF"), json!(null)].map(|zip| (zip, HeaderUnsupported)),
        [],
    );
    let both = Forge::valid()
        .header("crit", json!(["b64"]))
        .header("b64", false);
    assert_refused("crit and b64", &both.token(), HeaderUnsupported);
    header_table("cty", [], [json!("json")]);
}

#[test]
fn only_the_type_of_an_access_token_is_taken() {
    let names = [
        "JWT",
        "jwt",
        "logout+jwt",
        "secevent+jwt",
        "dpop+jwt",
        "id+jwt",
        "",
        "at",
        "at+jwt ",
        "x-at+jwt",
        "text/at+jwt",
        "application/application/at+jwt",
        "application/jwt",
    ];
    let values = [json!(null), json!(1), json!(["at+jwt"])];
    let attacks = names.into_iter().map(Value::from).chain(values);
    let twins = [
        "at+jwt",
        "AT+JWT",
        "At+Jwt",
        "application/at+jwt",
        "APPLICATION/AT+JWT",
    ];
    header_table(
        "typ",
        attacks.map(|typ| (typ, TypeInvalid)),
        twins.map(Value::from),
    );
    let token = Forge::valid().without_header("typ").token();
    assert_refused("no typ", &token, TypeInvalid);
}

#[test]
fn no_member_of_the_header_stands_twice() {
    let forge = Forge::valid();
    let once = forge.header_json();
    for double in [r#""alg":"HS256","#, r#""kid":"x","#, r#""typ":"at+jwt","#] {
        let twice = format!("{{{double}{}", &once[1..]);
        let token = forge.sign_json(twice.as_bytes(), forge.claims_json().as_bytes());
        assert_refused(double, &token, TokenMalformed);
    }
    let token = forge.sign_json(once.as_bytes(), forge.claims_json().as_bytes());
    assert_accepted("once", &token);
}
