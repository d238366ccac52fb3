//! Stream of one connection, which gives the dispatcher of actix-http no byte of a request before the one
//! before it is answered.
//!
//! The dispatcher parses all that it is given into requests, of several kB each, before it answers the
//! first; its own bound of 16 holds only between two readings. Where a piece ends does not change how bytes
//! are parsed, so a blank line within a body costs a further poll and nothing else.

use std::{
    io, mem,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    ahead::ReadAhead,
    gate::{Demand, Gate},
};

/// Stream whose reader is given one piece in a poll, and none while it has no use for it or while the last
/// write waits for the client.
pub(super) struct PacedStream<T> {
    io: T,
    gate: Rc<Gate>,
    ahead: ReadAhead,
    /// Whether a client that has ended its side is still served.
    serves_half_closed: bool,
    /// Whether the reader has had its piece since it was last told to wait.
    has_given: bool,
    is_write_blocked: bool,
}

impl<T> PacedStream<T> {
    pub(super) fn new(io: T, serves_half_closed: bool) -> Self {
        Self {
            io,
            gate: Rc::default(),
            ahead: ReadAhead::new(),
            serves_half_closed,
            has_given: false,
            is_write_blocked: false,
        }
    }

    pub(super) fn get_ref(&self) -> &T {
        &self.io
    }

    pub(super) fn gate(&self) -> &Rc<Gate> {
        &self.gate
    }

