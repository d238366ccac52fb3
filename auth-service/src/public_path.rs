//! The path of the public URL, when it has one: a proxy may send it along or take it away.

use actix_web::{
    Error,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    http::{Uri, uri::PathAndQuery},
    middleware::Next,
    web,
};

use crate::state::AppState;

/// The place of metadata, to which the path of the issuer is appended (RFC 8414, section 3.1).
const METADATA: &str = "/.well-known/oauth-authorization-server";

/// Routes a request as if the public URL had no path.
///
/// A request without the path is routed as it is, since a proxy can have taken the path away.
pub(crate) async fn strip_public_path<B: MessageBody>(
    state: web::Data<AppState>,
    mut request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, Error> {
    let prefix = state.settings().public_path();
    if let Some(uri) = stripped(request.uri(), prefix) {
        request.match_info_mut().get_mut().update(&uri);
        request.head_mut().uri = uri;
    }
    next.call(request).await
}

/// Returns `uri` without `prefix`; `None` when there is nothing to take away.
fn stripped(uri: &Uri, prefix: &str) -> Option<Uri> {
    if prefix.is_empty() {
        return None;
    }
    let path = match uri.path().strip_prefix(prefix) {
        Some(rest) if rest.starts_with('/') => rest,
        _ if uri.path().strip_prefix(METADATA) == Some(prefix) => METADATA,
        _ => return None,
    };
    let query = uri.query().map(|query| format!("?{query}"));
    let path = format!("{path}{}", query.unwrap_or_default());
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(path.parse::<PathAndQuery>().ok()?);
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefix_is_taken_away_as_whole_segments_alone() {
        for (uri, expected) in [
            ("/auth/login", Some("/login")),
            ("/auth/login?a=/auth/b", Some("/login?a=/auth/b")),
            ("http://x.example/auth/me", Some("http://x.example/me")),
            ("/auth/auth/login", Some("/auth/login")),
            ("/auth//login", Some("//login")),
            (
                "/.well-known/oauth-authorization-server/auth",
                Some(METADATA),
            ),
            ("/.well-known/oauth-authorization-server/auth/x", None),
            ("/.well-known/oauth-authorization-server", None),
            ("/auth", None),
            ("/authority/login", None),
            ("/AUTH/login", None),
            ("/x/auth/login", None),
            ("/login", None),
        ] {
            let parsed: Uri = uri.parse().expect("a URI");
            let found = stripped(&parsed, "/auth").map(|uri| uri.to_string());
            assert_eq!(found.as_deref(), expected, "{uri}");
            assert_eq!(stripped(&parsed, ""), None, "{uri}");
        }
    }
}
