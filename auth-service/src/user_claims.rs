//! Roles and custom claims of an account: what they may be, and how they stand in a token.
//!
//! A claim that the issuer itself decides on, or that decides how a token is verified, is never one of
//! these: [`RESERVED_CLAIMS`] is checked when claims are written, and again when a token is signed.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use shared_claims::ids::is_identifier;

use crate::config::{RESERVED_CLAIMS, TokenSettings};

/// The most roles of one account.
const MAXIMUM_ROLES: usize = 32;

/// The longest role, in bytes.
const MAXIMUM_ROLE_BYTES: usize = 64;

/// The most custom claims of one account.
const MAXIMUM_CLAIMS: usize = 32;

/// The longest name of a custom claim, in bytes.
const MAXIMUM_NAME_BYTES: usize = 128;

/// The deepest nesting of arrays and objects in a custom claim.
const MAXIMUM_DEPTH: usize = 8;

/// The most bytes that roles and custom claims have together, as JSON.
pub const MAXIMUM_CLAIMS_BYTES: usize = 1024;

/// The roles and the custom claims of an account.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(try_from = "Option<String>")]
pub struct UserClaims {
    /// The roles, in the order in which they were given.
    pub roles: Vec<String>,
    /// Custom claims by name, without the prefix of the settings.
    pub custom: Map<String, Value>,
}

/// The text of the column `claims`.
#[derive(Serialize, Deserialize)]
struct Stored {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    roles: Vec<String>,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    claims: Map<String, Value>,
}

/// Reason that roles or custom claims cannot be given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClaimsError {
    /// A role cannot be one.
    #[error(
        "a role has 1 to {MAXIMUM_ROLE_BYTES} bytes and no control characters; an account has at most {MAXIMUM_ROLES}, each once"
    )]
    Roles,
    /// The name of a claim cannot be one.
    #[error(
        "the name of a claim has 1 to {MAXIMUM_NAME_BYTES} visible ASCII characters; an account has at most {MAXIMUM_CLAIMS}"
    )]
    Name,
    /// The issuer decides on this claim.
    #[error("the claim {0} is reserved")]
    Reserved(String),
    /// A value cannot be one.
    #[error("the claim {0} is null or nested deeper than {MAXIMUM_DEPTH}")]
    Value(String),
    /// A number that JSON readers change.
    #[error(
        "the claim {0} holds a whole number beyond 64 bits, which loses digits; write the number as a text"
    )]
    Number(String),
    /// More than a token has room for.
    #[error(
        "roles and claims have at most {MAXIMUM_CLAIMS_BYTES} bytes as JSON, and at most 3072 together with the patterns of the grants, token.claims_prefix before each name, token.audiences and the patterns of [[grants]]"
    )]
    TooLong,
}

impl UserClaims {
    /// Returns whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.roles.is_empty() && self.custom.is_empty()
    }

    /// Returns the text of the column: JSON, or `None` when there are no claims.
    #[must_use]
    pub fn stored(&self) -> Option<String> {
        if self.is_empty() {
            return None;
        }
        let stored = Stored {
            roles: self.roles.clone(),
            claims: self.custom.clone(),
        };
        // Texts and JSON values are always JSON.
        serde_json::to_string(&stored).ok()
    }

    /// Returns the length as JSON, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.stored().map_or(0, |text| text.len())
    }

    /// Returns an upper bound of the length in a token, in bytes: as JSON, with the names of the settings.
    #[must_use]
    pub fn bytes_in_token(&self, settings: &TokenSettings) -> usize {
        let prefixes = self.custom.len() * settings.claims_prefix.len();
        let roles_claim = match self.roles.is_empty() {
            true => 0,
            false => settings.roles_claim.len(),
        };
        self.bytes() + prefixes + roles_claim
    }

    /// Checks claims that are to be written or signed.
    ///
    /// # Errors
    ///
    /// [`ClaimsError`] that says what is wrong.
    pub fn check(&self, settings: &TokenSettings) -> Result<(), ClaimsError> {
        let is_role = |role: &String| is_identifier(role) && role.len() <= MAXIMUM_ROLE_BYTES;
        let mut roles: Vec<&str> = self.roles.iter().map(String::as_str).collect();
        roles.sort_unstable();
        let is_repeated = roles.windows(2).any(|pair| pair[0] == pair[1]);
        if is_repeated || roles.len() > MAXIMUM_ROLES || !self.roles.iter().all(is_role) {
            return Err(ClaimsError::Roles);
        }
        if self.custom.len() > MAXIMUM_CLAIMS {
            return Err(ClaimsError::Name);
        }
        for (name, value) in &self.custom {
            check_claim(name, value, settings)?;
        }
        match self.bytes() {
            0..=MAXIMUM_CLAIMS_BYTES => Ok(()),
            _ => Err(ClaimsError::TooLong),
        }
    }

    /// Returns the claims of a token: the roles under the name of the settings, and each custom claim under
    /// its name with the prefix of the settings. What is reserved is left out.
    #[must_use]
    pub fn in_token(&self, settings: &TokenSettings) -> Map<String, Value> {
        let named = |(name, value): (&String, &Value)| {
            (format!("{}{name}", settings.claims_prefix), value.clone())
        };
        let mut claims: Map<String, Value> = self.custom.iter().map(named).collect();
        claims.retain(|name, _| !is_reserved(name, settings));
        if !self.roles.is_empty() {
            claims.insert(settings.roles_claim.clone(), self.roles.clone().into());
        }
        claims
    }
}

