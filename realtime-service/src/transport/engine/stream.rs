//! The byte stream of a WebSocket: a TCP stream, or TLS over a TCP stream.
//!
//! A stream has two sides. The reading side belongs to one task. The writing side belongs to the
//! session, so that whichever thread queues a packet writes it. The state of TLS is used by both
//! and lies in the writing side.

use std::{
    io::{self, IoSlice, Read, Write},
    pin::Pin,
    task::{Context, Poll},
};

use axum::body::Bytes;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use smallvec::SmallVec;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::Instant,
};
use tokio_rustls::{rustls::ServerConnection, server::TlsStream};

use super::tcp::{self, OwnedReadHalf, OwnedWriteHalf};

/// How many bytes TLS encrypts ahead of the connection.
const TLS_AHEAD_BYTES: usize = 32 * 1024;

/// Maximum length of several packets that are copied into one piece, because a vectored write costs
/// more than the copy.
const JOINED_BYTES: usize = 4096;

/// A stream as the listener accepted it.
pub enum ClientStream {
    /// Plain TCP.
    Plain(TcpStream),
    /// TLS over TCP.
    Tls(TcpStream, Box<ServerConnection>),
    /// Memory, in the tests that choose the order of threads.
    #[cfg(shuttle)]
    Pipe(super::pipe::Pipe),
}

/// A stream that was taken back from hyper.
pub struct Recovered {
    /// The stream.
    pub stream: ClientStream,
    /// Bytes that precede all others, for example the head of the HTTP response: with the first packet
    /// they are one write.
    pub unsent: Vec<u8>,
    /// A value that is dropped when the connection ends, for example a permit.
    pub guard: Option<Box<dyn Send + Sync>>,
}

/// A stream that the listener gives to hyper, and that the engine can take apart.
pub trait Recover: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// Returns the stream inside; `None` when it was taken out before.
    fn recover(self) -> Option<Recovered>;
}

/// Takes a stream back from hyper, with the bytes that hyper has read ahead: [`recover`] for the
/// type of the listener's streams.
pub type RecoverFn = fn(Upgraded) -> Option<(Recovered, Bytes)>;

/// Takes a stream of type `S` back from hyper; `None` when hyper has a stream of another type.
///
/// The listener serves `TokioIo<S>`.
#[must_use]
pub fn recover<S: Recover>(upgraded: Upgraded) -> Option<(Recovered, Bytes)> {
    let parts = upgraded.downcast::<TokioIo<S>>().ok()?;
    Some((parts.io.into_inner().recover()?, parts.read_buf))
}

impl Recover for TcpStream {
    fn recover(self) -> Option<Recovered> {
        Some(Recovered {
            stream: ClientStream::Plain(self),
            unsent: Vec::new(),
            guard: None,
        })
    }
}

impl Recover for TlsStream<TcpStream> {
    fn recover(self) -> Option<Recovered> {
        let (tcp, connection) = self.into_inner();
        Some(Recovered {
            stream: ClientStream::Tls(tcp, Box::new(connection)),
            unsent: Vec::new(),
            guard: None,
        })
    }
}

impl ClientStream {
    /// Divides the stream into its two sides.
    pub(super) fn split(self) -> (Reader, Writer) {
        let (halves, tls) = match self {
            Self::Plain(tcp) => (tcp::split(tcp), None),
            #[cfg(shuttle)]
            Self::Pipe(pipe) => (pipe.split(), None),
            Self::Tls(tcp, mut connection) => {
                connection.set_buffer_limit(Some(TLS_AHEAD_BYTES));
                let pending_since = None;
                let tls = Tls {
                    connection: *connection,
                    pending_since,
                };
                (tcp::split(tcp), Some(Box::new(tls)))
            }
        };
        let (read, write) = halves;
        (Reader(read), Writer { tcp: write, tls })
    }
}

/// The reading side of a stream.
pub(super) struct Reader(OwnedReadHalf);

/// The writing side of a stream.
pub(super) struct Writer {
    tcp: OwnedWriteHalf,
    tls: Option<Box<Tls>>,
}

/// The state of TLS.
struct Tls {
    connection: ServerConnection,
    /// Since when encrypted bytes wait that the connection does not take.
    pending_since: Option<Instant>,
}

impl Reader {
    /// Reads plain TCP. `Ok(0)` is the end of the stream.
    pub(super) fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(buffer);
        let read = Pin::new(&mut self.0).poll_read(context, &mut buffer);
        read.map_ok(|()| buffer.filled().len())
    }

    /// Waits until the connection may take bytes again.
    pub(super) fn poll_write_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.as_ref().poll_write_ready(context)
    }
}

