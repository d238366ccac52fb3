//! The handlers of a session's events, and the order in which they run.

use std::{borrow::Cow, future::ready, sync::Arc, time::Duration};

use serde_json::{Value, json};
use socketioxide::extract::SocketRef;

use super::{Received, Session, intake::Full};
use crate::{limits::Verdict, metrics::Limit};

/// Who may send an event.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Audience {
    /// A client that was admitted as somebody, or as a guest where guests may stay.
    Members,
    /// Also a client that has yet to authenticate.
    Everybody,
}

impl Session {
    /// Handles the event `name` of this socket. Call it in a connect middleware, or what the client
    /// sends right after CONNECT is lost.
    ///
    /// Events of one socket are handled one after the other in the order in which they were sent,
    /// whatever their names; each only while the session lives, and none of a guest who has yet to
    /// authenticate. A client that sends faster than its events are handled is closed.
    pub fn on<F, Done>(
        self: &Arc<Self>,
        socket: &SocketRef,
        name: impl Into<Cow<'static, str>>,
        handler: F,
    ) where
        F: Fn(Arc<Self>, Received) -> Done + Send + Sync + 'static,
        Done: Future<Output = ()> + Send + 'static,
    {
        self.register(socket, name.into(), Audience::Members, handler);
    }

    /// Handles the events of this socket that nothing else handles, as [`Self::on`] does.
    pub fn on_any_other<F, Done>(self: &Arc<Self>, socket: &SocketRef, handler: F)
    where
        F: Fn(Arc<Self>, Received) -> Done + Send + Sync + 'static,
        Done: Future<Output = ()> + Send + 'static,
    {
        let (session, handler) = (self.clone(), Arc::new(handler));
        socket.on_fallback(move |received: Received| {
            let handler = handler.clone();
            session.receive(received, Audience::Members, move |session, received| {
                handler(session, received)
            });
            ready(())
        });
    }

    pub(super) fn register<F, Done>(
        self: &Arc<Self>,
        socket: &SocketRef,
        name: Cow<'static, str>,
        audience: Audience,
        handler: F,
    ) where
        F: Fn(Arc<Self>, Received) -> Done + Send + Sync + 'static,
        Done: Future<Output = ()> + Send + 'static,
    {
        let (session, handler) = (self.clone(), Arc::new(handler));
        socket.on(name, move |received: Received| {
            let handler = handler.clone();
            session.receive(received, audience, move |session, received| {
                handler(session, received)
            });
            ready(())
        });
    }

    /// Takes an event in, or closes the socket when its queue is full.
    pub(crate) fn receive<F, Done>(
        self: &Arc<Self>,
        received: Received,
        audience: Audience,
        handler: F,
    ) where
        F: FnOnce(Arc<Self>, Received) -> Done + Send + 'static,
        Done: Future<Output = ()> + Send + 'static,
    {
        if !self.is_live() {
            return;
        }
        let verdict = self.share.count_event(&self.context.pace);
        if verdict != Verdict::Pass {
            self.context.metrics.limited(Limit::EventsPerSec);
        }
        if verdict == Verdict::Close {
            return self.close_flooded();
        }
        let (session, size) = (self.clone(), received.bytes());
        let job = Box::pin(async move {
            if !session.is_live() {
                return;
            }
            let refusal = match verdict {
                Verdict::Wait(wait) => Some(too_fast(wait)),
                _ if audience == Audience::Members && !session.is_member() => {
                    Some(unauthenticated())
                }
                _ => None,
            };
            match refusal {
                Some(answer) => received.acknowledge(&session, &answer).await,
                None => handler(session, received).await,
            }
        });
        if let Err(Full) = self.intake.push(size, job) {
            self.close_flooded();
        }
    }
}

/// The answer to one event too many.
fn too_fast(wait: Duration) -> Value {
    // Rounded up: whoever comes back after it is not too early.
    let wait_ms = u64::try_from(wait.as_millis() + 1).unwrap_or(u64::MAX);
    let error = json!({
        "code": "rate_limited", "message": "this socket sends events too fast",
        "retryable": true, "retry_after_ms": wait_ms,
    });
    json!({ "ok": false, "error": error })
}

/// The answer to an event of a guest who has yet to authenticate.
fn unauthenticated() -> Value {
    let error = json!({
        "code": "unauthenticated", "message": "the socket must authenticate first",
        "retryable": false,
    });
    json!({ "ok": false, "error": error })
}
