//! The body of a poll that is one large packet: its bytes stay where all clients share them, and what each
//! client has of its own is a few bytes between them.

use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use axum::body::Body;
use hyper::body::{Body as HttpBody, Bytes, Frame, SizeHint};

use crate::transport::Queued;

/// The pieces of a body, in order.
#[derive(Default)]
pub(super) struct SharedBody(VecDeque<Bytes>);

impl SharedBody {
    /// Appends bytes that this client alone has.
    pub(super) fn push(&mut self, bytes: impl Into<Bytes>) {
        self.0.push_back(bytes.into());
    }

    /// Appends the payload number `index` of a packet. The packet, and what it is charged to, lives until the
    /// body is written or dropped.
    pub(super) fn push_payload(&mut self, packet: &Queued, index: usize) {
        self.0.push_back(shared_payload(packet.clone(), index));
    }

    /// Returns the body of a response.
    pub(super) fn into_body(self) -> Body {
        Body::new(self)
    }

    /// Returns the first byte.
    pub(super) fn first(&self) -> Option<u8> {
        self.0.front()?.first().copied()
    }

    #[cfg(test)]
    pub(super) fn joined(&self) -> Vec<u8> {
        self.0.iter().flatten().copied().collect()
    }
}

impl HttpBody for SharedBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        let bytes: usize = self.0.iter().map(Bytes::len).sum();
        SizeHint::with_exact(bytes as u64)
    }
}

/// Returns the bytes of the payload number `index` of a packet, which shares them with all clients.
pub(super) fn shared_payload(packet: Queued, index: usize) -> Bytes {
    Bytes::from_owner(SharedPayload { packet, index })
}

struct SharedPayload {
    packet: Queued,
    index: usize,
}

impl AsRef<[u8]> for SharedPayload {
    fn as_ref(&self) -> &[u8] {
        let bytes = self.packet.packet().payload_bytes(self.index);
        bytes.unwrap_or_default()
    }
}
