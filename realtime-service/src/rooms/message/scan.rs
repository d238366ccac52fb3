//! One pass over the JSON of a message: whether every client can read it, and where its binary data
//! belongs.

use std::ops::Range;

/// How deep arrays and objects may nest: what every client's parser can take.
const MAXIMUM_DEPTH: usize = 100;

/// The member by which Socket.IO's parsers know the place of binary data.
const PLACEHOLDER: &str = "_placeholder";

/// The longest number that is finite whatever its digits are.
const FINITE_DIGITS: usize = 300;

/// The place of an attachment in a JSON text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Placeholder {
    /// The object that stands for the attachment.
    pub(super) object: Range<usize>,
    /// The digits of the attachment's number.
    pub(super) digits: Range<usize>,
    /// The attachment's number.
    pub(super) number: usize,
}

/// Some client could not read the JSON.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unportable;

/// Returns the places of binary data in `json`, a JSON text that was parsed before.
///
/// # Errors
///
/// When the text nests too deeply, when a text in it is no Unicode or a number is not finite in 64
/// bits, or when an object names `_placeholder` and is no placeholder: clients would look for what
/// is not there, and give up the whole connection.
pub(super) fn placeholders_in(json: &str) -> Result<Vec<Placeholder>, Unportable> {
    let mut scan = Scan {
        json,
        at: 0,
        open: Vec::new(),
        found: Vec::new(),
    };
    scan.run()?;
    Ok(scan.found)
}

struct Scan<'a> {
    json: &'a str,
    at: usize,
    open: Vec<Open>,
    found: Vec<Placeholder>,
}

/// An array or object that is not closed yet.
#[derive(Default)]
struct Open {
    start: usize,
    is_object: bool,
    /// Whether the next text is a member's name.
    expects_name: bool,
    members: usize,
    /// The member whose value comes next, if it matters.
    member: Option<Member>,
    /// Whether a member is named `_placeholder`, and whether that is `true`.
    names_placeholder: bool,
    is_placeholder: bool,
    digits: Option<Range<usize>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Member {
    Placeholder,
    Number,
}

impl Scan<'_> {
    fn run(&mut self) -> Result<(), Unportable> {
        let bytes = self.json.as_bytes();
        while let Some(&byte) = bytes.get(self.at) {
            match byte {
                b'{' | b'[' => self.open(byte == b'{')?,
                b'}' | b']' => self.close()?,
                b'"' => self.text()?,
                b',' => {
                    if let Some(open) = self.open.last_mut() {
                        open.expects_name = open.is_object;
                        open.member = None;
                    }
                    self.at += 1;
                }
                b'-' | b'0'..=b'9' => self.number()?,
                b't' => self.truth(),
                // A colon, white space, or a letter of another word.
                _ => self.at += 1,
            }
        }
        Ok(())
    }

    fn open(&mut self, is_object: bool) -> Result<(), Unportable> {
        if self.open.len() >= MAXIMUM_DEPTH {
            return Err(Unportable);
        }
        self.open.push(Open {
            start: self.at,
            is_object,
            expects_name: is_object,
            ..Open::default()
        });
        self.at += 1;
        Ok(())
    }

    fn close(&mut self) -> Result<(), Unportable> {
        self.at += 1;
        let Some(open) = self.open.pop() else {
            return Err(Unportable);
        };
        if !open.names_placeholder {
            return Ok(());
        }
        let is_whole = open.is_placeholder && open.members == 2;
        let digits = open.digits.filter(|_| is_whole);
        let digits = digits.ok_or(Unportable)?;
        let number = self.json[digits.clone()].parse().map_err(|_| Unportable)?;
        self.found.push(Placeholder {
            object: open.start..self.at,
            digits,
            number,
        });
        Ok(())
    }

    fn text(&mut self) -> Result<(), Unportable> {
        let start = self.at;
        let has_escapes = self.skip_text()?;
        let Some(open) = self.open.last_mut().filter(|open| open.expects_name) else {
            return Ok(());
        };
        let text = &self.json[start..self.at];
        open.expects_name = false;
        open.members += 1;
        let is = |name: &str| match has_escapes {
            false => &text[1..text.len() - 1] == name,
            true => serde_json::from_str::<String>(text).is_ok_and(|text| text == name),
        };
        if is(PLACEHOLDER) {
            open.names_placeholder = true;
            open.member = Some(Member::Placeholder);
        } else if is("num") {
            open.member = Some(Member::Number);
        }
        Ok(())
    }

