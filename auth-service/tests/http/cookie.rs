//! The refresh token as a cookie: for listed pages, and for nobody else.

use reqwest::{RequestBuilder, Response, StatusCode, header::HeaderValue};
use serde_json::{Value, json};

use crate::fixture::{PASSWORD, Service, problem};

const PAGE: &str = "http://localhost:9000";
const COOKIE: &str = "__Host-latchkey-refresh";

fn as_page(request: RequestBuilder) -> RequestBuilder {
    request.header("origin", PAGE).header("x-latchkey", "1")
}

fn login(service: &Service) -> RequestBuilder {
    let body = json!({"username": "alice", "password": PASSWORD, "cookie": true});
    service.client.post(service.url("/login")).json(&body)
}

fn refresh(service: &Service, cookie: &str) -> RequestBuilder {
    let request = service.client.post(service.url("/token/refresh"));
    request.header("cookie", cookie)
}

/// The `name=value` of the cookie that an answer sets.
fn cookie_of(answer: &Response) -> String {
    let set = answer.headers()["set-cookie"].to_str().expect("text");
    set.split(';').next().expect("a value").to_owned()
}

async fn cookie_of_alice(service: &Service) -> String {
    let answer = as_page(login(service)).send().await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::OK);
    cookie_of(&answer)
}

#[tokio::test]
async fn a_page_gets_a_cookie_that_its_code_cannot_read_and_no_token_in_the_body() {
    let (service, _) = Service::with_alice().await;
    let answer = as_page(login(&service)).send().await.expect("an answer");
    assert_eq!(answer.headers()["access-control-allow-origin"], PAGE);
    assert_eq!(answer.headers()["access-control-allow-credentials"], "true");
    let set = answer.headers()["set-cookie"]
        .to_str()
        .expect("text")
        .to_owned();
    assert!(set.starts_with(&format!("{COOKIE}=")), "{set}");
    for attribute in [
        "HttpOnly",
        "Secure",
        "SameSite=Strict",
        "Path=/",
        "Max-Age=1209600",
    ] {
        assert!(
            set.contains(&format!("; {attribute}")),
            "{attribute}: {set}"
        );
    }
    assert!(!set.contains("Domain"), "{set}");
    let body: Value = answer.json().await.expect("JSON");
    assert_eq!(body.get("refresh_token"), None);
    assert!(body["token"].is_string());
}

#[tokio::test]
async fn the_cookie_is_rotated_and_taken_back() {
    let (service, _) = Service::with_alice().await;
    let first = cookie_of_alice(&service).await;
    let answer = as_page(refresh(&service, &first))
        .send()
        .await
        .expect("an answer");
    assert_eq!(answer.status(), StatusCode::OK);
    let second = cookie_of(&answer);
    assert_ne!(first, second);
    let body: Value = answer.json().await.expect("JSON");
    assert_eq!(body.get("refresh_token"), None);
    let token = body["token"].as_str().expect("a token");

    let answer = service.post("/logout", Some(token), &json!({})).await;
    assert_eq!(cookie_of(&answer), format!("{COOKIE}="));
    let answer = as_page(refresh(&service, &second))
        .send()
        .await
        .expect("an answer");
    assert_eq!(cookie_of(&answer), format!("{COOKIE}="));
    problem(answer, StatusCode::UNAUTHORIZED, "invalid_grant").await;
}

#[tokio::test]
async fn another_page_gets_nowhere_with_the_cookie_and_the_listed_one_still_does() {
    let (service, _) = Service::with_alice().await;
    let cookie = cookie_of_alice(&service).await;
    let attempts = [
        refresh(&service, &cookie).header("x-latchkey", "1"),
        refresh(&service, &cookie).header("origin", PAGE),
        refresh(&service, &cookie)
            .header("origin", PAGE)
            .header("x-latchkey", "2"),
        refresh(&service, &cookie)
            .header("origin", "null")
            .header("x-latchkey", "1"),
        refresh(&service, &cookie)
            .header("origin", "http://localhost:9000.evil.example")
            .header("x-latchkey", "1"),
        as_page(refresh(&service, &cookie)).header("origin", PAGE),
        as_page(refresh(&service, &cookie)).header("sec-fetch-site", "cross-site"),
        as_page(refresh(&service, &cookie)).header("sec-fetch-site", "none"),
    ];
    for attempt in attempts {
        let answer = attempt.send().await.expect("an answer");
        assert!(!answer.headers().contains_key("set-cookie"));
        problem(answer, StatusCode::FORBIDDEN, "page_forbidden").await;
    }
    let listed = as_page(refresh(&service, &cookie)).header("sec-fetch-site", "same-site");
    let answer = listed.send().await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::OK);
}

