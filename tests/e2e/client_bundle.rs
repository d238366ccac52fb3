//! The stock client in JavaScript, which the gateway serves as Node's Socket.IO server does.

use harness::{Options, Stack, soon, stock::run_node_tests};
use reqwest::{Method, Response, StatusCode, header};

/// The entity tag of Node's server: the release.
const TAG: &str = "\"4.8.3\"";

const SCRIPT: &str = "application/javascript; charset=utf-8";
const MAP: &str = "application/json; charset=utf-8";

async fn request(stack: &Stack, method: Method, name: &str, headers: &[(&str, &str)]) -> Response {
    let url = format!("{}/socket.io/{name}", stack.gateway_url);
    let mut request = stack.http().request(method, url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    soon("an answer", request.send()).await.expect("an answer")
}

async fn get(stack: &Stack, name: &str, headers: &[(&str, &str)]) -> Response {
    request(stack, Method::GET, name, headers).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs npm"]
async fn each_bundle_and_its_map_are_served() {
    let stack = Stack::start().await;
    for (bundle, beginning) in [
        ("socket.io.js", "/*!\n * Socket.IO v4.8.3"),
        ("socket.io.min.js", "/*!\n * Socket.IO v4.8.3"),
        ("socket.io.esm.min.js", "/*!\n * Socket.IO v4.8.3"),
    ] {
        let map = format!("{bundle}.map");
        for (name, content_type, beginning) in
            [(bundle, SCRIPT, beginning), (&map, MAP, "{\"version\":3")]
        {
            let answer = get(&stack, name, &[]).await;
            assert_eq!(answer.status(), StatusCode::OK, "{name}");
            let headers = answer.headers().clone();
            assert_eq!(headers[header::CONTENT_TYPE], content_type, "{name}");
            assert_eq!(headers[header::CACHE_CONTROL], "public, max-age=0");
            assert_eq!(headers[header::ETAG], TAG);
            let text = answer.text().await.expect("a text");
            assert!(text.starts_with(beginning), "{name}: {:.60}", text);
            let names_map = text.contains(&format!("//# sourceMappingURL={map}"));
            assert_eq!(names_map, name == bundle, "{name}");
            let head = request(&stack, Method::HEAD, name, &[]).await;
            assert_eq!(head.status(), StatusCode::OK);
            assert_eq!(
                head.headers()[header::CONTENT_LENGTH],
                text.len().to_string()
            );
            assert_eq!(head.headers()[header::ETAG], TAG);
        }
    }
    let absent = get(&stack, "socket.io.msgpack.min.js", &[]).await;
    assert_eq!(absent.status(), StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs npm"]
async fn a_browser_that_has_the_release_is_not_sent_it_again() {
    let stack = Stack::start().await;
    for (held, status) in [
        (TAG, StatusCode::NOT_MODIFIED),
        ("W/\"4.8.3\"", StatusCode::NOT_MODIFIED),
        ("\"4.8.2\", \"4.8.3\"", StatusCode::NOT_MODIFIED),
        ("\"4.8.2\"", StatusCode::OK),
    ] {
        let answer = get(&stack, "socket.io.js", &[("if-none-match", held)]).await;
        assert_eq!(answer.status(), status, "{held}");
        assert_eq!(answer.headers()[header::ETAG], TAG);
        let body = answer.bytes().await.expect("a body");
        assert_eq!(body.is_empty(), status == StatusCode::NOT_MODIFIED);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs npm"]
async fn pages_of_listed_origins_may_load_it_as_a_module() {
    let stack = Stack::start().await;
    for (origin, is_listed) in [
        (stack.gateway_url.as_str(), true),
        ("https://evil.example", false),
    ] {
        let answer = get(&stack, "socket.io.esm.min.js", &[("origin", origin)]).await;
        assert_eq!(answer.status(), StatusCode::OK);
        let allowed = answer.headers().get(header::ACCESS_CONTROL_ALLOW_ORIGIN);
        let allowed = allowed.map(|value| value.to_str().expect("ASCII"));
        assert_eq!(allowed, is_listed.then_some(origin));
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs npm"]
async fn a_gateway_that_does_not_serve_it_has_its_page_all_the_same() {
    let options = Options::default().gateway("serve_client", false);
    let stack = Stack::start_with(options).await;
    for (path, status) in [
        ("socket.io.js", StatusCode::NOT_FOUND),
        ("socket.io.esm.min.js.map", StatusCode::NOT_FOUND),
        ("../console/socket.io.min.js", StatusCode::OK),
    ] {
        assert_eq!(get(&stack, path, &[]).await.status(), status, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium"]
async fn a_page_connects_with_the_client_that_the_gateway_serves() {
    run_node_tests("bundle.test.mjs", vec![("", Options::default())]).await;
}
