//! The work that no request asks for: each task is started here, and awaited at the end.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::Context as _;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    task::JoinSet,
};

use crate::{
    clock::seconds_since_epoch,
    metrics::{EventOutcome, MailOutcome},
    outbox,
    state::AppState,
    store::{Destination, Mail},
};

/// Interval of clean-up.
const PURGE_INTERVAL: Duration = Duration::from_secs(10 * 60);

/// Number of rows that are removed in one transaction: logins wait meanwhile, for a few milliseconds.
const PURGE_ROWS: u64 = 200;

/// Interval at which the schemes of imported hashes are counted.
const DECOYS_INTERVAL: Duration = Duration::from_secs(60);

/// Interval at which keys are read again that another process may have changed.
const KEYS_INTERVAL: Duration = Duration::from_secs(1);

/// Starts the tasks; they end when `stopping` turns true. A SIGHUP counts from now on.
///
/// # Errors
///
/// When SIGHUP cannot be caught.
pub(crate) fn start(
    state: &Arc<AppState>,
    stopping: &watch::Receiver<bool>,
) -> anyhow::Result<JoinSet<()>> {
    let hangup = signal(SignalKind::hangup()).context("cannot catch SIGHUP")?;
    let mut tasks = JoinSet::new();
    let (own, stop) = (Arc::clone(state), stopping.clone());
    tasks.spawn(async move { report("outbox", outbox::run(own.delivery(), stop).await) });
    let (own, stop) = (Arc::clone(state), stopping.clone());
    tasks.spawn(async move { purge_until(&own, stop).await });
    let (own, stop) = (Arc::clone(state), stopping.clone());
    tasks.spawn(async move { tend_keys_until(&own, stop).await });
    let (own, stop) = (Arc::clone(state), stopping.clone());
    tasks.spawn(async move { refresh_decoys_until(&own, stop).await });
    let (own, stop) = (Arc::clone(state), stopping.clone());
    tasks.spawn(async move { reload_until(&own, hangup, stop).await });
    let (own, stop) = (Arc::clone(state), stopping.clone());
    tasks.spawn(async move { connect_redis_until(&own, stop).await });
    Ok(tasks)
}

/// Looks after the keys, every second.
async fn tend_keys_until(state: &AppState, mut stopping: watch::Receiver<bool>) {
    loop {
        if let Err(error) = state.keys().tend(SystemTime::now()).await {
            tracing::warn!("the keys cannot be looked after: {error:#}");
        }
        tokio::select! {
            () = tokio::time::sleep(KEYS_INTERVAL) => {}
            _ = stopping.wait_for(|stop| *stop) => return,
        }
    }
}

/// Keeps the connection to Redis, if the settings name one.
async fn connect_redis_until(state: &AppState, mut stopping: watch::Receiver<bool>) {
    if let Some(redis) = state.redis() {
        tokio::select! {
            () = redis.run(state.metrics()) => {}
            _ = stopping.wait_for(|stop| *stop) => {}
        }
    }
}

/// Counts the schemes of imported hashes, which logins and commands change.
async fn refresh_decoys_until(state: &AppState, mut stopping: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(DECOYS_INTERVAL) => {}
            _ = stopping.wait_for(|stop| *stop) => return,
        }
        if let Err(error) = state.users().refresh_decoys().await {
            tracing::warn!("the schemes of the hashes cannot be counted: {error:#}");
        }
    }
}

/// Reads the secrets again at each SIGHUP. Nobody is dropped, whatever they say.
async fn reload_until(state: &AppState, mut hangup: Signal, mut stopping: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            _ = hangup.recv() => {}
            _ = stopping.wait_for(|stop| *stop) => return,
        }
        reload(state).await;
    }
}

/// Reads again whatever can be. Each thing is read for itself and has its own line in the log: a bad
/// certificate must not keep a leaked secret in use.
async fn reload(state: &AppState) {
    match state.reload_secrets().await {
        Ok(()) => tracing::info!("the secrets were read again"),
        Err(error) => tracing::error!("the secrets are left as they were: {error:#}"),
    }
    match state.certificate().map(|certificate| certificate.reload()) {
        Some(Ok(())) => tracing::info!("the certificate was read again"),
        Some(Err(error)) => tracing::error!("the certificate is left as it was: {error:#}"),
        None => {}
    }
}

fn report(task: &str, outcome: anyhow::Result<()>) {
    if let Err(error) = outcome {
        tracing::error!(task, "a task has failed: {error:#}");
    }
}

async fn purge_until(state: &AppState, mut stopping: watch::Receiver<bool>) {
    loop {
        if let Err(error) = purge(state).await {
            tracing::warn!("what is old cannot be deleted: {error:#}");
        }
        tokio::select! {
            () = tokio::time::sleep(PURGE_INTERVAL) => {}
            _ = stopping.wait_for(|stop| *stop) => return,
        }
    }
}

/// Does each part of a clean-up, whatever became of the one before, and returns the first failure.
async fn purge(state: &AppState) -> anyhow::Result<()> {
    let now = seconds_since_epoch(SystemTime::now())?;
    let retention = i64::try_from(state.settings().session.retention_secs).context("a time")?;
    let before = now.saturating_sub(retention);
    let store = state.store();
    let rows = async {
        while store.remove_expired(now, before, PURGE_ROWS).await? > 0 {}
        Ok(())
    };
    let counters = async {
        while store.remove_empty_counters(PURGE_ROWS).await? == PURGE_ROWS {}
        Ok(())
    };
    let outcomes: [anyhow::Result<()>; 4] = [
        rows.await,
        counters.await,
        purge_outbox(state, now).await,
        // At the end: a deletion of very many rows holds nothing else up.
        store.resume_erasures().await.map_err(Into::into),
    ];
    outcomes.into_iter().collect()
}

/// Removes the messages that have expired, and counts the mails that were given up.
async fn purge_outbox(state: &AppState, now: i64) -> anyhow::Result<()> {
    loop {
        let removing = state.store().remove_expired_messages(now, PURGE_ROWS);
        let removed = removing.await?;
        let mut given_up = 0_u64;
        for (_, payload) in removed
            .iter()
            .filter(|(destination, _)| destination == Destination::Mail.name())
        {
            if let Ok(Mail { kind, .. }) = serde_json::from_str(payload) {
                state.metrics().mail(kind, MailOutcome::Expired);
                given_up += 1;
            }
        }
        let is_event =
            |(destination, _): &&(String, String)| destination == Destination::Events.name();
        for _ in removed.iter().filter(is_event) {
            state.metrics().event(EventOutcome::Dropped);
        }
        if given_up > 0 {
            tracing::warn!("{given_up} mails were given up: the mail server did not take them");
        }
        if u64::try_from(removed.len())? < PURGE_ROWS {
            break;
        }
    }
    drop_events(state).await
}

/// Removes the oldest events when more wait than the settings let.
async fn drop_events(state: &AppState) -> anyhow::Result<()> {
    let keep = i64::from(state.settings().events.queue);
    loop {
        let removing = state
            .store()
            .remove_oldest_messages(Destination::Events, keep, PURGE_ROWS);
        let removed = removing.await?;
        for _ in 0..removed {
            state.metrics().event(EventOutcome::Dropped);
        }
        if removed > 0 {
            tracing::warn!("{removed} events were dropped: too many waited");
        }
        if removed < PURGE_ROWS {
            return Ok(());
        }
    }
}
