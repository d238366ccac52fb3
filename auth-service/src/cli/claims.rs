//! The commands about the roles and the custom claims of an account.

use clap::Subcommand;
use serde_json::{Map, Value, json};
use shared_claims::json::unambiguous_object;

use super::{Failure, print_line};
use crate::{
    config::Settings,
    credentials::Username,
    users::{self, Administration},
};

/// Commands for roles and claims.
#[derive(Debug, Subcommand)]
pub(super) enum ClaimsCommand {
    /// Print the roles and the custom claims of an account as JSON
    Claims {
        /// The name to sign in with
        name: String,
    },
    /// Set the roles of an account, its custom claims, or both
    SetClaims {
        /// The name to sign in with
        name: String,
        /// The roles, separated by commas; an empty text removes all
        #[arg(long, required_unless_present = "claims")]
        roles: Option<String>,
        /// The custom claims as a JSON object; {} removes all
        #[arg(long, value_name = "JSON")]
        claims: Option<String>,
    },
}

pub(super) async fn run(
    settings: &Settings,
    command: ClaimsCommand,
    parse_name: impl Fn(&str) -> Result<Username, Failure>,
) -> Result<(), Failure> {
    match command {
        ClaimsCommand::Claims { name } => {
            let name = parse_name(&name)?;
            let find = async |users: Administration<'_>| users.find_by_name(&name).await;
            let found = users::administer(settings, find).await;
            let claims = found.map_err(Failure::other)?.claims;
            let shown = json!({"roles": claims.roles, "claims": claims.custom});
            print_line(&shown.to_string())
        }
        ClaimsCommand::SetClaims {
            name,
            roles,
            claims,
        } => {
            let roles = roles.as_deref().map(split);
            let claims = claims.as_deref().map(parse).transpose()?;
            let name = parse_name(&name)?;
            let set = async |users: Administration<'_>| {
                let account = users.find_by_name(&name).await?;
                users.set_claims(&account.id, roles, claims).await
            };
            let set = users::administer(settings, set).await;
            let account = set.map_err(Failure::other)?.account;
            print_line(&format!("set the claims of {}", account.username))
        }
    }
}

fn split(roles: &str) -> Vec<String> {
    let roles = roles.split(',').map(str::trim);
    roles
        .filter(|role| !role.is_empty())
        .map(str::to_owned)
        .collect()
}

fn parse(claims: &str) -> Result<Map<String, Value>, Failure> {
    let refuse = || {
        let rule = "--claims must be a JSON object in which no member stands twice";
        Failure::Other(rule.to_owned())
    };
    unambiguous_object(claims.as_bytes()).ok_or_else(refuse)
}
