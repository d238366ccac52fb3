//! HTTP long-polling: a GET fetches packets, a POST brings some.

use std::{future::poll_fn, sync::Arc, time::Duration};

use axum::body::{Body, Bytes, HttpBody as _};
use http::{HeaderValue, Method, Request, Response, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};

use super::{
    EngineHandler, Shared,
    error::RequestError,
    payload::{self, Received},
    query::TransportKind,
    session::Session,
    state::{NotStarted, Phase, PollOutcome},
    violation::{CloseCode, CloseReason, Violation},
};
use crate::transport::turn;

/// How long a poll that comes during an upgrade waits for the end of the upgrade. A client ends its
/// poll before it completes the upgrade, so such a poll is answered a noop sooner or later.
const UPGRADE_WAIT: Duration = Duration::from_millis(10);

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=UTF-8");

/// Answers a request of a session by long-polling.
pub(super) async fn respond<H: EngineHandler>(
    shared: &Arc<Shared<H>>,
    session: &Arc<Session<H::Data>>,
    request: Request<Body>,
) -> Result<Response<Body>, RequestError> {
    session.check_liveness();
    match *request.method() {
        Method::GET => poll(session).await.map(response),
        Method::POST => {
            post(shared, session, request.into_body()).await?;
            Ok(response(Bytes::from_static(b"ok")))
        }
        _ => Err(RequestError::BadRequest),
    }
}

/// Builds a successful response.
pub(super) fn response(body: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, TEXT);
    let no_store = HeaderValue::from_static("no-store");
    headers.insert(header::CACHE_CONTROL, no_store);
    response
}

/// A poll that is under way. Dropping it ends the poll, also when the client has gone.
struct PollGuard<'a, D: Send + Sync + 'static>(&'a Arc<Session<D>>);

impl<D: Send + Sync + 'static> Drop for PollGuard<'_, D> {
    fn drop(&mut self) {
        self.0.state().end_poll();
    }
}

/// Waits for packets, and encodes them.
async fn poll<D: Send + Sync + 'static>(session: &Arc<Session<D>>) -> Result<Bytes, RequestError> {
    let (started, is_upgrading) = {
        let mut state = session.state();
        (state.start_poll(), state.is_upgrading())
    };
    started.map_err(|error| refuse(session, error))?;
    let _guard = PollGuard(session);
    let mut outcome = None;
    if is_upgrading {
        let waiting = outcome_of(session, false);
        outcome = tokio::time::timeout(UPGRADE_WAIT, waiting).await.ok();
    }
    let outcome = match outcome {
        Some(outcome) => outcome,
        None => outcome_of(session, true).await,
    };
    match outcome {
        PollOutcome::Packets => Ok(take_packets(session)),
        PollOutcome::Noop => Ok(Bytes::from_static(b"6")),
        PollOutcome::Refused(error) => Err(error),
        // Not returned by `outcome_of`.
        PollOutcome::Pending => Err(RequestError::BadRequest),
    }
}

/// Waits until the poll can be answered.
async fn outcome_of<D: Send + Sync + 'static>(
    session: &Arc<Session<D>>,
    accepts_noop: bool,
) -> PollOutcome {
    poll_fn(|context| {
        let mut state = session.state();
        let has_packets = !session.queue().is_empty();
        match state.poll_outcome(has_packets, accepts_noop, context.waker()) {
            PollOutcome::Pending => std::task::Poll::Pending,
            outcome => std::task::Poll::Ready(outcome),
        }
    })
    .await
}

/// Takes packets for one response. With the last packets of a closed session, the session ends.
fn take_packets<D: Send + Sync + 'static>(session: &Arc<Session<D>>) -> Bytes {
    let packets = {
        // An upgrade that completes at the same time takes the packets, or finds them taken.
        let state = session.state();
        if state.transport() == TransportKind::WebSocket {
            return Bytes::from_static(b"6");
        }
        session.queue().take(session.core().settings.message_bytes)
    };
    if let Some(action) = session.queue().take_finished() {
        action();
    }
    let is_closing = session.state().phase() == Phase::Closing;
    if is_closing && session.queue().is_empty() {
        session.abort(CloseReason::Killed);
    }
    payload::encode(packets)
}

/// A POST that is under way.
struct PostGuard<'a, D: Send + Sync + 'static>(&'a Arc<Session<D>>);

impl<D: Send + Sync + 'static> Drop for PostGuard<'_, D> {
    fn drop(&mut self) {
        self.0.state().end_post();
        // The packets behind the one whose handler panicked are lost.
        if std::thread::panicking() {
            self.0
                .abort(CloseReason::Requested(CloseCode::InternalError));
        }
    }
}

/// Reads the packets in a body, and handles them in order.
async fn post<H: EngineHandler>(
    shared: &Arc<Shared<H>>,
    session: &Arc<Session<H::Data>>,
    body: Body,
) -> Result<(), RequestError> {
    let started = session.state().start_post();
    started.map_err(|error| refuse(session, error))?;
    let _guard = PostGuard(session);
    let limit = session.message_limit();
    if body.size_hint().lower() > limit as u64 {
        return Err(RequestError::TooLarge);
    }
    let read = Limited::new(body, limit).collect();
    let read = tokio::time::timeout(shared.core.settings.body_read, read).await;
    let body = match read {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => return Err(RequestError::TooLarge),
        Ok(Err(_)) => return Err(RequestError::BadRequest),
        Err(_) => return Err(RequestError::TooSlow),
    };
    turn::scope(|| receive(shared, session, &body)).map_err(|violation| {
        session.abort(CloseReason::Violated(violation));
        RequestError::BadRequest
    })
}

/// Handles the packets in `body`. Packets after a close packet are ignored.
fn receive<H: EngineHandler>(
    shared: &Arc<Shared<H>>,
    session: &Arc<Session<H::Data>>,
    body: &[u8],
) -> Result<(), Violation> {
    for packet in payload::decode(body)? {
        // The upgrade is complete when its WebSocket carries the session: then packets come there.
        if !session.is_open() || session.transport() == TransportKind::WebSocket {
            return Ok(());
        }
        match packet? {
            Received::Text(text) => shared.on_text(session, text)?,
            Received::Binary(data) => shared.handler.binary(session, data)?,
        }
    }
    Ok(())
}

/// Closes the session if the request overlaps another one.
fn refuse<D: Send + Sync + 'static>(session: &Arc<Session<D>>, error: NotStarted) -> RequestError {
    match error {
        NotStarted::Refused(error) => error,
        NotStarted::Overlapping => {
            session.end(CloseReason::OverlappingRequests);
            RequestError::BadRequest
        }
    }
}
