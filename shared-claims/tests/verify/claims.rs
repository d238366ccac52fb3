//! Who signed, for whom, about whom: everything in the claims but the times.

use Rejection::{AudienceInvalid, ClaimsInvalid, IssuerInvalid, TokenMalformed, TypeInvalid};
use serde_json::{Value, json};
use shared_claims::{Rejection, claims::Audience};

use crate::forge::{Forge, ISSUER, NOW, assert_accepted, assert_refused, claim_table};

#[test]
fn the_issuer_is_compared_byte_for_byte() {
    let texts = [
        "",
        "https://issuer.example/",
        "https://Issuer.example",
        "HTTPS://issuer.example",
        "http://issuer.example",
        "https://issuer.example:443",
        "https://issuer.example.",
        "https://issuer.example#",
        "https://issuer.example?",
        "https://issuer.example\0",
        " https://issuer.example",
        "https://xn--issuer-.example",
        "https://іssuer.example",
        "https://evil.example",
        "issuer.example",
    ];
    let values = [
        json!(null),
        json!(1),
        json!([ISSUER]),
        json!([ISSUER, "https://evil.example"]),
        json!({ "iss": ISSUER }),
    ];
    let attacks = texts.into_iter().map(Value::from).chain(values);
    claim_table(
        "iss",
        attacks.map(|iss| (iss, IssuerInvalid)),
        [json!(ISSUER)],
    );
    let token = Forge::valid().without_claim("iss").token();
    assert_refused("no iss", &token, IssuerInvalid);
}

#[test]
fn a_token_is_for_us_or_it_is_refused() {
    let ours = "latchkey-realtime";
    let attacks = [
        json!("latchkey-api"),
        json!(""),
        json!("Latchkey-Realtime"),
        json!("latchkey-realtime "),
        json!("latchkey-realtime latchkey-api"),
        json!("*"),
        json!(null),
        json!({}),
        json!({ ours: true }),
        json!(1),
        json!(true),
        json!([]),
        json!(["latchkey-api", "other"]),
        json!([[ours]]),
        json!([ours, 1]),
        json!([ours, null]),
    ];
    let twins = [json!(ours), json!([ours]), json!(["latchkey-api", ours])];
    claim_table("aud", attacks.map(|aud| (aud, AudienceInvalid)), twins);
    let token = Forge::valid().without_claim("aud").token();
    assert_refused("no aud", &token, AudienceInvalid);
    let token = Forge::valid().claim("aud", json!(["a", ours])).token();
    let aud = assert_accepted("two", &token).aud.clone();
    assert_eq!(aud, Audience::Many(vec!["a".to_owned(), ours.to_owned()]));
}

#[test]
fn every_identifier_is_required_and_can_be_shown() {
    let long = "a".repeat(256);
    let texts = [
        "",
        &long,
        "a\0",
        "\0",
        "a\nb",
        "a\rb",
        "\t",
        "a\u{7F}",
        "a\u{85}b",
        "a\u{202E}b",
        "a\u{2066}b",
        "a\u{200B}",
        "\u{FEFF}a",
        "a\u{2028}b",
    ];
    let values = [
        json!(null),
        json!(1),
        json!(true),
        json!(["a"]),
        json!({"id": "a"}),
    ];
    for name in ["sub", "jti", "sid", "client_id"] {
        let attacks = texts.into_iter().map(Value::from).chain(values.clone());
        let twins = [
            json!("a".repeat(255)),
            json!("auth0|5f7c8ec7c33c6c004bbafe82"),
            json!("Zoë"),
        ];
        claim_table(name, attacks.map(|value| (value, ClaimsInvalid)), twins);
        let token = Forge::valid().without_claim(name).token();
        assert_refused(&format!("no {name}"), &token, ClaimsInvalid);
    }
}

