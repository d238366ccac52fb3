//! Whether the process runs, and whether it can do its work.

use std::time::{Duration, SystemTime};

use actix_web::{HttpResponse, web};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    clock::seconds_since_epoch,
    error::{ApiError, PROBLEM_TYPE, Problem},
    state::AppState,
};

/// Maximum time in which the database answers.
const READY_DEADLINE: Duration = Duration::from_secs(1);

#[derive(Serialize, ToSchema)]
pub(crate) struct Health {
    /// `live`, `ready`, or `degraded`: ready, though each issuer counts attempts without Redis.
    status: &'static str,
}

/// Says that the process answers.
///
/// A failure means: start it again.
#[utoipa::path(
    get,
    path = "/health/live",
    tag = "health",
    responses((status = 200, description = "it does", body = Health))
)]
pub(crate) async fn show_live() -> HttpResponse {
    HttpResponse::Ok().json(Health { status: "live" })
}

/// Says that the database can be read and written too.
///
/// A failure means: send no visitors for now. The reason is in the log, once a minute; from the stop signal on the
/// service is not ready. While Redis is away the service serves everybody, and says `degraded`.
#[utoipa::path(
    get,
    path = "/health/ready",
    tag = "health",
    responses(
        (status = 200, description = "it can", body = Health),
        (status = 503, description = "it cannot", body = Problem, content_type = PROBLEM_TYPE),
    )
)]
pub(crate) async fn show_ready(state: web::Data<AppState>) -> Result<HttpResponse, ApiError> {
    if state.is_draining() {
        return Err(ApiError::Unavailable);
    }
    let now = seconds_since_epoch(SystemTime::now())?;
    let is_reported = || {
        let reports = state.unready_answers();
        u64::try_from(now).is_ok_and(|now| reports.is_due(now))
    };
    match tokio::time::timeout(READY_DEADLINE, state.store().check_ready(now)).await {
        Ok(Ok(())) => {
            let is_degraded = state.redis().is_some_and(|redis| !redis.is_connected());
            let status = if is_degraded { "degraded" } else { "ready" };
            Ok(HttpResponse::Ok().json(Health { status }))
        }
        Ok(Err(failure)) => {
            if is_reported() {
                let trouble = failure.trouble().name();
                tracing::warn!(trouble, "not ready: {}", failure.story());
            }
            Err(ApiError::Unavailable)
        }
        Err(_) => {
            if is_reported() {
                tracing::warn!("not ready: the database takes too long");
            }
            Err(ApiError::Unavailable)
        }
    }
}
