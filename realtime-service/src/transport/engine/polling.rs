//! HTTP long-polling: a GET fetches packets, a POST brings some.

use std::{future::poll_fn, panic, sync::Arc, time::Duration};

use axum::body::{Body, HttpBody as _};
use futures_util::FutureExt as _;
use http::{HeaderValue, Request, Response, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};

use super::{
    Answer, EngineHandler, Shared,
    error::RequestError,
    payload, payload_v3,
    query::TransportKind,
    received::{self, Received},
    session::Session,
    state::{NotStarted, Phase, PollOutcome},
    violation::{CloseCode, CloseReason, Violation},
};
use crate::transport::{Packet, ProtocolVersion, Queued, turn};

/// Maximum number of packets of a POST that are handled in one turn.
const PACKETS_PER_TURN: usize = 64;

/// How long a poll that comes during an upgrade waits for the end of the upgrade. A client ends its
/// poll before it completes the upgrade, so such a poll is answered a noop sooner or later.
const UPGRADE_WAIT: Duration = Duration::from_millis(10);

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=UTF-8");

/// The type of a payload with binary data in Engine.IO 3.
const BINARY: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// Answers the request that opened a session, by the packets that wait.
///
/// # Errors
///
/// When the session has ended already.
pub(super) fn first_response<D: Send + Sync + 'static>(
    session: &Arc<Session<D>>,
) -> Result<Response<Body>, RequestError> {
    match session.queue().is_empty() {
        true => Err(RequestError::UnknownSession),
        false => Ok(encode(session, take_packets(session))),
    }
}

/// Builds a successful response.
fn response(content_type: HeaderValue, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, content_type);
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
///
/// # Errors
///
/// When the session has ended, or polls overlap.
pub(super) async fn poll<D: Send + Sync + 'static>(
    session: Arc<Session<D>>,
) -> Result<Answer, RequestError> {
    let session = &session;
    let (started, is_upgrading) = {
        let mut state = session.state();
        (state.start_poll(), state.is_upgrading())
    };
    started.map_err(|error| refuse(session, error))?;
    let _guard = PollGuard(session);
    let mut outcome = None;
    // No clock runs where a test chooses the order of threads.
    if is_upgrading && cfg!(not(shuttle)) {
        let waiting = outcome_of(session, false);
        outcome = tokio::time::timeout(UPGRADE_WAIT, waiting).await.ok();
    }
    let outcome = match outcome {
        Some(outcome) => outcome,
        None => outcome_of(session, true).await,
    };
    match outcome {
        PollOutcome::Packets => Ok(encode(session, take_packets(session)).into()),
        PollOutcome::Noop => Ok(encode(session, noop()).into()),
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

/// Encodes packets for the client of `session`.
fn encode<D: Send + Sync + 'static>(session: &Session<D>, packets: Vec<Queued>) -> Response<Body> {
    let version = session.dialect().version;
    let shared = match packets.as_slice() {
        [only] if only.packet().wire_bytes() > payload::JOINED_BYTES => Some(match version {
            ProtocolVersion::V3 => payload_v3::share(only),
            ProtocolVersion::V4 => payload::share(only.clone()),
        }),
        _ => None,
    };
    let (first, body) = match (shared, version) {
        (Some(shared), _) => (shared.first(), shared.into_body()),
        (None, ProtocolVersion::V4) => (None, payload::encode(packets).into()),
        (None, ProtocolVersion::V3) => {
            let body = payload_v3::encode(packets);
            (body.first().copied(), body.into())
        }
    };
    match version == ProtocolVersion::V3 && payload_v3::is_binary(first) {
        true => response(BINARY, body),
        false => response(TEXT, body),
    }
}

fn noop() -> Vec<Queued> {
    vec![Queued::new(Packet::engine("6"), None)]
}

/// Takes packets for one response. With the last packets of a closed session, the session ends.
fn take_packets<D: Send + Sync + 'static>(session: &Arc<Session<D>>) -> Vec<Queued> {
    let packets = {
        // An upgrade that completes at the same time takes the packets, or finds them taken.
        let state = session.state();
        if state.transport() == TransportKind::WebSocket {
            return noop();
        }
        session.queue().take(payload::JOINED_BYTES)
    };
    if let Some(action) = session.queue().take_finished() {
        action();
    }
    let is_closing = session.state().phase() == Phase::Closing;
    if is_closing && session.queue().is_empty() {
        session.abort(CloseReason::Killed);
    }
    packets
}

