//! The database as a command opens it, beside the service that has it too.

use super::{Opener, Store, event::Actor};
use crate::config::Settings;

/// Opens the database for a command.
///
/// # Errors
///
/// When there is none, or it is of another version than the program.
pub(crate) async fn open_for_command(settings: &Settings) -> anyhow::Result<Store> {
    let store = Store::open_by(&settings.database_url, Opener::Command).await?;
    let store = store.telling_events(settings.events.retention());
    let store = store.sending_mail(settings.mail.waiting());
    Ok(store.acting_as(Actor::Command))
}
