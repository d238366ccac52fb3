//! A connection in memory, which takes as many bytes as its client makes room for: what stands for TCP
//! in the tests that choose the order of threads.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use shuttle::sync::{Condvar, Mutex, MutexGuard};
use tokio::{
    io::{AsyncRead, ReadBuf},
    net::TcpStream,
};

/// The client's end of a connection.
#[derive(Clone, Default)]
pub struct Pipe(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Bytes that the server has written.
    sent: Vec<u8>,
    /// Number of bytes that the connection takes now.
    room: usize,
    /// Bytes that the client has written, and the server has not read.
    unread: VecDeque<u8>,
    /// Whether the client has hung up.
    is_ended: bool,
    readable: Option<Waker>,
    writable: Option<Waker>,
}

/// The reading side of the server.
pub(crate) struct OwnedReadHalf(Pipe);

/// The writing side of the server.
pub(crate) struct OwnedWriteHalf(Pipe);

/// No test has a TCP stream.
pub(super) fn split(_: TcpStream) -> (OwnedReadHalf, OwnedWriteHalf) {
    panic!("these tests run over pipes");
}

impl Pipe {
    /// The two sides of the server.
    pub(super) fn split(self) -> (OwnedReadHalf, OwnedWriteHalf) {
        (OwnedReadHalf(self.clone()), OwnedWriteHalf(self))
    }

    /// Makes room for `bytes` more.
    pub(crate) fn make_room(&self, bytes: usize) {
        let mut state = self.state();
        state.room += bytes;
        let waker = state.writable.take();
        drop(state);
        waker.into_iter().for_each(Waker::wake);
    }

    /// Sends a text message to the server.
    pub(crate) fn send(&self, text: &str) {
        // Masked with zeros (RFC 6455, section 5.3).
        let header = [0x81, 0x80 | text.len() as u8, 0, 0, 0, 0];
        self.write(&[&header, text.as_bytes()].concat());
    }

    fn write(&self, bytes: &[u8]) {
        let mut state = self.state();
        state.unread.extend(bytes);
        let waker = state.readable.take();
        drop(state);
        waker.into_iter().for_each(Waker::wake);
    }

    /// Ends the connection.
    pub(crate) fn hang_up(&self) {
        let mut state = self.state();
        state.is_ended = true;
        let wakers = [state.readable.take(), state.writable.take()];
        drop(state);
        wakers.into_iter().flatten().for_each(Waker::wake);
    }

    /// Waits until the packets that the client has received are such that `is_enough`, and returns them.
    pub(crate) fn wait_for(&self, is_enough: impl Fn(&[String]) -> bool) -> Vec<String> {
        let mut state = self.state();
        loop {
            let packets = packets(&state.sent);
            if is_enough(&packets) {
                return packets;
            }
            state = self.0.changed.wait(state).expect("no panic");
        }
    }

    /// Returns the number of bytes that the server has written.
    pub(crate) fn sent_bytes(&self) -> usize {
        self.state().sent.len()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().expect("no panic")
    }
}

/// The packets whose frames are complete: texts, and `close CODE`.
fn packets(mut sent: &[u8]) -> Vec<String> {
    let mut packets = Vec::new();
    while let [opcode, length, rest @ ..] = sent
        && let Some((payload, rest)) = rest.split_at_checked(usize::from(*length))
    {
        packets.push(match *opcode {
            0x81 => String::from_utf8(payload.to_vec()).expect("text"),
            0x88 => format!("close {}", u16::from_be_bytes([payload[0], payload[1]])),
            other => panic!("a frame of type {other}"),
        });
        sent = rest;
    }
    packets
}

impl AsyncRead for OwnedReadHalf {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut state = self.0.state();
        if state.unread.is_empty() && !state.is_ended {
            state.readable = Some(context.waker().clone());
            return Poll::Pending;
        }
        let bytes: Vec<u8> = state.unread.drain(..).collect();
        buffer.put_slice(&bytes);
        Poll::Ready(Ok(()))
    }
}

impl OwnedReadHalf {
    /// Stands for the TCP stream, which knows when it takes more.
    pub(super) fn as_ref(&self) -> &Self {
        self
    }

    pub(super) fn poll_write_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.0.state();
        if state.room == 0 && !state.is_ended {
            state.writable = Some(context.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }
}

impl OwnedWriteHalf {
    /// Stands for the TCP stream.
    pub(super) fn as_ref(&self) -> &Self {
        self
    }

    pub(super) fn set_zero_linger(&self) -> io::Result<()> {
        Ok(())
    }

    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.0.state();
        if state.is_ended {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let taken = bytes.len().min(state.room);
        if taken == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        state.sent.extend_from_slice(&bytes[..taken]);
        state.room -= taken;
        drop(state);
        self.0.0.changed.notify_all();
        Ok(taken)
    }

    pub(super) fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
        self.try_write(&bytes)
    }

    pub(super) fn forget(self) {}
}
