//! The table `recipients`: whom the running service tells what happens, for commands that run without its
//! settings.

use serde::{Deserialize, Serialize};

use super::{Store, StoreError, database::on_pool};
use crate::config::Settings;

/// Recipients of what happens, as the running service has them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipients {
    /// Gateways that are told of revocations, by their URLs.
    pub gateways: Vec<String>,
    /// Time for which the operator's service is told of an event, in seconds; `None` when nobody is told.
    pub event_retention_secs: Option<i64>,
    /// Maximum number of mails that wait; `None` when no mail is sent.
    pub mail_queue: Option<i64>,
}

impl Recipients {
    /// Returns those of the settings.
    pub(crate) fn of(settings: &Settings) -> Self {
        Self {
            gateways: settings.revocation.gateways.clone(),
            event_retention_secs: settings.events.retention(),
            mail_queue: settings.mail.waiting(),
        }
    }

    /// Returns these, and those of `other` where there are none.
    pub(super) fn or(self, other: Self) -> Self {
        Self {
            gateways: match self.gateways.is_empty() {
                true => other.gateways,
                false => self.gateways,
            },
            event_retention_secs: self.event_retention_secs.or(other.event_retention_secs),
            mail_queue: self.mail_queue.or(other.mail_queue),
        }
    }
}

impl Store {
    /// Writes whom the service tells, in place of what was there.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub(crate) async fn put_recipients(&self, recipients: &Recipients) -> Result<(), StoreError> {
        let text =
            serde_json::to_string(recipients).map_err(|error| sqlx::Error::Encode(error.into()))?;
        on_pool!(&self.writer, |pool| {
            sqlx::query(
                "insert into recipients (id, recipients) values (1, $1) \
                 on conflict (id) do update set recipients = excluded.recipients",
            )
            .bind(text)
            .execute(pool)
            .await?;
        });
        Ok(())
    }

    /// Returns whom the service tells, unless none has started with this database.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub(super) async fn find_recipients(&self) -> Result<Option<Recipients>, StoreError> {
        let text: Option<String> = on_pool!(&self.readers, |pool| sqlx::query_scalar(
            "select recipients from recipients"
        )
        .fetch_optional(pool)
        .await?);
        let parsed = text.map(|text| serde_json::from_str(&text)).transpose();
        Ok(parsed.map_err(|error| sqlx::Error::Decode(error.into()))?)
    }
}
