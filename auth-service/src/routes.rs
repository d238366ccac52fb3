//! Lists every route on one screen, and sets the headers of every response.

use actix_cors::Cors;
use actix_web::{
    FromRequest, Handler, Resource, Responder,
    http::header::{self, HeaderName, HeaderValue},
    middleware::{DefaultHeaders, from_fn},
    web::{self, Data, ServiceConfig},
};

use crate::{
    change_email::{post_email, post_verify},
    change_password::post_password,
    config::Settings,
    discovery::{show_jwks, show_metadata, show_openid_configuration},
    docs::{redirect_to_docs, show_docs, show_docs_file},
    error::ApiError,
    health::{show_live, show_ready},
    login::{post_login, require_room},
    me::show_me,
    oauth::{introspect::post_introspect, revoke::post_revoke, token::post_token},
    openapi::show_openapi,
    passkeys::{
        enrolment::{post_enrolment_options, post_passkey},
        login::{post_login_options, post_login_passkey},
        manage::{list_passkeys, remove_passkey, rename_passkey},
    },
    refresh::post_refresh,
    register::post_register,
    reset_password::{post_forgot, post_reset},
    second_factor::{
        enrolment::{post_confirm, post_disable, post_start},
        login::post_code,
    },
    sessions::{delete_session, list_sessions, post_logout, post_logout_all},
    state::AppState,
};

/// Time for which a browser may keep the answer to a preflight, in seconds.
const PREFLIGHT_MAX_AGE_SECS: usize = 600;

/// For how long a browser that has once come by https comes by nothing else: a year. It speaks for
/// this host alone, since others under its name are not ours to speak for.
const HTTPS_ONLY: &str = "max-age=31536000";

/// Registers every route of the service. A path that is not listed answers 404.
pub(crate) fn configure(app: &mut ServiceConfig) {
    app.configure(configure_login)
        .configure(configure_second_factor)
        .configure(configure_passkeys)
        .configure(configure_sessions)
        .configure(configure_oauth)
        .configure(configure_account)
        .configure(configure_documentation)
        .configure(configure_health)
        .default_service(web::to(nothing_here));
}

fn configure_login(app: &mut ServiceConfig) {
    app.service(post("/login", post_login).wrap(from_fn(require_room)))
        .service(post("/login/totp", post_code))
        .service(post("/register", post_register));
}

fn configure_second_factor(app: &mut ServiceConfig) {
    app.service(post("/totp", post_start))
        .service(post("/totp/confirm", post_confirm))
        .service(post("/totp/disable", post_disable));
}

fn configure_passkeys(app: &mut ServiceConfig) {
    app.service(post("/login/passkey/options", post_login_options))
        .service(post("/login/passkey", post_login_passkey))
        .service(post("/passkeys/options", post_enrolment_options))
        .service(get_and_post("/passkeys", list_passkeys, post_passkey))
        .service(post("/passkeys/{id}", rename_passkey))
        .service(post("/passkeys/{id}/remove", remove_passkey));
}

fn configure_sessions(app: &mut ServiceConfig) {
    app.service(post("/token/refresh", post_refresh))
        .service(post("/logout", post_logout))
        .service(post("/logout/all", post_logout_all))
        .service(get("/sessions", list_sessions))
        .service(delete("/sessions/{id}", delete_session));
}

fn configure_oauth(app: &mut ServiceConfig) {
    app.service(post("/oauth/token", post_token))
        .service(post("/oauth/introspect", post_introspect))
        .service(post("/oauth/revoke", post_revoke))
        .service(get_or_head("/.well-known/jwks.json", show_jwks))
        .service(get_or_head(
            "/.well-known/oauth-authorization-server",
            show_metadata,
        ))
        .service(get_or_head(
            "/.well-known/openid-configuration",
            show_openid_configuration,
        ));
}

fn configure_account(app: &mut ServiceConfig) {
    app.service(get("/me", show_me))
        .service(post("/password", post_password))
        .service(post("/password/forgot", post_forgot))
        .service(post("/password/reset", post_reset))
        .service(post("/email", post_email))
        .service(post("/email/verify", post_verify));
}

