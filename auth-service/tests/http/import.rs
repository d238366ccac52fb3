//! Dumps of other systems: they come in, and their owners sign in with the passwords that they had.

use std::{
    io::Write as _,
    net::TcpStream,
    time::{Duration, Instant},
};

use auth_service::Settings;
use futures_util::{StreamExt as _, stream};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};

use crate::{
    admin::with_admin_and,
    admin_api::Operated,
    fixture::{PASSWORD, problem, read_raw},
};

/// 500 hashes of npm's bcrypt, and 500 of npm's firebase-scrypt.
const ACCOUNTS: &str = include_str!("../dumps/accounts.jsonl");

/// Hashes of PyPI's passlib.
const PASSLIB: &str = include_str!("../dumps/passlib.jsonl");

/// The media type of a dump.
const LINES_TYPE: &str = "application/x-ndjson";

impl Operated {
    async fn post_import(&self, kind: &str, dump: String) -> Response {
        let request = self.request(Method::POST, "/v1/users:import");
        let request = request
            .bearer_auth(&self.write)
            .header("content-type", kind);
        request.body(dump).send().await.expect("an answer")
    }

    async fn import(&self, dump: impl Into<String>) -> Value {
        let answer = self.post_import(LINES_TYPE, dump.into()).await;
        assert_eq!(answer.status(), StatusCode::OK);
        answer.json().await.expect("JSON")
    }

    async fn signs_in(&self, name: &str, password: &str) -> bool {
        let answer = self.service.post_login(name, password).await;
        match answer.status() {
            StatusCode::OK => true,
            StatusCode::UNAUTHORIZED => false,
            other => panic!("{name}: {other}"),
        }
    }

    /// Number of accounts with a hash of another system.
    async fn foreign_hashes(&self) -> u64 {
        let statement = "update users set id = id where hash_scheme is not null";
        self.service.execute(statement).await
    }
}

fn accounts(report: &Value) -> (&Value, &Value) {
    (&report["imported"], &report["refused"])
}

#[tokio::test]
async fn a_thousand_accounts_come_in_and_sign_in_with_the_passwords_that_they_had() {
    let operated = Operated::start().await;
    let report = operated.import(ACCOUNTS).await;
    assert_eq!(accounts(&report), (&json!(1000), &json!(0)), "{report}");
    assert_eq!(operated.foreign_hashes().await, 1000);
    for (done, number) in [0, 1, 2, 3, 498, 499, 500, 501, 998, 999]
        .into_iter()
        .enumerate()
    {
        let (name, password) = (format!("user{number}"), format!("old password {number}"));
        assert!(!operated.signs_in(&name, "old password").await, "{name}");
        assert_eq!(operated.foreign_hashes().await, 1000 - done as u64);
        assert!(operated.signs_in(&name, &password).await, "{name}");
        assert_eq!(operated.foreign_hashes().await, 999 - done as u64);
        // By the hash that is ours now.
        assert!(operated.signs_in(&name, &password).await, "{name}");
        assert!(!operated.signs_in(&name, "old password").await, "{name}");
    }
    stream::iter(0..1000)
        .for_each_concurrent(8, |number| {
            let operated = &operated;
            async move {
                let (name, password) = (format!("user{number}"), format!("old password {number}"));
                assert!(operated.signs_in(&name, &password).await, "{name}");
            }
        })
        .await;
    assert_eq!(operated.foreign_hashes().await, 0);
    let again = operated.import(ACCOUNTS).await;
    assert_eq!(accounts(&again), (&json!(0), &json!(1000)));
    assert_eq!(again["lines"][0]["code"], "username_taken");
    // The line before has the parameters.
    assert_eq!(again["lines"][0]["line"], 2);
}

#[tokio::test]
async fn the_schemes_of_passlib_and_django_sign_in() {
    let operated = Operated::start().await;
    let report = operated.import(PASSLIB).await;
    assert_eq!(accounts(&report), (&json!(8), &json!(0)), "{report}");
    for line in PASSLIB.lines() {
        let line: Value = serde_json::from_str(line).expect("JSON");
        let name = line["username"].as_str().expect("a name");
        assert!(!operated.signs_in(name, "old password").await, "{name}");
        assert!(
            operated
                .signs_in(name, &format!("old password {name}"))
                .await,
            "{name}"
        );
    }
    assert_eq!(operated.foreign_hashes().await, 0);
}

const HASH: &str = "$2b$10$hZs.cLLrPDXoINvwvKqZr.BgAqaxlvTkcueZjtSkATCsbJ/sFmO7q";

/// The line of an account, with other members or further ones.
fn line(more: &Value) -> String {
    let mut line = json!({"username": "alice", "password_hash": HASH});
    let members = more.as_object().expect("an object").clone();
    line.as_object_mut().expect("an object").extend(members);
    line.to_string()
}