    /// Notes whether the client takes what is written. Reading goes on when it does again.
    fn note_write<R>(&mut self, polled: Poll<R>) -> Poll<R> {
        let was_blocked = mem::replace(&mut self.is_write_blocked, polled.is_pending());
        if was_blocked && !self.is_write_blocked {
            self.gate.wake();
        }
        polled
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for PacedStream<T> {
    /// Gives a piece, or the end of the stream.
    ///
    /// The dispatcher reads until it is told to wait, and parses after that: so it is told to wait after
    /// each piece. It is woken by the socket, by the gate when bytes are withheld, and else at once.
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        target: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let stream = self.get_mut();
        let has_given = mem::take(&mut stream.has_given);
        stream.ahead.fill(Pin::new(&mut stream.io), context)?;
        let is_at_end = stream.ahead.is_at_end();
        if stream.ahead.is_empty() {
            return if is_at_end {
                Poll::Ready(Ok(()))
            } else {
                Poll::Pending
            };
        }
        let demand = stream.gate.demand();
        if stream.is_write_blocked || demand == Demand::Nothing {
            if is_at_end && !stream.serves_half_closed {
                // The client has gone. Its request ends, and those behind it are not begun.
                return Poll::Ready(Ok(()));
            }
            stream.gate.withhold(context.waker());
            return Poll::Pending;
        }
        if has_given {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        stream.ahead.give(demand, target);
        stream.has_given = true;
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for PacedStream<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let stream = self.get_mut();
        let written = Pin::new(&mut stream.io).poll_write(context, bytes);
        stream.note_write(written)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let stream = self.get_mut();
        let flushed = Pin::new(&mut stream.io).poll_flush(context);
        stream.note_write(flushed)
    }

    /// Ends the connection, after dropping what the client has sent: the system answers a close with bytes
    /// unread by a reset, which can take the last answer away from a client.
    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let stream = self.get_mut();
        stream.ahead.drop_all(Pin::new(&mut stream.io), context);
        Pin::new(&mut stream.io).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        task::{Wake, Waker},
    };

    use actix_http::Request;
    use futures_util::FutureExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    use super::*;
    use crate::listener::gate::Answering;

    /// Counts how often the dispatcher is woken.
    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A client, the stream of its connection, and the wakes of the dispatcher.
    struct Connection {
        client: DuplexStream,
        stream: PacedStream<DuplexStream>,
        wakes: Arc<Wakes>,
    }

    impl Connection {
        /// A connection whose socket takes `capacity` bytes in each direction.
        fn open(capacity: usize, serves_half_closed: bool) -> Self {
            let (client, io) = duplex(capacity);
            Self {
                client,
                stream: PacedStream::new(io, serves_half_closed),
                wakes: Arc::default(),
            }
        }

        /// Reads as the dispatcher does: until it is told to wait, or the end.
        fn poll(&mut self) -> (usize, bool) {
            let waker = Waker::from(Arc::clone(&self.wakes));
            let mut context = Context::from_waker(&waker);
            let mut total = 0;
            loop {
                let mut bytes = [0; 8 * 1024];
                let mut target = ReadBuf::new(&mut bytes);
                match Pin::new(&mut self.stream).poll_read(&mut context, &mut target) {
                    Poll::Ready(Ok(())) if target.filled().is_empty() => return (total, true),
                    Poll::Ready(read) => read.expect("bytes"),
                    Poll::Pending => return (total, false),
                }
                total += target.filled().len();
            }
        }

        /// Writes as the dispatcher does, and returns whether all was taken.
        fn write(&mut self, bytes: &[u8]) -> bool {
            let waker = Waker::from(Arc::clone(&self.wakes));
            let written =
                Pin::new(&mut self.stream).poll_write(&mut Context::from_waker(&waker), bytes);
            written.is_ready()
        }

        /// Begins to answer a request without a body.
        fn answer(&self) -> Answering {
            let gate = Rc::clone(self.stream.gate());
            gate.begin(Request::new()).1
        }

        /// Number of wakes since this was asked last.
        fn wakes(&self) -> usize {
            self.wakes.0.swap(0, Ordering::Relaxed)
        }
    }

    #[tokio::test]
    async fn a_poll_is_given_one_head_and_the_next_one_follows_by_itself() {
        let mut connection = Connection::open(16 * 1024, false);
        let heads = [
            "G / HTTP/1.1\nhost:\n\n",
            "\r\n",
            "G / HTTP/1.1\r\nhost:\r\n\r\n",
        ];
        for head in heads.iter().cycle().take(100) {
            let bytes = head.as_bytes();
            connection.client.write_all(bytes).await.expect("written");
        }
        for head in heads.iter().cycle().take(99) {
            assert_eq!(connection.poll(), (head.len(), false));
            assert_eq!(connection.wakes(), 1);
        }
        assert_eq!(connection.poll(), (heads[0].len(), false));
        // Nothing is left: now the socket wakes it.
        assert_eq!(connection.wakes(), 0);
        connection.client.write_all(b"y").await.expect("written");
        assert_eq!(connection.wakes(), 1);
        assert_eq!(connection.poll(), (1, false));
    }

    #[tokio::test]
    async fn a_piece_and_the_end_behind_it_come_in_one_poll() {
        let mut connection = Connection::open(1024, false);
        connection.client.write_all(b"xyz").await.expect("written");
        connection.client.shutdown().await.expect("ended");
        assert_eq!(connection.poll(), (3, true));
    }

    #[tokio::test]
    async fn nothing_is_given_while_a_request_is_being_answered() {
        let mut connection = Connection::open(16 * 1024, false);
        let answering = connection.answer();
        connection.client.write_all(b"xyz").await.expect("written");
        assert_eq!(connection.poll(), (0, false));
        assert_eq!(connection.wakes(), 0);
        drop(answering);
        assert_eq!(connection.wakes(), 1);
        assert_eq!(connection.poll(), (3, false));
    }

    #[tokio::test]
    async fn the_end_of_a_client_is_told_while_its_request_is_being_answered() {
        for serves_half_closed in [false, true] {
            let mut connection = Connection::open(1024, serves_half_closed);
            let answering = connection.answer();
            connection.client.write_all(b"xyz").await.expect("written");
            assert_eq!(connection.poll(), (0, false));
            connection.client.shutdown().await.expect("ended");
            assert_eq!(connection.wakes(), 1);
            assert_eq!(connection.poll(), (0, !serves_half_closed));
            drop(answering);
            if serves_half_closed {
                assert_eq!(connection.poll(), (3, true));
            }
        }
    }

    #[tokio::test]
    async fn nothing_is_left_unread_at_the_end() {
        let mut connection = Connection::open(16 * 1024, false);
        let _answering = connection.answer();
        let bytes = [b'x'; 16 * 1024];
        connection.client.write_all(&bytes).await.expect("written");
        assert_eq!(connection.poll(), (0, false));
        connection.stream.shutdown().await.expect("ended");
        let again = connection.client.write_all(&bytes).now_or_never();
        assert!(again.is_some_and(|written| written.is_ok()));
    }

    #[tokio::test]
    async fn nothing_is_given_while_a_write_waits_for_the_client() {
        let mut connection = Connection::open(1024, false);
        assert!(connection.write(&[b'a'; 1024]));
        assert!(!connection.write(b"b"));
        connection.client.write_all(b"xyz").await.expect("written");
        assert_eq!(connection.poll(), (0, false));
        let mut answer = [0; 1024];
        connection
            .client
            .read_exact(&mut answer)
            .await
            .expect("an answer");
        connection.wakes();
        assert!(connection.write(b"b"));
        assert_eq!(connection.wakes(), 1);
        assert_eq!(connection.poll(), (3, false));
    }
}