impl TryFrom<Option<String>> for UserClaims {
    type Error = serde_json::Error;

    fn try_from(stored: Option<String>) -> Result<Self, serde_json::Error> {
        let Some(text) = stored else {
            return Ok(Self::default());
        };
        let stored: Stored = serde_json::from_str(&text)?;
        Ok(Self {
            roles: stored.roles,
            custom: stored.claims,
        })
    }
}

fn check_claim(name: &str, value: &Value, settings: &TokenSettings) -> Result<(), ClaimsError> {
    let is_visible = name.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_visible || !(1..=MAXIMUM_NAME_BYTES).contains(&name.len()) {
        return Err(ClaimsError::Name);
    }
    // Also without the prefix: a later change of the settings must not turn it into another claim.
    let in_token = format!("{}{name}", settings.claims_prefix);
    if is_reserved(name, settings) || is_reserved(&in_token, settings) {
        return Err(ClaimsError::Reserved(name.to_owned()));
    }
    if value.is_null() || depth(value) > MAXIMUM_DEPTH {
        return Err(ClaimsError::Value(name.to_owned()));
    }
    if holds_rounded_number(value) {
        return Err(ClaimsError::Number(name.to_owned()));
    }
    Ok(())
}

/// Returns whether a value holds a whole number beyond 64 bits, which is read as the nearest
/// floating-point number.
fn holds_rounded_number(value: &Value) -> bool {
    match value {
        Value::Array(elements) => elements.iter().any(holds_rounded_number),
        Value::Object(members) => members.values().any(holds_rounded_number),
        Value::Number(number) if number.is_f64() => {
            let limit = 2_f64.powi(63);
            number.as_f64().is_some_and(|number| number.abs() >= limit)
        }
        _ => false,
    }
}

fn is_reserved(name: &str, settings: &TokenSettings) -> bool {
    RESERVED_CLAIMS.contains(&name) || name == settings.roles_claim
}

