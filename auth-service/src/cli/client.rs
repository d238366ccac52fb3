//! The commands about clients: back ends that ask for tokens of their own.

use clap::Subcommand;

use super::{Failure, grant, print_line};
use crate::{clients, config::Settings, users::grants::Subject};

/// Commands for clients.
#[derive(Debug, Subcommand)]
pub(super) enum ClientCommand {
    /// Make a client and print its secret, which is shown this once
    Add {
        /// Identifier of the client
        id: String,
        /// The scopes that it may ask for, separated by spaces
        #[arg(long, default_value = "")]
        scope: String,
    },
    /// List all clients
    List,
    /// Give a client another secret and print it
    Rotate {
        /// Identifier of the client
        id: String,
        /// For how many seconds the old secret still works
        #[arg(long, default_value_t = 3600)]
        overlap_secs: u32,
    },
    /// Remove a client
    Remove {
        /// Identifier of the client
        id: String,
    },
    #[command(flatten)]
    Grant(grant::GrantCommand),
}

pub(super) async fn run(settings: &Settings, command: ClientCommand) -> Result<(), Failure> {
    match command {
        ClientCommand::Add { id, scope } => {
            let secret = clients::add_client(settings, &id, &scope).await;
            let secret = secret.map_err(Failure::other)?;
            for unknown in clients::unknown_scopes(&scope) {
                // The APIs of others have scopes of their own.
                let known = clients::KNOWN_SCOPES.join(", ");
                eprintln!(
                    "warning: no service of Latchkey knows the scope {unknown}; they know {known}"
                );
            }
            print_line(&secret)
        }
        ClientCommand::List => {
            let clients = clients::list_clients(settings).await?;
            let lines: Vec<String> = clients
                .iter()
                .map(|client| format!("{}  {}", client.id, client.scopes))
                .collect();
            print_line(&lines.join("\n"))
        }
        ClientCommand::Rotate { id, overlap_secs } => {
            let secret = clients::rotate_client(settings, &id, overlap_secs).await;
            print_line(&secret.map_err(Failure::other)?)
        }
        ClientCommand::Remove { id } => {
            let removed = clients::remove_client(settings, &id).await;
            removed.map_err(Failure::other)?;
            print_line(&format!("removed {id}"))
        }
        ClientCommand::Grant(command) => {
            grant::run(settings, command, |id| Ok(Subject::Client(id))).await
        }
    }
}
