//! Engine.IO 4 and Socket.IO 5 packets as text, and the templates of the events that are sent.

use anyhow::{Context, ensure};

/// The Engine.IO ping that a server sends.
pub(crate) const PING: &[u8] = b"2";
/// The answer to an Engine.IO ping.
pub(crate) const PONG: &[u8] = b"3";

/// Digits of a time stamp in an event's data.
const STAMP_DIGITS: usize = 16;

/// An event whose text is prepared once and completed for each message.
///
/// `{data}` in its arguments is a JSON string that starts with a time stamp.
pub(crate) struct Event {
    /// Text between the packet's acknowledgement id and its end, cut at each `{data}`.
    parts: Vec<Vec<u8>>,
    prefix: Vec<u8>,
    payload_bytes: usize,
}

impl Event {
    /// Prepares the event `name` with `args`, the JSON after the name without brackets.
    ///
    /// # Errors
    ///
    /// Returns an error if the completed arguments are not JSON.
    pub(crate) fn new(
        namespace: &str,
        name: &str,
        args: &str,
        payload_bytes: usize,
    ) -> anyhow::Result<Self> {
        let separator = if args.is_empty() { "" } else { "," };
        let text = format!("[{}{separator}{args}]", serde_json::to_string(name)?);
        let event = Self {
            parts: text
                .split("{data}")
                .map(|part| part.as_bytes().to_vec())
                .collect(),
            prefix: format!("42{namespace}").into_bytes(),
            payload_bytes,
        };
        let mut sample = Vec::new();
        event.render(&mut sample, None, 0);
        let json: Result<serde_json::Value, _> =
            serde_json::from_slice(&sample[event.prefix.len()..]);
        json.with_context(|| format!("the arguments of {name} are not JSON: {args}"))?;
        Ok(event)
    }

    /// Replaces the contents of `out` by the event's packet, stamped with `now_us`.
    pub(crate) fn render(&self, out: &mut Vec<u8>, ack_id: Option<u64>, now_us: u64) {
        out.clear();
        out.extend_from_slice(&self.prefix);
        if let Some(id) = ack_id {
            push_number(out, id, 0);
        }
        for (index, part) in self.parts.iter().enumerate() {
            if index > 0 {
                out.extend_from_slice(b"\"@");
                push_number(out, now_us, STAMP_DIGITS);
                out.push(b'@');
                out.resize(
                    out.len() + self.payload_bytes.saturating_sub(STAMP_DIGITS + 2),
                    b'x',
                );
                out.push(b'"');
            }
            out.extend_from_slice(part);
        }
    }
}

fn push_number(out: &mut Vec<u8>, mut number: u64, width: usize) {
    let mut digits = [b'0'; 20];
    let mut start = digits.len();
    while number > 0 || start == digits.len() {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
    }
    let start = start.min(digits.len() - width);
    out.extend_from_slice(&digits[start..]);
}

/// Returns the start of each packet that delivers the event `name`.
///
/// # Errors
///
/// Returns an error if the name cannot be written as JSON.
pub(crate) fn delivery_prefix(namespace: &str, name: &str) -> anyhow::Result<Vec<u8>> {
    ensure!(!name.is_empty(), "the name of the received event is empty");
    Ok(format!("42{namespace}[{},", serde_json::to_string(name)?).into_bytes())
}

/// Reads the time stamp of a delivered event, in microseconds since the generator's start.
pub(crate) fn stamp(packet: &[u8]) -> Option<u64> {
    let start = packet.iter().position(|byte| *byte == b'@')? + 1;
    let digits = packet.get(start..start + STAMP_DIGITS)?;
    digits.iter().try_fold(0, |sum: u64, digit| {
        digit
            .is_ascii_digit()
            .then(|| sum * 10 + u64::from(digit - b'0'))
    })
}

/// Returns whether the acknowledgement in `packet` reports a failure by `"ok":false`, which may follow
/// the error.
pub(crate) fn is_failed_ack(packet: &[u8]) -> bool {
    let needle = b"\"ok\":false";
    packet.windows(needle.len()).any(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_completed_with_its_id_and_time_stamp() {
        let event = Event::new("/x,", "m", r#"{"id":{data},"data":{data}}"#, 20).expect("valid");
        let mut packet = Vec::new();
        event.render(&mut packet, Some(10), 42);
        let text = String::from_utf8(packet.clone()).expect("UTF-8");
        let data = "\"@0000000000000042@xx\"";
        assert_eq!(
            text,
            format!("42/x,10[\"m\",{{\"id\":{data},\"data\":{data}}}]")
        );
        assert_eq!(stamp(&packet), Some(42));
    }

    #[test]
    fn an_event_may_have_no_arguments() {
        let mut packet = Vec::new();
        Event::new("", "tick", "", 0)
            .expect("valid")
            .render(&mut packet, Some(0), 1);
        assert_eq!(packet, b"420[\"tick\"]");
        assert!(Event::new("", "m", "{room", 0).is_err());
    }

    #[test]
    fn a_delivery_without_a_stamp_has_none() {
        assert_eq!(stamp(b"42[\"m\",\"@12@\"]"), None);
        assert_eq!(stamp(b"42[\"m\",1]"), None);
    }

    #[test]
    fn a_failed_acknowledgement_is_recognized() {
        let error = r#"{"code":"rate_limited","message":"too many events","retry_after_ms":100,"retryable":true}"#;
        let last = format!(r#"430[{{"error":{error},"ok":false}}]"#);
        assert!(is_failed_ack(last.as_bytes()));
        assert!(is_failed_ack(br#"430[{"ok":false,"error":{}}]"#));
        assert!(!is_failed_ack(br#"430[{"ok":true,"id":"a"}]"#));
    }

    #[test]
    fn deliveries_are_recognized_by_their_start() {
        assert_eq!(delivery_prefix("", "m").expect("valid"), b"42[\"m\",");
        assert!(delivery_prefix("", "").is_err());
    }
}
