//! Middleware of every answer on its way out: counts the answer, and replaces other libraries' texts about errors
//! by problem documents.

use std::{panic::AssertUnwindSafe, time::Instant};

use actix_cors::CorsError;
use actix_web::{
    Error, HttpResponse, ResponseError as _,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    error::InternalError,
    http::StatusCode,
    middleware::Next,
    web,
};
use futures_util::FutureExt as _;

use crate::{
    config::Settings, error::ApiError, metrics::LoginOutcome, oauth::OAuthError,
    routes::answer_header_list, state::AppState, store::FailureKind,
};

/// Counts the answer, and answers 500 when a handler panics. When the database has failed at it, readiness
/// has to look again.
pub(crate) async fn observe<B: MessageBody + 'static>(
    state: web::Data<AppState>,
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let started = Instant::now();
    let answer = AssertUnwindSafe(async { next.call(request).await });
    let Ok(answer) = answer.catch_unwind().await else {
        let status = StatusCode::INTERNAL_SERVER_ERROR.as_u16();
        state.metrics().request(None, status, started.elapsed());
        return Err(panicked(state.settings()));
    };
    let response = answer?;
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

/// Returns the answer to a request whose handler has panicked. The request is gone, so no middleware adds
/// the headers of every answer.
fn panicked(settings: &Settings) -> Error {
    let mut answer = ApiError::Panicked.error_response();
    for (name, value) in answer_header_list(settings) {
        answer.headers_mut().insert(name, value);
    }
    InternalError::from_response("a handler panicked", answer).into()
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

#[cfg(test)]
mod tests {
    use actix_web::{
        App, HttpServer,
        http::header::CONTENT_TYPE,
        middleware::from_fn,
        web::{self, Data},
    };
    use shared_claims::secret::{SECRET_VARIABLE, Secrets};

    use super::*;
    use crate::{config::Config, error::PROBLEM_TYPE, metrics::Gauges};

    async fn panicking() -> &'static str {
        panic!("a handler that fails");
    }

    async fn working() -> &'static str {
        "fine"
    }

    #[actix_web::test]
    async fn a_panic_of_a_handler_is_answered_and_counted() {
        let folder = tempfile::tempdir().expect("a folder");
        let secret = Secrets::parse(SECRET_VARIABLE, "mZq3vX8pL1rT6wYc9sHd2kFg5jBn7uEa", ',');
        let file = folder.path().join("auth.db");
        let config = Config::for_testing(&file, secret.expect("a secret"));
        let state = Data::new(AppState::start(config).await.expect("a service"));
        let own = state.clone();
        let app = move || {
            App::new()
                .app_data(own.clone())
                .wrap(from_fn(observe))
                .wrap(crate::routes::answer_headers(own.settings()))
                .route("/panics", web::get().to(panicking))
                .route("/works", web::get().to(working))
        };
        let server = HttpServer::new(app).workers(1).disable_signals();
        let server = server.bind("127.0.0.1:0").expect("a port");
        let address = server.addrs()[0];
        let server = server.run();
        let handle = server.handle();
        let serving = tokio::spawn(server);
        for (path, expected) in [("works", 200), ("panics", 500), ("works", 200)] {
            let answer = reqwest::get(format!("http://{address}/{path}")).await;
            let answer = answer.expect("an answer");
            assert_eq!(answer.status().as_u16(), expected, "{path}");
            let headers = answer.headers();
            assert_eq!(headers["x-content-type-options"], "nosniff", "{path}");
            if expected == 500 {
                assert_eq!(headers[CONTENT_TYPE.as_str()], PROBLEM_TYPE);
                let problem: serde_json::Value = answer.json().await.expect("JSON");
                assert_eq!(problem["code"], "internal");
            }
        }
        let metrics = state.metrics().render(Gauges::default()).expect("metrics");
        let counted = metrics.lines().filter(|line| line.contains("5xx"));
        assert_eq!(counted.count(), 1, "{metrics}");
        handle.stop(false).await;
        serving.await.expect("no panic").expect("a good end");
    }
}