impl Writer {
    /// Whether the stream is encrypted, and so read by [`poll_read_tls`](Self::poll_read_tls).
    pub(super) fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Writes as many bytes as the connection takes now.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when the connection takes none, and those of the connection.
    pub(super) fn try_write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else {
            return write_plain(&self.tcp, slices);
        };
        // Records are encrypted only when the connection has taken the ones before, so that the
        // bytes which count as written have left, up to a few records.
        tls.write_records(&self.tcp)?;
        let written = tls.connection.writer().write_vectored(slices)?;
        match tls.write_records(&self.tcp) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(written),
        }
    }

    /// Whether encrypted bytes wait for the connection.
    pub(super) fn has_pending(&self) -> bool {
        self.tls
            .as_ref()
            .is_some_and(|tls| tls.connection.wants_write())
    }

    /// Returns since when encrypted bytes wait that the connection does not take.
    pub(super) fn pending_since(&self) -> Option<Instant> {
        self.tls.as_ref()?.pending_since
    }

    /// Writes the encrypted bytes that wait, as many as the connection takes now.
    ///
    /// # Errors
    ///
    /// Those of the connection.
    pub(super) fn write_pending(&mut self) -> io::Result<()> {
        match &mut self.tls {
            Some(tls) => match tls.write_records(&self.tcp) {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
                _ => Ok(()),
            },
            None => Ok(()),
        }
    }

    /// Has the connection take bytes that are no TLS records, until it takes no more. Returns their number.
    #[cfg(test)]
    pub(super) fn fill(&self) -> usize {
        let mut filled = 0;
        for length in [1024, 1] {
            while let Ok(written) = write_plain(&self.tcp, &[IoSlice::new(&vec![0; length])]) {
                filled += written;
            }
        }
        filled
    }

    /// Reads decrypted bytes. `Ok(0)` is the end of the stream.
    pub(super) fn poll_read_tls(
        &mut self,
        reader: &mut Reader,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let Some(tls) = &mut self.tls else {
            return Poll::Ready(Err(io::ErrorKind::InvalidInput.into()));
        };
        loop {
            match tls.connection.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
            let mut source = PollRead { reader, context };
            match tls.connection.read_tls(&mut source) {
                Ok(0) => return Poll::Ready(Ok(0)),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(error) => return Poll::Ready(Err(error)),
            }
            if let Err(error) = tls.connection.process_new_packets() {
                // The alert tells the client what is wrong; it leaves if it can.
                let _ = tls.write_records(&self.tcp);
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
            }
        }
    }

    /// Announces the end of the stream to a TLS client, if the connection takes that now.
    pub(super) fn close_notify(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.connection.send_close_notify();
            // The connection closes anyway.
            let _ = tls.write_records(&self.tcp);
        }
    }

    /// Lets go of the stream, which is closed with its reading side: that spares a system call.
    pub(super) fn forget(self) {
        self.tcp.forget();
    }

    /// Has the operating system drop the bytes that it holds when the connection closes. Otherwise
    /// it would keep them for a client that takes none.
    pub(super) fn discard_on_close(&self) {
        if let Err(error) = self.tcp.as_ref().set_zero_linger() {
            tracing::debug!(%error, "cannot discard the bytes of a connection");
        }
    }
}

/// Writes to plain TCP as many bytes as it takes now.
fn write_plain(tcp: &OwnedWriteHalf, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    let length: usize = slices.iter().map(|slice| slice.len()).sum();
    match slices {
        [only] => tcp.try_write(only),
        _ if length > JOINED_BYTES => tcp.try_write_vectored(slices),
        _ => {
            let mut joined = SmallVec::<[u8; JOINED_BYTES]>::new();
            slices
                .iter()
                .for_each(|slice| joined.extend_from_slice(slice));
            tcp.try_write(&joined)
        }
    }
}

impl Tls {
    /// Writes the encrypted bytes until none is left.
    fn write_records(&mut self, tcp: &OwnedWriteHalf) -> io::Result<()> {
        while self.connection.wants_write() {
            match self.connection.write_tls(&mut TryWrite(tcp)) {
                Ok(_) => self.pending_since = None,
                Err(error) => {
                    self.pending_since.get_or_insert_with(Instant::now);
                    return Err(error);
                }
            }
        }
        Ok(())
    }
}

/// Writes to a TCP stream without waiting.
struct TryWrite<'a>(&'a OwnedWriteHalf);

impl Write for TryWrite<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads from a TCP stream; `WouldBlock` when the task has to wait.
struct PollRead<'a, 'b, 'c> {
    reader: &'a mut Reader,
    context: &'b mut Context<'c>,
}

impl Read for PollRead<'_, '_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.reader.poll_read(self.context, buffer) {
            Poll::Ready(result) => result,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}
