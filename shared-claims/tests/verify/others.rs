//! Tokens of providers that we did not write: what they may leave out, and what they may not.

use std::time::{Duration, UNIX_EPOCH};

use jsonwebtoken::Algorithm;
use serde_json::{Value, json};
use shared_claims::{
    Rejection, TokenRules, UnverifiedToken, VerifiedClaims, Verifier, claims::REALTIME_AUDIENCE,
    key_set::KeySet, verify::ClaimNames,
};

use crate::forge::{Forge, ISSUER, NOW, secrets};

/// The rules of a provider like Auth0. Its keys are our secrets, so that the forge can sign.
fn rules() -> TokenRules {
    TokenRules {
        is_ours: false,
        types: ["at+jwt", "jwt"].map(str::to_owned).to_vec(),
        claim_names: ClaimNames {
            name: "https://app.example/name".to_owned(),
            ..ClaimNames::default()
        },
        ..TokenRules::of_our_issuer(ISSUER, REALTIME_AUDIENCE)
    }
}

fn verify(rules: TokenRules, forge: &Forge) -> Result<VerifiedClaims, Rejection> {
    let keys = KeySet::from_secrets(&secrets()).expect("keys");
    let now = UNIX_EPOCH + Duration::from_secs(NOW);
    Verifier::with_rules(rules, keys).verify(&forge.token(), now)
}

/// What Auth0 writes by default: no `jti`, no `sid`, `azp` in place of `client_id`, and `typ: JWT`.
fn auth0() -> Forge {
    Forge::valid()
        .header("typ", "JWT")
        .without_claim("jti")
        .without_claim("sid")
        .without_claim("client_id")
        .claim("azp", "client-1")
}

#[test]
fn a_provider_may_leave_out_what_our_issuer_may_not() {
    let claims = verify(rules(), &auth0()).expect("accepted");
    assert_eq!(claims.sid, None);
    assert_eq!(claims.client_id.as_deref(), Some("client-1"));
    let ours = TokenRules::of_our_issuer(ISSUER, REALTIME_AUDIENCE);
    assert_eq!(
        verify(ours.clone(), &auth0()).err(),
        Some(Rejection::TypeInvalid)
    );
    for name in ["jti", "sid", "client_id"] {
        let forge = Forge::valid().without_claim(name);
        assert!(verify(rules(), &forge).is_ok(), "{name}");
        let refused = verify(ours.clone(), &forge).err();
        assert_eq!(refused, Some(Rejection::ClaimsInvalid), "{name}");
    }
}

#[test]
fn what_stands_there_all_the_same_must_be_what_it_is() {
    for name in ["jti", "sid", "azp", "https://app.example/name"] {
        for value in [json!("x"), json!(""), json!(null)] {
            let accepted = verify(rules(), &auth0().claim(name, value));
            assert!(accepted.is_ok(), "{name}");
        }
        let refused = verify(rules(), &auth0().claim(name, 7)).err();
        assert_eq!(refused, Some(Rejection::ClaimsInvalid), "{name}");
    }
    for name in ["nonce", "events"] {
        let refused = verify(rules(), &auth0().claim(name, "x")).err();
        assert_eq!(refused, Some(Rejection::ClaimsInvalid), "{name}");
    }
}

#[test]
fn an_id_token_is_none_though_its_audience_and_its_type_are_right() {
    // What a token endpoint adds to an ID token, and what Keycloak writes into each of its tokens.
    for (name, value) in [
        ("at_hash", "x"),
        ("c_hash", "x"),
        ("s_hash", "x"),
        ("typ", "ID"),
        ("typ", "Refresh"),
        ("typ", "Offline"),
        ("typ", "Logout"),
    ] {
        let refused = verify(rules(), &auth0().claim(name, value)).err();
        assert_eq!(refused, Some(Rejection::ClaimsInvalid), "{name}: {value}");
    }
    for typ in ["Bearer", "DPoP"] {
        assert!(verify(rules(), &auth0().claim("typ", typ)).is_ok(), "{typ}");
    }
}

