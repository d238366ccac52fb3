//! Every path, on one screen.

use actix_cors::Cors;
use actix_web::{
    http::header,
    middleware::{DefaultHeaders, from_fn},
    web::{self, Data, ServiceConfig},
};

use crate::{
    attempts::require_room,
    change_password::post_password,
    config::Settings,
    cookies::PAGE_HEADER,
    discovery::{show_jwks, show_metadata},
    docs::{redirect_to_docs, show_docs, show_docs_file},
    error::ApiError,
    health::{show_live, show_ready},
    login::post_login,
    me::show_me,
    oauth::{introspect::post_introspect, revoke::post_revoke, token::post_token},
    openapi::show_openapi,
    refresh::post_refresh,
    register::post_register,
    second_factor::{
        enrolment::{post_confirm, post_disable, post_start},
        login::post_code,
    },
    sessions::{delete_session, list_sessions, post_logout, post_logout_all},
    state::AppState,
};

/// How long a browser may keep the answer to a preflight, in seconds.
const PREFLIGHT_MAX_AGE_SECS: usize = 600;

/// For how long a browser that has once come by https comes by nothing else: a year. It speaks for
/// this host alone, since others under its name are not ours to speak for.
const HTTPS_ONLY: &str = "max-age=31536000";

/// The paths.
pub(crate) fn configure(app: &mut ServiceConfig) {
    app.service(
        web::resource("/login")
            .wrap(from_fn(require_room))
            .route(web::post().to(post_login))
            .default_service(web::to(only_post)),
    )
    .service(
        web::resource("/login/totp")
            .route(web::post().to(post_code))
            .default_service(web::to(only_post)),
    )
    .service(
        web::resource("/register")
            .route(web::post().to(post_register))
            .default_service(web::to(only_post)),
    )
    .service(
        web::resource("/totp")
            .route(web::post().to(post_start))
            .default_service(web::to(only_post)),
    )
    .service(
        web::resource("/totp/confirm")
            .route(web::post().to(post_confirm))
            .default_service(web::to(only_post)),
    )
    .service(
        web::resource("/totp/disable")
            .route(web::post().to(post_disable))
            .default_service(web::to(only_post)),
    )
    .service(
        web::resource("/token/refresh")
            .route(web::post().to(post_refresh))
            .default_service(web::to(only_post)),
    )
    .service(
        web::resource("/logout")
            .route(web::post().to(post_logout))
            .default_service(web::to(only_post)),
    )
    .service(
        web::resource("/logout/all")
            .route(web::post().to(post_logout_all))
            .default_service(web::to(only_post)),
    )
    .service(
        web::resource("/sessions")
            .route(web::get().to(list_sessions))
            .default_service(web::to(only_get)),
    )
    .service(
        web::resource("/sessions/{id}")
            .route(web::delete().to(delete_session))
            .default_service(web::to(only_delete)),
    )
    .service(
        web::resource("/password")
            .route(web::post().to(post_password))
            .default_service(web::to(only_post)),
    )
    .service(
        web::resource("/oauth/token")
            .route(web::post().to(post_token))
            .default_service(web::to(only_post)),
    )
    .service(
        web::resource("/oauth/introspect")
            .route(web::post().to(post_introspect))
            .default_service(web::to(only_post)),
    )
    .service(
        web::resource("/oauth/revoke")
            .route(web::post().to(post_revoke))
            .default_service(web::to(only_post)),
    )
    .service(
        web::resource("/.well-known/jwks.json")
            .route(web::get().to(show_jwks))
            .route(web::head().to(show_jwks))
            .default_service(web::to(only_get_or_head)),
    )
    .service(
        web::resource("/.well-known/oauth-authorization-server")
            .route(web::get().to(show_metadata))
            .route(web::head().to(show_metadata))
            .default_service(web::to(only_get_or_head)),
    )
    .service(
        web::resource("/me")
            .route(web::get().to(show_me))
            .default_service(web::to(only_get)),
    )
    .service(
        web::resource("/openapi.json")
            .route(web::get().to(show_openapi))
            .route(web::head().to(show_openapi))
            .default_service(web::to(only_get_or_head)),
    )
    .service(
        web::resource("/docs")
            .route(web::get().to(redirect_to_docs))
            .default_service(web::to(only_get)),
    )
    .service(
        web::resource("/docs/")
            .route(web::get().to(show_docs))
            .default_service(web::to(only_get)),
    )
    .service(
        web::resource("/docs/{file}")
            .route(web::get().to(show_docs_file))
            .default_service(web::to(only_get)),
    )
    .configure(configure_health)
    .default_service(web::to(nothing_here));
}

/// The paths for whoever watches over the process.
pub(crate) fn configure_health(app: &mut ServiceConfig) {
    app.service(
        web::resource("/health/live")
            .route(web::get().to(show_live))
            .route(web::head().to(show_live))
            .default_service(web::to(only_get_or_head)),
    )
    .service(
        web::resource("/health/ready")
            .route(web::get().to(show_ready))
            .route(web::head().to(show_ready))
            .default_service(web::to(only_get_or_head)),
    );
}

/// Which pages may call us: the ones in the list, with their cookies.
pub(crate) fn cors(state: Data<AppState>) -> Cors {
    Cors::default()
        .allowed_methods(["GET", "POST", "DELETE"])
        .allowed_headers([header::AUTHORIZATION, header::CONTENT_TYPE])
        .allowed_header(PAGE_HEADER)
        .supports_credentials()
        .expose_headers([header::RETRY_AFTER, header::WWW_AUTHENTICATE])
        .max_age(PREFLIGHT_MAX_AGE_SECS)
        .allowed_origin_fn(move |origin, _| {
            let origin = origin.to_str();
            origin.is_ok_and(|origin| state.origins().contains(origin))
        })
}

/// What stands on every answer: it is data for one caller, not a page, and nobody may keep it.
/// What has another opinion, such as a page or a public key, says so itself.
pub(crate) fn answer_headers(settings: &Settings) -> DefaultHeaders {
    let headers = DefaultHeaders::new()
        .add((header::CACHE_CONTROL, "no-store"))
        .add((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .add((header::REFERRER_POLICY, "no-referrer"))
        .add((
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; frame-ancestors 'none'",
        ))
        .add(("cross-origin-resource-policy", "same-origin"))
        .add(("cross-origin-opener-policy", "same-origin"));
    if settings.public_url.starts_with("https://") {
        headers.add((header::STRICT_TRANSPORT_SECURITY, HTTPS_ONLY))
    } else {
        headers
    }
}

pub(crate) async fn nothing_here() -> Result<&'static str, ApiError> {
    Err(ApiError::NotFound)
}

async fn only_post() -> Result<&'static str, ApiError> {
    Err(ApiError::MethodNotAllowed("POST"))
}

async fn only_delete() -> Result<&'static str, ApiError> {
    Err(ApiError::MethodNotAllowed("DELETE"))
}

async fn only_get() -> Result<&'static str, ApiError> {
    Err(ApiError::MethodNotAllowed("GET"))
}

pub(crate) async fn only_get_or_head() -> Result<&'static str, ApiError> {
    Err(ApiError::MethodNotAllowed("GET, HEAD"))
}
