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
    let store = Store::open_by(&settings.database_url, Opener::Command).await?;
    let recipients = recipients(&store, settings).await?;
    let store = store.telling_events(recipients.event_retention_secs);
    let store = store.sending_mail(recipients.mail_queue);
    Ok(store.acting_as(Actor::Command))
}

/// Opens the database for a command that ends sessions, and returns the settings with the gateways that are told.
///
/// # Errors
///
/// See [`open_for_command`].
pub(crate) async fn open_to_end_sessions(settings: &Settings) -> anyhow::Result<(Store, Settings)> {
    let store = open_for_command(settings).await?;
    let mut settings = settings.clone();
    settings.revocation.gateways = recipients(&store, &settings).await?.gateways;
    Ok((store, settings))
}

async fn recipients(store: &Store, settings: &Settings) -> anyhow::Result<Recipients> {
    let own = Recipients::of(settings);
    Ok(match store.find_recipients().await? {
        Some(recorded) => own.or(recorded),
        None => own,
    })
}
