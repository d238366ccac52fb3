//! The known device that sends a request.

use std::time::SystemTime;

use actix_web::HttpRequest;
use zeroize::Zeroizing;

use crate::{
    client_info::ClientInfo,
    clock::seconds_since_epoch,
    cookies,
    current_user::CurrentUser,
    error::ApiError,
    guard::{attempts::Attempt, devices::KnownDevice},
    state::AppState,
};

/// Returns the known device that sends a request: by `proof`, from the body, or by its cookie, which only a listed
/// page uses. Another page of the same site would use up the attempts of the owner's device.
pub(crate) fn known_device(
    state: &AppState,
    request: &HttpRequest,
    proof: Option<String>,
    now: i64,
) -> Option<KnownDevice> {
    let cookie = || {
        cookies::require_listed_page(request, state.origins()).ok()?;
        cookies::values(request.headers(), cookies::DEVICE_COOKIE)
            .into_iter()
            .next()
    };
    let proof = proof.or_else(cookie)?;
    KnownDevice::recognize(&state.ring().vault, &proof, now)
}

/// Returns the attempt of somebody who is signed in and gives the password again. Without the proof of a
/// known device the session itself is one: it is a device that has signed in to this account.
///
/// # Errors
///
/// When the database or the clock fails.
pub(crate) async fn attempt_again<'a>(
    state: &AppState,
    request: &HttpRequest,
    client_info: &ClientInfo,
    current_user: &'a CurrentUser,
    password: Zeroizing<String>,
    device_token: Option<String>,
) -> Result<Attempt<'a>, ApiError> {
    let account = &current_user.account;
    let now = seconds_since_epoch(SystemTime::now())?;
    let known = known_device(state, request, device_token, now);
    let needed = state.store().find_login_requirements(&account.id).await?;
    let has_lane = |device: &KnownDevice| {
        let version = needed.password_version;
        version.is_some_and(|version| device.has_lane(&account.id, version))
    };
    let own = known.filter(has_lane);
    let device = own.unwrap_or_else(|| KnownDevice {
        user_id: account.id.clone(),
        device_id: current_user.session_id.clone(),
        password_version: None,
    });
    Ok(Attempt {
        address: client_info.address,
        username: &account.username,
        password,
        device: Some(device),
    })
}