#[test]
fn no_claim_stands_twice_whatever_its_name() {
    let forge = Forge::valid();
    let once = forge.claims_json();
    let later = NOW + 901;
    for double in [
        format!(r#""exp":{later},"#),
        r#""sub":"u_2","#.to_owned(),
        r#""sub":"u_1","#.to_owned(),
        r#""aud":"latchkey-realtime","#.to_owned(),
        format!(r#""iss":"{ISSUER}","#),
        r#""s\u0075b":"u_2","#.to_owned(),
        format!(r#""iat":{NOW},"#),
        r#""jti":"t_2","#.to_owned(),
        r#""sid":"s_2","#.to_owned(),
        r#""scope":"","#.to_owned(),
        // Rules and the application's own handlers read claims of any name.
        r#""team":"red","team":"blue","#.to_owned(),
        r#""team":"red","te\u0061m":"red","#.to_owned(),
        r#""realm_access":{"roles":["guest"],"roles":["admin"]},"#.to_owned(),
        r#""groups":[{"id":1,"id":2}],"#.to_owned(),
    ] {
        let twice = format!("{{{double}{}", &once[1..]);
        let token = forge.sign_json(forge.header_json().as_bytes(), twice.as_bytes());
        assert_refused(&double, &token, TokenMalformed);
    }
    for single in [
        "",
        r#""team":"red","#,
        r#""realm_access":{"roles":["guest"]},"groups":[{"id":1},{"id":1}],"#,
    ] {
        let claims = format!("{{{single}{}", &once[1..]);
        let token = forge.sign_json(forge.header_json().as_bytes(), claims.as_bytes());
        assert_accepted(single, &token);
    }
}

#[test]
fn a_token_of_another_kind_is_no_access_token() {
    let events = json!({"http://schemas.openid.net/event/backchannel-logout": {}});
    let logout = Forge::valid().claim("events", events.clone());
    let honest = logout
        .clone()
        .header("typ", "logout+jwt")
        .without_claim("scope");
    assert_refused("logout token", &honest.token(), TypeInvalid);
    assert_refused("logout token in disguise", &logout.token(), ClaimsInvalid);
    let id = Forge::valid().claim("nonce", "n-0S6_WzA2Mj");
    let honest = id.clone().header("typ", "JWT");
    assert_refused("ID token", &honest.token(), TypeInvalid);
    assert_refused("ID token in disguise", &id.token(), ClaimsInvalid);
    for (name, value) in [
        ("nonce", json!(null)),
        ("nonce", json!("")),
        ("events", json!(null)),
    ] {
        let token = Forge::valid().claim(name, value).token();
        assert_refused(name, &token, ClaimsInvalid);
    }
    // Claims that nobody reads are nobody's business.
    for (name, value) in [
        ("azp", json!("spa")),
        ("nonces", json!("x")),
        ("admin", json!(true)),
    ] {
        assert_accepted(name, &Forge::valid().claim(name, value).token());
    }
}

#[test]
fn what_is_no_token_at_all_is_malformed() {
    // An opaque refresh token, a ticket, a personal access token.
    for text in [
        "",
        "8xLOxBtZp8",
        "lk_rt_5f7c8ec7c33c6c004bbafe82",
        "pat.5f7c8ec7",
    ] {
        assert_refused(text, text, TokenMalformed);
    }
}

#[test]
fn scope_is_a_text_and_no_other_claim_stands_for_it() {
    let attacks = [
        json!(["admin:*"]),
        json!({"admin": true}),
        json!(1),
        json!(true),
    ];
    claim_table(
        "scope",
        attacks.map(|scope| (scope, ClaimsInvalid)),
        [json!("a b"), json!(""), json!("a\tb")],
    );
    let token = Forge::valid().without_claim("scope").token();
    assert_eq!(assert_accepted("no scope", &token).scope, None);
    for name in ["scopes", "scp", "permissions", "roles"] {
        let token = Forge::valid()
            .without_claim("scope")
            .claim(name, json!(["admin:*"]))
            .token();
        assert_eq!(assert_accepted(name, &token).scope, None, "{name}");
    }
}

#[test]
fn the_profile_is_text() {
    for name in [
        "preferred_username",
        "name",
        "given_name",
        "family_name",
        "email",
    ] {
        let attacks = [json!(1), json!(["a"]), json!({"a": "b"}), json!(false)];
        claim_table(
            name,
            attacks.map(|value| (value, ClaimsInvalid)),
            [json!("Alice"), json!("")],
        );
    }
    // A name that shows something else than it is counts as absent.
    for (name, is_shown) in [
        ("Ali\u{200C}ce", true),
        ("\u{202E}ecila", false),
        ("admin\0", false),
        ("\u{200B}", false),
        ("\u{200D}", false),
        (" \u{3000}", false),
    ] {
        let token = Forge::valid().claim("name", name).token();
        let shown = &assert_accepted(name, &token).profile.name;
        assert_eq!(shown.as_deref(), is_shown.then_some(name), "{name:?}");
    }
    let token = Forge::valid().without_claim("preferred_username").token();
    let claims = assert_accepted("no profile", &token);
    assert_eq!(claims.profile, shared_claims::claims::Profile::default());
}