fn depth(value: &Value) -> usize {
    let inner = match value {
        Value::Array(elements) => elements.iter().map(depth).max(),
        Value::Object(members) => members.values().map(depth).max(),
        _ => return 0,
    };
    1 + inner.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn claims(roles: &[&str], custom: Value) -> UserClaims {
        let Value::Object(custom) = custom else {
            panic!("no object");
        };
        UserClaims {
            roles: roles.iter().map(|role| (*role).to_owned()).collect(),
            custom,
        }
    }

    #[test]
    fn a_claim_of_the_issuer_is_refused_under_any_prefix_and_stands_in_no_token() {
        for prefix in ["", "https://app.example/"] {
            let settings = TokenSettings {
                claims_prefix: prefix.to_owned(),
                ..TokenSettings::default()
            };
            for name in RESERVED_CLAIMS {
                let own = claims(&[], json!({ name: "x" }));
                let refused = Err(ClaimsError::Reserved(name.to_owned()));
                assert_eq!(own.check(&settings), refused, "{name}");
            }
            let fine = claims(&[], json!({"org": "acme"}));
            assert_eq!(fine.check(&settings), Ok(()));
            assert_eq!(fine.in_token(&settings)[&format!("{prefix}org")], "acme");
        }
        // Stored before the settings named it.
        let renamed = TokenSettings {
            roles_claim: "org".to_owned(),
            ..TokenSettings::default()
        };
        let both = claims(&["admin"], json!({"org": "acme", "sub": "mallory"}));
        assert!(both.check(&renamed).is_err());
        assert_eq!(
            Value::Object(both.in_token(&renamed)),
            json!({"org": ["admin"]})
        );
        // A name and a prefix that make one.
        let halves = TokenSettings {
            claims_prefix: "su".to_owned(),
            ..TokenSettings::default()
        };
        let own = claims(&[], json!({"b": "mallory"}));
        assert!(own.check(&halves).is_err());
        assert!(own.in_token(&halves).is_empty());
    }

    #[test]
    fn claims_are_bounded_in_number_length_and_depth() {
        let settings = TokenSettings::default();
        let many: Vec<String> = (0..33).map(|number| format!("r{number}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let (long, longest) = ("a".repeat(65), "a".repeat(64));
        let deep = |levels: usize| {
            let text = format!("{}{}", "[".repeat(levels), "]".repeat(levels));
            json!({"a": serde_json::from_str::<Value>(&text).expect("JSON")})
        };
        let filled = |bytes: usize| claims(&[], json!({"a": "x".repeat(bytes)}));
        // {"claims":{"a":"…"}}
        let most = MAXIMUM_CLAIMS_BYTES - 19;
        assert_eq!(filled(most).bytes(), MAXIMUM_CLAIMS_BYTES);
        for (fine, refused, error) in [
            (
                claims(&many[..32], json!({})),
                claims(&many, json!({})),
                ClaimsError::Roles,
            ),
            (
                claims(&[&longest], json!({})),
                claims(&[&long], json!({})),
                ClaimsError::Roles,
            ),
            (
                claims(&["a", "b"], json!({})),
                claims(&["a", "a"], json!({})),
                ClaimsError::Roles,
            ),
            (
                claims(&["a b"], json!({})),
                claims(&["a\nb"], json!({})),
                ClaimsError::Roles,
            ),
            (
                claims(&[], json!({"a:b": 1})),
                claims(&[], json!({"a b": 1})),
                ClaimsError::Name,
            ),
            (
                claims(&[], json!({"a": false})),
                claims(&[], json!({"a": null})),
                ClaimsError::Value("a".to_owned()),
            ),
            (
                claims(&[], deep(MAXIMUM_DEPTH)),
                claims(&[], deep(MAXIMUM_DEPTH + 1)),
                ClaimsError::Value("a".to_owned()),
            ),
            (filled(most), filled(most + 1), ClaimsError::TooLong),
        ] {
            assert_eq!(fine.check(&settings), Ok(()));
            assert_eq!(refused.check(&settings), Err(error));
        }
    }

    #[test]
    fn a_whole_number_beyond_64_bits_is_refused_and_not_rounded() {
        let settings = TokenSettings::default();
        let check = |text: &str| {
            let value: Value = serde_json::from_str(text).expect("JSON");
            claims(&[], json!({ "a": value })).check(&settings)
        };
        for (fine, refused) in [
            ("18446744073709551615", "18446744073709551616"),
            ("-9223372036854775808", "-9223372036854775809"),
            ("1e15", "1e20"),
            ("0.1", "[0.1, 123456789012345678901]"),
            (
                "{\"b\": [\"123456789012345678901\"]}",
                "{\"b\": [123456789012345678901]}",
            ),
        ] {
            assert_eq!(check(fine), Ok(()), "{fine}");
            let error = Err(ClaimsError::Number("a".to_owned()));
            assert_eq!(check(refused), error, "{refused}");
        }
    }

    #[test]
    fn claims_are_read_back_as_they_were_stored() {
        for own in [
            UserClaims::default(),
            claims(&["admin"], json!({})),
            claims(&["b", "a"], json!({"org": {"id": 7}, "z": [1, "x", true]})),
        ] {
            assert_eq!(UserClaims::try_from(own.stored()).ok(), Some(own));
        }
        assert_eq!(UserClaims::default().stored(), None);
        assert!(UserClaims::try_from(Some("{".to_owned())).is_err());
    }
}
