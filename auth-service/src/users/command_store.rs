//! The database as a command opens it, beside the service that has it too.

use crate::{
    config::Settings,
    store::{Opener, Store, event::Actor},
};

/// Opens the database for a command.
pub(crate) async fn open_store(settings: &Settings) -> anyhow::Result<Store> {
    let store = Store::open_by(&settings.database_url, Opener::Command).await?;
    let store = store.telling_events(settings.events.retention());
    let store = store.sending_mail(settings.mail.waiting());
    Ok(store.acting_as(Actor::Command))
}
