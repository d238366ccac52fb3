//! Shapes of tokens that an issuer's rules admit, each beside the same token under rules that do not.

use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value, json};
use shared_claims::{
    Rejection, TokenRules, UnverifiedToken, VerifiedClaims, Verifier,
    claims::{Audience, REALTIME_AUDIENCE},
    key_set::KeySet,
    verify::{ClaimNames, IssuerName, RequiredClaim, Step},
};

use crate::forge::{Forge, ISSUER, NOW, secrets};

/// The rules of a provider whose tokens have no type of their own.
fn rules() -> TokenRules {
    TokenRules {
        is_ours: false,
        types: vec!["jwt".to_owned()],
        ..TokenRules::of_our_issuer(ISSUER, REALTIME_AUDIENCE)
    }
}

fn verifier(rules: TokenRules) -> Verifier {
    Verifier::with_rules(rules, KeySet::from_secrets(&secrets()).expect("keys"))
}

fn verify(rules: &TokenRules, forge: &Forge) -> Result<VerifiedClaims, Rejection> {
    let now = UNIX_EPOCH + Duration::from_secs(NOW);
    verifier(rules.clone()).verify(&forge.token(), now)
}

#[track_caller]
fn assert_refused(rules: &TokenRules, forge: &Forge, expected: Rejection) {
    assert_eq!(verify(rules, forge).err(), Some(expected));
}

/// A token that nothing tells from an ID token but its scope.
fn scoped() -> Forge {
    Forge::valid()
        .header("typ", "JWT")
        .without_claim("client_id")
}

/// A token that nothing tells from an ID token.
fn bare() -> Forge {
    scoped().without_claim("scope")
}

fn required(name: &str, values: &[Value]) -> Vec<RequiredClaim> {
    vec![RequiredClaim {
        name: name.to_owned(),
        values: values.to_vec(),
    }]
}

#[test]
fn one_of_several_audiences_is_enough() {
    let several = TokenRules {
        audiences: vec!["api-1".to_owned(), "api-2".to_owned()],
        ..rules()
    };
    for aud in [json!("api-1"), json!("api-2"), json!(["other", "api-2"])] {
        let forge = scoped().claim("aud", aud);
        assert!(verify(&several, &forge).is_ok());
        assert_refused(&rules(), &forge, Rejection::AudienceInvalid);
    }
    for aud in [json!(REALTIME_AUDIENCE), json!([]), json!(["other"])] {
        assert_refused(
            &several,
            &scoped().claim("aud", aud),
            Rejection::AudienceInvalid,
        );
    }
}

#[test]
fn another_claim_names_the_audience_where_the_rules_say_so() {
    let by_client = TokenRules {
        audience_claim: "client_id".to_owned(),
        ..rules()
    };
    let cognito = scoped()
        .without_claim("aud")
        .claim("client_id", REALTIME_AUDIENCE);
    let claims = verify(&by_client, &cognito).expect("accepted");
    assert_eq!(claims.aud, Audience::One(REALTIME_AUDIENCE.to_owned()));
    assert_refused(&rules(), &cognito, Rejection::AudienceInvalid);
    for client in [json!("another"), json!(""), json!(null), json!(7)] {
        let forge = cognito.clone().claim("client_id", client);
        assert_refused(&by_client, &forge, Rejection::AudienceInvalid);
    }
    // An audience that is there all the same counts too.
    let ours = cognito.clone().claim("aud", REALTIME_AUDIENCE);
    assert!(verify(&by_client, &ours).is_ok());
    let of_another = cognito.claim("aud", "another");
    assert_refused(&by_client, &of_another, Rejection::AudienceInvalid);
    // A token without the claim is not saved by its audience.
    assert_refused(&by_client, &scoped(), Rejection::AudienceInvalid);
}