/// A page of a neighbouring host can set cookies for the whole domain, with any bytes.
#[tokio::test]
async fn a_cookie_that_is_no_text_takes_no_other_with_it() {
    let (service, _) = Service::with_alice().await;
    for others in [b"x=1; ".as_slice(), b"x=\xc3\xa9; ", b"x=\xff; ", b"\xff; "] {
        let cookie = [others, cookie_of_alice(&service).await.as_bytes()].concat();
        let value = HeaderValue::from_bytes(&cookie).expect("a header");
        let request = service.client.post(service.url("/token/refresh"));
        let answer = as_page(request.header("cookie", value)).send().await;
        assert_eq!(answer.expect("an answer").status(), StatusCode::OK);
    }
}

#[tokio::test]
async fn another_page_signs_nobody_in_with_a_cookie() {
    let (service, _) = Service::with_alice().await;
    let form = [
        ("username", "alice"),
        ("password", PASSWORD),
        ("cookie", "true"),
    ];
    let url = service.url("/login");
    let attempts = [
        login(&service),
        login(&service).header("origin", PAGE),
        service
            .client
            .post(&url)
            .form(&form)
            .header("origin", "https://evil.example"),
    ];
    for attempt in attempts {
        let answer = attempt.send().await.expect("an answer");
        assert!(!answer.headers().contains_key("set-cookie"));
        problem(answer, StatusCode::FORBIDDEN, "page_forbidden").await;
    }
    let listed = as_page(service.client.post(&url).form(&form));
    let answer = listed.send().await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::OK);
    assert!(cookie_of(&answer).starts_with(COOKIE));
}

#[tokio::test]
async fn of_two_refresh_tokens_neither_is_used() {
    let (service, _) = Service::with_alice().await;
    let cookie = cookie_of_alice(&service).await;
    let twice = as_page(refresh(&service, &format!("{cookie}; {COOKIE}=another")));
    let in_body = as_page(refresh(&service, &cookie)).json(&json!({"refresh_token": "another"}));
    for attempt in [twice, in_body] {
        let answer = attempt.send().await.expect("an answer");
        problem(answer, StatusCode::BAD_REQUEST, "invalid_request").await;
    }
    let answer = as_page(refresh(&service, &cookie))
        .send()
        .await
        .expect("an answer");
    assert_eq!(answer.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_login_starts_a_session_of_its_own_whatever_cookie_comes_with_it() {
    let (service, _) = Service::with_alice().await;
    let planted = format!("{COOKIE}=planted");
    let answer = as_page(login(&service))
        .header("cookie", &planted)
        .send()
        .await;
    let answer = answer.expect("an answer");
    assert_eq!(answer.status(), StatusCode::OK);
    assert_ne!(cookie_of(&answer), planted);
}

/// A page that is not listed, on the same site, whose browser adds the cookie of the owner's device.
#[tokio::test]
async fn the_cookie_of_a_device_is_used_by_listed_pages_alone() {
    let service = Service::start_with(|settings| {
        settings.limits.logins_per_device = 2;
        settings.limits.logins_per_name = 2;
    })
    .await;
    service.add_user("alice").await;
    let answer = as_page(login(&service)).send().await.expect("an answer");
    let set = answer.headers().get_all("set-cookie").iter();
    let pairs = set.map(|line| line.to_str().expect("text").split(';').next());
    let device = pairs.flatten().find(|pair| pair.contains("-device="));
    let device = device.expect("a cookie").to_owned();
    let wrong = [("username", "alice"), ("password", "wrong")];
    for _ in 0..2 {
        let form = service.client.post(service.url("/login")).form(&wrong);
        let form = form.header("cookie", &device);
        let page = form.header("origin", "http://evil.localhost:9000");
        let refused = page.send().await.expect("an answer");
        problem(refused, StatusCode::UNAUTHORIZED, "invalid_credentials").await;
    }
    // The name is shut for strangers now, and the device is none.
    let stranger = as_page(login(&service)).send().await.expect("an answer");
    problem(stranger, StatusCode::UNAUTHORIZED, "invalid_credentials").await;
    let own = as_page(login(&service)).header("cookie", &device);
    let own = own.send().await.expect("an answer");
    assert_eq!(own.status(), StatusCode::OK);
}
