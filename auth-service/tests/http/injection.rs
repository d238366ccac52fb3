//! Texts that would mean something to a database, in every place where a text is taken.

use std::{fs, path::Path};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::fixture::{PASSWORD, Service};

const TEXTS: [&str; 10] = [
    "' or 1=1--",
    "' or '1'='1",
    "\" or 1=1--",
    "alice'--",
    "'; drop table users; --",
    "' union select password_hash from users--",
    "%",
    "_lice",
    "$1",
    "a\\' or 1=1--",
];

/// Every text that a visitor without a session can send, as one request for each place.
fn requests(service: &Service, text: &str) -> Vec<(&'static str, reqwest::RequestBuilder)> {
    let json = |path: &'static str, body: Value| {
        let request = service.client.post(service.url(path)).json(&body);
        (path, request)
    };
    let form = |path: &'static str, fields: &[(&str, &str)]| {
        let request = service.client.post(service.url(path)).form(fields);
        (path, request)
    };
    vec![
        json("/login", json!({"username": text, "password": PASSWORD})),
        json("/login", json!({"username": "alice", "password": text})),
        json(
            "/login",
            json!({"username": "alice", "password": "wrong", "device_token": text}),
        ),
        json(
            "/login",
            json!({"username": "nobody", "password": PASSWORD, text: text}),
        ),
        json("/login/totp", json!({"challenge": text, "code": "000000"})),
        json("/login/totp", json!({"challenge": "none", "code": text})),
        json("/token/refresh", json!({"refresh_token": text})),
        json(
            "/register",
            json!({"username": text, "password": text, "name": text}),
        ),
        form("/oauth/token", &[("grant_type", text)]),
        form(
            "/oauth/token",
            &[
                ("grant_type", "client_credentials"),
                ("client_id", text),
                ("client_secret", text),
            ],
        ),
        form(
            "/oauth/token",
            &[
                ("grant_type", "refresh_token"),
                ("client_id", "latchkey-login"),
                ("refresh_token", text),
            ],
        ),
        form("/oauth/introspect", &[("token", text), ("client_id", text)]),
        form(
            "/oauth/revoke",
            &[("token", text), ("client_id", "latchkey-login")],
        ),
    ]
}

#[tokio::test]
async fn what_means_something_to_a_database_is_a_text_like_any_other() {
    let service = Service::start_with(|settings| {
        settings.limits.logins_per_name = 1_000;
        settings.limits.logins_per_address = 1_000;
        settings.limits.clients_per_address = 1_000;
    })
    .await;
    service.add_user("alice").await;
    let token = service.token_of("alice").await;
    for text in TEXTS {
        for (path, request) in requests(&service, text) {
            let answer = request.send().await.expect("an answer");
            let status = answer.status();
            // A token that nobody has is revoked already (RFC 7009, section 2.2).
            let is_fine = status.is_client_error() || path == "/oauth/revoke";
            assert!(is_fine, "{path} with {text}: {status}");
        }
        let mut url = reqwest::Url::parse(&service.url("/")).expect("a URL");
        url.path_segments_mut()
            .expect("a path")
            .extend(["sessions", text]);
        let delete = service
            .client
            .request(Method::DELETE, url)
            .bearer_auth(&token);
        let answer = delete.send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{text}");
    }
    let rows = |statement: &'static str| service.execute(statement);
    assert_eq!(rows("update users set id = id").await, 1);
    assert_eq!(
        rows("update sessions set id = id where ended_at is null").await,
        1
    );
    service.token_of("alice").await;
}

/// sqlx takes a text that is put together at run time only when it is wrapped in this type.
#[test]
fn no_statement_is_put_together_at_run_time() {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() && !path.ends_with("tests") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("code");
                assert!(!text.contains("AssertSqlSafe"), "{}", path.display());
                // A builder is given texts of the code, and the rest is bound.
                let pushed = text.matches("query.push(").count();
                let literals = text.matches("query.push(\"").count();
                assert_eq!(pushed, literals, "{}", path.display());
                files += 1;
            }
        }
    }
    assert!(files > 50);
}
