//! Texts that a database cannot store, or should not see, in every place where a text is taken.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::json;

use crate::fixture::{PASSWORD, Service, problem};

/// A hostile text, as each kind of place writes it.
#[derive(Clone)]
struct Hostile {
    name: &'static str,
    json: String,
    encoded: String,
    /// Header value of a text, if it can be one.
    header: Vec<u8>,
}

fn hostile_texts() -> Vec<Hostile> {
    let text = |name, json: &str, encoded: &str, header: &[u8]| Hostile {
        name,
        json: json.to_owned(),
        encoded: encoded.to_owned(),
        header: header.to_vec(),
    };
    let long = "a".repeat(1_000_000);
    vec![
        text("NUL alone", r"\u0000", "%00", b"\x80"),
        text("NUL inside", r"a\u0000b", "a%00b", b"a\x80b"),
        text("NUL at the end", r"alice\u0000", "alice%00", b"alice\xff"),
        text("high half", r"a\ud800", "a%ED%A0%80", b"a\xed\xa0\x80"),
        text("low half", r"\udfffb", "%ED%BF%BFb", b"\xed\xbf\xbfb"),
        text(
            "halves swapped",
            r"\udc00\ud800",
            "%ED%B0%80%ED%A0%80",
            b"\xed",
        ),
        text("no UTF-8", "\u{fffd}", "%FF%FE", b"\xff\xfe"),
        text(
            "controls",
            r"\u0001\u001f\u007f",
            "%01%1F%7F",
            b"\t\xc2\x80",
        ),
        text("1 MB", &long, &long, &long.as_bytes()[..60_000]),
    ]
}

