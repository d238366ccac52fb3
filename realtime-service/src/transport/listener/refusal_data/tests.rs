//! Refusals in every shape that they leave in, among everything else.

use super::*;

const HEAD: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\r\n";
const REFUSAL: &[u8] = br#"44{"message":"jwt expired"}"#;
const DATA: &str = r#"{"code":"invalid_token","message":"jwt expired","reason":"token_expired","type":"UnauthorizedError"}"#;

fn frame(payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    append_text_frame(payload, &mut frame);
    frame
}

/// What comes out when `bytes` are written in chunks, as a stream writes them.
fn rewritten_by(bytes: &[u8], size: usize) -> Vec<u8> {
    let (mut rewriter, mut out) = (Rewriter::default(), Vec::new());
    for mut chunk in bytes.chunks(size) {
        while !chunk.is_empty() {
            let untouched = rewriter.untouched(chunk);
            if untouched == 0 {
                rewriter.push(chunk, Some(ProtocolVersion::V4), &mut out);
                break;
            }
            rewriter.passed(chunk, untouched);
            out.extend_from_slice(&chunk[..untouched]);
            chunk = &chunk[untouched..];
        }
    }
    out
}

fn expected() -> Vec<u8> {
    format!(r#"44{{"data":{DATA},"message":"jwt expired"}}"#).into_bytes()
}

#[test]
fn a_refusal_among_other_frames_gets_its_data_however_the_writes_are_split() {
    let before = [
        HEAD,
        &frame(b"0{\"sid\":\"x\"}"),
        &frame(REFUSAL),
        &frame(b"2"),
    ]
    .concat();
    let after = [
        HEAD,
        &frame(b"0{\"sid\":\"x\"}"),
        &frame(&expected()),
        &frame(b"2"),
    ]
    .concat();
    for size in 1..before.len() {
        assert_eq!(rewritten_by(&before, size), after, "in chunks of {size}");
    }
}

#[test]
fn only_a_refusal_is_copied() {
    let mut rewriter = Rewriter::default();
    rewriter.push(HEAD, Some(ProtocolVersion::V4), &mut Vec::new());
    let long = frame(&[b'x'; 60_000]);
    let others = [&frame(b"42[\"x\"]"), &long, &frame(b""), &frame(b"40{}")];
    let others = others.map(Vec::as_slice).concat();
    let bytes = [others.as_slice(), &frame(REFUSAL), &frame(b"2")].concat();
    // However little of it the network takes at a time.
    for size in [1, 7, 1_000, others.len()] {
        let mut at = 0;
        while at < others.len() {
            let untouched = rewriter.untouched(&bytes[at..]);
            assert_eq!(untouched, others.len() - at, "at {at} by {size}");
            let written = untouched.min(size);
            rewriter.passed(&bytes[at..], written);
            at += written;
        }
        assert_eq!(rewriter.untouched(&bytes[at..]), 0);
    }
    let mut out = Vec::new();
    rewriter.push(&bytes[others.len()..], Some(ProtocolVersion::V4), &mut out);
    assert_eq!(out, [frame(&expected()), frame(b"2")].concat());
}

#[test]
fn a_refusal_after_an_admission_and_in_another_namespace_gets_its_data_too() {
    let refusal = br#"44/admin,{"message":"jwt expired"}"#;
    let rewritten = format!(r#"44/admin,{{"data":{DATA},"message":"jwt expired"}}"#);
    let admission = frame(b"40{\"sid\":\"x\"}");
    let before = [HEAD, &admission, &frame(refusal)].concat();
    let after = [HEAD, &admission, &frame(rewritten.as_bytes())].concat();
    for size in 1..before.len() {
        assert_eq!(rewritten_by(&before, size), after, "in chunks of {size}");
    }
    let body = [b"2\x1e", refusal.as_slice()].concat();
    let after = [b"2\x1e", rewritten.as_bytes()].concat();
    assert_eq!(in_body(&body, ProtocolVersion::V4), Some(after));
}

#[test]
fn what_is_held_back_goes_out_when_it_is_stopped() {
    let (mut rewriter, mut out) = (Rewriter::default(), Vec::new());
    rewriter.push(b"HTTP/1.1 4", Some(ProtocolVersion::V4), &mut out);
    assert!(out.is_empty() && rewriter.holds_back());
    rewriter.push(b"00 Bad", None, &mut out);
    assert_eq!(out, b"HTTP/1.1 400 Bad");
    assert!(!rewriter.holds_back());
}

#[test]
fn an_answer_that_is_no_upgrade_and_frames_that_are_long_pass_untouched() {
    for bytes in [
        b"HTTP/1.1 400 Bad Request\r\n\r\n{\"code\":3}".to_vec(),
        [
            HEAD,
            &frame(&[b"44", vec![b'x'; MAXIMUM_FRAME_BYTES].as_slice()].concat()),
        ]
        .concat(),
        [HEAD, &frame(br#"44{"message":"Invalid namespace"}"#)].concat(),
        [HEAD, &frame(br#"42["x",{"message":"jwt expired"}]"#)].concat(),
    ] {
        assert_eq!(rewritten_by(&bytes, bytes.len()), bytes);
    }
}

#[test]
fn a_poll_gets_the_data_too() {
    let body = [b"2\x1e", REFUSAL].concat();
    let rewritten = [b"2\x1e".to_vec(), expected()].concat();
    assert_eq!(in_body(&body, ProtocolVersion::V4), Some(rewritten));
    assert_eq!(in_body(b"2\x1e40{}", ProtocolVersion::V4), None);
}

#[test]
fn version_2_gets_the_data_alone() {
    let packet = format!("44{DATA}");
    let rewritten = format!("1:2{}:{packet}", packet.len());
    let body = format!("1:2{}:{}", REFUSAL.len(), String::from_utf8_lossy(REFUSAL));
    assert_eq!(
        in_body(body.as_bytes(), ProtocolVersion::V3),
        Some(rewritten.into_bytes())
    );
    assert_eq!(in_body("3:4é2".as_bytes(), ProtocolVersion::V3), None);
}
