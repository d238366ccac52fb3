//! Requests whose end a proxy in front of the service may see elsewhere.

use crate::fixture::{PASSWORD, Service, read_raw};

/// A request that a proxy would have passed on as a part of the body.
const SMUGGLED: &str = "GET /health/live HTTP/1.1\r\nhost: a\r\nx-smuggled: 1\r\n\r\n";

fn form() -> String {
    format!("username=alice&password={}", PASSWORD.replace(' ', "+"))
}

fn request(framing: &str, body: &str) -> String {
    format!(
        "POST /login HTTP/1.1\r\nhost: a\r\n\
         content-type: application/x-www-form-urlencoded\r\n{framing}\r\n{body}"
    )
}

async fn statuses(service: &Service, text: &str) -> Vec<String> {
    let answers = read_raw(service.send_raw(text.as_bytes())).await;
    let starts = answers.match_indices("HTTP/1.1 ");
    starts
        .map(|(start, _)| answers[start + 9..start + 12].to_owned())
        .collect()
}

#[tokio::test]
async fn a_request_with_two_ends_is_refused_and_nothing_behind_it_is_answered() {
    let service = Service::start_with(|settings| settings.keep_alive_secs = 1).await;
    service.add_user("alice").await;
    let form = form();
    let length = form.len();
    let chunked = format!("{length:x}\r\n{form}\r\n0\r\n\r\n");
    // The twins: one end each, and what follows is a request of its own.
    for good in [
        request(&format!("content-length: {length}\r\n"), &form),
        request("transfer-encoding: chunked\r\n", &chunked),
    ] {
        let text = format!("{good}{SMUGGLED}");
        assert_eq!(statuses(&service, &text).await, ["200", "200"], "{good}");
    }
    for framing in [
        format!("content-length: {length}\r\ntransfer-encoding: chunked\r\n"),
        format!("transfer-encoding: chunked\r\ncontent-length: {length}\r\n"),
        format!("content-length: {length}\r\ncontent-length: 0\r\n"),
        format!("content-length: 0\r\ncontent-length: {length}\r\n"),
        format!("content-length: {length}, {length}\r\n"),
        format!("content-length: +{length}\r\n"),
        format!("content-length: 0x{length:x}\r\n"),
        format!("content-length : {length}\r\n"),
        "transfer-encoding : chunked\r\n".to_owned(),
        "transfer-encoding: xchunked\r\n".to_owned(),
        "transfer-encoding: chunked, identity\r\n".to_owned(),
        "transfer-encoding: identity\r\ntransfer-encoding: chunked\r\n".to_owned(),
        format!("x: 1\n content-length: {length}\r\n"),
    ] {
        for body in [&form, &chunked] {
            let text = request(&framing, &format!("{body}{SMUGGLED}"));
            let statuses = statuses(&service, &text).await;
            assert!(statuses.len() <= 1, "{framing}: {statuses:?}");
            let is_refused = statuses.iter().all(|status| status.starts_with('4'));
            assert!(is_refused, "{framing}: {statuses:?}");
        }
    }
    service.login("alice").await;
}
