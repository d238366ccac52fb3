//! Addresses for mail that were stored before they had a normal form.

use crate::{
    credentials::email::Email,
    store::{Store, StoreError},
};

/// Fills the normal form of addresses from before there was one. A text that is no address, and the
/// second account of one address, stay without.
///
/// # Errors
///
/// When the database fails.
pub(crate) async fn normalize_emails(store: &Store) -> Result<(), StoreError> {
    for (user_id, text) in store.list_emails_without_normal_form().await? {
        let is_set = match Email::parse(&text) {
            Ok(email) => store.set_normal_email(&user_id, email.normal()).await?,
            Err(_) => false,
        };
        if !is_set {
            tracing::warn!(
                user = user_id,
                "the account's email is no address, or another account has it"
            );
        }
    }
    Ok(())
}
