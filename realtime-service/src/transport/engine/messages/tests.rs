//! The cases of RFC 6455 that Autobahn's test suite has for servers: fragments, control frames,
//! UTF-8, close frames and limits.

use super::*;

/// Collects messages as text that a test can compare.
struct Collector {
    limit: usize,
    messages: Vec<String>,
}

impl MessageSink for Collector {
    fn limit(&self) -> usize {
        self.limit
    }

    fn message(&mut self, message: Message<'_>) -> Result<ControlFlow<()>, Violation> {
        let is_close = matches!(message, Message::Close(_));
        self.messages.push(match message {
            Message::Text(text) => format!("text {text}"),
            Message::Binary(data) => format!("binary {data:?}"),
            Message::Ping(data) => format!("ping {data:?}"),
            Message::Pong => "pong".to_owned(),
            Message::Close(code) => format!("close {code:?}"),
        });
        Ok(match is_close {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        })
    }
}

const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];

/// A masked frame whose first byte is `first`.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        length @ 0..=125 => bytes.push(0x80 | length as u8),
        length => {
            bytes.push(0x80 | 126);
            bytes.extend_from_slice(&(length as u16).to_be_bytes());
        }
    }
    bytes.extend_from_slice(&MASK);
    let masked = payload.iter().zip(MASK.iter().cycle());
    bytes.extend(masked.map(|(byte, mask)| byte ^ mask));
    bytes
}

type Outcome = (Vec<String>, Option<Violation>);

/// Reads `bytes` in pieces of `piece` bytes.
fn read_in_pieces(bytes: &[u8], piece: usize, limit: usize) -> Outcome {
    let mut reader = MessageReader::default();
    let mut collector = Collector {
        limit,
        messages: Vec::new(),
    };
    for piece in bytes.chunks(piece) {
        match reader.read(&mut piece.to_vec(), &mut collector) {
            Ok(ControlFlow::Continue(())) => {}
            Ok(ControlFlow::Break(())) => return (collector.messages, None),
            Err(violation) => return (collector.messages, Some(violation)),
        }
        assert!(reader.memory() <= 2 * (limit + 14), "bounded memory");
    }
    (collector.messages, None)
}

/// Reads `frames` in pieces of every size: the outcome must be the same.
fn read(frames: &[Vec<u8>]) -> Outcome {
    let bytes = frames.concat();
    let whole = read_in_pieces(&bytes, bytes.len().max(1), 1000);
    for piece in [1, 2, 3, 5, 7, 64] {
        assert_eq!(read_in_pieces(&bytes, piece, 1000), whole, "{piece}");
    }
    whole
}

fn accepted(messages: &[&str]) -> Outcome {
    let messages = messages.iter().map(|text| (*text).to_owned());
    (messages.collect(), None)
}

#[test]
fn messages_of_one_frame_are_read_whatever_their_length() {
    let long = "x".repeat(500);
    let frames = [
        frame(0x81, b""),
        frame(0x81, "4h\u{e9}llo".as_bytes()),
        frame(0x82, &[1, 2]),
        frame(0x82, b""),
        frame(0x81, long.as_bytes()),
    ];
    let long = format!("text {long}");
    let expected = [
        "text ",
        "text 4h\u{e9}llo",
        "binary [1, 2]",
        "binary []",
        &long,
    ];
    assert_eq!(read(&frames), accepted(&expected));
}

#[test]
fn control_frames_come_between_fragments() {
    let frames = [
        frame(0x01, b"4one "),
        frame(0x89, b"are you there"),
        frame(0x00, b""),
        frame(0x8A, b"unasked"),
        frame(0x80, b"two"),
        frame(0x81, b"next"),
    ];
    let ping = format!("ping {:?}", b"are you there");
    let expected = [&ping, "pong", "text 4one two", "text next"];
    assert_eq!(read(&frames), accepted(&expected));
}

