//! Events for a service of the operator's, in order for each user.

use zeroize::Zeroizing;

use super::{Carrier, Delivery, Outcome};
use crate::{
    metrics::EventOutcome,
    store::{DeliveryOrder, Destination, Message},
    webhook::Webhook,
};

/// The way to the receiver of events.
pub(super) struct Events<'a> {
    delivery: &'a Delivery<'a>,
    hook: &'a Webhook,
}

impl<'a> Events<'a> {
    /// The way through `hook`.
    pub(super) fn new(delivery: &'a Delivery<'a>, hook: &'a Webhook) -> Self {
        Self { delivery, hook }
    }
}

impl Carrier for Events<'_> {
    const CONCURRENCY: usize = 8;
    /// Longer than the deadlines of the webhook: an event that another process still sends must not be
    /// followed by the next one of its user.
    const LEASE_SECS: Option<i64> = Some(30);
    const BACKOFF_SECS: (i64, i64) = (1, 300);
    const ORDER: DeliveryOrder = DeliveryOrder::OneOfEachUser;

    fn destination(&self) -> Destination<'_> {
        Destination::Events
    }

    async fn deliver(&self, message: &Message) -> Outcome {
        let body = Zeroizing::new(message.payload.clone());
        match self.hook.post(&message.id, body).await {
            Ok(()) => {
                self.delivery.metrics.event(EventOutcome::Delivered);
                Outcome::Delivered(None)
            }
            Err(error) => {
                self.delivery.metrics.event(EventOutcome::Failed);
                Outcome::Failed(error)
            }
        }
    }
}
