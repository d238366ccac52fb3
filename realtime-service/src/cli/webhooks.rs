//! `realtime-service webhooks`: the queue of events for back ends, beside a running gateway.

use std::io::Write as _;

use anyhow::Context as _;
use clap::{Args, Subcommand};

use crate::{
    backends::queue::store::{SLICE, Store, StoredEvent},
    clock::{self, unix_millis},
    config::Config,
};

/// Operation on the queue.
#[derive(Subcommand)]
pub enum WebhookCommand {
    /// List events in their order, one JSON object a line.
    List {
        /// Only dead letters, which are not delivered any more.
        #[arg(long)]
        dead: bool,
        /// Maximum number of events. If there are more, a line on stderr says how to go on.
        #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
        /// Only events with a larger `seq`.
        #[arg(long, default_value_t = 0)]
        after: i64,
    },
    /// Print one event and its body, which has what its client has sent.
    Show {
        /// The id of the event
        id: String,
    },
    /// Deliver dead letters after all.
    Replay(Chosen),
    /// Remove an event, or all dead letters.
    Drop(Chosen),
}

/// One event, or all dead letters.
#[derive(Args)]
#[group(required = true, multiple = false)]
pub struct Chosen {
    /// The id of the event
    id: Option<String>,
    /// All dead letters.
    #[arg(long)]
    dead: bool,
}

/// Runs a command. Returns whether there was an event that it concerns.
///
/// # Errors
///
/// When the file cannot be used.
pub fn webhooks(config: &Config, command: &WebhookCommand) -> anyhow::Result<bool> {
    let path = &config.webhooks.file;
    let name = || format!("webhooks.file ({})", path.display());
    let mut store = Store::open(path, false).with_context(name)?;
    let mut out = std::io::stdout().lock();
    match command {
        WebhookCommand::List { dead, limit, after } => {
            let events = store.list(*dead, *limit, *after)?;
            for event in &events {
                writeln!(out, "{}", line(event)?)?;
            }
            if let Some(last) = events.last()
                && !store.list(*dead, 1, last.seq)?.is_empty()
            {
                eprintln!("there are more: --after {}", last.seq);
            }
            Ok(true)
        }
        WebhookCommand::Show { id } => match store.find(id)? {
            Some((event, body)) => {
                writeln!(out, "{}\n{}", line(&event)?, String::from_utf8_lossy(&body))?;
                Ok(true)
            }
            None => Ok(false),
        },
        WebhookCommand::Replay(chosen) => {
            let now = unix_millis(clock::now().wall);
            let id = chosen.id.as_deref();
            let events = in_slices(&mut store, |store| store.replay(id, now))?;
            report(&mut out, "replayed", events)
        }
        WebhookCommand::Drop(chosen) => {
            let id = chosen.id.as_deref();
            let events = in_slices(&mut store, |store| store.drop_events(id))?;
            report(&mut out, "dropped", events)
        }
    }
}

/// Runs `change` in transactions of their own until less than a slice is left, so that the gateway writes between
/// them. Returns the number of events.
fn in_slices(
    store: &mut Store,
    change: impl Fn(&Store) -> rusqlite::Result<usize>,
) -> rusqlite::Result<usize> {
    let mut events = 0;
    loop {
        let changed = store.commit(&change)??;
        events += changed;
        if changed < SLICE {
            return Ok(events);
        }
    }
}

fn line(event: &StoredEvent) -> serde_json::Result<String> {
    serde_json::to_string(event)
}

fn report(out: &mut impl std::io::Write, done: &str, events: usize) -> anyhow::Result<bool> {
    writeln!(out, "{done} {events}")?;
    Ok(events > 0)
}
