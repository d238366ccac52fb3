//! The access token: the whole verifier, with the keys of two issuers.

use shared_claims::{
    Rejection, UnverifiedToken, VerifiedClaims, Verifier, claims::REALTIME_AUDIENCE,
};

use crate::{
    mint::{MINT, NOW, OURS, PROVIDER, at, check_each},
    oracle::{claims_of_accepted, identifies, is_absent, is_for, seconds, type_of},
};

/// Verifies a token that is the input, or, when that has two lines, one with this header and these
/// claims which an issuer signed.
///
/// # Panics
///
/// When what must hold does not.
pub fn check(input: &[u8]) {
    check_each(input, verify, |verifier, forged| {
        verifier.verify(forged, at(NOW)).is_err()
    });
}

fn verify(token: &str) {
    for (issuer, verifier) in [(OURS, &MINT.ours), (PROVIDER, &MINT.provider)] {
        if let Ok(accepted) = verifier.verify(token, at(NOW)) {
            check_claims(token, issuer, &accepted);
            check_end(token, verifier, &accepted);
            let mut parsed = UnverifiedToken::parse(token).expect("a token");
            let logout = verifier.verify_logout(&mut parsed, at(NOW));
            assert!(logout.is_err(), "an access token logs somebody out");
        }
    }
}

fn check_claims(token: &str, issuer: &str, accepted: &VerifiedClaims) {
    let claims = claims_of_accepted(token, issuer);
    let is_ours = issuer == OURS;
    let types: &[&str] = if is_ours {
        &["at+jwt"]
    } else {
        &["at+jwt", "jwt", ""]
    };
    assert!(
        types.contains(&type_of(token).as_str()),
        "{}",
        type_of(token)
    );
    assert!(is_for(&claims, REALTIME_AUDIENCE), "{claims}");
    assert_eq!(accepted.iss, issuer);
    assert_eq!(claims["sub"], accepted.sub);
    assert!(identifies(&claims["sub"]), "{claims}");
    for name in ["jti", "sid", "client_id"] {
        assert!(!is_ours || identifies(&claims[name]), "{name} of {claims}");
    }
    for name in ["nonce", "events", "at_hash", "c_hash"] {
        assert!(claims.get(name).is_none(), "accepted with {name}");
    }
    let exp = seconds(&claims["exp"]);
    assert!(exp > NOW, "accepted after its end");
    assert!(exp <= NOW + 30 + 24 * 60 * 60, "accepted for too long");
    if !is_absent(&claims["nbf"]) {
        assert!(seconds(&claims["nbf"]) <= NOW + 30, "too early");
    }
    assert_eq!(claims.as_object(), Some(accepted.all()));
}

/// A token that is accepted now is so until the second of its end.
fn check_end(token: &str, verifier: &Verifier, accepted: &VerifiedClaims) {
    assert_eq!(accepted.expires_at(), at(accepted.exp));
    let last = verifier.verify(token, at(accepted.exp - 1));
    assert!(last.is_ok(), "refused before its end");
    let ended = verifier.verify(token, at(accepted.exp)).err();
    assert_eq!(ended, Some(Rejection::TokenExpired));
}
