//! Connections to a mail server of which a bounded number of bytes is read, TLS and its certificates among
//! them. lettre reads a reply line to its end before it looks at the length of the line.

use std::{
    fmt, io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

#[expect(
    deprecated,
    reason = "lettre has no other way to TLS before its greeting"
)]
use lettre::transport::smtp::client::AsyncNetworkStream;
use lettre::transport::smtp::{
    self,
    client::{AsyncTokioStream, TlsParameters},
};
use tokio::{
    io::{AsyncBufRead as _, AsyncRead, AsyncWrite, BufReader, ReadBuf},
    net::{TcpStream, lookup_host},
    time::timeout,
};

/// Maximum time to open a TCP connection to one address of the server.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);

/// A connection that fails when the server has sent too much, and gives one line to a reader at a time. What follows
/// the answer to STARTTLS in the clear is so left to TLS, which refuses it: lettre would take it for an answer that
/// came through TLS.
#[derive(Debug)]
pub(super) struct BoundedStream<S> {
    stream: BufReader<S>,
    peer: SocketAddr,
    /// Number of bytes that may still be read.
    remaining: usize,
}

impl BoundedStream<TcpStream> {
    /// Connects to the first address of `host` that accepts the connection. `limit` bytes can be read.
    ///
    /// # Errors
    ///
    /// Fails when the name has no address, or no address accepts the connection in time.
    pub(super) async fn connect(host: &str, port: u16, limit: usize) -> io::Result<Self> {
        let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for peer in lookup_host((host, port)).await? {
            match timeout(CONNECT_DEADLINE, TcpStream::connect(peer)).await {
                Ok(Ok(stream)) => return Ok(Self::new(stream, peer, limit)),
                Ok(Err(error)) => failure = error,
                Err(_) => failure = io::ErrorKind::TimedOut.into(),
            }
        }
        Err(failure)
    }
}

impl<S: AsyncRead> BoundedStream<S> {
    fn new(stream: S, peer: SocketAddr, limit: usize) -> Self {
        Self {
            stream: BufReader::new(stream),
            peer,
            remaining: limit,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for BoundedStream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let own = self.get_mut();
        let held = ready!(Pin::new(&mut own.stream).poll_fill_buf(context))?;
        let end = held.iter().position(|byte| *byte == b'\n');
        let line = &held[..end.map_or(held.len(), |end| end + 1)];
        let piece = &line[..line.len().min(buffer.remaining())];
        let Some(remaining) = own.remaining.checked_sub(piece.len()) else {
            own.remaining = 0;
            let error = io::Error::other("the server sends more than a conversation needs");
            return Poll::Ready(Err(error));
        };
        own.remaining = remaining;
        buffer.put_slice(piece);
        let count = piece.len();
        Pin::new(&mut own.stream).consume(count);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for BoundedStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl<S> AsyncTokioStream for BoundedStream<S>
where
    S: AsyncRead + AsyncWrite + Send + Sync + Unpin + fmt::Debug,
{
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.peer)
    }
}

/// A connection with TLS from the start, over a stream that is bounded.
#[derive(Debug)]
pub(super) struct TlsStream {
    #[expect(deprecated)]
    stream: AsyncNetworkStream,
    peer: SocketAddr,
}

impl TlsStream {
    /// Does the handshake of TLS.
    ///
    /// # Errors
    ///
    /// Fails when the certificate of the server is refused, or the connection breaks.
    #[expect(deprecated)]
    pub(super) async fn connect(
        stream: BoundedStream<TcpStream>,
        parameters: TlsParameters,
    ) -> Result<Self, smtp::Error> {
        let peer = stream.peer;
        let mut stream = AsyncNetworkStream::use_existing_tokio1(Box::new(stream));
        stream.upgrade_tls(parameters).await?;
        Ok(Self { stream, peer })
    }
}

impl AsyncRead for TlsStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let stream = Pin::new(&mut self.stream);
        let unfilled = buffer.initialize_unfilled();
        let count = ready!(futures_util::AsyncRead::poll_read(
            stream, context, unfilled
        ))?;
        buffer.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for TlsStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        futures_util::AsyncWrite::poll_write(Pin::new(&mut self.stream), context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        futures_util::AsyncWrite::poll_flush(Pin::new(&mut self.stream), context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        futures_util::AsyncWrite::poll_close(Pin::new(&mut self.stream), context)
    }
}

impl AsyncTokioStream for TlsStream {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.peer)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[tokio::test]
    async fn a_read_beyond_the_limit_fails_and_one_up_to_it_does_not() {
        let peer = ([127, 0, 0, 1], 25).into();
        let mut text = String::new();
        let mut stream = BoundedStream::new(&b"220 ready\r\n"[..], peer, 11);
        let read = stream.read_to_string(&mut text).await;
        assert_eq!((read.expect("text"), text.as_str()), (11, "220 ready\r\n"));
        let mut stream = BoundedStream::new(tokio::io::repeat(b'x'), peer, 1_000);
        let mut bytes = Vec::new();
        let read = stream.read_to_end(&mut bytes).await;
        assert!(read.is_err());
        assert!(bytes.len() <= 1_000, "{}", bytes.len());
    }

    #[tokio::test]
    async fn a_read_ends_with_the_line() {
        let peer = ([127, 0, 0, 1], 25).into();
        let mut stream = BoundedStream::new(&b"220 ready\r\n250 taken\r\nrest"[..], peer, 100);
        let mut bytes = [0; 64];
        for expected in ["220 ready\r\n", "250 taken\r\n", "rest", ""] {
            let count = stream.read(&mut bytes).await.expect("bytes");
            assert_eq!(&bytes[..count], expected.as_bytes());
        }
    }
}
