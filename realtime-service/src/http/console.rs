//! The page that the gateway serves at `/`: log in, connect, see the rooms. All of it is embedded in the binary.

use axum::{
    Router,
    body::Bytes,
    http::{HeaderMap, HeaderName, HeaderValue, Uri, header},
};
use serde_json::json;

use super::{
    client_bundle::{self, CLIENT_VERSION},
    document::{content_tag, document},
};

/// What the browser must find in `socket.io.min.js` of that release, wherever it comes from.
const CLIENT_INTEGRITY: &str =
    "sha384-kzavj5fiMwLKzzD1f8S7TeoVIEi7uKHvbTA3ueZkrzYq75pNQUiUi6Dy98Q3fxb0";

/// Where the client comes from when it was not installed at build time.
const CLIENT_CDN: &str = "https://cdn.socket.io";

/// The bundle of the client that the page loads.
const CLIENT: &str = "socket.io.min.js";

/// Stands in `index.html` where the client's script element goes.
const CLIENT_MARKER: &str = "<!-- socket.io-client -->";

const PAGE: &str = include_str!("../../console/index.html");

const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

const STYLE_SHEET: &str = "text/css; charset=utf-8";

/// A file of `console/`: path, content type, content.
macro_rules! asset {
    ($name:literal, $content_type:expr) => {
        (
            concat!("/console/", $name),
            $content_type,
            include_str!(concat!("../../console/", $name)),
        )
    };
}

/// The files beside the page.
const ASSETS: [(&str, &str, &str); 23] = [
    asset!("account.js", JAVASCRIPT),
    asset!("app.js", JAVASCRIPT),
    asset!("composer.js", JAVASCRIPT),
    asset!("gateway.js", JAVASCRIPT),
    asset!("grants.js", JAVASCRIPT),
    asset!("header.js", JAVASCRIPT),
    asset!("issuer.js", JAVASCRIPT),
    asset!("kept.js", JAVASCRIPT),
    asset!("log.js", JAVASCRIPT),
    asset!("mail.js", JAVASCRIPT),
    asset!("login.js", JAVASCRIPT),
    asset!("page.js", JAVASCRIPT),
    asset!("passkey-list.js", JAVASCRIPT),
    asset!("passkeys.js", JAVASCRIPT),
    asset!("people.js", JAVASCRIPT),
    asset!("room.js", JAVASCRIPT),
    asset!("rooms.js", JAVASCRIPT),
    asset!("session.js", JAVASCRIPT),
    asset!("tokens.js", JAVASCRIPT),
    asset!("account.css", STYLE_SHEET),
    asset!("session.css", STYLE_SHEET),
    asset!("style.css", STYLE_SHEET),
    asset!("icon.svg", "image/svg+xml"),
];

/// Routes of the page, its assets, and the configuration that it reads.
///
/// `issuer` is the public URL of the sign-in service, where the page posts the login. It is public knowledge:
/// whoever opens the page can read it.
pub fn routes(issuer: &str) -> Router {
    let client = client_bundle::file(CLIENT);
    let is_embedded = client.is_some();
    let mut router = Router::new()
        .merge(tagged(
            "/",
            page(is_embedded),
            page_headers(issuer, is_embedded),
        ))
        .merge(tagged(
            "/console/config.json",
            config_json(issuer),
            config_headers(),
        ));
    for (path, content_type, content) in ASSETS {
        let content = Bytes::from_static(content.as_bytes());
        router = router.merge(tagged(path, content, asset_headers(content_type)));
    }
    if let Some(client) = client {
        let path = format!("/console/{CLIENT}");
        let client = Bytes::from_static(client);
        router = router.merge(tagged(&path, client, asset_headers(JAVASCRIPT)));
    }
    router
}

/// A document whose tag is made from its content.
fn tagged(path: &str, body: Bytes, headers: HeaderMap) -> Router {
    let tag = content_tag(&body);
    document(path, body, headers, &tag)
}

