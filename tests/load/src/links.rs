//! Non-blocking TCP connections on one epoll instance: opens, reads, writes and closes them.
//!
//! This module knows no protocol. A slot holds at most one connection, and an event of an earlier
//! connection of the slot is never delivered to a later one.

use std::io;
use std::mem;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::time::Duration;

use anyhow::Context;
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, connect, recv, send,
    socket_with, sockopt,
};

/// Bytes that one read accepts.
const READ_BYTES: usize = 64 * 1024;
/// Events that one wait returns.
const EVENTS: usize = 1024;

/// State change of a connection.
pub(crate) enum Change {
    /// The TCP connection is established.
    Opened,
    /// Bytes can be read, or the peer has closed the connection.
    Readable,
    /// The TCP connection could not be established; the slot is empty.
    Failed(io::Error),
}

/// Result of one read.
pub(crate) enum Input {
    /// Bytes were appended to the buffer.
    Bytes,
    /// No bytes are available now.
    Nothing,
    /// The peer has closed the connection, or the connection is broken.
    Closed(String),
}

#[derive(Default)]
struct Slot {
    stream: Option<OwnedFd>,
    generation: u32,
    is_connecting: bool,
    unread: Vec<u8>,
    unsent: Vec<u8>,
}

/// All connections of one thread.
pub(crate) struct Links {
    epoll: OwnedFd,
    slots: Vec<Slot>,
    sources: usize,
}

