use super::*;
use crate::credentials::{
    hash::{Cost, new_memory},
    schemes::{self, decoy_of, verify_password},
};

/// The example that Firebase publishes with its implementation: parameters, salt, hash, password.
const KEY: &str =
    "jxspr8Ki0RYycVU8zykbdLGjFQ3McFUH0uiiTvC8pVMXAn210wjLNmdZJzxUECKbm0QsEmYUSDzZvpjeJ9WmXA==";
const SALT: &str = "42xEC+ixf3L2lw==";
const HASH: &str =
    "lSrfV15cpx95/sZS2W9c9Kp6i/LVgQNDNC/qzrCnh1SAyZvqmZqAjTdn3aoItz+VHjoZilo78198JAdRuid5lQ==";

fn password(text: &str) -> Password {
    Password::parse(text.to_owned()).expect("a password")
}

fn parameters(rounds: u32, log_n: u8) -> Result<FirebaseParameters, HashError> {
    FirebaseParameters::parse(KEY, "Bw==", rounds, log_n)
}

fn refusal(text: &str) -> Option<HashError> {
    schemes::import(text, &Cost::DEFAULT).err()
}

#[test]
fn the_example_of_firebase_is_verified() {
    let foreign = ForeignHash::firebase(&parameters(8, 14).expect("parameters"), SALT, HASH);
    let foreign = foreign.expect("a hash");
    assert_eq!(foreign.verify(&password("user1password")), Ok(true));
    assert_eq!(foreign.verify(&password("user2password")), Ok(false));
    let stored = foreign.stored();
    let again = ForeignHash::parse(stored.as_str()).expect("as it is stored");
    assert_eq!(again.verify(&password("user1password")), Ok(true));
    assert_eq!(again.scheme(), "firebase-scrypt:14,8");
    assert_eq!(again.stored().as_str(), stored.as_str());
}

#[test]
fn a_cost_is_within_the_floor_and_the_ceiling() {
    let bcrypt = |cost: u32| format!("$2b${cost:02}${}", ".".repeat(53));
    let pbkdf2 = |name: &str, count: u32| {
        let (salt, hash) = ("A".repeat(22), "A".repeat(43));
        format!("$pbkdf2-{name}${count}${salt}${hash}")
    };
    let argon2 = |memory: u32, passes: u32, lanes: u32| {
        let (salt, hash) = ("A".repeat(22), "A".repeat(43));
        format!("$argon2id$v=19$m={memory},t={passes},p={lanes}${salt}${hash}")
    };
    let (weak, costly) = (Some(HashError::TooWeak), Some(HashError::TooCostly));
    for (text, expected) in [
        (bcrypt(9), weak),
        (bcrypt(10), None),
        (bcrypt(14), None),
        (bcrypt(15), costly),
        (pbkdf2("sha256", 99_999), weak),
        (pbkdf2("sha256", 100_000), None),
        (pbkdf2("sha256", 2_000_000), None),
        (pbkdf2("sha256", 2_000_001), costly),
        (pbkdf2("sha512", 49_999), weak),
        (pbkdf2("sha512", 50_000), None),
        (pbkdf2("sha512", 1_000_001), costly),
        (argon2(4_095, 16, 1), weak),
        (argon2(4_096, 2, 1), weak),
        (argon2(4_096, 3, 1), None),
        (argon2(131_072, 16, 8), None),
        (argon2(131_073, 1, 1), costly),
    ] {
        assert_eq!(refusal(&text), expected, "{text}");
    }
    for (rounds, log_n, expected) in [
        (8, 13, weak),
        (7, 14, weak),
        (8, 14, None),
        (8, 17, None),
        (8, 18, costly),
        (u32::MAX, 14, costly),
        (8, u8::MAX, costly),
    ] {
        assert_eq!(
            parameters(rounds, log_n).err(),
            expected,
            "{rounds} {log_n}"
        );
    }
}

#[test]
fn a_length_among_the_parameters_of_pbkdf2_is_that_of_the_hash() {
    let hash = |parameters: &str| {
        let (salt, hash) = ("A".repeat(22), "A".repeat(43));
        format!("$pbkdf2-sha256${parameters}${salt}${hash}")
    };
    let (plain, _) = schemes::import(&hash("i=100000"), &Cost::DEFAULT).expect("a hash");
    let (long, scheme) = schemes::import(&hash("i=100000,l=32"), &Cost::DEFAULT).expect("a hash");
    assert_eq!(long.as_str(), plain.as_str());
    assert_eq!(scheme.as_deref(), Some("pbkdf2-sha256:100000"));
    for bad in [
        "i=100000,l=31",
        "i=100000,l=",
        "i=100000,l=32,l=32",
        "l=32,i=100000",
        "i=100000,x=32",
    ] {
        assert_eq!(refusal(&hash(bad)), Some(HashError::Malformed), "{bad}");
    }
}

#[test]
fn what_is_no_hash_is_refused() {
    let good = "$2b$10$hZs.cLLrPDXoINvwvKqZr.BgAqaxlvTkcueZjtSkATCsbJ/sFmO7q";
    assert_eq!(refusal(good), None);
    for bad in [
        "",
        "plain text",
        "5f4dcc3b5aa765d61d8327deb882cf99",
        "$1$abcdefgh$irWbblnpmw.5z7wgBnprh0",
        "$6$rounds=5000$abcdefgh$abcdefgh",
        "$2x$10$hZs.cLLrPDXoINvwvKqZr.BgAqaxlvTkcueZjtSkATCsbJ/sFmO7q",
        "$2b$10$hZs.cLLrPDXoINvwvKqZr.BgAqaxlvTkcueZjtSkATCsbJ/sFmO7",
        "$2b$10$hZs.cLLrPDXoINvwvKqZr.BgAqaxlvTkcueZjtSkATCsbJ/sFmO7q$",
        "$2b$+9$hZs.cLLrPDXoINvwvKqZr.BgAqaxlvTkcueZjtSkATCsbJ/sFmO7q",
        // The last character of the salt has bits of which there is no byte.
        "$2b$10$hZs.cLLrPDXoINvwvKqZrrBgAqaxlvTkcueZjtSkATCsbJ/sFmO7q",
        "$pbkdf2-sha1$100000$AAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "$pbkdf2-sha256$i=-1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "$pbkdf2-sha256$100000$AAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "$pbkdf2-sha256$100000$AAAAAAAAAAAAAAAAAAAAAA$AAAA",
        "$argon2id$v=19$m=65536,t=3,p=4",
        "$firebase-scrypt$ln=14,r=8$$$$",
    ] {
        assert!(refusal(bad).is_some(), "{bad}");
    }
}

#[test]
fn a_decoy_costs_what_its_scheme_costs_and_is_no_password() {
    for scheme in [
        "bcrypt:10",
        "pbkdf2-sha256:100000",
        "pbkdf2-sha512:50000",
        "firebase-scrypt:14,8",
        "argon2i:16384,3,2",
    ] {
        let decoy = decoy_of(scheme).expect("a decoy");
        let (_, found) = schemes::import(decoy.as_str(), &Cost::DEFAULT).expect(scheme);
        assert_eq!(found.as_deref(), Some(scheme));
        let mut memory = new_memory(&Cost::DEFAULT);
        let verified = verify_password(&password("old password"), &decoy, &mut memory);
        assert_eq!(verified, Ok(false), "{scheme}");
        assert_ne!(decoy_of(scheme).expect("another").as_str(), decoy.as_str());
    }
}
