//! Requests that a client sends before the answers to those before them.

use std::{
    io::Write as _,
    net::{SocketAddr, TcpStream},
    thread,
    time::Duration,
};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    admin_api::Operated,
    fixture::{Service, read_raw},
};

/// Number of requests in a pipeline: actix-http's own bound is 16.
const REQUESTS: usize = 2000;

/// Paths and their statuses. Readiness asks the database, so its answer is not there at once.
const PATHS: [(&str, &str); 3] = [
    ("/health/live", "200"),
    ("/health/ready", "200"),
    ("/nothing", "404"),
];

/// The path and the status of a request of the pipeline, in an order without a period of 16.
fn kind(number: usize) -> (&'static str, &'static str) {
    PATHS[(number * number + number / 7) % PATHS.len()]
}

fn pipeline() -> String {
    let mut requests = String::new();
    for number in 0..REQUESTS {
        let end = if number + 1 == REQUESTS {
            "connection: close\r\n"
        } else {
            ""
        };
        let (path, _) = kind(number);
        requests.push_str(&format!("GET {path} HTTP/1.1\r\nhost: a\r\n{end}\r\n"));
    }
    requests
}

fn statuses(answers: &str) -> Vec<&str> {
    let starts = answers.match_indices("HTTP/1.1 ");
    starts
        .map(|(start, _)| &answers[start + 9..start + 12])
        .collect()
}

/// Sends bytes from a thread of its own, so that the answers can be read meanwhile.
fn send_aside(address: SocketAddr, bytes: String) -> TcpStream {
    let stream = TcpStream::connect(address).expect("a connection");
    let deadline = Some(Duration::from_secs(60));
    stream.set_read_timeout(deadline).expect("a deadline");
    let mut writer = stream.try_clone().expect("a handle");
    thread::spawn(move || writer.write_all(bytes.as_bytes()).expect("sent"));
    stream
}

fn address_of(url: &str) -> SocketAddr {
    url.trim_start_matches("http://")
        .parse()
        .expect("an address")
}

#[tokio::test]
async fn a_long_pipeline_is_answered_in_order_on_both_listeners() {
    let operated = Operated::start().await;
    let expected: Vec<&str> = (0..REQUESTS).map(|number| kind(number).1).collect();
    for address in [operated.service.address, address_of(&operated.admin)] {
        let answers = read_raw(send_aside(address, pipeline())).await;
        assert_eq!(statuses(&answers), expected, "{address}");
    }
}

/// A refresh with an unknown token, whose body has `padding` blanks, in chunks of `chunk` bytes or whole.
fn refresh(padding: usize, chunk: Option<usize>, more: &str) -> String {
    let body = format!(
        "{}{}",
        " ".repeat(padding),
        json!({"refresh_token": "x".repeat(43)})
    );
    let head = format!(
        "POST /token/refresh HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n{more}"
    );
    let Some(chunk) = chunk else {
        return format!("{head}content-length: {}\r\n\r\n{body}", body.len());
    };
    let mut text = format!("{head}transfer-encoding: chunked\r\n\r\n");
    for part in body.as_bytes().chunks(chunk) {
        let part = str::from_utf8(part).expect("ASCII");
        text.push_str(&format!("{:x};extension=value\r\n{part}\r\n", part.len()));
    }
    text.push_str("0\r\n\r\n");
    text
}

#[tokio::test]
async fn bodies_in_a_pipeline_are_read_however_they_are_split() {
    let service = Service::start().await;
    let mut requests = String::new();
    let mut expected = Vec::new();
    for padding in [0, 900, 1000, 1024, 2000, 5000, 12_000] {
        for chunk in [None, Some(1), Some(7), Some(1023), Some(1024), Some(9000)] {
            for more in ["", "expect: 100-continue\r\n"] {
                requests.push_str(&refresh(padding, chunk, more));
                if !more.is_empty() {
                    expected.push("100");
                }
                // The body was read: one that is malformed has another answer.
                expected.push("401");
                requests.push_str("GET /health/live HTTP/1.1\r\nhost: a\r\n\r\n");
                expected.push("200");
            }
        }
    }
    requests.push_str("GET /nothing HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    expected.push("404");
    let answers = read_raw(send_aside(service.address, requests)).await;
    assert_eq!(statuses(&answers), expected);
}

#[tokio::test]
async fn a_body_that_nobody_reads_keeps_no_answer_back() {
    let service = Service::start().await;
    let large = "x".repeat(300_000);
    let live = "GET /health/live HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    // The end of a chunked body is found, so the next request is answered.
    let chunked = format!(
        "POST /nothing HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n\
         {:x}\r\n{large}\r\n0\r\n\r\n{live}",
        large.len()
    );
    let answers = read_raw(send_aside(service.address, chunked)).await;
    assert_eq!(statuses(&answers), ["404", "200"]);
    for (path, status) in [("/nothing", "404"), ("/login", "413")] {
        let whole = format!(
            "POST {path} HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{large}{live}",
            large.len()
        );
        let answers = read_raw(send_aside(service.address, whole)).await;
        assert_eq!(statuses(&answers), [status], "{path}");
    }
}

#[tokio::test]
async fn a_body_of_several_megabytes_is_read_to_its_end() {
    let operated = Operated::start().await;
    let line = json!({"username": "a b", "name": "x".repeat(1000)}).to_string() + "\n";
    let lines = 6 * 1024 * 1024 / line.len();
    let request = operated.request(Method::POST, "/v1/users:import");
    let request = request
        .bearer_auth(&operated.write)
        .header("content-type", "application/x-ndjson")
        .body(line.repeat(lines));
    let answer = request.send().await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::OK);
    let report: Value = answer.json().await.expect("JSON");
    assert_eq!(report["refused"], lines);
}
