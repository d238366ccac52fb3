//! The database as a command opens it, beside the service that has it too.

use super::{Opener, Recipients, Store, event::Actor};
use crate::config::Settings;

/// Opens the database for a command. What it changes is told to whom the service tells it, unless the settings
/// name others.
///
/// # Errors
///
/// When there is none, or it is of another version than the program.
pub(crate) async fn open_for_command(settings: &Settings) -> anyhow::Result<Store> {
    let (store, _) = open(settings).await?;
    Ok(store)
}

/// Opens the database for a command that ends sessions, and returns the settings with the gateways that are told.
///
/// # Errors
///
/// See [`open_for_command`].
pub(crate) async fn open_to_end_sessions(settings: &Settings) -> anyhow::Result<(Store, Settings)> {
    let (store, recipients) = open(settings).await?;
    let mut settings = settings.clone();
    settings.revocation.gateways = recipients.gateways;
    Ok((store, settings))
}

async fn open(settings: &Settings) -> anyhow::Result<(Store, Recipients)> {
    let store = Store::open_by(&settings.database_url, Opener::Command).await?;
    let own = Recipients::of(settings);
    let recipients = match store.find_recipients().await? {
        Some(recorded) => own.or(recorded),
        None => own,
    };
    let store = store.telling_events(recipients.event_retention_secs);
    let store = store.sending_mail(recipients.mail_queue);
    Ok((store.acting_as(Actor::Command), recipients))
}