#[test]
fn a_token_that_could_be_an_id_token_is_none() {
    // What Auth0 and others write without a nonce: nothing of it is an ID token's alone. Its audience
    // is the client that it is given to, and ours in these settings.
    let untyped = TokenRules {
        types: ["", "jwt", "at+jwt"].map(str::to_owned).to_vec(),
        ..rules()
    };
    let id = || auth0().without_claim("scope").without_claim("azp");
    let signs = [
        ("scope", "openid"),
        ("scp", "rooms"),
        ("azp", "client-1"),
        ("client_id", "client-1"),
        ("appid", "client-1"),
        ("cid", "client-1"),
        ("typ", "Bearer"),
    ];
    for forge in [id(), id().without_header("typ")] {
        let refused = verify(untyped.clone(), &forge).err();
        assert_eq!(refused, Some(Rejection::ClaimsInvalid));
        // Google names the client twice.
        let refused = verify(
            untyped.clone(),
            &forge.clone().claim("azp", REALTIME_AUDIENCE),
        );
        assert_eq!(refused.err(), Some(Rejection::ClaimsInvalid));
        // An empty claim is an absent one.
        for name in ["scope", "scp", "azp", "client_id", "typ"] {
            for nothing in [json!(""), json!(null)] {
                let refused = verify(untyped.clone(), &forge.clone().claim(name, nothing));
                assert_eq!(refused.err(), Some(Rejection::ClaimsInvalid), "{name}");
            }
        }
        for (name, value) in signs {
            let accepted = verify(untyped.clone(), &forge.clone().claim(name, value));
            assert!(accepted.is_ok(), "{name}: {value}");
        }
    }
    assert!(verify(untyped, &id().header("typ", "at+jwt")).is_ok());
}

#[test]
fn a_verifier_knows_which_tokens_need_a_key_that_it_does_not_have() {
    let keys = KeySet::from_secrets(&secrets()).expect("keys");
    let rules = TokenRules {
        algorithms: vec![Algorithm::HS256, Algorithm::ES256],
        ..rules()
    };
    let verifier = Verifier::with_rules(rules, keys);
    let lacks_key_of = |forge: Forge| {
        let token = forge.token();
        verifier.lacks_key_of(&UnverifiedToken::parse(&token).expect("a token"))
    };
    assert!(lacks_key_of(auth0().header("kid", "new")));
    assert!(lacks_key_of(
        auth0().header("kid", "new").header("alg", "ES256")
    ));
    for forge in [
        auth0(),
        auth0().header("kid", "new").header("alg", "RS256"),
        auth0().header("kid", "new").header("alg", "none"),
        auth0().header("kid", 7),
        auth0().without_header("kid"),
    ] {
        assert!(!lacks_key_of(forge));
    }
}

#[test]
fn claims_are_found_under_the_names_that_the_provider_gives_them() {
    let forge = auth0().claim("https://app.example/name", "Alice Liddell");
    let claims = verify(rules(), &forge).expect("accepted");
    assert_eq!(claims.profile.name.as_deref(), Some("Alice Liddell"));
    assert_eq!(claims.all()["azp"], Value::from("client-1"));
    // A name that is not mapped to is not taken.
    let forge = auth0().claim("name", "Somebody Else");
    let claims = verify(rules(), &forge).expect("accepted");
    assert_eq!(claims.profile.name, None);
}

#[test]
fn an_algorithm_that_is_not_listed_is_refused_though_there_is_a_key_for_it() {
    let listed = verify(rules(), &auth0());
    assert!(listed.is_ok());
    let only_rsa = TokenRules {
        algorithms: vec![Algorithm::RS256],
        ..rules()
    };
    assert_eq!(
        verify(only_rsa, &auth0()).err(),
        Some(Rejection::AlgorithmInvalid)
    );
}

#[test]
fn a_missing_type_is_taken_where_the_rules_say_so() {
    let bare = auth0().without_header("typ");
    assert_eq!(verify(rules(), &bare).err(), Some(Rejection::TypeInvalid));
    let lenient = TokenRules {
        types: vec![String::new()],
        ..rules()
    };
    assert!(verify(lenient.clone(), &bare).is_ok());
    assert_eq!(
        verify(lenient, &auth0()).err(),
        Some(Rejection::TypeInvalid)
    );
}

#[test]
fn a_lifetime_is_bounded_by_the_rules_of_its_issuer() {
    let short = TokenRules {
        maximum_lifetime_secs: 600,
        ..rules()
    };
    assert!(verify(short.clone(), &auth0().claim("exp", NOW + 600)).is_ok());
    let refused = verify(short, &auth0().claim("exp", NOW + 601)).err();
    assert_eq!(refused, Some(Rejection::LifetimeTooLong));
}
