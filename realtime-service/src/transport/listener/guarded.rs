//! A TCP stream with a kill switch and a deadline for writes that get nowhere.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep},
};

use super::kill_switch::{KillSwitch, Registration};
use crate::{
    limits::{AddressKey, Permit},
    metrics::Cause,
};

/// A TCP stream that ends when its [`KillSwitch`] is thrown, or when its peer takes nothing for
/// as long as the write stall allows.
///
/// Without the latter a client that stops reading stays for ever: its writer blocks under a lock
/// that the heartbeat needs to end the session. It stands below TLS: there a write that waits is a
/// peer that takes nothing, while TLS takes some bytes in whether they go out or not.
pub struct GuardedStream {
    /// Taken out when the engine takes the connection over.
    tcp: Option<TcpStream>,
    switch: KillSwitch,
    _registration: Registration,
    write_stall: Duration,
    /// The end of the first write that waits, and of each later one.
    stalled: Option<Pin<Box<Sleep>>>,
    permit: Option<Permit<AddressKey>>,
}

impl GuardedStream {
    /// Guards `tcp`, which `switch` closes; `permit` and `registration` are given back when the stream
    /// ends.
    #[must_use]
    pub fn new(
        tcp: TcpStream,
        switch: KillSwitch,
        registration: Registration,
        write_stall: Duration,
        permit: Permit<AddressKey>,
    ) -> Self {
        Self {
            tcp: Some(tcp),
            switch,
            _registration: registration,
            write_stall,
            stalled: None,
            permit: Some(permit),
        }
    }

    /// Takes the TCP stream out of the guard, and the permit that is to be released with it; `None`
    /// when that was done before. The switch ends nothing any more.
    pub(super) fn into_parts(mut self) -> Option<(TcpStream, Permit<AddressKey>)> {
        self.tcp.take().zip(self.permit.take())
    }

    /// Fails a write that has waited for too long, or whose stream was killed.
    fn poll_guard(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        let now = Instant::now();
        let stalled = self
            .stalled
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(self.write_stall)));
        if self.switch.block(now) {
            stalled.as_mut().reset(now + self.write_stall);
        }
        if stalled.as_mut().poll(context).is_ready() {
            self.switch.ended(Cause::Stalled);
            return Poll::Ready(io::ErrorKind::TimedOut.into());
        }
        ready!(self.switch.poll_write_closed(context));
        Poll::Ready(io::ErrorKind::ConnectionAborted.into())
    }

    /// Runs one kind of write under the guard.
    fn poll_guarded<T>(
        &mut self,
        context: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut TcpStream>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if self.switch.is_closed() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        let tcp = self.tcp.as_mut().ok_or(io::ErrorKind::NotConnected);
        match write(Pin::new(tcp?), context) {
            Poll::Ready(result) => {
                self.switch.unblock();
                Poll::Ready(result)
            }
            Poll::Pending => self.poll_guard(context).map(Err),
        }
    }
}

impl Drop for GuardedStream {
    fn drop(&mut self) {
        if self.switch.is_blocked() {
            // Else the system would keep megabytes for a peer that takes none of them, long after
            // the stream's end; and that peer, should it read again, would read them.
            if let Some(tcp) = &self.tcp {
                let _ = tcp.set_zero_linger();
            }
        }
        // Whoever holds the switch learns that there is nothing left to kill.
        self.switch.ended(if self.switch.is_closed() {
            Cause::Drained
        } else {
            Cause::Client
        });
    }
}

impl AsyncRead for GuardedStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let Some(tcp) = this.tcp.as_mut().filter(|_| !this.switch.is_closed()) else {
            return Poll::Ready(Ok(()));
        };
        match Pin::new(tcp).poll_read(context, buffer) {
            Poll::Pending => this.switch.poll_read_closed(context).map(Ok),
            read => read,
        }
    }
}

impl AsyncWrite for GuardedStream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut()
            .poll_guarded(context, |tcp, context| tcp.poll_write(context, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll_guarded(context, |tcp, context| {
            tcp.poll_write_vectored(context, slices)
        })
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // TCP itself has nothing to flush, so that is no progress either.
        match self.get_mut().tcp.as_mut() {
            Some(tcp) => Pin::new(tcp).poll_flush(context),
            None => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut().tcp.as_mut() {
            Some(tcp) => Pin::new(tcp).poll_shutdown(context),
            None => Poll::Ready(Ok(())),
        }
    }
}
