//! Segments, base64url, JSON: what must hold before a token is a token.

use Rejection::{SignatureMissing, TokenMalformed, TokenTooLarge};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD},
};
use shared_claims::{Rejection, verify::MAXIMUM_TOKEN_BYTES};

use crate::forge::{Forge, assert_accepted, assert_refused, verdict_after};

const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// A signed token of exactly `length` bytes.
fn token_of_length(length: usize) -> String {
    let padded = |claim: usize, member: usize| {
        Forge::valid()
            .claim("padding", "x".repeat(claim))
            .header("padding", "x".repeat(member))
            .token()
    };
    // Three bytes become four characters, so two segments are needed to meet every length.
    let guess = (length - padded(0, 0).len()) * 3 / 4;
    (guess.saturating_sub(4)..guess + 4)
        .flat_map(|claim| (0..3).map(move |member| padded(claim, member)))
        .find(|token| token.len() == length)
        .expect("a token of that length")
}

#[test]
fn a_token_of_8_kib_is_read_and_a_longer_one_is_not() {
    assert_eq!(MAXIMUM_TOKEN_BYTES, 8_192);
    assert_accepted("8 KiB", &token_of_length(8_192));
    assert_refused("8 KiB + 1", &token_of_length(8_193), TokenTooLarge);
    for length in [8_193, 65_536, 1 << 20] {
        // Nothing of it is base64, so it was not decoded first.
        assert_refused("no base64", &"!".repeat(length), TokenTooLarge);
        assert_refused("only dots", &".".repeat(length), TokenTooLarge);
    }
    assert_refused("8 KiB of nothing", &"!".repeat(8_192), TokenMalformed);
}

#[test]
fn a_token_has_three_segments() {
    let token = Forge::valid().token();
    let parts: Vec<&str> = token.split('.').collect();
    let [header, claims, signature] = parts[..] else {
        panic!("three segments")
    };
    for attack in [
        header.to_owned(),
        format!("{header}.{claims}"),
        format!("{header}{claims}.{signature}"),
        format!("{token}."),
        format!(".{token}"),
        format!("{token}.{signature}"),
        format!("{token}.{claims}.{signature}"),
        format!("{header}.{claims}.{header}.{claims}.{signature}"),
        format!(".{claims}.{signature}"),
        format!("{header}..{signature}"),
        format!("{header}.{claims}..{signature}"),
        "..".to_owned(),
        ".".to_owned(),
        String::new(),
    ] {
        assert_refused(&attack, &attack, TokenMalformed);
    }
    let unsigned = format!("{header}.{claims}.");
    assert_refused("empty signature", &unsigned, SignatureMissing);
    assert_accepted("three", &token);
}

#[test]
fn segments_are_base64url_without_padding_or_white_space() {
    let forge = Forge::valid().claim("note", "???>>>~~~");
    let (header, claims) = (forge.header_json(), forge.claims_json());
    let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let standard = STANDARD.encode(&claims);
    assert!(
        standard.contains(['+', '/']),
        "something to tell the alphabets apart"
    );
    let padded = |text: &str| {
        // A space at the end makes the length one that needs padding.
        (0..3)
            .map(|spaces| URL_SAFE.encode(format!("{text}{}", " ".repeat(spaces))))
            .find(|encoded| encoded.ends_with('='))
            .expect("a padded text")
    };
    let middle = |with: &str| {
        let claims = encode(&claims);
        format!("{}{with}{}", &claims[..8], &claims[8..])
    };
    for (header, claims) in [
        (padded(&header), encode(&claims)),
        (encode(&header), padded(&claims)),
        (encode(&header), standard.trim_end_matches('=').to_owned()),
        (encode(&header), middle(" ")),
        (encode(&header), middle("\n")),
        (encode(&header), middle("\r\n")),
        (encode(&header), middle("=")),
        (encode(&header), middle("%2B")),
        (encode(&header), middle("é")),
        (encode(&header), middle("\0")),
        (format!(" {}", encode(&header)), encode(&claims)),
        (encode(&header), format!("{}\n", encode(&claims))),
    ] {
        let token = forge.sign_segments(&header, &claims);
        assert_refused(&format!("{header} . {claims}"), &token, TokenMalformed);
    }
    let unpadded = padded(&claims);
    let token = forge.sign_segments(&encode(&header), unpadded.trim_end_matches('='));
    assert_accepted("the same without its padding", &token);
    let token = forge.token();
    for attack in [
        format!("{token}="),
        format!("{token} "),
        format!("{token}\n"),
        format!("{token}\0"),
        format!(" {token}"),
        format!("Bearer {token}"),
        format!("\"{token}\""),
    ] {
        assert_refused(&attack, &attack, TokenMalformed);
    }
    assert_accepted("neither", &token);
}

