//! `POST /v1/users:import`: many accounts from a dump of another system.

use std::time::Duration;

use actix_web::{HttpMessage as _, HttpRequest, HttpResponse, http::header, web};
use futures_util::StreamExt as _;
use tokio::sync::Semaphore;

use super::caller::{Caller, Write};
use crate::{
    error::{ApiError, PROBLEM_TYPE, Problem},
    state::AppState,
    users::ImportReport,
};

/// The media type of a dump: JSON objects, one a line.
const LINES_TYPE: &str = "application/x-ndjson";

/// Lets one import run at a time: each writes as fast as the database takes it.
pub(super) struct Imports(Semaphore);

impl Default for Imports {
    fn default() -> Self {
        Self(Semaphore::new(1))
    }
}

/// Imports accounts.
///
/// Takes JSON objects, one a line, with the hash of each password. Answers how many accounts were made,
/// and names each line that was refused. A repetition changes nothing.
#[utoipa::path(
    post,
    path = "/v1/users:import",
    tag = "users",
    security(("bearer" = ["users.write"])),
    request_body(content = String, content_type = "application/x-ndjson"),
    responses(
        (status = 200, description = "the end of the dump was reached", body = ImportReport),
        (status = 401, description = "no token, or one that is not accepted", body = Problem, content_type = PROBLEM_TYPE),
        (status = 403, description = "the token lacks the scope", body = Problem, content_type = PROBLEM_TYPE),
        (status = 408, description = "the next bytes did not arrive in time; a part of the dump may be imported", body = Problem, content_type = PROBLEM_TYPE),
        (status = 409, description = "another import runs", body = Problem, content_type = PROBLEM_TYPE),
        (status = 413, description = "the dump is too long; a part of it may be imported", body = Problem, content_type = PROBLEM_TYPE),
        (status = 415, description = "the body is no such dump", body = Problem, content_type = PROBLEM_TYPE),
        (status = 503, description = "no database; a part of the dump may be imported", body = Problem, content_type = PROBLEM_TYPE),
    )
)]
pub(super) async fn post_import(
    request: HttpRequest,
    state: web::Data<AppState>,
    imports: web::Data<Imports>,
    caller: Caller<Write>,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    if request.content_type() != LINES_TYPE
        || request.headers().contains_key(header::CONTENT_ENCODING)
    {
        return Err(ApiError::UnsupportedMediaType);
    }
    let running = imports.0.try_acquire();
    let _running = running.map_err(|_| ApiError::ImportRunning)?;
    let imported = read(&state, &caller, payload).await;
    // Also after a dump that broke off: a part of it is in. A failure is made good within a minute.
    if let Err(error) = state.users().refresh_decoys().await {
        tracing::warn!("the schemes of the hashes cannot be counted: {error:#}");
    }
    let report = imported?;
    let (imported, refused) = (report.imported, report.refused);
    tracing::info!(imported, refused, "accounts were imported");
    Ok(HttpResponse::Ok().json(report))
}

/// Imports the lines of a body as they arrive.
async fn read(
    state: &AppState,
    caller: &Caller<Write>,
    mut payload: web::Payload,
) -> Result<ImportReport, ApiError> {
    let settings = state.settings();
    let limit = settings.admin.import_limit_bytes;
    let deadline = Duration::from_secs(settings.login.body_deadline_secs);
    let mut import = caller.administration().import()?;
    let mut received = 0_u64;
    loop {
        let chunk = tokio::time::timeout(deadline, payload.next()).await;
        let Some(chunk) = chunk.map_err(|_| ApiError::BodyTimeout)? else {
            return import.finish().await.map_err(failed);
        };
        let chunk =
            chunk.map_err(|_| ApiError::InvalidRequest("the body cannot be read".into()))?;
        received = received.saturating_add(chunk.len() as u64);
        if received > limit {
            let limit = usize::try_from(limit).unwrap_or(usize::MAX);
            return Err(ApiError::BodyTooLarge(limit));
        }
        import.feed(&chunk).await.map_err(failed)?;
    }
}

/// A failure of the database answers as one, and not as ours.
fn failed(error: anyhow::Error) -> ApiError {
    match error.downcast::<crate::store::StoreError>() {
        Ok(error) => error.into(),
        Err(error) => error.into(),
    }
}
