//! Request bodies with a total deadline, whoever reads them.
//!
//! The deadline starts when the headers of the request are complete. A handler whose body is late
//! gets an error instead of data; whatever it answers then, the client is answered 408.

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
use http::{HeaderValue, Response, StatusCode, header};
use hyper::body::{Body as HttpBody, Bytes, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

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
    body: Incoming,
    deadline: Pin<Box<Sleep>>,
    lateness: Lateness,
}

/// Gives `body` the time `limit`, from now on. Returns it with a mark that is set when the body is
/// late.
pub(super) fn with_deadline(body: Incoming, limit: Duration) -> (Body, Lateness) {
    let lateness = Lateness::default();
    if body.is_end_stream() {
        return (Body::empty(), lateness);
    }
    let timed = TimedBody {
        body,
        deadline: Box::pin(sleep_until(Instant::now() + limit)),
        lateness: lateness.clone(),
    };
    (Body::new(timed), lateness)
}

/// The answer to a request whose body is late. The connection closes after it, because the rest of
/// the body may still arrive.
pub(super) fn timeout_response() -> Response<Body> {
    let mut response = Response::new(Body::from(BodyTimeout.to_string()));
    *response.status_mut() = StatusCode::REQUEST_TIMEOUT;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    let text = HeaderValue::from_static("text/plain; charset=utf-8");
    headers.insert(header::CONTENT_TYPE, text);
    response
}

impl HttpBody for TimedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        if this.lateness.is_late() {
            return Poll::Ready(None);
        }
        // Data that has arrived is delivered, even if the handler asks for it late.
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) {
            return Poll::Ready(frame.map(|frame| frame.map_err(axum::Error::new)));
        }
        ready!(this.deadline.as_mut().poll(context));
        this.lateness.0.store(true, Ordering::Release);
        Poll::Ready(Some(Err(axum::Error::new(BodyTimeout))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