#[test]
fn scopes_are_a_text_or_a_list_of_the_claims_that_the_rules_name() {
    let okta = TokenRules {
        claim_names: ClaimNames {
            scope: vec!["scope".to_owned(), "scp".to_owned()],
            ..ClaimNames::default()
        },
        ..rules()
    };
    let scope_of = |rules: &TokenRules, forge: &Forge| {
        let claims = verify(rules, forge).expect("accepted");
        claims.scope.clone()
    };
    let list = json!(["rooms:read", "rooms:write"]);
    let both = Some("rooms:read rooms:write".to_owned());
    for value in [list.clone(), json!("rooms:read rooms:write")] {
        let forge = bare().claim("scp", value.clone());
        assert_eq!(scope_of(&okta, &forge), both);
        // Without the setting the claim tells the kind of token, and grants nothing.
        assert_eq!(scope_of(&rules(), &forge), None);
        assert_eq!(scope_of(&rules(), &bare().claim("scope", value)), both);
    }
    let first = bare().claim("scp", "other").claim("scope", list.clone());
    assert_eq!(scope_of(&okta, &first), both);
    for nothing in [json!(null), json!(""), json!([])] {
        let forge = bare()
            .claim("scp", list.clone())
            .claim("scope", nothing.clone());
        assert_eq!(scope_of(&okta, &forge), both);
        // No scope is told: an ID token can be like this.
        let forge = bare().claim("scp", nothing);
        assert_refused(&okta, &forge, Rejection::ClaimsInvalid);
    }
    for bad in [json!(["a b"]), json!([7]), json!(7), json!({"a": 1})] {
        let forge = bare().claim("scp", bad);
        assert_refused(&okta, &forge, Rejection::ClaimsInvalid);
    }
    let ours = TokenRules::of_our_issuer(ISSUER, REALTIME_AUDIENCE);
    let listed = Forge::valid().claim("scope", list);
    assert_refused(&ours, &listed, Rejection::ClaimsInvalid);
    assert!(verify(&ours, &Forge::valid()).is_ok());
}

#[test]
fn a_required_claim_tells_an_access_token_from_an_id_token() {
    let supabase = TokenRules {
        required_claims: required("role", &[json!("authenticated"), json!("admin")]),
        ..rules()
    };
    let token = bare().claim("role", "authenticated");
    assert!(verify(&supabase, &token).is_ok());
    assert_refused(&rules(), &token, Rejection::ClaimsInvalid);
    assert!(verify(&supabase, &bare().claim("role", json!(["admin"]))).is_ok());
    for other in [json!("anon"), json!(["anon"]), json!(null), json!(true)] {
        let forge = token.clone().claim("role", other);
        assert_refused(&supabase, &forge, Rejection::ClaimsInvalid);
    }
    // The claim is required of every token, and an ID token stays one.
    assert_refused(&supabase, &scoped(), Rejection::ClaimsInvalid);
    for name in ["nonce", "at_hash", "events"] {
        let forge = token.clone().claim(name, "x");
        assert_refused(&supabase, &forge, Rejection::ClaimsInvalid);
    }
    let authentik = TokenRules {
        required_claims: required("uid", &[json!("*")]),
        ..rules()
    };
    for (uid, is_accepted) in [
        (json!("x"), true),
        (json!(7), true),
        (json!(["x"]), true),
        (json!(""), false),
        (json!(null), false),
        (json!([]), false),
    ] {
        let verdict = verify(&authentik, &bare().claim("uid", uid.clone()));
        assert_eq!(verdict.is_ok(), is_accepted, "{uid}");
    }
    // A claim that ID tokens have tells nothing.
    for name in ["email_verified", "tid", "roles", "groups", "hd"] {
        let pinned = TokenRules {
            required_claims: required(name, &[json!("x")]),
            ..rules()
        };
        let token = bare().claim(name, "x");
        assert_refused(&pinned, &token, Rejection::ClaimsInvalid);
        assert!(
            verify(&pinned, &scoped().claim(name, "x")).is_ok(),
            "{name}"
        );
    }
}

