//! One back end, and the requests to it.

mod status;

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use ipnet::IpNet;
use serde::Serialize;
use tokio::time::{Instant, error::Elapsed, timeout_at};

use self::status::check_status;
use super::{
    CallError, CloudEvent, Failure, Reply,
    breaker::{Breaker, Change, Pass},
    capacity::{Capacity, Full, Load},
    client::{Answer, Client, Problem},
    cloud_event::{BATCH_TYPE, MEDIA_TYPE, id_of},
    signature::Signer,
};
use crate::{
    clock::{unix_secs, wall_now},
    config::{BackendSettings, read_secret_file},
    metrics::{BackEndMetrics, Metrics},
    namespaces::MAIN,
};

/// Maximum size of an answer besides the data of a message, in bytes.
const ANSWER_MARGIN_BYTES: usize = 64 * 1024;

/// The longest pause that is passed on to a client. A delivery has a bound of its own.
const LONGEST_CLIENT_PAUSE: Duration = Duration::from_secs(60);

/// Number of the headers of a request, those of the client included.
const HEADERS: usize = 8;

/// The name of the gateway in requests.
const USER_AGENT: HeaderValue =
    HeaderValue::from_static(concat!("latchkey-realtime/", env!("CARGO_PKG_VERSION")));

/// The media type of answers.
const ACCEPTED: HeaderValue = HeaderValue::from_static("application/json");

/// The headers of Standard Webhooks 1.0.
const ID: HeaderName = HeaderName::from_static("webhook-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// One request.
struct Post<'a> {
    id: &'a str,
    body: Vec<u8>,
    /// The user whose share of the capacity it takes; `None` for deliveries, of which few are sent at a time.
    sender: Option<&'a str>,
    /// Size of the event as it was received, in bytes, besides the body.
    bytes: usize,
    media_type: &'static str,
    is_answer_read: bool,
}

/// Outcome of a call whose future was dropped.
const GIVEN_UP: &str = "given_up";

/// A call or delivery, which is counted when it is dropped if it has an outcome.
struct Counted<'a> {
    metrics: &'a BackEndMetrics,
    started_at: Instant,
    outcome: Option<&'static str>,
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        if let Some(outcome) = self.outcome {
            self.metrics.called(outcome, self.started_at.elapsed());
        }
    }
}

/// A back end of the settings.
pub struct BackEnd {
    settings: BackendSettings,
    client: Client,
    signer: ArcSwap<Signer>,
    breaker: Breaker,
    capacity: Capacity,
    maximum_answer_bytes: usize,
    metrics: BackEndMetrics,
}

impl BackEnd {
    /// A back end that has not been called yet.
    pub(super) fn new(
        settings: &BackendSettings,
        (denied, message_bytes): (&[IpNet], usize),
        metrics: &Metrics,
    ) -> Result<Arc<Self>, Problem> {
        let signer = read_signer(settings).map_err(|problem| ("secret_file", problem))?;
        Ok(Arc::new(Self {
            client: Client::new(settings, denied)?,
            signer: ArcSwap::from_pointee(signer),
            breaker: Breaker::default(),
            capacity: Capacity::new(settings),
            // Binary data has a third more bytes as base64.
            maximum_answer_bytes: message_bytes / 3 * 4 + ANSWER_MARGIN_BYTES,
            metrics: metrics.back_end(&settings.name),
            settings: settings.clone(),
        }))
    }

