//! Request bodies with a total deadline, whoever reads them.
//!
//! The deadline starts when the headers of the request are complete. A handler whose body is late
//! gets an error instead of data; whatever it answers then, the client is answered 408.
//!
//! The rest of a body that the handler does not read is read and thrown away. A connection that is
//! closed with bytes unread is reset, and then a client that still writes loses the answer.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::body::Body;
use http::{HeaderMap, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::body::{Body as HttpBody, Bytes, Frame, Incoming, SizeHint};
use tokio::{
    runtime::Handle,
    time::{Instant, Sleep, sleep_until, timeout_at},
};

use super::head::last_response;

/// Maximum number of bytes of one body that are thrown away. A client that sends more is reset.
const MAXIMUM_DISCARDED_BYTES: usize = 16 * 1024 * 1024;

/// Minimum time in which the rest of a body may arrive. A body that is late has that much longer.
const DISCARD_GRACE: Duration = Duration::from_secs(1);

/// The body of a request was not complete at its deadline.
#[derive(Debug, thiserror::Error)]
#[error("the body of the request was not complete within limits.body_read_secs")]
pub struct BodyTimeout;

/// Whether the body of one request has missed its deadline.
#[derive(Clone, Default)]
pub(super) struct Lateness(Arc<AtomicBool>);

impl Lateness {
    pub(super) fn is_late(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// A request body that ends with [`BodyTimeout`] when it is not complete at its deadline.
struct TimedBody {
    /// `None` after the drop.
    body: Option<Incoming>,
    deadline: Pin<Box<Sleep>>,
    lateness: Lateness,
    /// Whether the client waits for a sign before it sends the body (RFC 9110, section 10.1.1), which it
    /// gets with the first read.
    is_held_back: bool,
}

/// Gives `body` the time `limit`, from now on. Returns it with a mark that is set when the body is
/// late; a request without a body has none.
pub(super) fn with_deadline(
    body: Incoming,
    headers: &HeaderMap,
    limit: Duration,
) -> (Body, Option<Lateness>) {
    if body.is_end_stream() {
        return (Body::empty(), None);
    }
    let lateness = Lateness::default();
    let timed = TimedBody {
        body: Some(body),
        deadline: Box::pin(sleep_until(Instant::now() + limit)),
        lateness: lateness.clone(),
        is_held_back: headers.contains_key(header::EXPECT),
    };
    (Body::new(timed), Some(lateness))
}

/// The answer to a request whose body is late. The connection closes after it, because the rest of
/// the body may still arrive.
pub(super) fn timeout_response() -> Response<Body> {
    last_response(StatusCode::REQUEST_TIMEOUT, BodyTimeout.to_string())
}

impl HttpBody for TimedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        let Some(body) = this.body.as_mut().filter(|_| !this.lateness.is_late()) else {
            return Poll::Ready(None);
        };
        this.is_held_back = false;
        // Data that has arrived is delivered, even if the handler asks for it late.
        if let Poll::Ready(frame) = Pin::new(body).poll_frame(context) {
            return Poll::Ready(frame.map(|frame| frame.map_err(axum::Error::new)));
        }
        ready!(this.deadline.as_mut().poll(context));
        this.lateness.0.store(true, Ordering::Release);
        Poll::Ready(Some(Err(axum::Error::new(BodyTimeout))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body
            .as_ref()
            .map_or(SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

impl Drop for TimedBody {
    fn drop(&mut self) {
        let rest = self.body.take().filter(|body| !body.is_end_stream());
        let Some(body) = rest.filter(|_| !self.is_held_back) else {
            return;
        };
        let until = self.deadline.deadline().max(Instant::now() + DISCARD_GRACE);
        // Without a runtime nothing serves the connection any more.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(timeout_at(until, discard(body)));
        }
    }
}

/// Reads the rest of a body, within the limit, and throws it away.
async fn discard(mut body: Incoming) {
    let mut discarded = 0;
    while discarded <= MAXIMUM_DISCARDED_BYTES
        && let Some(Ok(frame)) = body.frame().await
    {
        discarded += frame.data_ref().map_or(0, Bytes::len);
    }
}
