//! The commands about the audit log.

use clap::Subcommand;

use super::{Failure, print_line, user};
use crate::{
    config::Settings,
    store::{Store, open_for_command},
};

/// Commands for the audit log.
#[derive(Debug, Subcommand)]
pub(super) enum AuditCommand {
    /// Print the last events, the newest first, one JSON object a line
    List {
        /// Number of events
        #[arg(long, default_value_t = 50)]
        limit: u32,
        /// Of this user alone
        #[arg(long)]
        user: Option<String>,
    },
    /// Check that no event was changed, and none removed before the last
    Verify,
}

pub(super) async fn run(settings: &Settings, command: AuditCommand) -> Result<(), Failure> {
    let store = open_for_command(settings).await?;
    let done = match command {
        AuditCommand::List { limit, user } => list(&store, limit, user).await,
        AuditCommand::Verify => verify(&store).await,
    };
    store.close().await;
    done
}

async fn list(store: &Store, limit: u32, user: Option<String>) -> Result<(), Failure> {
    let user_id = match user {
        None => None,
        Some(name) => {
            let username = user::parse_name(&name)?;
            let found = store.find_account_by_name(username.as_str()).await;
            let found = found.map_err(anyhow::Error::from)?;
            let missing = || Failure::Other(format!("there is no user {}", username.as_str()));
            Some(found.ok_or_else(missing)?.account.id)
        }
    };
    let events = store.list_events(user_id.as_deref(), limit.into()).await;
    let events = events.map_err(anyhow::Error::from)?;
    let mut lines = Vec::new();
    for event in events {
        let line = serde_json::json!({
            "number": event.number, "at": event.at, "event": event.event,
            "user_id": event.user_id, "session_id": event.session_id, "detail": event.full_detail(),
            "hash": event.hash_text(),
        });
        lines.push(line.to_string());
    }
    print_line(&lines.join("\n"))
}

async fn verify(store: &Store) -> Result<(), Failure> {
    match store.check_events().await.map_err(anyhow::Error::from)? {
        Ok(count) => print_line(&format!("{count} events, each follows the one before it")),
        Err(number) => Err(Failure::Other(format!(
            "event {number} was changed, follows one that was removed, or lacks something though its \
             account was not deleted"
        ))),
    }
}