fn page(is_embedded: bool) -> Bytes {
    let script = if is_embedded {
        format!(
            r#"<script src="/console/socket.io.min.js" integrity="{CLIENT_INTEGRITY}" defer></script>"#
        )
    } else {
        format!(
            r#"<script src="{CLIENT_CDN}/{CLIENT_VERSION}/socket.io.min.js" integrity="{CLIENT_INTEGRITY}" crossorigin="anonymous" defer></script>"#
        )
    };
    PAGE.replacen(CLIENT_MARKER, &script, 1).into()
}

fn config_json(issuer: &str) -> Bytes {
    json!({ "issuer": issuer }).to_string().into()
}

fn page_headers(issuer: &str, is_embedded: bool) -> HeaderMap {
    let mut headers = asset_headers("text/html; charset=utf-8");
    if let Ok(policy) = HeaderValue::try_from(content_security_policy(issuer, is_embedded)) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    headers.insert(
        header::REFERRER_POLICY,
        HeaderValue::from_static("no-referrer"),
    );
    headers.insert(
        HeaderName::from_static("cross-origin-opener-policy"),
        HeaderValue::from_static("same-origin"),
    );
    headers
}

/// Headers of what a browser may keep but must ask about, so that a new build of the gateway is seen at once.
fn asset_headers(content_type: &'static str) -> HeaderMap {
    HeaderMap::from_iter([
        (header::CONTENT_TYPE, HeaderValue::from_static(content_type)),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        ),
    ])
}

fn config_headers() -> HeaderMap {
    let mut headers = asset_headers("application/json");
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers
}

/// What the page may load and reach: its own files, this gateway (`'self'` covers its WebSocket), and the issuer.
fn content_security_policy(issuer: &str, is_embedded: bool) -> String {
    let cdn = if is_embedded {
        String::new()
    } else {
        format!(" {CLIENT_CDN}")
    };
    let issuer = origin_of(issuer)
        .map(|origin| format!(" {origin}"))
        .unwrap_or_default();
    [
        "default-src 'none'",
        &format!("script-src 'self'{cdn}"),
        "style-src 'self'",
        "img-src 'self'",
        &format!("connect-src 'self'{issuer}"),
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
    ]
    .join("; ")
}

/// Scheme, host and port of a URL. A policy's source with a path would match that path only.
fn origin_of(url: &str) -> Option<String> {
    let url: Uri = url.parse().ok()?;
    let port = url
        .port()
        .map(|port| format!(":{port}"))
        .unwrap_or_default();
    Some(format!("{}://{}{port}", url.scheme_str()?, url.host()?))
}

#[cfg(test)]
mod tests {
    use axum::{
        body::Body,
        http::{Request, StatusCode},
    };
    use base64::{Engine, engine::general_purpose::STANDARD};
    use http_body_util::BodyExt;
    use serde_json::Value;
    use sha2::{Digest, Sha384};
    use tower::ServiceExt;

    use super::*;

    const ISSUER: &str = "http://localhost:8080";

    async fn get_path(path: &str, if_none_match: Option<&str>) -> (StatusCode, HeaderMap, Bytes) {
        let mut request = Request::get(path);
        if let Some(etag) = if_none_match {
            request = request.header(header::IF_NONE_MATCH, etag);
        }
        let answer = routes(ISSUER)
            .oneshot(request.body(Body::empty()).expect("a valid request"))
            .await
            .expect("an answer");
        let (parts, body) = answer.into_parts();
        (
            parts.status,
            parts.headers,
            body.collect().await.expect("a body").to_bytes(),
        )
    }

    #[test]
    fn the_embedded_client_is_the_pinned_one() {
        let Some(client) = client_bundle::file(CLIENT) else {
            return;
        };
        assert_eq!(
            format!("sha384-{}", STANDARD.encode(Sha384::digest(client))),
            CLIENT_INTEGRITY
        );
    }

