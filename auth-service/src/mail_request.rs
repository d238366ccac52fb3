//! A request upon which the service sends a mail to an address that the client names: limited by the
//! client's address and by the mailbox, whether or not an account has it.

use std::time::SystemTime;

use crate::{
    client_info::ClientInfo,
    clock::seconds_since_epoch,
    credentials::email::Email,
    error::ApiError,
    guard::counters::Counter,
    guard::limits::Limit,
    ids::random_id,
    mail::{RESET_SECS, new_link_token},
    state::AppState,
    store::{NewLink, ResetRequest},
    vault::Hash,
};

/// Admits a request for a mail to `email`.
///
/// # Errors
///
/// [`ApiError::MailOff`] when the service sends no mail, [`ApiError::RateLimited`] when the client or
/// the mailbox had too many, and [`ApiError::Unavailable`] when too many wait for the mail server.
async fn admit(state: &AppState, client_info: &ClientInfo, email: &Email) -> Result<(), ApiError> {
    if state.mailer().is_none() {
        return Err(ApiError::MailOff);
    }
    let address = Counter::of_address(state.limits(), Limit::MailsOfAddress, client_info.address);
    address.take(&state.counting()).await?;
    let mailbox = Counter::of_text(state.limits(), Limit::MailsOfMailbox, email.normal());
    mailbox.take(&state.counting()).await?;
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
/// When [`admit`] refuses the request.
pub(crate) async fn new_link(
    state: &AppState,
    client_info: &ClientInfo,
    email: Email,
    lifetime_secs: i64,
) -> Result<NewLink, ApiError> {
    admit(state, client_info, &email).await?;
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
/// When [`admit`] refuses the request.
pub(crate) async fn new_reset_request(
    state: &AppState,
    client_info: &ClientInfo,
    email: Email,
) -> Result<ResetRequest, ApiError> {
    admit(state, client_info, &email).await?;
    let now = seconds_since_epoch(SystemTime::now())?;
    Ok(ResetRequest {
        id: random_id()?,
        email,
        now,
        expires_at: now.saturating_add(RESET_SECS),
    })
}

/// Counts a link that cannot be followed, for the address that tried it.
pub(crate) async fn refuse_link(state: &AppState, client_info: &ClientInfo) -> ApiError {
    let address = Counter::of_address(state.limits(), Limit::TokensOfAddress, client_info.address);
    let counted = address.take(&state.counting()).await;
    counted.err().map_or(ApiError::LinkRefused, ApiError::from)
}
