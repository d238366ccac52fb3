//! Identifiers: what may be one, and how random bytes become one.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

/// The longest `sub`, `jti`, `sid` or `client_id` that is accepted, in bytes: OpenID Connect's
/// bound for a subject (Core 1.0, section 2).
pub const MAXIMUM_IDENTIFIER_BYTES: usize = 255;

/// The identifier that 128 random bits stand for: 22 characters that need no escaping in a URL.
#[must_use]
pub fn from_random(bytes: [u8; 16]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The token that 256 random bits stand for: 43 characters that need no escaping in a URL.
#[must_use]
pub fn token_from(bytes: &[u8; 32]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Whether `text` may identify somebody or something: not empty, not too long, and without the
/// characters that make a log line or a screen say something else than what is compared.
#[must_use]
pub fn is_identifier(text: &str) -> bool {
    let is_plain = |byte| (b' '..=b'~').contains(&byte);
    (1..=MAXIMUM_IDENTIFIER_BYTES).contains(&text.len())
        && (text.bytes().all(is_plain) || !text.chars().any(is_deceptive))
}

/// Whether `text` can be shown as a name: some of it can be seen, and nothing in it reorders or hides
/// text. Joiners, without which some scripts cannot be written, may stand in a name.
pub(crate) fn is_name(text: &str) -> bool {
    let is_joiner = |character| matches!(character, '\u{200C}' | '\u{200D}');
    let is_fine = |character| is_joiner(character) || !is_deceptive(character);
    let is_visible = |character: char| !is_joiner(character) && !character.is_whitespace();
    text.chars().all(is_fine) && text.chars().any(is_visible)
}

/// Control characters, and those that reorder or hide text (Unicode Technical Report 36).
fn is_deceptive(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{061C}' | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}'
            | '\u{2060}'..='\u{2069}' | '\u{FEFF}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identifier_has_1_to_255_visible_bytes() {
        assert!(is_identifier("alice"));
        assert!(is_identifier("auth0|5f7c8ec7c33c6c004bbafe82"));
        assert!(is_identifier(&"a".repeat(255)));
        assert!(!is_identifier(&"a".repeat(256)));
        assert!(!is_identifier(""));
        assert!(is_identifier("åsa"));
        for bad in [
            "a\0",
            "a\nb",
            "a\u{7F}",
            "a\u{202E}b",
            "\u{FEFF}a",
            "a\u{200B}",
        ] {
            assert!(!is_identifier(bad), "{bad:?}");
        }
    }

    #[test]
    fn random_bytes_become_22_url_safe_characters() {
        assert_eq!(from_random([0xFF; 16]), "_____________________w");
    }
}