#[test]
fn fragments_out_of_order_break_the_protocol() {
    for frames in [
        vec![frame(0x80, b"continues nothing")],
        vec![frame(0x00, b"continues nothing")],
        vec![frame(0x01, b"first"), frame(0x81, b"not a continuation")],
        vec![frame(0x01, b"first"), frame(0x02, b"not a continuation")],
        vec![frame(0x01, b"a"), frame(0x80, b"b"), frame(0x80, b"c")],
    ] {
        assert_eq!(read(&frames).1, Some(Violation::Protocol), "{frames:?}");
    }
}

#[test]
fn text_is_valid_utf_8_also_across_fragments() {
    let euro = "\u{20ac}".as_bytes();
    let frames = [frame(0x01, &euro[..1]), frame(0x80, &euro[1..])];
    assert_eq!(read(&frames), accepted(&["text \u{20ac}"]));
    for invalid in [
        &b"\xC3\x28"[..],
        b"\xED\xA0\x80",
        b"\xF4\x90\x80\x80",
        b"\xC0\xAF",
        b"\xE2\x82",
        b"\xFF",
    ] {
        let whole = [frame(0x81, invalid)];
        assert_eq!(read(&whole).1, Some(Violation::InvalidText), "{invalid:X?}");
        let halves = [frame(0x01, &invalid[..1]), frame(0x80, &invalid[1..])];
        assert_eq!(read(&halves).1, Some(Violation::InvalidText));
        assert_eq!(read(&[frame(0x82, invalid)]).1, None, "binary is free");
    }
}

#[test]
fn a_close_frame_has_a_valid_code_and_ends_the_reading() {
    let close = |code: u16, reason: &[u8]| {
        let mut payload = code.to_be_bytes().to_vec();
        payload.extend_from_slice(reason);
        frame(0x88, &payload)
    };
    assert_eq!(
        read(&[frame(0x88, b""), frame(0x81, b"late")]),
        accepted(&["close None"])
    );
    for code in [1000, 1001, 1002, 1003, 1007, 1008, 1011, 1012, 3000, 4999] {
        let expected = format!("close Some({code})");
        assert_eq!(read(&[close(code, b"bye")]), accepted(&[&expected]));
    }
    for code in [
        0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2999, 5000, 65535,
    ] {
        let outcome = read(&[close(code, b"")]);
        assert_eq!(outcome.1, Some(Violation::Protocol), "{code}");
    }
    assert_eq!(read(&[frame(0x88, b"1")]).1, Some(Violation::Protocol));
    let invalid = close(1000, b"\xC3\x28");
    assert_eq!(read(&[invalid]).1, Some(Violation::InvalidText));
}

#[test]
fn a_message_of_many_fragments_is_bounded_in_all() {
    let fragment = frame(0x00, &[b'x'; 300]);
    let frames = [
        frame(0x01, &[b'x'; 300]),
        fragment.clone(),
        fragment.clone(),
        fragment,
    ];
    assert_eq!(read(&frames).1, Some(Violation::TooLarge));
    let too_large = [0x81, 0xFE, 0x03, 0xE9];
    let outcome = read_in_pieces(&too_large, 1, 1000);
    assert_eq!(outcome.1, Some(Violation::TooLarge), "before the payload");
}

#[test]
fn an_idle_reader_has_no_memory() {
    let mut reader = MessageReader::default();
    let mut collector = Collector {
        limit: 1000,
        messages: Vec::new(),
    };
    let bytes = [frame(0x81, b"4one"), frame(0x81, b"4two")].concat();
    for piece in bytes.chunks(4) {
        let read = reader.read(&mut piece.to_vec(), &mut collector);
        read.expect("valid frames")
            .is_continue()
            .then_some(())
            .expect("open");
    }
    assert_eq!(reader.memory(), 0);
    assert_eq!(collector.messages, ["text 4one", "text 4two"]);
}