/// Each reason, and a line that is refused for it.
fn refused_lines() -> Vec<(&'static str, String)> {
    let weak = HASH.replace("$10$", "$09$");
    let costly = HASH.replace("$10$", "$15$");
    let firebase = json!({"hash": "AAAA", "salt": "AAAA"});
    let lines = [
        ("malformed", "not JSON".to_owned()),
        ("malformed", "[]".to_owned()),
        ("malformed", line(&json!({"passwort": "x"}))),
        ("too_long", line(&json!({"name": "a".repeat(17_000)}))),
        ("id", line(&json!({"id": "client:billing"}))),
        ("id", line(&json!({"id": "backend:billing"}))),
        ("email", line(&json!({"email_verified": true}))),
        ("id", line(&json!({"id": "a\u{0}b"}))),
        ("username", line(&json!({"username": "a b"}))),
        ("username", json!({"password_hash": HASH}).to_string()),
        ("email", line(&json!({"email": "alice"}))),
        ("profile", line(&json!({"name": "a\u{202e}b"}))),
        (
            "grants",
            line(&json!({"grants": [{"room": "a::b", "actions": ["sub"]}]})),
        ),
        ("claims", line(&json!({"roles": ["a", "a"]}))),
        ("claims", line(&json!({"claims": {"sub": "bob"}}))),
        ("created_at", line(&json!({"created_at": -1}))),
        (
            "created_at",
            line(&json!({"created_at": 99_999_999_999_i64})),
        ),
        ("hash_unknown", line(&json!({"password_hash": "secret"}))),
        ("hash_unknown", json!({"username": "alice"}).to_string()),
        ("hash_too_weak", line(&json!({"password_hash": weak}))),
        ("hash_too_costly", line(&json!({"password_hash": costly}))),
        (
            "hash_config_missing",
            json!({"username": "alice", "firebase": firebase}).to_string(),
        ),
        ("username_taken", line(&json!({"username": "TAKEN"}))),
        ("email_taken", line(&json!({"email": "taken@example.org"}))),
    ];
    lines.into()
}

#[tokio::test]
async fn a_bad_line_is_named_and_the_others_go_in() {
    let operated = Operated::start().await;
    operated.service.add_user("taken").await;
    let refused = refused_lines();
    let mut dump = String::new();
    for (number, (_, bad)) in refused.iter().enumerate() {
        dump.push_str(bad);
        dump.push('\n');
        dump.push_str(&line(&json!({"username": format!("good{number}")})));
        dump.push_str("\r\n\n");
    }
    // Without a line break at the end, and without a name.
    let last = json!({"id": "old-id", "email": "Alice@Example.org", "password_hash": HASH});
    dump.push_str(&last.to_string());
    let report = operated.import(dump).await;
    let (good, bad) = (refused.len() as u64 + 1, refused.len() as u64);
    assert_eq!(accounts(&report), (&json!(good), &json!(bad)), "{report}");
    for (number, (code, _)) in refused.iter().enumerate() {
        let named = &report["lines"][number];
        assert_eq!(named["code"], *code);
        assert_eq!(named["line"], 3 * number as u64 + 1, "{code}");
        assert!(named["detail"].is_string());
    }
    let alice = operated.read("/v1/users/old-id").await;
    let names = (&alice["email"], &alice["username"]);
    assert_eq!(
        names,
        (&json!("Alice@Example.org"), &json!("alice@example.org"))
    );
    assert!(!report.to_string().contains("TAKEN"));
}

#[tokio::test]
async fn what_is_no_dump_or_too_long_is_refused() {
    let (service, admin) = with_admin_and(|settings| {
        settings.admin.import_limit_bytes = 16 * 1024;
    })
    .await;
    let operated = Operated::of(service, admin).await;
    for kind in ["application/json", "text/plain"] {
        let refused = operated.post_import(kind, PASSLIB.to_owned()).await;
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        problem(refused, status, "unsupported_media_type").await;
    }
    // The part before the limit is imported: it has no accounts.
    let long = "not JSON\n".repeat(3000);
    let long = operated.post_import(LINES_TYPE, long).await;
    problem(long, StatusCode::PAYLOAD_TOO_LARGE, "body_too_large").await;
    let report = operated.import(PASSLIB).await;
    assert_eq!(report["imported"], 8);
}

/// Whether an answer can be read.
fn is_answered(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).expect("a stream");
    let is_answered = stream.peek(&mut [0]).is_ok();
    stream.set_nonblocking(false).expect("a stream");
    is_answered
}

