//! Delivery of the outbox: sends each message until its destination has taken it or it has expired.
//!
//! A message is never lost: it is removed only after its destination has taken it. After a crash
//! between the two it is sent again, under the same identifier.

use std::{
    future::ready,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, SystemTime},
};

use anyhow::Context as _;
use futures_util::{FutureExt as _, StreamExt as _, future::join_all, stream};
use tokio::sync::{Notify, watch};

use crate::{
    clock::seconds_since_epoch,
    keys::Keys,
    mail::Mailer,
    metrics::Metrics,
    store::{
        DeliveryOrder, Destination, Message, Store, StoreError,
        event::{Event, EventKind},
    },
    users::Users,
    webhook::Webhook,
};

mod events;
mod gateway;
mod post;
mod resets;
#[cfg(test)]
mod tests;

/// Time between two looks for messages of other processes, and for messages that are due again.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Wakes the delivery when a message was written.
#[derive(Default)]
pub struct Outbox(Notify);

impl Outbox {
    /// Starts the delivery of messages that were just written.
    pub fn wake(&self) {
        self.0.notify_waiters();
    }
}

/// The way to one destination.
trait Carrier: Sync {
    /// Number of messages of one lane that are under way at a time.
    const CONCURRENCY: usize;

    /// Time for which a message is kept from other processes while it is under way, in seconds; `None`
    /// when a message that is sent twice does no harm.
    const LEASE_SECS: Option<i64>;

    /// Wait after the first failed attempt, and the longest wait, in seconds. The wait doubles.
    const BACKOFF_SECS: (i64, i64);

    /// Number of lanes. Each lane reads the table and delivers by itself, so that a message which takes long
    /// holds up the messages of its own lane alone. Several lanes need a lease.
    const LANES: usize = 1;

    /// Number of messages that a lane reads from the table at once.
    const BATCH: i64 = 256;

    /// Order of the delivery.
    const ORDER: DeliveryOrder = DeliveryOrder::LongestWaiting;

    /// Whether a message is delivered when it was written, and not at the next look at the table.
    const IS_WOKEN: bool = true;

    /// The destination.
    fn destination(&self) -> Destination<'_>;

    /// Sends one message.
    fn deliver(&self, message: &Message) -> impl Future<Output = Outcome> + Send;
}

/// Outcome of an attempt to deliver.
enum Outcome {
    /// The destination has taken the message. The delivery itself may be an event.
    Delivered(Option<EventKind>),
    /// The destination takes this message at no time, or nobody needs it any more.
    GivenUp,
    /// The destination cannot take messages now.
    Failed(anyhow::Error),
}

/// The parts of the service that the delivery takes.
pub(crate) struct Delivery<'a> {
    /// The accounts, and the database with the messages.
    pub(crate) users: &'a Users,
    /// The keys that sign logout tokens and make links.
    pub(crate) keys: &'a Keys,
    /// The alarm of new messages.
    pub(crate) outbox: &'a Outbox,
    /// The sender of mail, if there is one.
    pub(crate) mailer: Option<&'a Mailer>,
    /// The operator's service that is told what happened, if there is one.
    pub(crate) event_hook: Option<&'a Webhook>,
    /// The gateways, by their URLs.
    pub(crate) gateways: &'a [String],
    /// The counts of outcomes.
    pub(crate) metrics: &'a Metrics,
}

/// Delivers until `stopping` turns true. Each destination is served for itself, so that one that does
/// not answer delays no other.
///
/// # Errors
///
/// When an HTTP client cannot be made.
pub(crate) async fn run(
    delivery: Delivery<'_>,
    stopping: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let client = gateway::client().context("cannot make an HTTP client")?;
    let delivery = &delivery;
    let (store, outbox) = (delivery.users.store(), delivery.outbox);
    let mut serving = Vec::new();
    for url in delivery.gateways {
        let gateway = gateway::Gateway::new(delivery, &client, url);
        serving.push(serve(store, outbox, gateway, stopping.clone()).boxed());
    }
    if let Some(mailer) = delivery.mailer {
        let post = post::Post::new(delivery, mailer);
        serving.push(serve(store, outbox, post, stopping.clone()).boxed());
        serving.push(serve(store, outbox, resets::Resets(delivery), stopping.clone()).boxed());
    }
    if let Some(hook) = delivery.event_hook {
        let events = events::Events::new(delivery, hook);
        serving.push(serve(store, outbox, events, stopping.clone()).boxed());
    }
    join_all(serving).await;
    Ok(())
}

/// Delivers to one destination until `stopping` turns true.
async fn serve<C: Carrier>(
    store: &Store,
    outbox: &Outbox,
    carrier: C,
    stopping: watch::Receiver<bool>,
) {
    const {
        assert!(
            C::LANES == 1 || C::LEASE_SECS.is_some(),
            "a message goes twice"
        )
    };
    let is_failing = AtomicBool::new(false);
    let mut lanes = Vec::new();
    for _ in 0..C::LANES {
        let stopping = stopping.clone();
        lanes.push(serve_lane(store, outbox, &carrier, &is_failing, stopping));
    }
    join_all(lanes).await;
}

