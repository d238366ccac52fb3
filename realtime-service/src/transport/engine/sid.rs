//! The secret that names an Engine.IO session in requests.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::ids::random_bytes;

const BYTES: usize = 15;

/// The identifier of an Engine.IO session. It is a secret: a client that knows the identifier of a
/// polling session can take that session over. `Debug` prints no part of it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Sid([u8; BYTES]);

impl Sid {
    /// Generates a random identifier.
    pub(super) fn generate() -> Self {
        Self(random_bytes())
    }

    /// Parses the text form; `None` when no session can have this identifier.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; BYTES];
        let length = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok()?;
        (length == BYTES).then_some(Self(bytes))
    }

    /// Returns the text form, for the client alone.
    pub(super) fn to_text(self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }

    /// Returns a part of the random bits, for hash tables.
    pub(super) fn hash_bits(&self) -> usize {
        usize::from(self.0[0]) | usize::from(self.0[1]) << 8
    }
}

impl fmt::Debug for Sid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Sid(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_form_leads_back_to_the_identifier_and_debug_shows_nothing() {
        let sid = Sid::generate();
        let text = sid.to_text();
        assert_eq!(text.len(), 20);
        assert_eq!(Sid::parse(&text), Some(sid));
        assert_eq!(format!("{sid:?}"), "Sid(..)");
        for wrong in [
            "",
            "abc",
            &text[1..],
            &format!("{text}A"),
            "???????????????????=",
        ] {
            assert_eq!(Sid::parse(wrong), None, "{wrong}");
        }
    }
}
