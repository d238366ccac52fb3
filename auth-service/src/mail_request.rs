//! A request upon which the service sends a mail to an address that the client names: limited by the
//! client's address and by the mailbox, whether or not an account has it.

use std::time::SystemTime;

use crate::{
    error::ApiError,
    limits::Limit,
    mail::{RESET_SECS, new_link_token},
    state::AppState,
    store::{NewLink, ResetRequest},
    tokens::random_id,
    users::{email::Email, seconds_since_epoch},
    vault::Hash,
    visitor::Visitor,
};

/// Admits a request for a mail to `email`.
///
/// # Errors
///
/// [`ApiError::MailOff`] when the service sends no mail, [`ApiError::RateLimited`] when the client or
/// the mailbox had too many, and [`ApiError::Unavailable`] when too many wait for the mail server.
async fn admit(state: &AppState, visitor: &Visitor, email: &Email) -> Result<(), ApiError> {
    if state.mailer().is_none() {
        return Err(ApiError::MailOff);
    }
    let limits = state.limits();
    limits.take(Limit::MailsOfAddress, limits.address_key(visitor.address))?;
    limits.take(Limit::MailsOfMailbox, limits.text_key(email.normal()))?;
    let queue = i64::from(state.settings().mail.queue);
    match state.store().is_mail_queue_full(queue).await? {
        true => Err(ApiError::Unavailable),
        false => Ok(()),
    }
}

/// Returns the link for a mail to `email` that ends after `lifetime_secs`.
///
/// # Errors
///
/// Those of [`admit`].
pub(crate) async fn new_link(
    state: &AppState,
    visitor: &Visitor,
    email: Email,
    lifetime_secs: i64,
) -> Result<NewLink, ApiError> {
    admit(state, visitor, &email).await?;
    let now = seconds_since_epoch(SystemTime::now())?;
    let id = random_id()?;
    let token = new_link_token(&state.ring().vault, &id)?;
    Ok(NewLink {
        hash: Hash::of(&token),
        id,
        email,
        now,
        expires_at: now.saturating_add(lifetime_secs),
    })
}

/// Returns the request for a mail to `email` with which a forgotten password is replaced.
///
/// # Errors
///
/// Those of [`admit`].
pub(crate) async fn new_reset_request(
    state: &AppState,
    visitor: &Visitor,
    email: Email,
) -> Result<ResetRequest, ApiError> {
    admit(state, visitor, &email).await?;
    let now = seconds_since_epoch(SystemTime::now())?;
    Ok(ResetRequest {
        id: random_id()?,
        email,
        now,
        expires_at: now.saturating_add(RESET_SECS),
    })
}

/// Counts a link that cannot be followed, for the address that tried it.
pub(crate) fn refuse_link(state: &AppState, visitor: &Visitor) -> ApiError {
    let limits = state.limits();
    let address = limits.address_key(visitor.address);
    let counted = limits.take(Limit::TokensOfAddress, address);
    counted.err().unwrap_or(ApiError::LinkRefused)
}
