//! Which pages may call the services: those of a list, which both services read alike.

use harness::{Opening, Options, Polling, Stack, soon};
use reqwest::{Method, Response, StatusCode};
use serde_json::json;

/// Origins that look like the gateway's own, and are not.
fn strangers(stack: &Stack) -> Vec<String> {
    let own = &stack.gateway_url;
    vec![
        "null".to_owned(),
        "https://evil.example".to_owned(),
        format!("{own}.evil.example"),
        format!("{own}0"),
        own.replace("http://", "https://"),
        own.replace("127.0.0.1", "127.0.0.2"),
        own.to_uppercase(),
        format!("{own}/"),
        format!("{own} https://evil.example"),
        "http://127.0.0.1".to_owned(),
    ]
}

/// Asks as a browser does before it sends a request of this kind.
async fn preflight(stack: &Stack, url: &str, origin: &str, method: &str) -> Response {
    let request = stack
        .http()
        .request(Method::OPTIONS, url)
        .header("origin", origin)
        .header("access-control-request-method", method)
        .header("access-control-request-headers", "content-type");
    soon("an answer", request.send()).await.expect("an answer")
}

fn allowed_origin(answer: &Response) -> Option<&str> {
    answer
        .headers()
        .get("access-control-allow-origin")?
        .to_str()
        .ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_may_call_both_services_and_no_other_page_may() {
    let stack = Stack::start().await;
    let (own, login) = (
        stack.gateway_url.clone(),
        format!("{}/login", stack.issuer_url),
    );
    let polling = format!("{own}/socket.io/?EIO=4&transport=polling");
    let localhost = own.replace("127.0.0.1", "localhost");
    for url in [&login, &polling] {
        for origin in [&own, &localhost] {
            let answer = preflight(&stack, url, origin, "POST").await;
            assert!(
                answer.status().is_success(),
                "{url} {origin}: {}",
                answer.status()
            );
            assert_eq!(allowed_origin(&answer), Some(origin.as_str()), "{url}");
            let methods = answer.headers()["access-control-allow-methods"].to_str();
            assert!(methods.expect("text").contains("POST"), "{url}");
        }
        for origin in strangers(&stack) {
            let answer = preflight(&stack, url, &origin, "POST").await;
            assert_eq!(allowed_origin(&answer), None, "{url} {origin}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_services_take_any_scheme_and_a_star_for_one_label() {
    let listed = json!(["capacitor://localhost", "https://*.example.org"]);
    let options = Options::default()
        .gateway("origins", listed.clone())
        .auth("origins", listed);
    let stack = Stack::start_with(options).await;
    let polling = format!("{}/socket.io/?EIO=4&transport=polling", stack.gateway_url);
    for url in [&format!("{}/login", stack.issuer_url), &polling] {
        for origin in ["capacitor://localhost", "https://a.example.org"] {
            let answer = preflight(&stack, url, origin, "POST").await;
            assert_eq!(allowed_origin(&answer), Some(origin), "{url}");
        }
        for origin in [
            "ionic://localhost",
            "https://example.org",
            "https://a.b.example.org",
            "http://a.example.org",
            "https://a.example.org.evil.example",
        ] {
            let answer = preflight(&stack, url, origin, "POST").await;
            assert_eq!(allowed_origin(&answer), None, "{url} {origin}");
        }
    }
    let page = |origin: &str| Polling::of(&stack).header("origin", origin).open();
    assert!(page("https://a.example.org").await.is_ok());
    assert_eq!(
        page("https://a.b.example.org").await.err(),
        Some(StatusCode::FORBIDDEN)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_may_send_credentials_and_headers_of_its_own_and_no_other_page_may() {
    const HEADERS: &str = "authorization, baggage, content-type, sentry-trace, traceparent, x-own";
    let stack = Stack::start().await;
    let own = &stack.gateway_url;
    for url in [
        format!("{}/login", stack.issuer_url),
        format!("{own}/socket.io/?EIO=4&transport=polling"),
        format!("{own}/socket.io/?EIO=3&transport=polling&sid=unknown"),
    ] {
        for origin in strangers(&stack).into_iter().chain([own.clone()]) {
            let request = stack
                .http()
                .request(Method::OPTIONS, &url)
                .header("origin", &origin)
                .header("access-control-request-method", "POST")
                .header("access-control-request-headers", HEADERS);
            let answer = soon("an answer", request.send()).await.expect("an answer");
            let header = |name| {
                let value: Option<&reqwest::header::HeaderValue> = answer.headers().get(name);
                value.map(|value| value.to_str().expect("text").to_lowercase())
            };
            let is_own = origin == *own;
            let credentials = header("access-control-allow-credentials");
            assert_eq!(
                credentials.is_some_and(|value| value == "true"),
                is_own,
                "{url}"
            );
            assert_eq!(allowed_origin(&answer).is_some(), is_own, "{url} {origin}");
            if is_own {
                let allowed = header("access-control-allow-headers").expect("headers");
                let allowed: Vec<_> = allowed.split(',').map(str::trim).collect();
                assert!(
                    HEADERS.split(", ").all(|name| allowed.contains(&name)),
                    "{allowed:?}"
                );
                assert!(header("access-control-max-age").is_some(), "{url}");
            }
        }
    }
    // An error can be read too, by the page alone.
    let url = format!("{own}/socket.io/?EIO=4&transport=polling&sid=unknown");
    let request = stack.http().get(&url).header("origin", own).send();
    let answer = soon("an answer", request).await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    assert_eq!(allowed_origin(&answer), Some(own.as_str()));
    assert_eq!(answer.headers()["access-control-allow-credentials"], "true");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_to_the_page_can_be_read_by_it_and_by_no_other() {
    let stack = Stack::start().await;
    let own = stack.gateway_url.clone();
    let body = json!({"username": "alice", "password": stack.passwords().of("alice")});
    let login = |origin: String| {
        let request = stack
            .http()
            .post(format!("{}/login", stack.issuer_url))
            .json(&body);
        request.header("origin", origin).send()
    };
    let poll = |origin: String| {
        let url = format!("{own}/socket.io/?EIO=4&transport=polling");
        stack.http().get(url).header("origin", origin).send()
    };
    for answer in [
        soon("a login", login(own.clone())).await,
        soon("a poll", poll(own.clone())).await,
    ] {
        let answer = answer.expect("an answer");
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(allowed_origin(&answer), Some(own.as_str()));
        let vary = answer.headers().get_all("vary").iter();
        assert!(
            vary.filter_map(|value| value.to_str().ok())
                .any(|vary| vary.to_lowercase().contains("origin"))
        );
    }
    for origin in strangers(&stack) {
        for answer in [
            soon("a login", login(origin.clone())).await,
            soon("a poll", poll(origin.clone())).await,
        ] {
            assert_eq!(
                allowed_origin(&answer.expect("an answer")),
                None,
                "{origin}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_another_origin_gets_no_session() {
    let stack = Stack::start().await;
    let token = stack.forge().token();
    // The server's own name with another scheme is no stranger to the gateway: see below.
    let own_by_https = stack.gateway_url.replace("http://", "https://");
    let strangers = strangers(&stack).into_iter();
    for origin in strangers.filter(|origin| *origin != own_by_https) {
        let refused = Polling::of(&stack).header("origin", &origin).open().await;
        assert_eq!(refused.err(), Some(StatusCode::FORBIDDEN), "{origin}");
        let refused = Opening::of(&stack).header("origin", &origin).open().await;
        assert_eq!(refused.err(), Some(403), "{origin}");
        let with_token = Opening::of(&stack)
            .header("origin", &origin)
            .query("token", &token);
        assert_eq!(with_token.open().await.err(), Some(403), "{origin}");
    }
    let own = &stack.gateway_url;
    Polling::of(&stack)
        .header("origin", own)
        .admitted(&token)
        .await;
    Opening::of(&stack)
        .header("origin", own)
        .admitted(&token)
        .await;
    // Without an origin it is no browser's request.
    Polling::of(&stack).admitted(&token).await;
    Opening::of(&stack).admitted(&token).await;
    // Two are one too many.
    let both = Opening::of(&stack)
        .header("origin", own)
        .header("origin", "https://evil.example");
    assert_eq!(both.open().await.err(), Some(403));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_cannot_go_on_with_the_session_of_the_page() {
    let stack = Stack::start().await;
    let own = stack.gateway_url.clone();
    let mut owner = Polling::of(&stack)
        .header("origin", &own)
        .admitted(&stack.forge().token())
        .await;
    let thief = owner.clone().header("origin", "https://evil.example");
    assert_eq!(thief.get().await.0, StatusCode::FORBIDDEN);
    assert_eq!(thief.post("41").await.0, StatusCode::FORBIDDEN);
    let upgrade = Opening::of(&stack)
        .query("sid", &owner.sid)
        .header("origin", "https://evil.example");
    assert_eq!(upgrade.open().await.err(), Some(403));
    // Neither can a page that may connect by itself.
    let neighbour = own.replace("127.0.0.1", "localhost");
    let thief = owner.clone().header("origin", &neighbour);
    assert_eq!(thief.get().await.0, StatusCode::BAD_REQUEST);
    assert_eq!(
        owner.call("rt:subscribe", json!({"room": "lobby"})).await["ok"],
        true
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_names_the_server_gets_in_and_its_cookie_does_not_count() {
    let options = Options::default()
        .gateway("origins", json!(["https://app.example"]))
        .gateway("credentials", json!(["auth", "query", "cookie"]))
        .gateway("auth.cookie_name", "session");
    let stack = Stack::start_with(options).await;
    let token = stack.forge().token();
    let host = stack.gateway_url.replace("http://", "");
    for origin in ["http", "https", "ws", "wss"].map(|scheme| format!("{scheme}://{host}")) {
        let opening = Opening::of(&stack).header("origin", &origin);
        opening.admitted(&token).await;
        Polling::of(&stack)
            .header("origin", &origin)
            .admitted(&token)
            .await;
    }
    let cookie = format!("session={token}");
    for (origin, is_admitted) in [
        ("https://app.example".to_owned(), true),
        (format!("http://{host}"), false),
    ] {
        let opening = Opening::of(&stack)
            .header("origin", &origin)
            .header("cookie", &cookie);
        let connected = opening.session().await.connect(&json!({})).await;
        assert_eq!(connected.is_ok(), is_admitted, "{origin}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_is_refused_is_told_its_origin_and_counted() {
    const REFUSED: &str = "latchkey_realtime_origins_refused_total";
    let address = harness::free_address();
    let stack = Stack::start_with(Options::default().gateway("admin.listen", address.as_str()));
    let stack = stack.await;
    let url = format!("{}/socket.io/?EIO=4&transport=polling", stack.gateway_url);
    for (origin, status) in [
        ("https://evil.example", StatusCode::FORBIDDEN),
        (stack.gateway_url.as_str(), StatusCode::OK),
    ] {
        let request = stack.http().get(&url).header("origin", origin).send();
        let answer = soon("an answer", request).await.expect("an answer");
        assert_eq!(answer.status(), status, "{origin}");
        let body = answer.text().await.expect("a body");
        assert_eq!(
            body.contains(origin),
            status == StatusCode::FORBIDDEN,
            "{body}"
        );
    }
    let metrics = stack.http().get(format!("http://{address}/metrics")).send();
    let metrics = soon("the metrics", metrics).await.expect("an answer");
    let metrics = metrics.text().await.expect("text");
    assert!(metrics.contains(&format!("{REFUSED} 1\n")), "{metrics}");
}
