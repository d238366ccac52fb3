//! The logout token: what ends somebody's session.

use shared_claims::{
    UnverifiedToken, VerifiedLogout,
    claims::REALTIME_AUDIENCE,
    revocation::{LOGOUT_EVENT, LOGOUT_LIFETIME_SECS},
    verify::LogoutScope,
};

use crate::{
    mint::{CLIENT_ID, MINT, NOW, OURS, PROVIDER, at, check_each},
    oracle::{claims_of_accepted, identifies, is_absent, is_for, seconds, type_of},
};

/// Verifies a logout token that is the input, or, when that has two lines, one with this header and
/// these claims which an issuer signed.
///
/// # Panics
///
/// When what must hold does not.
pub fn check(input: &[u8]) {
    check_each(input, verify, |verifier, forged| {
        let parsed = UnverifiedToken::parse(forged);
        let verdict = parsed.and_then(|mut parsed| verifier.verify_logout(&mut parsed, at(NOW)));
        verdict.is_err()
    });
}

fn verify(token: &str) {
    for (issuer, verifier) in [(OURS, &MINT.ours), (PROVIDER, &MINT.provider)] {
        let Ok(mut parsed) = UnverifiedToken::parse(token) else {
            return;
        };
        if let Ok(accepted) = verifier.verify_logout(&mut parsed, at(NOW)) {
            check_claims(token, issuer, &accepted);
            let access = verifier.verify(token, at(NOW));
            assert!(access.is_err(), "a logout token lets somebody in");
        }
    }
}

fn check_claims(token: &str, issuer: &str, accepted: &VerifiedLogout) {
    let claims = claims_of_accepted(token, issuer);
    let (types, audience): (&[&str], _) = match issuer {
        OURS => (&["logout+jwt"], REALTIME_AUDIENCE),
        _ => (&["logout+jwt", "jwt", ""], CLIENT_ID),
    };
    assert!(
        types.contains(&type_of(token).as_str()),
        "{}",
        type_of(token)
    );
    assert!(is_for(&claims, audience), "{claims}");
    assert!(claims["events"][LOGOUT_EVENT].is_object(), "{claims}");
    assert!(claims.get("nonce").is_none(), "accepted with a nonce");
    assert!(identifies(&claims["jti"]), "{claims}");
    let iat = seconds(&claims["iat"]);
    assert!(NOW < iat + LOGOUT_LIFETIME_SECS + 30, "accepted when old");
    if let Some(exp) = claims.get("exp").filter(|exp| !exp.is_null()) {
        assert!(seconds(exp) > NOW, "accepted after its end");
    }
    assert_eq!((accepted.iss.as_str(), accepted.iat), (issuer, iat));
    assert!(!accepted.scopes.is_empty(), "accepted about nobody");
    let names_session = !is_absent(&claims["sid"]);
    for scope in &accepted.scopes {
        // A session is the narrower of the two: it must never become all of a subject.
        let (named, claim, is_right) = match scope {
            LogoutScope::Session(session) => (session, &claims["sid"], names_session),
            LogoutScope::Unnamed(subject) => (subject, &claims["sub"], names_session),
            LogoutScope::Subject(subject) => (subject, &claims["sub"], !names_session),
        };
        assert!(is_right, "{claims}");
        assert_eq!(claim, named);
        assert!(identifies(claim), "{claims}");
    }
}
