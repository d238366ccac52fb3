//! Middleware of every answer on its way out: counts the answer, and replaces other libraries' texts about errors
//! by problem documents.

use std::time::Instant;

use actix_cors::CorsError;
use actix_web::{
    Error, HttpResponse, ResponseError as _,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    middleware::Next,
    web,
};

use crate::{
    error::ApiError, metrics::LoginOutcome, oauth::OAuthError, state::AppState, store::FailureKind,
};

/// Counts the answer. When the database has failed at it, readiness has to look again.
pub(crate) async fn observe<B: MessageBody + 'static>(
    state: web::Data<AppState>,
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let started = Instant::now();
    let response = next.call(request).await?;
    let route = response.request().match_pattern();
    let error = response.response().error();
    let is_refused_page = error.is_some_and(|error| error.as_error::<CorsError>().is_some());
    if let Some(error) = error.and_then(api_error) {
        count_failure(&state, error);
    }
    let response = if is_refused_page {
        let refusal = ApiError::OriginRefused.error_response();
        response.into_response(HttpResponse::map_into_right_body(refusal))
    } else {
        response.map_into_left_body()
    };
    let status = response.status().as_u16();
    state.metrics().request(route, status, started.elapsed());
    Ok(response)
}

fn api_error(error: &Error) -> Option<&ApiError> {
    let oauth = || match error.as_error() {
        Some(OAuthError::Other(error)) => Some(error),
        _ => None,
    };
    error.as_error().or_else(oauth)
}

fn count_failure(state: &AppState, error: &ApiError) {
    let metrics = state.metrics();
    match error {
        ApiError::Store(failure) => {
            metrics.store_failure(failure.trouble());
            if failure.trouble() != FailureKind::Defect {
                state.store().doubt_writes();
            }
        }
        ApiError::RateLimited { limit, .. } => metrics.limited(limit.name()),
        ApiError::SecondFactorRequired(_) => metrics.login(LoginOutcome::SecondFactorAsked),
        ApiError::CodeRefused => metrics.login(LoginOutcome::WrongCode),
        ApiError::PasskeyRefused => metrics.login(LoginOutcome::WrongPasskey),
        _ => {}
    }
}
