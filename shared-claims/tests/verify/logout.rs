//! Logout tokens (OpenID Connect Back-Channel Logout 1.0): what ends a session, and what does not.

use std::time::{Duration, UNIX_EPOCH};

use serde_json::json;
use shared_claims::{
    Rejection, TokenRules, UnverifiedToken, VerifiedLogout, Verifier, claims::REALTIME_AUDIENCE,
    key_set::KeySet, revocation::LOGOUT_EVENT, verify::LogoutScope,
};

use crate::forge::{Forge, ISSUER, NOW, secrets};

fn ours() -> TokenRules {
    TokenRules::of_our_issuer(ISSUER, REALTIME_AUDIENCE)
}

fn of_another() -> TokenRules {
    TokenRules {
        is_ours: false,
        logout_audiences: vec!["client-1".to_owned()],
        ..ours()
    }
}

fn verifier(rules: TokenRules) -> Verifier {
    Verifier::with_rules(rules, KeySet::from_secrets(&secrets()).expect("keys"))
}

fn verify(rules: TokenRules, forge: &Forge) -> Result<VerifiedLogout, Rejection> {
    let token = forge.token();
    let mut token = UnverifiedToken::parse(&token)?;
    verifier(rules).verify_logout(&mut token, UNIX_EPOCH + Duration::from_secs(NOW))
}

/// A logout token of our issuer, which would be accepted.
fn logout() -> Forge {
    ["client_id", "scope", "preferred_username", "sub"]
        .into_iter()
        .fold(Forge::valid(), Forge::without_claim)
        .header("typ", "logout+jwt")
        .claim("exp", NOW + 120)
        .claim("events", json!({ (LOGOUT_EVENT): {} }))
}

#[test]
fn a_session_or_a_subject_is_logged_out() {
    let session = verify(ours(), &logout()).expect("accepted");
    assert_eq!(session.scopes, [LogoutScope::Session("s_1".to_owned())]);
    assert_eq!((session.iss.as_str(), session.iat), (ISSUER, NOW));
    let both = verify(ours(), &logout().claim("sub", "u_1")).expect("accepted");
    let [session, unnamed] = [
        LogoutScope::Session("s_1".to_owned()),
        LogoutScope::Unnamed("u_1".to_owned()),
    ];
    assert_eq!(both.scopes, [session, unnamed]);
    let subject = logout().without_claim("sid").claim("sub", "u_1");
    let subject = verify(ours(), &subject).expect("accepted");
    assert_eq!(subject.scopes, [LogoutScope::Subject("u_1".to_owned())]);
}

/// Another issuer may mean something else by the claim.
#[test]
fn our_issuer_alone_says_when_the_last_token_has_expired() {
    let says = logout().claim("tokens_exp", NOW + 900);
    let of_ours = verify(ours(), &says).expect("accepted");
    assert_eq!(of_ours.tokens_exp, Some(NOW + 900));
    let says_nothing = verify(ours(), &logout()).expect("accepted");
    assert_eq!(says_nothing.tokens_exp, None);
    let of_another = verify(of_another(), &says.claim("aud", "client-1")).expect("accepted");
    assert_eq!(of_another.tokens_exp, None);
}

/// Logout tokens of which one claim is missing or wrong.
fn with_invalid_claims() -> [(&'static str, Forge); 10] {
    let other_event = json!({"http://example.com/event": {}});
    [
        ("no events", logout().without_claim("events")),
        (
            "events that is a text",
            logout().claim("events", LOGOUT_EVENT),
        ),
        ("another event", logout().claim("events", other_event)),
        (
            "an event that is a text",
            logout().claim("events", json!({ (LOGOUT_EVENT): "yes" })),
        ),
        ("a nonce", logout().claim("nonce", "n")),
        ("nobody", logout().without_claim("sid")),
        ("an empty session", logout().claim("sid", "")),
        ("no session", logout().claim("sid", json!(null))),
        ("no jti", logout().without_claim("jti")),
        (
            "an end of the tokens that is a text",
            logout().claim("tokens_exp", "soon"),
        ),
    ]
}

#[test]
fn a_token_without_the_claims_of_a_logout_logs_nobody_out() {
    for (what, forge) in with_invalid_claims() {
        let refused = verify(ours(), &forge).err();
        assert_eq!(refused, Some(Rejection::ClaimsInvalid), "{what}");
    }
    assert!(verify(ours(), &logout()).is_ok());
}

#[test]
fn a_logout_token_of_another_kind_issuer_audience_or_time_logs_nobody_out() {
    for (what, forge, rejection) in [
        ("an access token", Forge::valid(), Rejection::TypeInvalid),
        (
            "another audience",
            logout().claim("aud", "latchkey-api"),
            Rejection::AudienceInvalid,
        ),
        (
            "another issuer",
            logout().claim("iss", "https://evil.example"),
            Rejection::IssuerInvalid,
        ),
        (
            "expired",
            logout().claim("iat", NOW - 60).claim("exp", NOW),
            Rejection::TokenExpired,
        ),
        (
            "too long",
            logout().claim("exp", NOW + 121),
            Rejection::LifetimeTooLong,
        ),
        (
            "of the future",
            logout().claim("iat", NOW + 31).claim("exp", NOW + 121),
            Rejection::IssuedInFuture,
        ),
        (
            "crit",
            logout().header("crit", json!(["x"])),
            Rejection::HeaderUnsupported,
        ),
    ] {
        assert_eq!(verify(ours(), &forge).err(), Some(rejection), "{what}");
    }
    assert!(verify(ours(), &logout()).is_ok());
}

#[test]
fn a_logout_token_is_no_access_token() {
    let token = logout().claim("sub", "u_1").claim("client_id", "c").token();
    let refused = verifier(ours()).verify(&token, UNIX_EPOCH + Duration::from_secs(NOW));
    assert_eq!(refused.err(), Some(Rejection::TypeInvalid));
}

#[test]
fn another_provider_writes_its_own_type_and_names_us_by_our_client_id() {
    let theirs = || logout().claim("aud", "client-1");
    assert!(verify(of_another(), &theirs()).is_ok());
    assert_eq!(
        verify(of_another(), &logout()).err(),
        Some(Rejection::AudienceInvalid)
    );
    for forge in [
        theirs().header("typ", "JWT"),
        theirs().without_header("typ"),
        theirs().without_claim("exp"),
        theirs().claim("exp", NOW + 10_000),
    ] {
        assert!(verify(of_another(), &forge).is_ok());
        assert!(verify(ours(), &forge.claim("aud", REALTIME_AUDIENCE)).is_err());
    }
    let access = theirs().header("typ", "at+jwt");
    assert_eq!(
        verify(of_another(), &access).err(),
        Some(Rejection::TypeInvalid)
    );
    // Whatever its exp, it is of the moment.
    let old = theirs().claim("iat", NOW - 151).claim("exp", NOW + 10_000);
    assert_eq!(
        verify(of_another(), &old).err(),
        Some(Rejection::TokenExpired)
    );
}
