//! `exp`, `nbf` and `iat`, with the seconds to either side of each boundary.

use Rejection::{
    ClaimsInvalid, IssuedInFuture, LifetimeTooLong, TokenExpired, TokenMalformed, TokenNotActive,
};
use serde_json::{Value, json};
use shared_claims::{Rejection, claims::MAXIMUM_LIFETIME_SECS, verify::CLOCK_LEEWAY_SECS};

use crate::forge::{Forge, NOW, assert_accepted, assert_refused, claim_table, verdict_after};

/// Values that are no time. A number with a fraction is one (RFC 7519, section 2).
fn no_times() -> Vec<Value> {
    vec![
        json!(null),
        json!("1800000900"),
        json!(-1),
        json!(-0.5),
        json!(1e308),
        json!(1e16),
        json!({"secs": 1_800_000_900}),
        json!([1_800_000_900]),
        json!(true),
    ]
}

#[test]
fn a_token_ends_at_the_second_of_exp() {
    claim_table(
        "exp",
        [(json!(NOW), TokenExpired), (json!(0), TokenExpired)],
        [json!(NOW + 1)],
    );
    let earlier = Forge::valid().claim("iat", NOW - 10);
    let token = earlier.clone().claim("exp", NOW - 1).token();
    assert_refused("exp = now - 1", &token, TokenExpired);
    let token = earlier.claim("exp", NOW + 900).token();
    assert!(verdict_after(&token, 899).is_ok());
    assert_eq!(verdict_after(&token, 900).map(|_| ()), Err(TokenExpired));
    assert_eq!(verdict_after(&token, 901).map(|_| ()), Err(TokenExpired));
}

#[test]
fn exp_is_required_and_a_number() {
    claim_table(
        "exp",
        no_times().into_iter().map(|exp| (exp, ClaimsInvalid)),
        [json!(NOW + 900)],
    );
    let token = Forge::valid().without_claim("exp").token();
    assert_refused("no exp", &token, ClaimsInvalid);
    let forge = Forge::valid();
    for huge in [
        "1e999",
        "18446744073709551616",
        "01800000900",
        "+1800000900",
        "0x6B49D584",
    ] {
        let claims = forge.claims_json().replace(&(NOW + 900).to_string(), huge);
        let token = forge.sign_json(forge.header_json().as_bytes(), claims.as_bytes());
        // A number beyond 64 bits is JSON; the others are not, or not one that can be read.
        let expected = if huge.starts_with("184") {
            ClaimsInvalid
        } else {
            TokenMalformed
        };
        assert_refused(huge, &token, expected);
    }
}

#[test]
fn a_fraction_of_a_second_is_cut_off() {
    let now = 1_800_000_000.0;
    claim_table(
        "exp",
        [(json!(now + 0.9), TokenExpired)],
        [json!(now + 1.0), json!(now + 900.5)],
    );
    let claims = assert_accepted(
        "exp with a fraction",
        &Forge::valid().claim("exp", now + 900.9).token(),
    );
    assert_eq!(claims.exp, NOW + 900);
    claim_table(
        "iat",
        [(json!(now + 31.0), IssuedInFuture)],
        [json!(now + 30.9), json!(now - 0.1)],
    );
    claim_table(
        "nbf",
        [(json!(now + 31.0), TokenNotActive)],
        [json!(now + 30.9), json!(0.5)],
    );
}