    /// The name in the settings.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.settings.name
    }

    /// Reads the file with the secrets again. Requests under way keep their signatures.
    ///
    /// # Errors
    ///
    /// When it cannot be used; the secrets from before are kept.
    pub(super) fn reload_secrets(&self) -> Result<(), String> {
        self.signer.store(Arc::new(read_signer(&self.settings)?));
        Ok(())
    }

    /// Posts an event of `sender`, of `bytes` bytes as it was received, and returns the answer. The back
    /// end is given the request at most once. Dropping the future gives up the call, which the back end may still
    /// carry out.
    ///
    /// # Errors
    ///
    /// See [`CallError`]. Every failure is counted, and a call that is given up. Failures of requests are logged,
    /// with the id of the event.
    pub async fn call<T: Serialize>(
        &self,
        event: &CloudEvent<'_, T>,
        (sender, bytes): (&str, usize),
    ) -> Result<Reply, CallError> {
        let namespace = event.namespace.unwrap_or(MAIN);
        let parse = |body: &[u8]| Reply::parse(namespace, body);
        self.ask(event, (sender, bytes), parse).await
    }

    /// Posts an event as [`Self::call`] does, and returns what `parse` makes of the answer.
    ///
    /// # Errors
    ///
    /// See [`Self::call`].
    pub(super) async fn ask<T: Serialize, A>(
        &self,
        event: &CloudEvent<'_, T>,
        (sender, bytes): (&str, usize),
        parse: impl Fn(&[u8]) -> Result<A, CallError>,
    ) -> Result<A, CallError> {
        let body = event.to_body();
        let body = body.map_err(|_| CallError::permanent("the event is no JSON"))?;
        let request = Post {
            id: event.id(),
            body,
            sender: Some(sender),
            bytes,
            media_type: MEDIA_TYPE,
            is_answer_read: true,
        };
        self.send(request, parse).await
    }

    /// Posts events from the queue, each an id and a body, of which there is at least one: as a list if the settings allow more than
    /// one. The answer means nothing but that the events were taken. The id of several events is made of
    /// their ids, so that the same events have the same id.
    ///
    /// # Errors
    ///
    /// See [`Self::call`]. A delivery that was not sent is not counted: it is made again without an end.
    pub(super) async fn deliver(&self, events: &[(&str, &[u8])]) -> Result<(), CallError> {
        let ids: Vec<&str> = events.iter().map(|(id, _)| *id).collect();
        let id = match ids[..] {
            [id] => id.to_owned(),
            _ => id_of(&ids),
        };
        let bodies: Vec<&[u8]> = events.iter().map(|(_, body)| *body).collect();
        let (body, media_type) = match self.settings.batch {
            1 => (bodies.concat(), MEDIA_TYPE),
            _ => ([&b"["[..], &bodies.join(&b','), b"]"].concat(), BATCH_TYPE),
        };
        let request = Post {
            id: &id,
            body,
            sender: None,
            bytes: 0,
            media_type,
            is_answer_read: false,
        };
        self.send(request, |_| Ok(())).await
    }

    /// Maximum number of events from the queue in one request.
    pub(super) fn batch(&self) -> usize {
        self.settings.batch
    }

    /// Maximum size of a request with several events from the queue, in bytes: two such requests fit at a time.
    pub(super) fn batch_bytes(&self) -> u64 {
        self.settings.bytes as u64 / 2
    }

    /// Whether an event of so many bytes can be sent at all.
    pub(super) fn holds(&self, bytes: usize) -> bool {
        // A list has two brackets more.
        bytes + 2 <= self.settings.bytes
    }

    /// Returns the number of requests that the circuit breaker lets pass at this moment.
    pub(super) fn openings(&self) -> usize {
        self.breaker.openings(Instant::now())
    }

    /// Opens the circuit, with a pause that is over.
    #[cfg(test)]
    pub(super) fn open_for_probe(&self) {
        self.breaker.open_for_probe();
    }

    /// The metrics.
    pub(super) fn metrics(&self) -> &BackEndMetrics {
        &self.metrics
    }

    /// Posts a body under its id. Counts the outcome, unless it is a delivery that was not sent.
    async fn send<T>(
        &self,
        request: Post<'_>,
        parse: impl Fn(&[u8]) -> Result<T, CallError>,
    ) -> Result<T, CallError> {
        let started_at = Instant::now();
        let mut counted = Counted {
            metrics: &self.metrics,
            started_at,
            outcome: request.sender.map(|_| GIVEN_UP),
        };
        let result = self.attempt(request, parse, started_at).await;
        counted.outcome = match &result {
            Ok(_) => Some("ok"),
            Err(error) if error.was_sent => Some(error.failure.code()),
            // A delivery has no outcome until it is sent.
            Err(error) => counted.outcome.map(|_| error.failure.code()),
        };
        result
    }

    async fn attempt<T>(
        &self,
        request: Post<'_>,
        parse: impl Fn(&[u8]) -> Result<T, CallError>,
        started_at: Instant,
    ) -> Result<T, CallError> {
        let event = request.id;
        let bytes = request.bytes + request.body.len();
        if bytes > self.settings.bytes {
            return Err(CallError::too_large());
        }
        let pass = self.breaker.enter(started_at);
        let pass = pass.map_err(CallError::cut_off)?;
        let mut load = self.capacity.load(request.sender, bytes).map_err(busy)?;
        let deadline = started_at + Duration::from_millis(self.settings.timeout_ms);
        let place = timeout_at(deadline, self.capacity.place()).await;
        let place = place.map_err(|_| CallError::unsent("no place became free in time"))?;
        let _place = place.map_err(busy)?;
        let _under_way = self.metrics.begin();
        let answer = self.exchange(request, &mut load, deadline).await;
        let result = answer.and_then(|answer| parse(&answer));
        if let Err(CallError {
            failure, reason, ..
        }) = &result
        {
            let backend = self.name();
            tracing::warn!(
                backend,
                event,
                outcome = failure.code(),
                reason,
                "a call failed"
            );
        }
        self.report(pass, &result);
        result
    }

    /// Tells the circuit breaker whether the back end has answered a request that was sent.
    fn report<T>(&self, pass: Pass<'_>, result: &Result<T, CallError>) {
        let change = match result {
            Err(error) if error.is_of_back_end => pass.fail(Instant::now()),
            // A back end that asks for a pause has answered.
            Err(_) | Ok(_) => pass.succeed(),
        };
        let backend = self.name();
        match change {
            Change::None => {}
            Change::Opened => tracing::warn!(backend, "the circuit is open: calls fail at once"),
            Change::Closed => tracing::info!(backend, "the circuit is closed again"),
        }
        if change != Change::None {
            self.metrics.set_open(change == Change::Opened);
        }
    }

    /// Posts the event and reads the answer until `deadline`, unless the status alone counts.
    async fn exchange(
        &self,
        request: Post<'_>,
        load: &mut Load<'_>,
        deadline: Instant,
    ) -> Result<Vec<u8>, CallError> {
        let Post {
            id,
            body,
            media_type,
            is_answer_read,
            sender,
            ..
        } = request;
        let headers = self.headers(id, media_type, &body)?;
        let answer = timeout_at(deadline, self.client.post(headers, body)).await;
        let answer = answer.map_err(late)??;
        let longest_pause = sender.map_or(Duration::MAX, |_| LONGEST_CLIENT_PAUSE);
        check_status(&answer, longest_pause)?;
        if !is_answer_read {
            return Ok(Vec::new());
        }
        let body = timeout_at(deadline, self.read(answer, load)).await;
        let body = body.map_err(late).flatten();
        body.map_err(CallError::within_answer)
    }

    /// Returns the headers of a request with a body of this media type, signed at this moment.
    fn headers(
        &self,
        id: &str,
        media_type: &'static str,
        body: &[u8],
    ) -> Result<HeaderMap, CallError> {
        let timestamp = unix_secs(wall_now());
        let signature = self.signer.load().sign(id, timestamp, body);
        let invalid = |_| CallError::permanent("the id cannot be sent");
        let mut headers = HeaderMap::with_capacity(HEADERS);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
        headers.insert(header::ACCEPT, ACCEPTED);
        headers.insert(header::USER_AGENT, USER_AGENT);
        headers.insert(ID, HeaderValue::from_str(id).map_err(invalid)?);
        headers.insert(TIMESTAMP, timestamp.into());
        headers.insert(SIGNATURE, signature.try_into().map_err(invalid)?);
        Ok(headers)
    }

    /// Reads the body of an answer, as far as it may be.
    async fn read(&self, mut answer: Answer, load: &mut Load<'_>) -> Result<Vec<u8>, CallError> {
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await? {
            if body.len() + chunk.len() > self.maximum_answer_bytes {
                return Err(CallError::permanent(
                    "the answer is longer than a message may be",
                ));
            }
            // The back end has carried out the event, so the client must not hear that it has not.
            load.grow(chunk.len()).map_err(|_| {
                CallError::permanent("the answers under way have as many bytes as they may")
            })?;
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

fn read_signer(settings: &BackendSettings) -> Result<Signer, String> {
    let text = read_secret_file(&settings.secret_file);
    let text = text.map_err(|error| format!("cannot be read: {}", error.kind()))?;
    Signer::parse(&zeroize::Zeroizing::new(text)).map_err(str::to_owned)
}

fn late(_: Elapsed) -> CallError {
    CallError::temporary(Failure::TimedOut, "no answer in time")
}

fn busy(_: Full) -> CallError {
    CallError::unsent("as much waits for the back end as may")
}

#[cfg(test)]
mod tests;
