//! `POST /login`

use std::time::SystemTime;

use futures_util::future::join_all;
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};
use shared_claims::claims::{LOGIN_CLIENT_ID, Profile};

use crate::fixture::{PASSWORD, Service, problem, read_raw};

const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";

#[tokio::test]
async fn a_right_password_gets_a_token_that_the_gateway_accepts() {
    let (service, id) = Service::with_alice().await;
    let answer = service.post_login("alice", PASSWORD).await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.headers()["cache-control"], "no-store");
    assert_eq!(answer.headers()["content-type"], JSON);
    let answer: Value = answer.json().await.expect("JSON");
    assert_eq!(answer["token_type"], "Bearer");
    assert_eq!(answer["expires_in"], 900);
    let refresh_token = answer["refresh_token"].as_str().expect("a refresh token");
    assert_eq!(refresh_token.len(), 43);
    assert!(answer["device_token"].is_string());
    assert_eq!(answer.as_object().map(serde_json::Map::len), Some(5));

    let token = answer["token"].as_str().expect("a token");
    let claims = service
        .verifier()
        .verify(token, SystemTime::now())
        .expect("accepted");
    assert_eq!(claims.iss, "http://localhost:8080");
    assert_eq!(claims.sub, id);
    assert_eq!(claims.exp - claims.iat, 900);
    assert_eq!(claims.client_id.as_deref(), Some(LOGIN_CLIENT_ID));
    let length = |id: &Option<String>| id.as_ref().map(String::len);
    assert_eq!(
        (claims.sub.len(), length(&claims.sid), length(&claims.jti)),
        (22, Some(22), Some(22))
    );
    let profile = Profile {
        preferred_username: Some("alice".to_owned()),
        name: Some("A Name".to_owned()),
        email: Some("alice@example.org".to_owned()),
        email_verified: Some(false),
        ..Profile::default()
    };
    assert_eq!(claims.profile, profile);
}

#[tokio::test]
async fn each_login_is_a_session_of_its_own() {
    let (service, _) = Service::with_alice().await;
    let verifier = service.verifier();
    let (one, other) = (
        service.token_of("alice").await,
        service.token_of("ALICE").await,
    );
    let now = SystemTime::now();
    let (one, other) = (
        verifier.verify(&one, now).expect("accepted"),
        verifier.verify(&other, now).expect("accepted"),
    );
    assert_eq!(one.sub, other.sub);
    assert_ne!(one.sid, other.sid);
    assert_ne!(one.jti, other.jti);
}

#[tokio::test]
async fn the_profile_stays_out_of_the_token_when_the_settings_say_so() {
    let service = Service::start_with(|settings| {
        settings.token.profile = false;
        settings.token.lifetime_secs = 60;
        settings.public_url = "https://auth.example.org".to_owned();
    })
    .await;
    service.add_user("alice").await;
    let token = service.token_of("alice").await;
    let claims = service
        .verifier()
        .verify(&token, SystemTime::now())
        .expect("accepted");
    assert_eq!(claims.profile, Profile::default());
    assert_eq!(claims.exp - claims.iat, 60);
    assert_eq!(claims.iss, "https://auth.example.org");
}

#[tokio::test]
async fn a_token_is_for_the_services_of_the_settings_too_and_for_the_gateway_in_any_case() {
    const API: &str = "https://api.example.org";
    for audiences in [vec![], vec![API.to_owned()]] {
        let is_for_the_api = !audiences.is_empty();
        let service = Service::start_with(|settings| settings.token.audiences = audiences).await;
        service.add_user("alice").await;
        let login = service.login("alice").await;
        let refreshed = service.refresh(&login.refresh_token).await;
        let refreshed: Value = refreshed.json().await.expect("JSON");
        let refreshed = refreshed["token"].as_str().expect("a token");
        for token in [login.token.as_str(), refreshed] {
            let claims = service.verifier().verify(token, SystemTime::now());
            let claims = claims.expect("a token for the gateway");
            assert_eq!(claims.aud.contains(API), is_for_the_api);
            let request = service.client.get(service.url("/me")).bearer_auth(token);
            let answer = request.send().await.expect("an answer");
            assert_eq!(answer.status(), StatusCode::OK);
        }
    }
}

