//! Lists every route of the operator's listener on one screen.

use actix_web::web::{self, ServiceConfig};

use super::{
    account::{
        delete_account, delete_second_factor, delete_sessions, edit_account, post_disable,
        post_enable, put_grants, show_account, show_grants,
    },
    claims::{put_claims, show_claims},
    import::post_import,
    openapi::show_openapi,
    show_metrics,
    users::{list_accounts, post_account},
};
use crate::{
    error::ApiError,
    routes::{configure_health, get_or_head, nothing_here},
};

/// Registers every route of the listener. A path that is not listed answers 404.
pub(super) fn configure(app: &mut ServiceConfig) {
    app.configure(configure_health)
        .configure(configure_accounts)
        .service(get_or_head("/metrics", show_metrics))
        .service(get_or_head("/openapi.json", show_openapi))
        .default_service(web::to(nothing_here));
}

fn configure_accounts(app: &mut ServiceConfig) {
    app.service(
        web::resource("/v1/users")
            .route(web::get().to(list_accounts))
            .route(web::post().to(post_account))
            .default_service(web::to(only_get_and_post)),
    )
    .service(
        web::resource("/v1/users:import")
            .route(web::post().to(post_import))
            .default_service(web::to(only_post)),
    )
    .service(
        web::resource("/v1/users/{id}")
            .route(web::get().to(show_account))
            .route(web::patch().to(edit_account))
            .route(web::delete().to(delete_account))
            .default_service(web::to(only_get_patch_and_delete)),
    )
    .service(
        web::resource("/v1/users/{id}/grants")
            .route(web::get().to(show_grants))
            .route(web::put().to(put_grants))
            .default_service(web::to(only_get_and_put)),
    )
    .service(
        web::resource("/v1/users/{id}/claims")
            .route(web::get().to(show_claims))
            .route(web::put().to(put_claims))
            .default_service(web::to(only_get_and_put)),
    )
    .service(
        web::resource("/v1/users/{id}/disable")
            .route(web::post().to(post_disable))
            .default_service(web::to(only_post)),
    )
    .service(
        web::resource("/v1/users/{id}/enable")
            .route(web::post().to(post_enable))
            .default_service(web::to(only_post)),
    )
    .service(
        web::resource("/v1/users/{id}/sessions")
            .route(web::delete().to(delete_sessions))
            .default_service(web::to(only_delete)),
    )
    .service(
        web::resource("/v1/users/{id}/second-factor")
            .route(web::delete().to(delete_second_factor))
            .default_service(web::to(only_delete)),
    );
}

async fn only_get_and_post() -> Result<&'static str, ApiError> {
    Err(ApiError::MethodNotAllowed("GET, POST"))
}

async fn only_get_and_put() -> Result<&'static str, ApiError> {
    Err(ApiError::MethodNotAllowed("GET, PUT"))
}

async fn only_get_patch_and_delete() -> Result<&'static str, ApiError> {
    Err(ApiError::MethodNotAllowed("GET, PATCH, DELETE"))
}

async fn only_post() -> Result<&'static str, ApiError> {
    Err(ApiError::MethodNotAllowed("POST"))
}

async fn only_delete() -> Result<&'static str, ApiError> {
    Err(ApiError::MethodNotAllowed("DELETE"))
}
