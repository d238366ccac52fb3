//! `realtime-service explain`: whether the bearer of a token may do something in a room.

use std::{
    io::{self, Write as _},
    path::PathBuf,
    sync::Arc,
    time::SystemTime,
};

use anyhow::{Context as _, anyhow};
use clap::Args;
use shared_claims::authorization::Action;

use super::token_file;
use crate::{
    auth::{
        keys::{Keys, Unverified},
        policy::{Explanation, Policy, RoomName},
    },
    backends::BackEnds,
    config::{Config, load_keys},
    metrics::Metrics,
    session::Identity,
    telemetry,
};

/// What is asked. The token is in a file, since every user of a machine sees the arguments of a
/// process.
#[derive(Debug, Args)]
pub struct ExplainArguments {
    /// The file that holds the token; - is standard input
    #[arg(long, value_name = "FILE")]
    token_file: PathBuf,
    /// The room
    #[arg(long)]
    room: String,
    /// The namespace of the room
    #[arg(long, default_value = "/")]
    namespace: String,
    /// What is to be done in it: sub, pub, hst or prs
    #[arg(long, value_parser = action)]
    action: Action,
    /// Ask the back end, if one decides
    #[arg(long)]
    ask: bool,
    /// Print JSON, for programs
    #[arg(long)]
    json: bool,
}

fn action(name: &str) -> Result<Action, &'static str> {
    Action::named(name).ok_or("must be sub, pub, hst or prs")
}

/// Prints whether it is allowed, and why, or why not; gives whether it is.
///
/// # Errors
///
/// When the settings, the token or the room cannot be used.
#[tokio::main(flavor = "current_thread")]
pub async fn explain(config: &Config, arguments: &ExplainArguments) -> anyhow::Result<bool> {
    let _log = telemetry::init(config.log_format)?;
    let policies = Policy::all(config)?;
    let policy = policies.get(&arguments.namespace);
    let policy = policy.context("--namespace: no [[namespaces]] entry has this name")?;
    let namespace = policy.namespace();
    let room = RoomName::parse_in(namespace, &arguments.room).context("--room")?;
    let token = token_file::read(&arguments.token_file).context("--token-file: cannot be read")?;
    let metrics = Arc::new(Metrics::new());
    let keys = Keys::new(config, load_keys(config)?, &metrics)?;
    let verified = keys.verify(token.trim(), SystemTime::now()).await;
    let claims = verified.map_err(|unverified| match unverified {
        Unverified::Rejected(rejection) => anyhow!("the token is refused: {}", rejection.message()),
        Unverified::NoKeys => anyhow!("no keys of the token's issuer can be had"),
    })?;
    let mut explanation = policy.explain(&policy.bearer(&claims), arguments.action, &room);
    if arguments.ask && explanation.backend.is_some() {
        let back_ends = BackEnds::new(config, &metrics)?;
        let identity = Identity::of(&claims, policy, "".into(), SystemTime::now());
        let details = identity.details();
        let asker = details.asker(namespace);
        explanation = back_ends.decisions().explain(&asker, explanation).await;
    }
    print(&explanation, arguments.json)?;
    Ok(explanation.allowed)
}

fn print(explanation: &Explanation, is_json: bool) -> anyhow::Result<()> {
    let mut stdout = io::stdout();
    match is_json {
        true => writeln!(stdout, "{}", serde_json::to_string_pretty(explanation)?)?,
        false => writeln!(stdout, "{explanation}")?,
    }
    Ok(())
}
