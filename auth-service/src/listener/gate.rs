//! State that the stream of a connection shares with the service of its requests: which bytes the
//! dispatcher of actix-http can use.
//!
//! Invariant: the dispatcher has one request at most. Bytes of a further one are withheld until the first
//! is answered.

use std::{
    cell::RefCell,
    pin::Pin,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use actix_http::{
    BoxedPayloadStream, HttpMessage as _, Payload, Request,
    body::{BodySize, BoxBody, MessageBody},
    error::PayloadError,
};
use actix_web::{http::header, web::Bytes};
use futures_util::{Stream, task::AtomicWaker};

/// Bytes that the dispatcher can use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Demand {
    /// None: a request is being answered, and the application does not wait for its body.
    Nothing,
    /// All to the next blank line, which ends a head and a body in chunks.
    BlankLine,
    /// The rest of a body, of which so many bytes are left.
    Rest(u64),
}

/// Tells the stream of one connection which bytes the dispatcher can use.
#[derive(Default)]
pub(super) struct Gate {
    /// Body of the request that is being answered. None between two requests.
    answering: RefCell<Option<Arc<BodyWait>>>,
    /// Waker of the dispatcher, while bytes are withheld from it.
    dispatcher: RefCell<Option<Waker>>,
}

impl Gate {
    pub(super) fn demand(&self) -> Demand {
        match &*self.answering.borrow() {
            None => Demand::BlankLine,
            Some(body) => body.demand(),
        }
    }

    /// Notes that bytes are withheld from the dispatcher, which is woken once when that may be over.
    pub(super) fn withhold(&self, dispatcher: &Waker) {
        self.dispatcher.replace(Some(dispatcher.clone()));
    }

    /// Wakes the dispatcher when bytes are withheld from it.
    pub(super) fn wake(&self) {
        if let Some(dispatcher) = self.dispatcher.take() {
            dispatcher.wake();
        }
    }

    /// Notes that a request is being answered, and watches its body.
    pub(super) fn begin(self: Rc<Self>, request: Request) -> (Request, Answering) {
        let wait = Arc::new(BodyWait::new(&request));
        self.answering.replace(Some(Arc::clone(&wait)));
        let answering = Answering(Rc::clone(&self));
        let (request, payload) = request.replace_payload(Payload::None);
        if matches!(payload, Payload::None) {
            return (request, answering);
        }
        let body = WatchedBody {
            payload,
            waker: Waker::from(Arc::clone(&wait)),
            wait,
            gate: self,
        };
        let payload: BoxedPayloadStream = Box::pin(body);
        let (request, _) = request.replace_payload(Payload::Stream { payload });
        (request, answering)
    }
}

/// A request that is being answered. It is answered when this is dropped.
pub(super) struct Answering(Rc<Gate>);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.answering.replace(None);
        self.0.wake();
    }
}

/// Whether the application waits for bytes of a request's body, and of how many.
///
/// As a waker it stands before the application's: the payload wakes it as soon as it has bytes, and from
/// then on further bytes are not awaited until the application has taken them and polls again.
struct BodyWait {
    is_awaited: AtomicBool,
    /// Number of bytes that the application has not taken. Zero for a body in chunks.
    left: AtomicU64,
    application: AtomicWaker,
}

impl BodyWait {
    fn new(request: &Request) -> Self {
        let headers = request.headers();
        let length = headers.get(header::CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.trim().parse().ok());
        let is_chunked = headers.contains_key(header::TRANSFER_ENCODING);
        let left = length.filter(|_| !is_chunked).unwrap_or(0);
        Self {
            is_awaited: AtomicBool::new(false),
            left: AtomicU64::new(left),
            application: AtomicWaker::new(),
        }
    }

    /// Returns the bytes that the application waits for. It has taken all that were parsed then, so what is
    /// left of the body is exact.
    fn demand(&self) -> Demand {
        if !self.is_awaited.load(Ordering::Acquire) {
            return Demand::Nothing;
        }
        match self.left.load(Ordering::Acquire) {
            0 => Demand::BlankLine,
            left => Demand::Rest(left),
        }
    }

    fn set_awaited(&self, is_awaited: bool) {
        self.is_awaited.store(is_awaited, Ordering::Release);
    }

    /// Counts bytes that the application has taken.
    fn take(&self, count: usize) {
        let left = self.left.load(Ordering::Acquire);
        self.left
            .store(left.saturating_sub(count as u64), Ordering::Release);
    }
}

impl Wake for BodyWait {
    fn wake(self: Arc<Self>) {
        self.set_awaited(false);
        self.application.wake();
    }
}

/// Body of a request, which asks for bytes while the application waits for them.
struct WatchedBody {
    payload: Payload,
    wait: Arc<BodyWait>,
    /// The same `wait`, as the waker that the payload is polled with.
    waker: Waker,
    gate: Rc<Gate>,
}

impl Stream for WatchedBody {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let body = self.get_mut();
        body.wait.application.register(context.waker());
        let polled = Pin::new(&mut body.payload).poll_next(&mut Context::from_waker(&body.waker));
        match &polled {
            Poll::Pending => {
                body.wait.set_awaited(true);
                body.gate.wake();
            }
            Poll::Ready(Some(Ok(bytes))) => body.wait.take(bytes.len()),
            Poll::Ready(_) => {}
        }
        polled
    }
}

impl Drop for WatchedBody {
    fn drop(&mut self) {
        self.wait.set_awaited(false);
    }
}

/// Body of a response. The request counts as answered once the dispatcher has taken all of it.
pub(super) struct AnsweringBody {
    pub(super) body: BoxBody,
    pub(super) _answering: Option<Answering>,
}

impl MessageBody for AnsweringBody {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        self.body.as_pin_mut().poll_next(context)
    }
}
