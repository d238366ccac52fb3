//! The commands about rights to rooms, of users and of clients.

use clap::{Args, Subcommand};
use shared_claims::authorization::AuthorizationDetail;

use super::{Failure, print_line};
use crate::{
    config::Settings,
    users::grants::{self, Subject, parse_actions},
};

/// A right to be given.
#[derive(Debug, Args)]
pub(super) struct GrantArgs {
    /// Owner of the right: a user's name, or a client's id
    name: String,
    /// A pattern of rooms, such as 'chat:**'
    #[arg(long)]
    room: String,
    /// Some of sub, pub, hst and prs, separated by commas
    #[arg(long)]
    actions: String,
}

/// A right to be taken back.
#[derive(Debug, Args)]
pub(super) struct RevokeArgs {
    /// Owner of the right: a user's name, or a client's id
    name: String,
    /// The pattern that it was given with
    #[arg(long)]
    room: String,
}

/// Commands for rights.
#[derive(Debug, Subcommand)]
pub(super) enum GrantCommand {
    /// Let somebody into rooms
    Grant(GrantArgs),
    /// Take such a right back
    Revoke(RevokeArgs),
    /// List somebody's rights
    Grants {
        /// Owner of the rights: a user's name, or a client's id
        name: String,
    },
}

pub(super) async fn run(
    settings: &Settings,
    command: GrantCommand,
    subject: impl Fn(String) -> Result<Subject, Failure>,
) -> Result<(), Failure> {
    match command {
        GrantCommand::Grant(GrantArgs {
            name,
            room,
            actions,
        }) => {
            let actions = parse_actions(&actions).map_err(Failure::other)?;
            grants::add_grant(settings, &subject(name)?, &room, &actions)
                .await
                .map_err(Failure::other)?;
            print_line("granted")
        }
        GrantCommand::Revoke(RevokeArgs { name, room }) => {
            grants::remove_grant(settings, &subject(name)?, &room)
                .await
                .map_err(Failure::other)?;
            print_line("revoked")
        }
        GrantCommand::Grants { name } => {
            let grants = grants::list_grants(settings, &subject(name)?)
                .await
                .map_err(Failure::other)?;
            let lines: Vec<String> = grants.iter().map(row).collect();
            print_line(&lines.join("\n"))
        }
    }
}

fn row(grant: &AuthorizationDetail) -> String {
    let names: Vec<&str> = grant.actions.iter().map(|action| action.name()).collect();
    format!("{}  {}", grant.rooms.join(" "), names.join(","))
}