impl Links {
    /// Creates `slots` empty slots. Connections use `sources` loopback addresses from 127.0.0.2 on.
    ///
    /// # Errors
    ///
    /// Returns an error if the kernel provides no epoll instance.
    pub(crate) fn new(slots: usize, sources: u32) -> anyhow::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).context("epoll is not available")?;
        let mut links = Self {
            epoll,
            slots: Vec::new(),
            sources: sources as usize,
        };
        links.slots.resize_with(slots, Slot::default);
        Ok(links)
    }

    /// Starts a connection to `address` in an empty slot.
    ///
    /// # Errors
    ///
    /// Returns an error if the process has no file or the source address no port left.
    pub(crate) fn open(&mut self, slot: usize, address: SocketAddr) -> io::Result<()> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let stream = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
        if self.sources > 0 {
            // A slot keeps its address: a server may bind a session to the address of its client.
            let source = Ipv4Addr::new(127, 0, 0, 2 + (slot % self.sources) as u8);
            sockopt::set_socket_reuseaddr(&stream, true)?;
            bind(&stream, &SocketAddrV4::new(source, 0))?;
        }
        match connect(&stream, &address) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => return Err(error.into()),
        }
        self.register(slot, stream, true)
    }

    /// Places an accepted connection in the first empty slot, or in a new one.
    ///
    /// # Errors
    ///
    /// Returns an error if the kernel does not accept the stream.
    pub(crate) fn adopt(&mut self, slot: usize, stream: OwnedFd) -> io::Result<()> {
        if slot >= self.slots.len() {
            self.slots.resize_with(slot + 1, Slot::default);
        }
        self.register(slot, stream, false)
    }

    fn register(&mut self, slot: usize, stream: OwnedFd, is_connecting: bool) -> io::Result<()> {
        sockopt::set_tcp_nodelay(&stream, true)?;
        let place = &mut self.slots[slot];
        place.generation = place.generation.wrapping_add(1);
        place.is_connecting = is_connecting;
        let interest = if is_connecting {
            epoll::EventFlags::OUT
        } else {
            epoll::EventFlags::IN
        };
        epoll::add(
            &self.epoll,
            &stream,
            event_data(slot, place.generation),
            interest,
        )?;
        place.stream = Some(stream);
        Ok(())
    }

    /// Adds a listening socket. Its events carry the slot number `slot`, which holds no connection.
    ///
    /// # Errors
    ///
    /// Returns an error if the kernel does not accept the listener.
    pub(crate) fn watch_listener(
        &mut self,
        listener: &std::net::TcpListener,
        slot: u32,
    ) -> io::Result<()> {
        let data = epoll::EventData::new_u64(u64::from(slot));
        Ok(epoll::add(
            &self.epoll,
            listener,
            data,
            epoll::EventFlags::IN,
        )?)
    }

    /// Waits for at most `timeout` and replaces the contents of `ready`.
    ///
    /// # Errors
    ///
    /// Returns an error if the wait fails for another reason than a signal.
    pub(crate) fn wait(&self, ready: &mut Vec<Ready>, timeout: Option<Duration>) -> io::Result<()> {
        let timeout = timeout.map(|limit| Timespec {
            tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: limit.subsec_nanos().into(),
        });
        ready.clear();
        ready.reserve(EVENTS);
        match epoll::wait(&self.epoll, spare_capacity(ready), timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Applies an event. Returns `None` if nothing changes for the owner of the slot.
    pub(crate) fn apply(&mut self, event: &Ready) -> Option<Change> {
        let (slot, generation) = event_source(event);
        let place = self.slots.get_mut(slot)?;
        if place.generation != generation {
            return None;
        }
        let stream = place.stream.as_ref()?;
        if place.is_connecting {
            if let Err(error) = sockopt::socket_error(stream).and_then(|state| state) {
                self.close(slot);
                return Some(Change::Failed(error.into()));
            }
            place.is_connecting = false;
            self.set_interest(slot);
            return Some(Change::Opened);
        }
        let flags = event.flags;
        if flags.contains(epoll::EventFlags::OUT) {
            self.flush(slot);
        }
        let readable = epoll::EventFlags::IN | epoll::EventFlags::HUP | epoll::EventFlags::ERR;
        flags.intersects(readable).then_some(Change::Readable)
    }

    /// Reads once. `input` then starts with the bytes that an earlier [`keep`](Self::keep) kept.
    pub(crate) fn read(&mut self, slot: usize, input: &mut Vec<u8>) -> Input {
        input.clear();
        let Some(place) = self.slots.get_mut(slot) else {
            return Input::Nothing;
        };
        let Some(stream) = &place.stream else {
            return Input::Nothing;
        };
        if !place.unread.is_empty() {
            mem::swap(&mut place.unread, input);
        }
        input.reserve(READ_BYTES);
        match recv(stream, spare_capacity(input), RecvFlags::DONTWAIT) {
            Ok((_, 0)) => Input::Closed("the server closed the connection".to_owned()),
            Ok(_) => Input::Bytes,
            Err(Errno::AGAIN | Errno::INTR) => {
                mem::swap(&mut place.unread, input);
                Input::Nothing
            }
            Err(error) => Input::Closed(format!("the connection broke: {error}")),
        }
    }

    /// Keeps the bytes of `input` from `start` on for the next read.
    pub(crate) fn keep(&mut self, slot: usize, input: &mut Vec<u8>, start: usize) {
        let place = &mut self.slots[slot];
        if place.stream.is_none() || start >= input.len() {
            return;
        }
        if start == 0 {
            mem::swap(&mut place.unread, input);
        } else {
            place.unread = input[start..].to_vec();
        }
    }

    /// Writes `bytes`, and queues the bytes that the kernel does not accept.
    pub(crate) fn send(&mut self, slot: usize, bytes: &[u8]) {
        let place = &mut self.slots[slot];
        let Some(stream) = &place.stream else {
            return;
        };
        if !place.unsent.is_empty() {
            place.unsent.extend_from_slice(bytes);
            return;
        }
        // A broken connection is reported by the next read.
        let sent = send(stream, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL).unwrap_or(0);
        if sent < bytes.len() {
            place.unsent.extend_from_slice(&bytes[sent..]);
            self.set_interest(slot);
        }
    }

    fn flush(&mut self, slot: usize) {
        let place = &mut self.slots[slot];
        if let Some(stream) = &place.stream {
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            let sent = send(stream, &place.unsent, flags).unwrap_or(0);
            place.unsent.drain(..sent);
            if place.unsent.is_empty() {
                self.set_interest(slot);
            }
        }
    }

    fn set_interest(&self, slot: usize) {
        let place = &self.slots[slot];
        let mut interest = epoll::EventFlags::IN;
        if !place.unsent.is_empty() {
            interest |= epoll::EventFlags::OUT;
        }
        if let Some(stream) = &place.stream {
            // Fails only for a stream that is not registered, and each one is.
            let _ = epoll::modify(
                &self.epoll,
                stream,
                event_data(slot, place.generation),
                interest,
            );
        }
    }

    /// Resets the connection of a slot, if there is one, and discards its queues.
    ///
    /// An orderly end would leave the address in TIME_WAIT. The system gives the same addresses to the
    /// next connections, and some of these would take seconds, whatever the server does.
    pub(crate) fn reset(&mut self, slot: usize) {
        if let Some(stream) = &self.slots[slot].stream {
            // Without it the connection ends in order.
            let _ = sockopt::set_socket_linger(stream, Some(Duration::ZERO));
        }
        self.close(slot);
    }

    /// Closes the connection of a slot, if there is one, and discards its queues.
    pub(crate) fn close(&mut self, slot: usize) {
        let place = &mut self.slots[slot];
        place.stream = None;
        place.unread = Vec::new();
        place.unsent = Vec::new();
    }
}

/// One event of [`Links::wait`].
pub(crate) type Ready = epoll::Event;

/// Returns the slot number of an event and the generation of its connection.
pub(crate) fn event_source(event: &Ready) -> (usize, u32) {
    let data = event.data;
    let data = data.u64();
    ((data & 0xffff_ffff) as usize, (data >> 32) as u32)
}

fn event_data(slot: usize, generation: u32) -> epoll::EventData {
    epoll::EventData::new_u64(u64::from(generation) << 32 | slot as u64)
}