#[test]
fn unused_bits_at_the_end_of_a_segment_are_zero() {
    let forge = Forge::valid();
    // 32 bytes leave two unused bits in the signature's last character, so four spell the same.
    let token = forge.token();
    let (rest, last) = token.split_at(token.len() - 1);
    let value = ALPHABET.find(last).expect("base64url");
    assert_eq!(value % 4, 0);
    for offset in 1..4 {
        let spelled = format!("{rest}{}", &ALPHABET[value + offset..=value + offset]);
        assert_refused("signature", &spelled, TokenMalformed);
    }
    let claims = (0..3)
        .map(|spaces| format!("{}{}", forge.claims_json(), " ".repeat(spaces)))
        .find(|claims| claims.len() % 3 == 2)
        .expect("a length with two unused bits");
    let header = URL_SAFE_NO_PAD.encode(forge.header_json());
    let claims = URL_SAFE_NO_PAD.encode(claims);
    let (rest, last) = claims.split_at(claims.len() - 1);
    let value = ALPHABET.find(last).expect("base64url");
    let spelled = format!("{rest}{}", &ALPHABET[value + 1..=value + 1]);
    let token = forge.sign_segments(&header, &spelled);
    assert_refused("claims", &token, TokenMalformed);
    assert_accepted("zero", &forge.sign_segments(&header, &claims));
}

#[test]
fn header_and_claims_are_one_json_object_each() {
    let forge = Forge::valid();
    let (header, claims) = (forge.header_json(), forge.claims_json());
    let bytes = |text: &str| text.as_bytes().to_vec();
    let with = |prefix: &[u8], text: &str| [prefix, text.as_bytes()].concat();
    let broken = |text: &str| {
        vec![
            with(b"\xEF\xBB\xBF", text),
            bytes(&format!("{text}x")),
            bytes(&format!("{text}{text}")),
            bytes(&format!("{text}\0")),
            bytes(&format!("[{text}]")),
            bytes(&text[..text.len() - 1]),
            bytes(&text.replacen('{', "{,", 1)),
            bytes(&format!("{},}}", &text[..text.len() - 1])),
            bytes(&text.replacen('"', "'", 2)),
            bytes("null"),
            bytes("\"\""),
            bytes("1"),
            bytes("[]"),
            bytes(""),
            with(b"{\"note\":\"\xFF\",", &text[1..]),
            with(b"{\"note\":\"\xED\xA0\x80\",", &text[1..]),
            with(br#"{"note":"\ud800","#, &text[1..]),
            with(br#"{"note":"\ud800x","#, &text[1..]),
            with(b"{\"note\":\"a\nb\",", &text[1..]),
        ]
    };
    for attack in broken(&header) {
        let token = forge.sign_json(&attack, claims.as_bytes());
        assert_refused(&String::from_utf8_lossy(&attack), &token, TokenMalformed);
    }
    for attack in broken(&claims) {
        let token = forge.sign_json(header.as_bytes(), &attack);
        assert_refused(&String::from_utf8_lossy(&attack), &token, TokenMalformed);
    }
    for twin in [r#"{"note":"\ud83d\udd11","#, "{\"note\":\"\u{1F511}\","] {
        let claims = format!("{twin}{}", &claims[1..]);
        assert_accepted(twin, &forge.sign_json(header.as_bytes(), claims.as_bytes()));
    }
}

#[test]
fn an_empty_object_is_refused_for_what_it_lacks() {
    let forge = Forge::valid();
    let token = forge.sign_json(b"{}", forge.claims_json().as_bytes());
    assert_refused("header", &token, Rejection::AlgorithmInvalid);
    let token = forge.sign_json(forge.header_json().as_bytes(), b"{}");
    assert_refused("claims", &token, Rejection::IssuerInvalid);
}

#[test]
fn a_deeply_nested_claim_costs_a_refusal_and_nothing_else() {
    let forge = Forge::valid();
    let nested = |depth: usize| {
        let note = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let claims = format!("{{\"note\":{note},{}", &forge.claims_json()[1..]);
        forge.sign_json(forge.header_json().as_bytes(), claims.as_bytes())
    };
    assert_refused("2,000 deep", &nested(2_000), TokenMalformed);
    assert_accepted("100 deep", &nested(100));
}

#[test]
fn no_single_character_can_be_changed() {
    let token = Forge::valid().token();
    assert_accepted("unchanged", &token);
    for position in 0..token.len() {
        for other in ALPHABET.chars().chain(['.', '=', '+', '/', ' ']) {
            let mut changed = token.clone();
            changed.replace_range(position..=position, other.encode_utf8(&mut [0; 4]));
            if changed != token {
                let verdict = verdict_after(&changed, 0);
                assert!(verdict.is_err(), "{other:?} at {position} was accepted");
            }
        }
    }
}

#[test]
fn no_single_character_can_be_left_out_or_doubled() {
    let token = Forge::valid().token();
    for position in 0..token.len() {
        let (before, after) = token.split_at(position);
        let without = format!("{before}{}", &after[1..]);
        assert!(verdict_after(&without, 0).is_err(), "without {position}");
        let doubled = format!("{before}{}{after}", &after[..1]);
        assert!(verdict_after(&doubled, 0).is_err(), "doubled {position}");
    }
}