    #[test]
    fn npm_installs_the_pinned_client() {
        let lock: Value =
            serde_json::from_str(include_str!("../../console/package-lock.json")).expect("JSON");
        assert_eq!(
            lock["packages"]["node_modules/socket.io-client"]["version"],
            CLIENT_VERSION
        );
        assert_eq!(
            lock["packages"][""]["dependencies"]["socket.io-client"],
            CLIENT_VERSION
        );
    }

    #[test]
    fn the_client_comes_from_here_or_with_an_integrity_hash_from_its_makers() {
        let text = |is_embedded| String::from_utf8(page(is_embedded).to_vec()).expect("UTF-8");
        assert!(
            text(true).contains(r#"<script src="/console/socket.io.min.js" integrity="sha384-"#)
        );
        assert!(!text(true).contains(CLIENT_CDN));
        assert!(text(false).contains(&format!(r#"<script src="{CLIENT_CDN}/{CLIENT_VERSION}/socket.io.min.js" integrity="{CLIENT_INTEGRITY}" crossorigin"#)));
        assert!(!text(false).contains(CLIENT_MARKER));
    }

    #[test]
    fn the_policy_lets_the_page_reach_the_issuer_and_nobody_else() {
        let embedded = content_security_policy("https://id.example.com:8443/realms/one", true);
        assert!(embedded.contains("connect-src 'self' https://id.example.com:8443;"));
        assert!(embedded.contains("script-src 'self';"));
        assert!(
            content_security_policy(ISSUER, false)
                .contains("script-src 'self' https://cdn.socket.io;")
        );
        assert!(!embedded.contains("unsafe"));
    }

    #[test]
    fn the_page_has_nothing_inline() {
        let is_handler = |word: &str| word.starts_with("on") && word.contains('=');
        assert!(!PAGE.split_whitespace().any(is_handler));
        assert!(!PAGE.contains("style=") && !PAGE.contains("<style"));
        assert_eq!(
            PAGE.matches("<script").count(),
            PAGE.matches("<script src=").count()
        );
    }

    #[tokio::test]
    async fn the_page_is_served_with_its_policy() {
        let (status, headers, body) = get_path("/", None).await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!(headers[header::CONTENT_TYPE], "text/html; charset=utf-8");
        assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
        assert_eq!(headers[header::REFERRER_POLICY], "no-referrer");
        assert!(
            headers[header::CONTENT_SECURITY_POLICY]
                .to_str()
                .expect("ASCII")
                .starts_with("default-src 'none'; ")
        );
        assert!(body.starts_with(b"<!doctype html>"));
    }

    #[tokio::test]
    async fn the_page_learns_the_issuer_afresh_each_time() {
        let (_, headers, body) = get_path("/console/config.json", None).await;
        assert_eq!(headers[header::CACHE_CONTROL], "no-store");
        assert_eq!(&body[..], br#"{"issuer":"http://localhost:8080"}"#);
    }

    #[tokio::test]
    async fn everything_that_the_page_names_is_served() {
        for (path, content_type, content) in ASSETS {
            let (status, headers, body) = get_path(path, None).await;
            assert_eq!(
                (status, body.as_ref()),
                (StatusCode::OK, content.as_bytes()),
                "{path}"
            );
            assert_eq!(headers[header::CONTENT_TYPE], content_type, "{path}");
        }
        let (status, ..) = get_path("/console/socket.io.min.js", None).await;
        assert_eq!(status.is_success(), client_bundle::file(CLIENT).is_some());
    }

    #[tokio::test]
    async fn what_the_browser_holds_is_not_sent_again() {
        let (_, headers, _) = get_path("/console/app.js", None).await;
        let etag = headers[header::ETAG].to_str().expect("ASCII");
        let (status, _, body) =
            get_path("/console/app.js", Some(&format!("\"other\", W/{etag}"))).await;
        assert_eq!((status, body.len()), (StatusCode::NOT_MODIFIED, 0));
        let (status, ..) = get_path("/console/app.js", Some("\"other\"")).await;
        assert_eq!(status, StatusCode::OK);
    }
}