/// A POST that is under way.
struct PostGuard<D: Send + Sync + 'static>(Arc<Session<D>>);

impl<D: Send + Sync + 'static> Drop for PostGuard<D> {
    fn drop(&mut self) {
        self.0.state().end_post();
        // The packets behind the one whose handler panicked are lost.
        if std::thread::panicking() {
            self.0
                .abort(CloseReason::Requested(CloseCode::InternalError));
        }
    }
}

/// Reads the packets in a body, and handles them in order. A body that was read is handled to its end, also when
/// the client hangs up meanwhile.
///
/// # Errors
///
/// When the body cannot be read, its packets break the protocol, or the session has ended.
pub(super) async fn post<H: EngineHandler>(
    shared: Arc<Shared<H>>,
    session: Arc<Session<H::Data>>,
    request: Request<Body>,
) -> Result<Answer, RequestError> {
    let started = session.state().start_post();
    started.map_err(|error| refuse(&session, error))?;
    let guard = PostGuard(session.clone());
    let is_binary = is_binary(request.headers().get(header::CONTENT_TYPE));
    let body = request.into_body();
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
    finish(async move {
        let _guard = guard;
        let received = receive(&shared, &session, &body, is_binary).await;
        received.map_err(|violation| {
            session.abort(CloseReason::Violated(violation));
            RequestError::BadRequest
        })
    })
    .await?;
    Ok(response(TEXT, Body::from("ok")).into())
}

/// Runs `work` to its end, even if the caller is dropped. A task exists only for work that is not done at once.
///
/// # Errors
///
/// When `work` fails, and when the runtime ends first.
async fn finish(
    work: impl Future<Output = Result<(), RequestError>> + Send + 'static,
) -> Result<(), RequestError> {
    let mut work = Box::pin(work);
    if let Some(result) = work.as_mut().now_or_never() {
        return result;
    }
    match tokio::spawn(work).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            // The connection of the request ends with its handler.
            Ok(panic) => panic::resume_unwind(panic),
            Err(_) => Err(RequestError::UnknownSession),
        },
    }
}

/// Whether a body of Engine.IO 3 has binary data, by its media type (RFC 9110, section 8.3.1).
fn is_binary(content_type: Option<&HeaderValue>) -> bool {
    let content_type = content_type.and_then(|value| value.to_str().ok());
    let media_type = content_type.and_then(|text| text.split(';').next());
    media_type.is_some_and(|text| {
        BINARY
            .as_bytes()
            .eq_ignore_ascii_case(text.trim().as_bytes())
    })
}

/// Handles the packets in `body`.
async fn receive<H: EngineHandler>(
    shared: &Arc<Shared<H>>,
    session: &Arc<Session<H::Data>>,
    body: &[u8],
    is_binary: bool,
) -> Result<(), Violation> {
    let text = |packet: Result<_, Violation>| packet.map(Received::Text);
    match (session.dialect().version, is_binary) {
        (ProtocolVersion::V4, _) => {
            let packets = received::decode(body)?.map(Ok).map(text);
            handle(shared, session, packets).await
        }
        (ProtocolVersion::V3, false) => {
            let packets = received::decode_text(body)?.map(text);
            handle(shared, session, packets).await
        }
        (ProtocolVersion::V3, true) => handle(shared, session, received::decode_binary(body)).await,
    }
}

/// Handles packets, some in each turn: other tasks run in between, and the clocks go on. Packets after a close
/// packet are ignored.
async fn handle<'a, H: EngineHandler>(
    shared: &Arc<Shared<H>>,
    session: &Arc<Session<H::Data>>,
    mut packets: impl Iterator<Item = Result<Received<'a>, Violation>>,
) -> Result<(), Violation> {
    let on_packet = |packet| {
        // The upgrade is complete when its WebSocket carries the session: then packets come there.
        if !session.is_open() || session.transport() == TransportKind::WebSocket {
            return Ok(());
        }
        match packet? {
            Received::Text(text) => shared.on_text(session, text),
            Received::Binary(data) => shared.on_binary(session, data),
        }
    };
    loop {
        let mut count = 0;
        turn::scope(|| {
            let some = packets.by_ref().take(PACKETS_PER_TURN);
            some.inspect(|_| count += 1).try_for_each(on_packet)
        })?;
        if count < PACKETS_PER_TURN {
            return Ok(());
        }
        turn::yield_to_ready().await;
    }
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
