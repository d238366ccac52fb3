//! `GET /openapi.json` and the page at `/docs/`

use reqwest::{Client, Method, Response, StatusCode, redirect};
use serde_json::Value;

use crate::fixture::{Service, problem};

async fn get(service: &Service, path: &str) -> Response {
    let answer = service.client.get(service.url(path)).send().await;
    answer.expect("an answer")
}

#[tokio::test]
async fn what_is_described_is_there() {
    let service = Service::start().await;
    let answer = get(&service, "/openapi.json").await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.headers()["content-type"], "application/json");
    assert_eq!(answer.headers()["cache-control"], "public, max-age=300");
    let document: Value = answer.json().await.expect("JSON");
    assert!(
        document["openapi"]
            .as_str()
            .is_some_and(|version| version.starts_with("3."))
    );
    assert!(document["components"]["securitySchemes"]["bearer"].is_object());
    for (path, operations) in document["paths"].as_object().expect("paths") {
        for method in operations.as_object().expect("operations").keys() {
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).expect("a method");
            let path = path.replace(['{', '}'], "");
            let request = service.client.request(method, service.url(&path));
            let answer = request.send().await.expect("an answer");
            let is_routed = answer.status() != StatusCode::METHOD_NOT_ALLOWED;
            assert!(is_routed, "{path}");
            let body = answer.text().await.expect("text");
            assert!(!body.contains(r#""code":"not_found""#), "{path}");
        }
    }
}

#[tokio::test]
async fn a_problem_is_described_as_it_is() {
    let service = Service::start().await;
    let document: Value = get(&service, "/openapi.json")
        .await
        .json()
        .await
        .expect("JSON");
    let described = &document["components"]["schemas"]["Problem"]["properties"];
    let mut shown = problem(
        service.get_me(None).await,
        StatusCode::UNAUTHORIZED,
        "credentials_required",
    )
    .await;
    // The one member that only a login with a second factor has.
    shown["challenge"] = Value::Null;
    let names = |value: &Value| {
        let mut names: Vec<_> = value
            .as_object()
            .expect("members")
            .keys()
            .cloned()
            .collect();
        names.sort();
        names
    };
    assert_eq!(names(described), names(&shown));
}

#[tokio::test]
async fn the_page_is_there_when_the_setting_says_so() {
    let service = Service::start_with(|settings| settings.docs = false).await;
    for path in ["/docs", "/docs/", "/docs/swagger-ui.css"] {
        let answer = get(&service, path).await;
        problem(answer, StatusCode::NOT_FOUND, "not_found").await;
    }
    let description = get(&service, "/openapi.json").await;
    assert_eq!(description.status(), StatusCode::OK);
    let service = service
        .restart_with(|config| config.settings.docs = true)
        .await;
    for path in ["/docs", "/docs/", "/docs/swagger-ui.css"] {
        assert_eq!(get(&service, path).await.status(), StatusCode::OK);
    }
}

#[tokio::test]
async fn the_page_has_all_its_files_and_a_policy_that_lets_it_load_no_others() {
    let service = Service::start().await;
    let page = get(&service, "/docs/").await;
    assert_eq!(page.status(), StatusCode::OK);
    assert_eq!(page.headers()["content-type"], "text/html");
    let policy = page.headers()["content-security-policy"]
        .to_str()
        .expect("text")
        .to_owned();
    assert!(policy.starts_with("default-src 'none'; "), "{policy}");
    assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
    for word in ["unsafe", "http", "*"] {
        assert!(!policy.contains(word), "{policy}");
    }
    let page = page.text().await.expect("text");
    let mut files = 0;
    for part in page.split([' ', '>']) {
        let link = part.strip_prefix("src=\"").or(part.strip_prefix("href=\""));
        let Some(file) = link.and_then(|link| link.strip_suffix('"')) else {
            continue;
        };
        let file = file.trim_start_matches("./");
        let answer = get(&service, &format!("/docs/{file}")).await;
        assert_eq!(answer.status(), StatusCode::OK, "{file}");
        assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
        files += 1;
    }
    assert_eq!(files, 7, "{page}");
    let start = get(&service, "/docs/swagger-initializer.js").await;
    let start = start.text().await.expect("text");
    assert!(start.contains("\"../openapi.json\""), "{start}");
    assert!(!start.contains("http"), "{start}");
}

#[tokio::test]
async fn no_other_file_is_served() {
    let service = Service::start().await;
    for path in [
        "/docs/oauth2-redirect.html",
        "/docs/..%2fopenapi.json",
        "/docs/index.html/",
        "/docs//index.html",
        "/docs/INDEX.HTML",
        "/Docs/",
        "/openapi.json/",
        "/openapi.yaml",
    ] {
        problem(
            get(&service, path).await,
            StatusCode::NOT_FOUND,
            "not_found",
        )
        .await;
    }
    let client = Client::builder().redirect(redirect::Policy::none()).build();
    let answer = client
        .expect("a client")
        .get(service.url("/docs"))
        .send()
        .await;
    let answer = answer.expect("an answer");
    assert_eq!(answer.status(), StatusCode::PERMANENT_REDIRECT);
    assert_eq!(answer.headers()["location"], "docs/");
}
