//! Judgement of a password that a visitor sets, counted for the visitor's address.

use std::net::IpAddr;

use shared_claims::claims::Profile;

use crate::{
    credentials::Password,
    error::ApiError,
    guard::{counters::Counter, limits::Limit},
    state::AppState,
    users::{self, ChangeError},
};

/// Judges the new password of the account `username`. A refusal counts as a registration does: a judgement
/// costs as much CPU time as a login.
///
/// # Errors
///
/// [`ApiError::PasswordRefused`] that says why, and [`ApiError::RateLimited`] after too many refusals.
pub(crate) async fn judge(
    state: &AppState,
    address: IpAddr,
    password: &Password,
    username: &str,
    profile: &Profile,
) -> Result<(), ApiError> {
    let counter = Counter::of_address(state.limits(), Limit::RegistrationsOfAddress, address);
    let taken = counter.take(&state.counting()).await?;
    users::check_password(state.settings(), password, username, profile)
        .await
        .map_err(refuse)?;
    counter.give_back(&state.counting(), taken).await;
    Ok(())
}

/// Returns the answer to a password that cannot be set.
pub(crate) fn refuse(error: ChangeError) -> ApiError {
    match error {
        ChangeError::Other(error) => error.into(),
        error => ApiError::PasswordRefused(error.to_string().into()),
    }
}