async fn serve_lane<C: Carrier>(
    store: &Store,
    outbox: &Outbox,
    carrier: &C,
    is_failing: &AtomicBool,
    mut stopping: watch::Receiver<bool>,
) {
    loop {
        // From before the table is read, so that nothing written meanwhile waits for the next poll.
        let woken = outbox.0.notified();
        tokio::pin!(woken);
        woken.as_mut().enable();
        let deliver = deliver_due(store, carrier, is_failing);
        tokio::select! {
            outcome = deliver => if let Err(error) = outcome {
                tracing::warn!("the outbox cannot be read: {:#}", anyhow::Error::from(error));
            },
            _ = stopping.wait_for(|stop| *stop) => return,
        }
        tokio::select! {
            () = woken, if C::IS_WOKEN => {}
            () = tokio::time::sleep(POLL_INTERVAL) => {}
            _ = stopping.wait_for(|stop| *stop) => return,
        }
    }
}

/// Sends the messages that are due, and logs when the destination stops or starts to take them.
///
/// # Errors
///
/// The first failure of the database. The attempts that were under way at that time have ended.
async fn deliver_due<C: Carrier>(
    store: &Store,
    carrier: &C,
    is_failing: &AtomicBool,
) -> Result<(), StoreError> {
    loop {
        let Some(now) = clock() else {
            return Ok(());
        };
        let due = store
            .due_messages(
                carrier.destination(),
                C::ORDER,
                now,
                longest_hold_secs::<C>(),
                C::BATCH,
            )
            .await?;
        let count = due.len();
        let has_failed = AtomicBool::new(false);
        let mut outcomes = stream::iter(due)
            .take_while(|_| ready(!has_failed.load(Ordering::Relaxed)))
            .map(|message| attempt(store, carrier, message, clock))
            .buffer_unordered(C::CONCURRENCY);
        let is_ordered = C::ORDER == DeliveryOrder::OneOfEachUser;
        let mut is_more_due = i64::try_from(count) == Ok(C::BATCH);
        let mut failure = None;
        while let Some(outcome) = outcomes.next().await {
            match outcome {
                Ok(Some(outcome)) => {
                    // The next one of the same user is due now.
                    is_more_due |= is_ordered && matches!(outcome, Outcome::Delivered(_));
                    report(carrier.destination(), &outcome, is_failing);
                }
                Ok(None) => {}
                Err(error) => {
                    // No further attempt starts. Those under way end, since a message that was taken and
                    // not removed is sent twice.
                    has_failed.store(true, Ordering::Relaxed);
                    failure.get_or_insert(error);
                }
            }
        }
        if let Some(failure) = failure {
            return Err(failure);
        }
        if !is_more_due {
            return Ok(());
        }
    }
}

/// The time in seconds since the epoch; `None` when the clock is wrong.
fn clock() -> Option<i64> {
    seconds_since_epoch(SystemTime::now()).ok()
}

/// Sends one message and writes the outcome. Returns `None` when another process sends it, or the clock is
/// wrong.
///
/// Reads the clock before the claim and after the delivery: a message of a large batch may wait for
/// minutes until its turn comes, and a lease or a wait that is counted from before would have ended.
async fn attempt<C: Carrier>(
    store: &Store,
    carrier: &C,
    message: Message,
    clock: impl Fn() -> Option<i64>,
) -> Result<Option<Outcome>, StoreError> {
    let Some(now) = clock() else {
        return Ok(None);
    };
    if let Some(secs) = C::LEASE_SECS
        && !store.claim_message(&message, now + secs).await?
    {
        return Ok(None);
    }
    let outcome = carrier.deliver(&message).await;
    let now = clock().unwrap_or(now);
    match &outcome {
        Outcome::Delivered(kind) => {
            let event = kind.map(|kind| delivery_event(kind, &message, now));
            store.finish_message(&message, event).await?;
        }
        Outcome::GivenUp => store.finish_message(&message, None).await?,
        Outcome::Failed(_) => {
            let wait = backoff_secs(C::BACKOFF_SECS, message.attempts);
            store.postpone_message(&message, now + wait).await?;
        }
    }
    Ok(Some(outcome))
}

fn delivery_event(kind: EventKind, message: &Message, now: i64) -> Event<'_> {
    Event {
        kind,
        at: now,
        user_id: message.user_id.as_deref(),
        session_id: None,
        detail: serde_json::json!({}),
    }
}

/// Logs one line when a destination stops to take messages, and one when it does again.
fn report(destination: Destination<'_>, outcome: &Outcome, is_failing: &AtomicBool) {
    let destination = destination.name();
    match outcome {
        Outcome::Failed(error) if !is_failing.swap(true, Ordering::Relaxed) => {
            tracing::warn!(destination, "messages are not taken: {error:#}");
        }
        Outcome::Delivered(_) if is_failing.swap(false, Ordering::Relaxed) => {
            tracing::info!(destination, "messages are taken again");
        }
        _ => {}
    }
}

/// Returns the longest time for which a message is not due, in seconds: twice as long as a wait or a lease
/// can be, so that the clocks of two issuers may differ.
fn longest_hold_secs<C: Carrier>() -> i64 {
    let (_, longest_wait) = C::BACKOFF_SECS;
    2 * longest_wait.max(C::LEASE_SECS.unwrap_or_default())
}

/// Returns the wait after so many failed attempts: the first one, then twice as long each time.
fn backoff_secs((first, longest): (i64, i64), attempts: i64) -> i64 {
    let doublings = u32::try_from(attempts).unwrap_or(u32::MAX).min(16);
    first.saturating_mul(1 << doublings).min(longest)
}
