//! Documents for other services: the public keys, and where our endpoints are.

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{self, CacheControl, CacheDirective},
    web,
};
use serde_json::json;

use crate::{
    config::Registration,
    error::{PROBLEM_TYPE, Problem},
    state::AppState,
};

/// Shows the public keys (RFC 7517).
///
/// `GET /.well-known/jwks.json`: the public keys (RFC 7517), for as long as the settings say.
#[utoipa::path(
    get,
    path = "/.well-known/jwks.json",
    tag = "keys",
    responses(
        (status = 200, description = "the keys"),
        (status = 304, description = "the keys are those of the tag that was sent"),
    )
)]
pub(crate) async fn show_jwks(state: web::Data<AppState>, request: HttpRequest) -> HttpResponse {
    let ring = state.ring();
    let is_known = request
        .headers()
        .get_all(header::IF_NONE_MATCH)
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|tag| matches!(tag.trim(), "*") || tag.trim().trim_start_matches("W/") == ring.etag);
    let mut answer = if is_known {
        HttpResponse::NotModified()
    } else {
        HttpResponse::Ok()
    };
    answer.insert_header(public_for(&state));
    answer.insert_header((header::ETAG, ring.etag.as_str()));
    if is_known {
        return answer.finish();
    }
    answer
        .content_type("application/jwk-set+json")
        .body(ring.jwks.clone())
}

/// Shows where the endpoints are (RFC 8414).
///
/// `GET /.well-known/oauth-authorization-server`: where our endpoints are (RFC 8414).
#[utoipa::path(
    get,
    path = "/.well-known/oauth-authorization-server",
    tag = "keys",
    responses(
        (status = 200, description = "the metadata"),
        (status = 405, description = "another method", body = Problem, content_type = PROBLEM_TYPE),
    )
)]
pub(crate) async fn show_metadata(state: web::Data<AppState>) -> HttpResponse {
    let issuer = &state.settings().public_url;
    let secrets = ["client_secret_basic", "client_secret_post"];
    let all = ["none", "client_secret_basic", "client_secret_post"];
    let mut metadata = json!({
        "issuer": issuer,
        "jwks_uri": format!("{issuer}/.well-known/jwks.json"),
        "token_endpoint": format!("{issuer}/oauth/token"),
        "token_endpoint_auth_methods_supported": all,
        "grant_types_supported": ["client_credentials", "refresh_token"],
        "response_types_supported": [],
        "introspection_endpoint": format!("{issuer}/oauth/introspect"),
        "introspection_endpoint_auth_methods_supported": secrets,
        "revocation_endpoint": format!("{issuer}/oauth/revoke"),
        "revocation_endpoint_auth_methods_supported": all,
        "authorization_details_types_supported": ["realtime"],
    });
    // For pages that offer to make an account.
    if state.settings().registration == Registration::Open {
        metadata["registration"] = "open".into();
    }
    // The domain of passkeys, for pages that offer them.
    if let Ok(Some(party)) = state.settings().relying_party() {
        metadata["passkeys_rp_id"] = party.rp_id.as_ref().into();
    }
    HttpResponse::Ok()
        .insert_header(public_for(&state))
        .json(metadata)
}

/// Shows the same where clients of OpenID Connect look.
///
/// `GET /.well-known/openid-configuration`: the metadata, for libraries that find an issuer's keys by OpenID
/// Connect Discovery 1.0. The service signs no ID tokens.
#[utoipa::path(
    get,
    path = "/.well-known/openid-configuration",
    tag = "keys",
    responses(
        (status = 200, description = "the metadata"),
        (status = 405, description = "another method", body = Problem, content_type = PROBLEM_TYPE),
    )
)]
pub(crate) async fn show_openid_configuration(state: web::Data<AppState>) -> HttpResponse {
    show_metadata(state).await
}

fn public_for(state: &AppState) -> CacheControl {
    let secs = u32::try_from(state.settings().keys.max_age_secs).unwrap_or(u32::MAX);
    CacheControl(vec![CacheDirective::Public, CacheDirective::MaxAge(secs)])
}
