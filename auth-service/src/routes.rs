//! Every path, on one screen.

use actix_cors::Cors;
use actix_web::{
    http::header,
    middleware::DefaultHeaders,
    web::{self, ServiceConfig},
};

use crate::{
    change_password::post_password,
    cookies::PAGE_HEADER,
    discovery::{show_jwks, show_metadata},
    error::ApiError,
    health::{show_live, show_ready},
    login::post_login,
    me::show_me,
    oauth::{post_introspect, post_revoke, post_token},
    refresh::post_refresh,
    register::post_register,
    second_factor::{post_code, post_confirm, post_disable, post_start},
    sessions::{delete_session, list_sessions, post_logout, post_logout_all},
};

/// How long a browser may keep the answer to a preflight, in seconds.
const PREFLIGHT_MAX_AGE_SECS: usize = 600;

/// The paths.
pub(crate) fn configure(app: &mut ServiceConfig) {
    app.service(
        web::resource("/login")
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
    )
    .default_service(web::to(nothing_here));
}

/// Which pages may call us: the ones in the list, with their cookies.
pub(crate) fn cors(origins: &[String]) -> Cors {
    let cors = Cors::default()
        .allowed_methods(["GET", "POST", "DELETE"])
        .allowed_headers([header::AUTHORIZATION, header::CONTENT_TYPE])
        .allowed_header(PAGE_HEADER)
        .supports_credentials()
        .expose_headers([header::RETRY_AFTER, header::WWW_AUTHENTICATE])
        .max_age(PREFLIGHT_MAX_AGE_SECS);
    origins
        .iter()
        .fold(cors, |cors, origin| cors.allowed_origin(origin))
}

/// What stands on every answer: it is data for one caller, not a page, and nobody may keep it.
pub(crate) fn answer_headers() -> DefaultHeaders {
    DefaultHeaders::new()
        .add((header::CACHE_CONTROL, "no-store"))
        .add((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .add((header::REFERRER_POLICY, "no-referrer"))
        .add((
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; frame-ancestors 'none'",
        ))
}

async fn nothing_here() -> Result<&'static str, ApiError> {
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

async fn only_get_or_head() -> Result<&'static str, ApiError> {
    Err(ApiError::MethodNotAllowed("GET, HEAD"))
}
