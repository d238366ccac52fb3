//! Judgement of a password that somebody sets in place of another one, counted for the account.

use crate::{
    credentials::Password,
    error::ApiError,
    guard::{counters::Counter, limits::Limit},
    state::AppState,
    store::Account,
    users::{self, ChangeError},
};

/// Judges the new password of an account whose owner has proved to be it. Refusals are limited, because a
/// judgement costs as much CPU time as a login; by account, so that nobody is refused for what others of the
/// same address did.
///
/// # Errors
///
/// [`ApiError::PasswordRefused`] that says why, and [`ApiError::RateLimited`] after too many refusals.
pub(crate) async fn judge(
    state: &AppState,
    account: &Account,
    password: &Password,
) -> Result<(), ApiError> {
    let counter = Counter::of_text(state.limits(), Limit::NewPasswordsOfAccount, &account.id);
    let taken = counter.take(&state.counting()).await?;
    let (settings, profile) = (state.settings(), account.profile());
    users::check_password(settings, password, &account.username, &profile)
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