/// Members of JSON bodies; `?` is where the text goes.
const JSON_BODIES: [(&str, &str); 33] = [
    ("/login", r#"{"username":"?","password":"open sesame"}"#),
    ("/login", r#"{"username":"alice","password":"?"}"#),
    (
        "/login",
        r#"{"username":"alice","password":"wrong","device_token":"?"}"#,
    ),
    (
        "/login",
        r#"{"username":"alice","password":"wrong","?":"?"}"#,
    ),
    ("/login/totp", r#"{"challenge":"?","code":"000000"}"#),
    ("/login/totp", r#"{"challenge":"none","code":"?"}"#),
    ("/token/refresh", r#"{"refresh_token":"?"}"#),
    ("/password/forgot", r#"{"email":"?"}"#),
    ("/password/forgot", r#"{"email":"?@example.org"}"#),
    (
        "/password/reset",
        r#"{"token":"?","new_password":"barley is not sesame"}"#,
    ),
    ("/password/reset", r#"{"token":"none","new_password":"?"}"#),
    ("/email/verify", r#"{"token":"?"}"#),
    (
        "/register",
        r#"{"username":"?","password":"barley is not sesame"}"#,
    ),
    ("/register", r#"{"username":"bob","password":"?"}"#),
    (
        "/register",
        r#"{"username":"bob","password":"barley is not sesame","name":"?"}"#,
    ),
    (
        "/register",
        r#"{"username":"bob","password":"barley is not sesame","given_name":"?"}"#,
    ),
    (
        "/register",
        r#"{"username":"bob","password":"barley is not sesame","family_name":"?"}"#,
    ),
    (
        "/register",
        r#"{"username":"bob","password":"barley is not sesame","email":"?"}"#,
    ),
    (
        "/password",
        r#"{"current_password":"?","new_password":"barley is not sesame"}"#,
    ),
    (
        "/password",
        r#"{"current_password":"open sesame","new_password":"?"}"#,
    ),
    (
        "/password",
        r#"{"current_password":"wrong","new_password":"barley is not sesame","device_token":"?"}"#,
    ),
    ("/totp", r#"{"password":"?"}"#),
    ("/totp", r#"{"password":"wrong","device_token":"?"}"#),
    ("/totp/confirm", r#"{"code":"?"}"#),
    ("/totp/disable", r#"{"password":"?","code":"000000"}"#),
    ("/totp/disable", r#"{"password":"wrong","code":"?"}"#),
    ("/login/passkey", r#"{"state":"?","credential":{}}"#),
    (
        "/login/passkey",
        r#"{"state":"none","credential":{"id":"?"}}"#,
    ),
    ("/passkeys/options", r#"{"password":"?"}"#),
    ("/passkeys/options", r#"{"password":"wrong","code":"?"}"#),
    ("/passkeys", r#"{"state":"?","name":"?","credential":{}}"#),
    ("/passkeys/none", r#"{"name":"?"}"#),
    ("/passkeys/none/remove", r#"{"password":"?"}"#),
];

const FORM_BODIES: [(&str, &str); 11] = [
    ("/login", "username=?&password=open+sesame"),
    ("/login", "username=alice&password=?"),
    ("/token/refresh", "refresh_token=?"),
    ("/oauth/token", "grant_type=?"),
    (
        "/oauth/token",
        "grant_type=client_credentials&client_id=?&client_secret=x",
    ),
    (
        "/oauth/token",
        "grant_type=client_credentials&client_id=x&client_secret=?",
    ),
    (
        "/oauth/token",
        "grant_type=refresh_token&client_id=latchkey-login&refresh_token=?",
    ),
    (
        "/oauth/token",
        "grant_type=refresh_token&client_id=?&refresh_token=x",
    ),
    ("/oauth/introspect", "client_id=x&client_secret=x&token=?"),
    ("/oauth/revoke", "client_id=latchkey-login&token=?"),
    ("/oauth/revoke", "client_id=?&client_secret=x&token=x"),
];

const PATHS: [(Method, &str); 5] = [
    (Method::DELETE, "/sessions/?"),
    (Method::GET, "/docs/?"),
    (Method::GET, "/?"),
    (Method::GET, "/sessions?which=?"),
    (Method::POST, "/oauth/token?client_id=?"),
];

const HEADERS: [&str; 6] = [
    "user-agent",
    "authorization",
    "cookie",
    "origin",
    "x-forwarded-for",
    "x-latchkey",
];

/// Every request that carries the text, with the name of its place.
fn requests(service: &Service, token: &str, text: &Hostile) -> Vec<(String, RequestBuilder)> {
    let to = |method: &Method, path: &str| {
        let request = service.client.request(method.clone(), service.url(path));
        request.bearer_auth(token)
    };
    let post = |path: &str, kind: &str, body: String| {
        let request = to(&Method::POST, path).header("content-type", kind);
        request.body(body)
    };
    let mut requests = Vec::new();
    for (path, template) in JSON_BODIES {
        let body = template.replace('?', &text.json);
        let place = format!("{path} {template}");
        requests.push((place, post(path, "application/json", body)));
    }
    for (path, template) in FORM_BODIES {
        let body = template.replace('?', &text.encoded);
        let kind = "application/x-www-form-urlencoded";
        requests.push((format!("{path} {template}"), post(path, kind, body)));
    }
    for (method, template) in PATHS {
        let (before, after) = template.rsplit_once('?').expect("a place");
        // A head has its own limit, far below that of a body.
        let end = text.encoded.len().min(20_000);
        let path = format!("{before}{}{after}", &text.encoded[..end]);
        requests.push((template.to_owned(), to(&method, &path)));
    }
    for name in HEADERS {
        let value = match name {
            "authorization" => format!("Basic {}", STANDARD.encode(&text.header)).into_bytes(),
            "cookie" => {
                let mut value = b"__Host-latchkey-refresh=".to_vec();
                value.extend(&text.header);
                value
            }
            _ => text.header.clone(),
        };
        for path in ["/login", "/token/refresh", "/oauth/token"] {
            let request = service.client.post(service.url(path));
            let request = request.header(name, value.clone());
            let request = request.json(&json!({"username": "alice", "password": PASSWORD}));
            requests.push((format!("{path} {name}"), request));
        }
    }
    requests
}

#[tokio::test]
async fn no_text_in_any_place_is_our_own_fault() {
    let service = Service::start_with(|settings| {
        let limits = &mut settings.limits;
        limits.logins_per_name = 10_000;
        limits.logins_per_address = 10_000;
        limits.logins_per_device = 10_000;
        limits.codes_per_account = 10_000;
        limits.clients_per_address = 10_000;
        limits.registrations_per_address = 10_000;
        limits.tokens_per_address = 10_000;
        settings.login.body_limit_bytes = 1024 * 1024;
        settings.registration = auth_service::config::Registration::Open;
        settings.trusted_proxies = vec!["127.0.0.0/8".parse().expect("a network")];
    })
    .await;
    service.add_user("alice").await;
    let token = service.token_of("alice").await;
    for text in hostile_texts() {
        for (place, request) in requests(&service, &token, &text) {
            let what = format!("{} in {place}", text.name);
            match request.send().await {
                Ok(answer) => {
                    let status = answer.status();
                    assert!(!status.is_server_error(), "{what}: {status}");
                }
                // A head that is too long ends the connection, maybe before its answer is read.
                Err(error) => assert_eq!(text.name, "1 MB", "{what}: {error}"),
            }
        }
        // Nobody was locked out, and nobody's password is another.
        service.token_of("alice").await;
    }
}

#[tokio::test]
async fn a_session_whose_id_can_be_none_is_not_found() {
    let (service, _) = Service::with_alice().await;
    let login = service.login("alice").await;
    let now = std::time::SystemTime::now();
    let claims = service.verifier().verify(&login.token, now);
    let own = claims.expect("accepted").sid.clone().expect("a session");
    let delete = async |id: &str| {
        let url = service.url(&format!("/sessions/{id}"));
        let request = service.client.delete(url).bearer_auth(&login.token);
        request.send().await.expect("an answer")
    };
    for bad in ["a%00b", "%00", &format!("{own}%00"), &"a".repeat(5_000)] {
        problem(delete(bad).await, StatusCode::NOT_FOUND, "not_found").await;
    }
    assert_eq!(delete(&own).await.status(), StatusCode::NO_CONTENT);
}
