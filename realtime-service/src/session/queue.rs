//! The queue through which each socket's events pass in order.
//!
//! socketioxide spawns the body of every handler, which reorders a socket's events. So what it calls
//! only puts the event into the socket's one bounded queue, in the part that runs in order, and one
//! worker finishes each event before the next.

use std::{
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt;
use socketioxide::socket::Socket;
use tokio::sync::mpsc;

use super::Session;
use crate::config::Limits;

/// How often, and after which pause, a socket is asked whether it is connected by now. It is within
/// microseconds, or never: when the acknowledgement of CONNECT did not fit into its queue.
const CONNECT_ATTEMPTS: u32 = 500;
const CONNECT_PAUSE: Duration = Duration::from_millis(1);

/// What is done with one event.
pub(super) type Job = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The queue is full.
pub(super) struct Full;

/// The way into a socket's queue. The worker ends with it.
pub(super) struct Queue {
    sender: mpsc::Sender<(usize, Job)>,
    bytes: Arc<AtomicUsize>,
    most_bytes: usize,
}

impl Queue {
    /// A queue for one socket, and the worker that empties it.
    pub(super) fn start(limits: &Limits) -> Self {
        let (sender, receiver) = mpsc::channel(limits.inbound_events);
        let bytes = Arc::default();
        tokio::spawn(work(receiver, Arc::clone(&bytes)));
        Self {
            sender,
            bytes,
            most_bytes: limits.inbound_bytes,
        }
    }

    /// Takes a job in. It must not panic or wait: it runs on the task that reads the transport.
    pub(super) fn push(&self, size: usize, job: Job) -> Result<(), Full> {
        let waiting = self.bytes.fetch_add(size, Ordering::AcqRel);
        let is_too_much = waiting > 0 && waiting + size > self.most_bytes;
        if is_too_much || self.sender.try_send((size, job)).is_err() {
            return Err(Full);
        }
        Ok(())
    }
}

/// Finishes each job of a socket before the next.
async fn work(mut queue: mpsc::Receiver<(usize, Job)>, bytes: Arc<AtomicUsize>) {
    while let Some((size, job)) = queue.recv().await {
        bytes.fetch_sub(size, Ordering::AcqRel);
        if AssertUnwindSafe(job).catch_unwind().await.is_err() {
            tracing::error!("a handler panicked");
        }
        // Whoever gets what was just sent has a chance to take it before the next is sent.
        tokio::task::yield_now().await;
    }
}

/// Waits for the moment between the acknowledgement of CONNECT and the first event that can be sent.
pub(super) async fn is_connected(socket: &Socket, session: &Session) -> bool {
    for _ in 0..CONNECT_ATTEMPTS {
        if socket.connected() || !session.is_live() {
            return true;
        }
        tokio::time::sleep(CONNECT_PAUSE).await;
    }
    false
}