#[test]
fn a_token_lives_for_a_day_at_most() {
    let attacks = [
        NOW + MAXIMUM_LIFETIME_SECS + 1,
        NOW + MAXIMUM_LIFETIME_SECS + CLOCK_LEEWAY_SECS,
        NOW + MAXIMUM_LIFETIME_SECS + CLOCK_LEEWAY_SECS + 1,
        NOW + 10 * 365 * 24 * 60 * 60,
        u64::MAX - CLOCK_LEEWAY_SECS,
        u64::MAX,
    ];
    claim_table(
        "exp",
        attacks.map(|exp| (json!(exp), LifetimeTooLong)),
        [json!(NOW + MAXIMUM_LIFETIME_SECS)],
    );
    // The lifetime counts from `iat`, also when most of it is over.
    let old = |iat: u64| {
        Forge::valid()
            .claim("iat", iat)
            .claim("exp", NOW + 1)
            .token()
    };
    assert_accepted("a day old", &old(NOW + 1 - MAXIMUM_LIFETIME_SECS));
    assert_refused("older", &old(NOW - MAXIMUM_LIFETIME_SECS), LifetimeTooLong);
    // An `iat` as far ahead as the leeway goes does not buy more than a day after it.
    let ahead = NOW + CLOCK_LEEWAY_SECS;
    let fast = |exp: u64| Forge::valid().claim("iat", ahead).claim("exp", exp).token();
    assert_accepted("fast clock", &fast(ahead + MAXIMUM_LIFETIME_SECS));
    assert_refused(
        "beyond",
        &fast(ahead + MAXIMUM_LIFETIME_SECS + 1),
        LifetimeTooLong,
    );
}

#[test]
fn nbf_may_be_ahead_by_the_leeway_and_no_further() {
    assert_eq!(CLOCK_LEEWAY_SECS, 30);
    let future = [NOW + 31, NOW + 3_600, u64::MAX].map(|nbf| (json!(nbf), TokenNotActive));
    let malformed = no_times().into_iter().filter(|nbf| !nbf.is_null());
    let malformed = malformed.map(|nbf| (nbf, ClaimsInvalid));
    claim_table(
        "nbf",
        future.into_iter().chain(malformed),
        [
            json!(NOW + 30),
            json!(NOW),
            json!(NOW - 3_600),
            json!(0),
            json!(null),
        ],
    );
    let token = Forge::valid().claim("nbf", NOW + 31).token();
    assert!(verdict_after(&token, 1).is_ok(), "a second later");
}

#[test]
fn iat_may_be_ahead_by_the_leeway_and_no_further() {
    let future = [NOW + 31, NOW + 3_600, u64::MAX].map(|iat| (json!(iat), IssuedInFuture));
    let malformed = no_times().into_iter().map(|iat| (iat, ClaimsInvalid));
    claim_table(
        "iat",
        future.into_iter().chain(malformed),
        [json!(NOW + 30), json!(NOW), json!(NOW - 3_600)],
    );
    let token = Forge::valid().without_claim("iat").token();
    assert_refused("no iat", &token, ClaimsInvalid);
    let token = Forge::valid().claim("iat", NOW + 31).token();
    assert!(verdict_after(&token, 1).is_ok(), "a second later");
}

#[test]
fn a_token_does_not_end_before_it_begins() {
    let forge = Forge::valid().claim("exp", NOW + 10);
    let token = forge.clone().claim("iat", NOW + 11).token();
    assert_refused("iat after exp", &token, ClaimsInvalid);
    assert_accepted("iat at exp", &forge.claim("iat", NOW + 10).token());
}

#[test]
fn the_end_is_told_as_a_point_in_time() {
    let claims = assert_accepted("valid", &Forge::valid().token());
    let end = claims
        .expires_at()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("after the epoch");
    assert_eq!(end.as_secs(), NOW + 900);
}

#[test]
fn a_clock_before_the_epoch_accepts_nothing_that_is_signed_today() {
    let keys =
        shared_claims::key_set::KeySet::from_secrets(&crate::forge::secrets()).expect("named keys");
    let verifier = shared_claims::Verifier::new(crate::forge::ISSUER, "latchkey-realtime", keys);
    let before = std::time::UNIX_EPOCH - std::time::Duration::from_secs(1);
    let verdict = verifier.verify(&Forge::valid().token(), before);
    assert_eq!(verdict.map(|_| ()), Err(LifetimeTooLong));
}
