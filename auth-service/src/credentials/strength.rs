//! Bound of the effort of judging a password.
//!
//! zxcvbn looks every part of a password up in its dictionaries, once for each reading of characters that
//! stand for letters, such as `4` for `a`. The parts grow with the square of the length, and the readings
//! multiply: without a bound a judgement costs as much as ten logins.

use zeroize::Zeroizing;

/// Maximum number of characters that are judged.
const MAXIMUM_CHARACTERS: usize = 64;

/// Maximum number of parts times readings; so many take less time than a login.
const MAXIMUM_LOOKUPS: usize = 20_000;

/// The characters that stand for one letter, of the letters with more than one. A letter has a reading for
/// each of these in the password.
const SUBSTITUTES: [&str; 7] = ["4@", "({[<", "69", "1!|", "1|7", "$5", "+7"];

/// Returns the longest start of a password whose judgement is no more work than a login. A start takes no
/// more guesses than the whole.
pub(super) fn judged_part(password: &str) -> Zeroizing<String> {
    let mut judged = Zeroizing::new(String::with_capacity(password.len()));
    for (length, character) in (1..=MAXIMUM_CHARACTERS).zip(password.chars()) {
        judged.push(character);
        if readings(&judged) * (length * (length + 1) / 2) > MAXIMUM_LOOKUPS {
            judged.pop();
            break;
        }
    }
    judged
}

/// Returns the start of a word that is known of the owner, as long as a password that is judged.
pub(super) fn judged_word(word: &str) -> &str {
    let end = word.char_indices().nth(MAXIMUM_CHARACTERS);
    end.map_or(word, |(end, _)| word.split_at(end).0)
}

/// Returns the number of readings of a text.
fn readings(text: &str) -> usize {
    let present = |substitutes: &&str| {
        let count = substitutes.chars().filter(|one| text.contains(*one));
        count.count().max(1)
    };
    SUBSTITUTES.iter().map(present).product()
}

#[cfg(test)]
mod tests {
    use zxcvbn::{Score, zxcvbn};

    use super::*;

    #[test]
    fn a_password_of_many_readings_is_judged_by_a_shorter_start() {
        let costly = "4@8({<[36!1|0$57+%2".repeat(6);
        for (password, expected) in [
            (costly.as_str(), 16),
            ("4@8({<[36!1|0", 13),
            (&"p4ssw0rd".repeat(20), 64),
            (&"correct horse ".repeat(20), 64),
            (&"\u{e9}".repeat(200), 64),
            ("open sesame", 11),
            ("", 0),
        ] {
            let judged = judged_part(password);
            assert!(password.starts_with(judged.as_str()));
            assert_eq!(judged.chars().count(), expected, "{password}");
            let lookups = readings(&judged) * (expected * (expected + 1) / 2);
            assert!(lookups <= MAXIMUM_LOOKUPS, "{password}: {lookups}");
        }
        // Short, and still hard to guess.
        assert_eq!(zxcvbn(&judged_part(&costly), &[]).score(), Score::Four);
    }

    #[test]
    fn a_long_word_of_the_owner_is_cut_between_two_characters() {
        assert_eq!(judged_word("alice"), "alice");
        let long = "\u{e9}".repeat(65);
        assert_eq!(judged_word(&long), "\u{e9}".repeat(64));
    }
}