fn configure_documentation(app: &mut ServiceConfig) {
    app.service(get_or_head("/openapi.json", show_openapi))
        .service(get("/docs", redirect_to_docs))
        .service(get("/docs/", show_docs))
        .service(get("/docs/{file}", show_docs_file));
}

/// Registers the routes for a monitor of the process. The operator's listener serves them too.
pub(crate) fn configure_health(app: &mut ServiceConfig) {
    app.service(get_or_head("/health/live", show_live))
        .service(get_or_head("/health/ready", show_ready));
}

/// Returns a resource that serves GET. Other methods answer 405.
fn get<F, Args>(path: &'static str, handler: F) -> Resource
where
    F: Handler<Args>,
    Args: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    web::resource(path)
        .route(web::get().to(handler))
        .default_service(web::to(only_get))
}

/// Returns a resource that serves GET and POST. Other methods answer 405.
fn get_and_post<G, GetArgs, P, PostArgs>(path: &'static str, get: G, post: P) -> Resource
where
    G: Handler<GetArgs>,
    GetArgs: FromRequest + 'static,
    G::Output: Responder + 'static,
    P: Handler<PostArgs>,
    PostArgs: FromRequest + 'static,
    P::Output: Responder + 'static,
{
    web::resource(path)
        .route(web::get().to(get))
        .route(web::post().to(post))
        .default_service(web::to(only_get_and_post))
}

/// Returns a resource that serves GET and HEAD. Other methods answer 405.
pub(crate) fn get_or_head<F, Args>(path: &'static str, handler: F) -> Resource
where
    F: Handler<Args>,
    Args: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    web::resource(path)
        .route(web::get().to(handler.clone()))
        .route(web::head().to(handler))
        .default_service(web::to(only_get_or_head))
}

/// Returns a resource that serves POST. Other methods answer 405.
fn post<F, Args>(path: &'static str, handler: F) -> Resource
where
    F: Handler<Args>,
    Args: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    web::resource(path)
        .route(web::post().to(handler))
        .default_service(web::to(only_post))
}

/// Returns a resource that serves DELETE. Other methods answer 405.
fn delete<F, Args>(path: &'static str, handler: F) -> Resource
where
    F: Handler<Args>,
    Args: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    web::resource(path)
        .route(web::delete().to(handler))
        .default_service(web::to(only_delete))
}

/// The pages that may call the service: those in the list, with their cookies.
pub(crate) fn cors(state: Data<AppState>) -> Cors {
    Cors::default()
        .allowed_methods(["GET", "POST", "DELETE"])
        // Tools for tracing add headers of their own to the requests of a page.
        .allow_any_header()
        .supports_credentials()
        .expose_headers([header::RETRY_AFTER, header::WWW_AUTHENTICATE])
        .max_age(PREFLIGHT_MAX_AGE_SECS)
        .allowed_origin_fn(move |origin, _| {
            let origin = origin.to_str();
            origin.is_ok_and(|origin| state.origins().contains(origin))
        })
}

/// Headers of every answer: it is data for one caller, not a page, and nobody may keep it.
/// What has another opinion, such as a page or a public key, says so itself.
pub(crate) fn answer_headers(settings: &Settings) -> DefaultHeaders {
    let headers = answer_header_list(settings).into_iter();
    headers.fold(DefaultHeaders::new(), DefaultHeaders::add)
}

/// Returns the names and values of [`answer_headers`].
pub(crate) fn answer_header_list(settings: &Settings) -> Vec<(HeaderName, HeaderValue)> {
    let is_https = settings.public_url.starts_with("https://");
    let https_only = is_https.then_some((header::STRICT_TRANSPORT_SECURITY, HTTPS_ONLY));
    let headers = [
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; frame-ancestors 'none'",
        ),
        (header::CROSS_ORIGIN_RESOURCE_POLICY, "same-origin"),
        (header::CROSS_ORIGIN_OPENER_POLICY, "same-origin"),
    ];
    let values = headers.into_iter().chain(https_only);
    values
        .map(|(name, value)| (name, HeaderValue::from_static(value)))
        .collect()
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

async fn only_get_and_post() -> Result<&'static str, ApiError> {
    Err(ApiError::MethodNotAllowed("GET, POST"))
}

async fn only_get_or_head() -> Result<&'static str, ApiError> {
    Err(ApiError::MethodNotAllowed("GET, HEAD"))
}