    /// Moves behind a text, and returns whether it has escapes.
    fn skip_text(&mut self) -> Result<bool, Unportable> {
        let bytes = self.json.as_bytes();
        let mut has_escapes = false;
        self.at += 1;
        loop {
            match bytes.get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(has_escapes);
                }
                Some(b'\\') => {
                    has_escapes = true;
                    self.escape()?;
                }
                Some(_) => self.at += 1,
                None => return Err(Unportable),
            }
        }
    }

    /// Moves behind an escape; a half of a surrogate pair is refused (RFC 8259, section 8.2).
    fn escape(&mut self) -> Result<(), Unportable> {
        let unit = |at: usize| -> Option<u16> {
            let digits = self.json.get(at..at + 6)?.strip_prefix("\\u")?;
            u16::from_str_radix(digits, 16).ok()
        };
        let Some(first) = unit(self.at) else {
            self.at += 2;
            return Ok(());
        };
        match first {
            0xD800..0xDC00 => match unit(self.at + 6) {
                Some(0xDC00..0xE000) => self.at += 12,
                _ => return Err(Unportable),
            },
            0xDC00..0xE000 => return Err(Unportable),
            _ => self.at += 6,
        }
        Ok(())
    }

    fn number(&mut self) -> Result<(), Unportable> {
        let rest = &self.json[self.at..];
        let is_part = |byte: &u8| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
        let length = rest.bytes().take_while(is_part).count();
        let text = &rest[..length];
        let may_overflow = length > FINITE_DIGITS || text.contains(['e', 'E']);
        if may_overflow && !text.parse::<f64>().is_ok_and(f64::is_finite) {
            return Err(Unportable);
        }
        if let Some(open) = self.open.last_mut()
            && open.member == Some(Member::Number)
        {
            open.digits = Some(self.at..self.at + length);
        }
        self.at += length;
        Ok(())
    }

    fn truth(&mut self) {
        if let Some(open) = self.open.last_mut()
            && open.member == Some(Member::Placeholder)
        {
            open.is_placeholder = true;
        }
        self.at += "true".len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_some_parser_would_refuse_is_not_portable() {
        let deep = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        for json in [
            "null",
            "-1.5e300",
            "18446744073709551615",
            r#""a\u00e4\ud83d\ude00\\u\"""#,
            r#"[true,{"placeholder":true,"a":{"num":0}},"_placeholder"]"#,
            &"9".repeat(300),
            &deep(100),
            &format!("\"{}\"", "[".repeat(1000)),
            &format!("[{}1]", "[],".repeat(1000)),
        ] {
            assert_eq!(placeholders_in(json), Ok(Vec::new()), "{json}");
        }
        for json in [
            r#"{"_placeholder":false,"num":0}"#,
            r#"[{"a":{"_placeholder":false}}]"#,
            r#"{"_placeholder":"true","num":0}"#,
            r#"{"_placeholder":1,"num":0}"#,
            r#"{"_placeholder":true,"num":"0"}"#,
            r#"{"_placeholder":true,"num":-1}"#,
            r#"{"_placeholder":true,"num":1e30}"#,
            r#"{"_placeholder":true,"num":0,"a":1}"#,
            r#"{"_placeholder":true,"num":0,"num":1}"#,
            r#"{"_placeholder":true,"_placeholder":true,"num":0}"#,
            r#"{"_placeholder":true}"#,
            r#"{"\u005fplaceholder":null}"#,
            r#"["\ud800"]"#,
            r#"{"\udc00":1}"#,
            r#"["\ud800\u0061"]"#,
            "1e999",
            &"9".repeat(400),
            &deep(101),
        ] {
            assert_eq!(placeholders_in(json), Err(Unportable), "{json}");
        }
    }

    #[test]
    fn the_places_of_binary_data_are_found() {
        let json =
            r#"[ {"num" : 12, "\u005fplaceholder":true}, {"a":{"_placeholder":true,"num":0}}]"#;
        let found = placeholders_in(json).expect("portable");
        let texts = found.iter().map(|one| {
            (
                &json[one.object.clone()],
                &json[one.digits.clone()],
                one.number,
            )
        });
        assert_eq!(
            texts.collect::<Vec<_>>(),
            [
                (r#"{"num" : 12, "\u005fplaceholder":true}"#, "12", 12),
                (r#"{"_placeholder":true,"num":0}"#, "0", 0),
            ]
        );
    }
}