#[tokio::test]
async fn json_and_a_form_say_the_same() {
    let (service, _) = Service::with_alice().await;
    for (content_type, body) in [
        (JSON, r#"{"username":"alice","password":"open sesame"}"#),
        (
            "application/json; charset=UTF-8",
            r#" {"password":"open sesame","username":"alice"}"#,
        ),
        (FORM, "username=alice&password=open+sesame"),
        (FORM, "password=open%20sesame&username=%61lice"),
    ] {
        let answer = service.post_login_body(content_type, body).await;
        assert_eq!(answer.status(), StatusCode::OK, "{content_type} {body}");
    }
}

/// All that a visitor sees, but for the clock.
async fn visible(answer: Response) -> (StatusCode, Vec<(String, String)>, String) {
    let mut headers: Vec<_> = answer
        .headers()
        .iter()
        .filter(|(name, _)| *name != "date")
        .map(|(name, value)| (name.to_string(), format!("{value:?}")))
        .collect();
    headers.sort();
    (answer.status(), headers, answer.text().await.expect("text"))
}

#[tokio::test]
async fn unknown_wrong_and_disabled_look_the_same() {
    let (service, _) = Service::with_alice().await;
    service.add_user("shut").await;
    assert_eq!(
        service.post_login("shut", PASSWORD).await.status(),
        StatusCode::OK
    );
    service.disable_user("shut").await;

    let wrong = service.post_login("alice", "open barley").await;
    let wrong = visible(wrong).await;
    assert_eq!(wrong.0, StatusCode::UNAUTHORIZED);
    assert!(wrong.2.contains(r#""code":"invalid_credentials""#));
    for username in [
        "nobody",
        "shut",
        "",
        "no name",
        "älice",
        "' or 1=1--",
        "alice\0",
    ] {
        let answer = service.post_login(username, PASSWORD).await;
        assert_eq!(visible(answer).await, wrong, "{username}");
    }
}

#[tokio::test]
async fn what_is_no_login_is_refused_and_not_repeated() {
    let (service, _) = Service::with_alice().await;
    let deep = format!("{}{}", "[".repeat(5_000), "]".repeat(5_000));
    let deep_member = format!(r#"{{"username":"alice","password":{deep}}}"#);
    let long = format!(
        r#"{{"username":"alice","password":"{}"}}"#,
        "a".repeat(1025)
    );
    for (content_type, body) in [
        (JSON, ""),
        (JSON, "hidden"),
        (JSON, r#""hidden""#),
        (JSON, r#"["alice","open sesame"]"#),
        (JSON, r#"{"username":"alice"}"#),
        (JSON, r#"{"username":"alice","password":["hidden"]}"#),
        (JSON, r#"{"username":"alice","password":{"hidden":1}}"#),
        (JSON, r#"{"username":"alice","password":1}"#),
        (JSON, r#"{"username":"alice","password":true}"#),
        (JSON, r#"{"username":"alice","password":null}"#),
        (JSON, r#"{"username":"alice","password":NaN}"#),
        (
            JSON,
            r#"{"username":"alice","password":"open sesame","role":"hidden"}"#,
        ),
        (
            JSON,
            r#"{"username":"alice","password":"hidden","password":"open sesame"}"#,
        ),
        (
            JSON,
            r#"{"username":"alice","password":"open sesame"} hidden"#,
        ),
        (JSON, r#"{"username":"alice","password":""}"#),
        (JSON, r#"{"username":"alice","password":"a\u0000hidden"}"#),
        (JSON, deep.as_str()),
        (JSON, deep_member.as_str()),
        (JSON, long.as_str()),
        (FORM, ""),
        (FORM, "username=alice"),
        (FORM, "username=alice&password="),
        (FORM, "username=alice&password=hidden&password=open+sesame"),
        (FORM, "username=alice&password=open+sesame&role=hidden"),
        (FORM, "username=alice&password=hidden%FF"),
        (FORM, r#"{"username":"alice","password":"open sesame"}"#),
    ] {
        let answer = service.post_login_body(content_type, body).await;
        let body = problem(answer, StatusCode::BAD_REQUEST, "invalid_request").await;
        assert!(!body.to_string().contains("hidden"), "{body}");
    }
    // And the service is as it was.
    service.token_of("alice").await;
}

#[tokio::test]
async fn other_kinds_of_body_are_unsupported() {
    let (service, _) = Service::with_alice().await;
    let body = json!({"username": "alice", "password": PASSWORD}).to_string();
    for content_type in [
        "text/plain",
        "application/xml",
        "multipart/form-data; boundary=x",
        "application/json; charset=utf-16",
        "application/json; charset=iso-8859-1",
        "application/jsonp",
        "nonsense",
    ] {
        let answer = service.post_login_body(content_type, &body).await;
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        problem(answer, status, "unsupported_media_type").await;
    }
}

#[tokio::test]
async fn a_compressed_body_is_unsupported_and_an_uncompressed_one_is_not() {
    let (service, _) = Service::with_alice().await;
    for (coding, status) in [
        ("gzip", StatusCode::UNSUPPORTED_MEDIA_TYPE),
        ("br", StatusCode::UNSUPPORTED_MEDIA_TYPE),
        ("identity", StatusCode::OK),
    ] {
        let answer = service
            .client
            .post(service.url("/login"))
            .header("content-encoding", coding)
            .json(&json!({"username": "alice", "password": PASSWORD}))
            .send()
            .await
            .expect("an answer");
        assert_eq!(answer.status(), status, "{coding}");
    }
}

#[tokio::test]
async fn a_large_body_is_refused_by_its_announced_length() {
    let service = Service::start().await;
    let connection = service.send_raw(
        b"POST /login HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n\
          content-length: 10000000\r\n\r\n",
    );
    let answer = read_raw(connection).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(answer.contains(r#""code":"body_too_large""#), "{answer}");
}

#[tokio::test]
async fn a_large_body_without_a_length_is_refused_at_the_limit() {
    let service = Service::start().await;
    let chunk = format!("4001\r\n{}\r\n", "a".repeat(0x4001));
    let head = "POST /login HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n\
                transfer-encoding: chunked\r\n\r\n";
    let connection = service.send_raw(format!("{head}{chunk}").as_bytes());
    let answer = read_raw(connection).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

#[tokio::test]
async fn a_body_that_does_not_come_is_refused_after_the_deadline() {
    let service = Service::start_with(|settings| settings.login.body_deadline_secs = 1).await;
    let connection = service.send_raw(
        b"POST /login HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n\
          content-length: 100\r\n\r\n{",
    );
    let answer = read_raw(connection).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains(r#""code":"body_timeout""#), "{answer}");
}

#[tokio::test]
async fn more_logins_than_the_queue_holds_are_told_when_to_come_back() {
    let service = Service::start_with(|settings| settings.password.queue = 1).await;
    service.add_user("alice").await;
    let answers = join_all((0..20).map(|_| service.post_login("alice", PASSWORD))).await;
    let (accepted, refused): (Vec<_>, Vec<_>) = answers
        .into_iter()
        .partition(|answer| answer.status() == StatusCode::OK);
    assert!(!accepted.is_empty() && !refused.is_empty());
    for answer in refused {
        assert_eq!(answer.headers()["retry-after"], "1");
        problem(answer, StatusCode::SERVICE_UNAVAILABLE, "overloaded").await;
    }
    service.token_of("alice").await;
}

#[tokio::test]
async fn only_post_is_taken() {
    let service = Service::start().await;
    let answer = service.client.get(service.url("/login")).send().await;
    let answer = answer.expect("an answer");
    assert_eq!(answer.headers()["allow"], "POST");
    problem(answer, StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed").await;
}

#[tokio::test]
async fn an_unknown_path_is_not_found() {
    let service = Service::start().await;
    for path in ["/", "/login/", "/nothing", "/%00", "/../login%2f"] {
        let answer = service.client.get(service.url(path)).send().await;
        let answer = answer.expect("an answer");
        problem(answer, StatusCode::NOT_FOUND, "not_found").await;
    }
}

#[tokio::test]
async fn white_space_around_a_name_is_not_part_of_it_and_in_a_password_it_is() {
    let (service, _) = Service::with_alice().await;
    for (name, password, status) in [
        (" alice", PASSWORD.to_owned(), StatusCode::OK),
        ("alice\n", PASSWORD.to_owned(), StatusCode::OK),
        ("\u{a0}Alice \t", PASSWORD.to_owned(), StatusCode::OK),
        ("al ice", PASSWORD.to_owned(), StatusCode::UNAUTHORIZED),
        ("alice", format!(" {PASSWORD}"), StatusCode::UNAUTHORIZED),
        ("alice", format!("{PASSWORD} "), StatusCode::UNAUTHORIZED),
    ] {
        let answer = service.post_login(name, &password).await;
        assert_eq!(answer.status(), status, "{name:?} {password:?}");
    }
}