#[tokio::test]
async fn one_import_runs_at_a_time_and_ends_when_its_bytes_do_not_come() {
    let (service, admin) = with_admin_and(|settings| settings.login.body_deadline_secs = 2).await;
    let operated = Operated::of(service, admin).await;
    let address = operated.admin.trim_start_matches("http://");
    let request = format!(
        "POST /v1/users:import HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {}\r\n\
         content-type: {LINES_TYPE}\r\ncontent-length: 1000\r\n\r\n{{",
        operated.write
    );
    let stall = || {
        let mut stream = TcpStream::connect(address).expect("a connection");
        stream.write_all(request.as_bytes()).expect("sent");
        stream
    };
    let mut stalled = stall();
    let deadline = Instant::now() + Duration::from_secs(20);
    // The first import runs as soon as another is refused.
    let refused = loop {
        let answer = operated.post_import(LINES_TYPE, String::new()).await;
        if answer.status() != StatusCode::OK {
            break answer;
        }
        // One of these came before it, and it was refused itself.
        if is_answered(&stalled) {
            stalled = stall();
        }
        assert!(Instant::now() < deadline, "the other import never started");
    };
    problem(refused, StatusCode::CONFLICT, "import_running").await;
    let answer = read_raw(stalled).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    let report = operated.import(PASSLIB).await;
    assert_eq!(report["imported"], 8);
}

#[tokio::test]
async fn what_was_exported_comes_in_elsewhere() {
    let operated = Operated::start().await;
    let service = &operated.service;
    let id = service.add_user("alice").await;
    let grants = json!({"grants": [{"room": "chat:**", "actions": ["sub", "pub"]}]});
    let path = format!("/v1/users/{id}");
    operated
        .change(Method::PUT, &format!("{path}/grants"), &grants)
        .await;
    let claims = json!({"roles": ["editor"], "claims": {"org": {"id": 7}}});
    operated
        .change(Method::PUT, &format!("{path}/claims"), &claims)
        .await;
    operated.import(PASSLIB).await;
    let lines = async |with_hashes: bool| {
        let mut dump = String::new();
        let write = |line: &str| {
            dump.push_str(line);
            dump.push('\n');
            Ok(())
        };
        let settings = &service.config.settings;
        auth_service::users::administer(settings, async |users| {
            users.export(with_hashes, write).await
        })
        .await
        .expect("a dump");
        dump
    };
    let without = lines(false).await;
    assert!(
        !without.contains("password_hash") && !without.contains('$'),
        "{without}"
    );
    let dump = lines(true).await;
    assert_eq!(dump.lines().count(), 9);

    let elsewhere = Operated::start().await;
    let report = elsewhere.import(dump).await;
    assert_eq!(accounts(&report), (&json!(9), &json!(0)), "{report}");
    assert_eq!(elsewhere.read(&path).await, operated.read(&path).await);
    assert_eq!(elsewhere.read(&format!("{path}/grants")).await, grants);
    assert_eq!(elsewhere.read(&format!("{path}/claims")).await, claims);
    assert!(elsewhere.signs_in("alice", PASSWORD).await);
    assert!(elsewhere.signs_in("django", "old password django").await);
    assert_eq!(elsewhere.foreign_hashes().await, 7);
}

#[tokio::test]
#[ignore = "takes half a minute"]
async fn a_hundred_thousand_accounts_come_in_within_a_minute_while_others_sign_in() {
    let more = |settings: &mut Settings| settings.limits.right_logins_per_account = 1_000_000;
    let (service, admin) = with_admin_and(more).await;
    let operated = Operated::of(service, admin).await;
    operated.service.add_user("alice").await;
    let mut dump = String::new();
    for number in 0..100_000 {
        let (name, email) = (
            format!("person{number}"),
            format!("person{number}@example.org"),
        );
        dump.push_str(&line(&json!({"username": name, "email": email})));
        dump.push('\n');
    }
    let started = Instant::now();
    let importing = async {
        let report = operated.import(dump).await;
        assert_eq!(accounts(&report), (&json!(100_000), &json!(0)));
    };
    let signing_in = async {
        loop {
            assert!(operated.signs_in("alice", PASSWORD).await);
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = importing => {}
        () = signing_in => {}
    }
    let taken = started.elapsed();
    assert!(taken < Duration::from_secs(60), "{taken:?}");
}

/// Unknown names take the time of the schemes that accounts have, in the same shares. Here all accounts
/// have one that takes many times as long as a hash of ours.
#[tokio::test]
async fn an_unknown_name_takes_the_time_of_the_accounts() {
    let operated = Operated::start().await;
    let costly = HASH.replace("$10$", "$13$");
    let attempt = async |name: &str| {
        let started = Instant::now();
        assert!(!operated.signs_in(name, "old password").await);
        started.elapsed()
    };
    let mut ours = Duration::MAX;
    for _ in 0..5 {
        ours = ours.min(attempt("nobody").await);
    }
    let line = |name: &str| json!({"username": name, "password_hash": costly}).to_string();
    operated.import(line("alice")).await;
    // In turns, so that what else the machine does meets both. The shortest time is the least disturbed.
    let (mut known, mut unknown) = (Duration::MAX, Duration::MAX);
    for _ in 0..5 {
        known = known.min(attempt("alice").await);
        unknown = unknown.min(attempt("nobody").await);
    }
    assert!(known > ours * 3, "{known:?} {ours:?}");
    assert!(
        unknown > known / 2 && unknown < known * 2,
        "{unknown:?} {known:?}"
    );
}