#[test]
fn an_id_token_is_accepted_where_the_rules_say_so_and_for_us_alone() {
    let firebase = TokenRules {
        accepts_id_tokens: true,
        ..rules()
    };
    let id = bare().claim("nonce", "x").claim("at_hash", "x");
    for token in [bare(), id.clone(), id.clone().claim("typ", "ID")] {
        assert!(verify(&firebase, &token).is_ok());
        assert_refused(&rules(), &token, Rejection::ClaimsInvalid);
    }
    for (name, value) in [
        ("azp", json!("another")),
        ("azp", json!(7)),
        ("aud", json!([REALTIME_AUDIENCE, "another"])),
        ("typ", json!("Refresh")),
        ("events", json!({})),
        ("events", json!(null)),
    ] {
        let forge = id.clone().claim(name, value);
        assert_refused(&firebase, &forge, Rejection::ClaimsInvalid);
    }
    assert!(verify(&firebase, &id.claim("azp", REALTIME_AUDIENCE)).is_ok());
}

#[test]
fn a_tenant_is_one_of_the_issuer_and_the_same_in_each_claim() {
    let template = format!("{ISSUER}/{{tenant}}/v2.0");
    let of = |tenants: &[&str]| TokenRules {
        issuer: IssuerName::of_tenants(
            template.clone(),
            tenants.iter().map(|&one| one.to_owned()).collect(),
        ),
        ..rules()
    };
    let token = |tenant: &str| scoped().claim("iss", format!("{ISSUER}/{tenant}/v2.0"));
    for (rules, tenant) in [(of(&["acme", "beta"]), "beta"), (of(&["*"]), "gamma")] {
        let claims = verify(&rules, &token(tenant)).expect("accepted");
        assert_eq!(claims.iss, format!("{ISSUER}/{tenant}/v2.0"));
    }
    assert_refused(&of(&["acme"]), &token("beta"), Rejection::IssuerInvalid);
    assert_refused(&of(&["*"]), &token("a/b"), Rejection::IssuerInvalid);
    assert_refused(&rules(), &token("acme"), Rejection::IssuerInvalid);
    let same = token("acme").claim("tid", "acme");
    assert!(verify(&of(&["*"]), &same).is_ok());
    for tid in [json!("beta"), json!(7)] {
        let forge = token("acme").claim("tid", tid);
        assert_refused(&of(&["*"]), &forge, Rejection::ClaimsInvalid);
    }
}

#[test]
fn the_last_step_that_began_is_the_one_that_failed() {
    let steps_of = |forge: &Forge| {
        let (mut steps, text) = (Vec::new(), forge.token());
        let mut token = UnverifiedToken::parse(&text).expect("a token");
        let now = UNIX_EPOCH + Duration::from_secs(NOW);
        let observe = &mut |step| steps.push(step);
        let verdict = verifier(rules()).verify_observed(&mut token, now, observe);
        (steps, verdict.is_ok())
    };
    let (all, is_accepted) = steps_of(&scoped());
    assert!(is_accepted);
    for (forge, step) in [
        (scoped().header("crit", json!(["x"])), Step::Extensions),
        (scoped().header("alg", "RS256"), Step::Algorithm),
        (scoped().header("typ", "other"), Step::Type),
        (scoped().claim("iss", "other"), Step::Issuer),
        (scoped().header("kid", "other"), Step::Key),
        (scoped().claim("exp", NOW), Step::Expiry),
        (scoped().claim("nbf", NOW + 31), Step::NotBefore),
        (scoped().claim("iat", NOW + 31), Step::IssuedAt),
        (scoped().claim("aud", "other"), Step::Audience),
        (bare(), Step::Kind),
        (scoped().claim("sub", 7), Step::Claim("sub")),
        (scoped().claim("sid", 7), Step::Claim("sid")),
    ] {
        let (steps, is_accepted) = steps_of(&forge);
        assert!(!is_accepted, "{step:?}");
        assert_eq!(steps.last(), Some(&step));
        assert_eq!(steps, all[..steps.len()], "{step:?}");
    }
}
