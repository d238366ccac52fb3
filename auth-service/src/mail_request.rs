//! A request upon which the service sends a mail to an address that the client names: limited by the
//! client's address and by the mailbox, whether or not an account has it.

use std::time::SystemTime;

use crate::{
    counters::Counter,
    error::ApiError,
    limits::Limit,
    mail::new_link_token,
    state::AppState,
    store::{Destination, NewLink},
    tokens::random_id,
    users::{email::Email, seconds_since_epoch},
    vault::Hash,
    visitor::Visitor,
};

/// Returns the link for a mail to `email` that ends after `lifetime_secs`.
///
/// # Errors
///
/// [`ApiError::MailOff`] when the service sends no mail, [`ApiError::RateLimited`] when the client or
/// the mailbox had too many, and [`ApiError::Unavailable`] when too many wait for the mail server.
pub(crate) async fn new_link(
    state: &AppState,
    visitor: &Visitor,
    email: Email,
    lifetime_secs: i64,
) -> Result<NewLink, ApiError> {
    if state.mailer().is_none() {
        return Err(ApiError::MailOff);
    }
    let address = Counter::of_address(state, Limit::MailsOfAddress, visitor.address);
    address.take(state).await?;
    let mailbox = Counter::of_text(state, Limit::MailsOfMailbox, email.normal());
    mailbox.take(state).await?;
    let queue = i64::from(state.settings().mail.queue);
    let store = state.store();
    if store.is_outbox_full(Destination::Mail, queue).await? {
        return Err(ApiError::Unavailable);
    }
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

/// Counts a link that cannot be followed, for the address that tried it.
pub(crate) async fn refuse_link(state: &AppState, visitor: &Visitor) -> ApiError {
    let address = Counter::of_address(state, Limit::TokensOfAddress, visitor.address);
    let counted = address.take(state).await;
    counted.err().unwrap_or(ApiError::LinkRefused)
}
