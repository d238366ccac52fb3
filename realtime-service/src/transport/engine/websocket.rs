//! The task of one WebSocket: reads messages, and writes when the connection takes bytes again.
//!
//! The task is small, because each idle WebSocket has one: it reads into a buffer of its thread.

use std::{
    cell::Cell,
    io::{self, IoSlice},
    mem,
    ops::ControlFlow,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep};

use super::{
    EngineHandler, Shared,
    heartbeat::PONG_BACKLOG_BYTES,
    messages::{Message, MessageReader, MessageSink},
    probe::Probe,
    session::{Session, close_frame},
    state::Phase,
    stream::{Reader, Recovered, Writer},
    violation::{CloseCode, CloseReason, Violation},
};
use crate::transport::{
    Opcode, Packet,
    turn::{Flush as _, Turn},
};

/// The size of the buffer of a thread, in bytes.
const BUFFER_BYTES: usize = 64 * 1024;

/// Time for the last packets to leave, when the connection does not take them at once.
const FLUSH_GRACE: Duration = Duration::from_millis(50);

/// Time for a client to answer a close frame (RFC 6455, section 7.1.1). A connection that is closed
/// earlier may lose the last packets on their way to the client.
const ECHO_GRACE: Duration = Duration::from_millis(250);

thread_local! {
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// The task of one WebSocket.
pub(super) struct WebSocketTask<H: EngineHandler> {
    shared: Arc<Shared<H>>,
    session: Arc<Session<H::Data>>,
    reader: Reader,
    is_tls: bool,
    messages: MessageReader,
    /// Set until the WebSocket carries the session.
    probe: Option<Box<Probe>>,
    /// The closing handshake, once it is under way.
    closing: Option<Box<Closing>>,
    /// Dropped when the connection ends.
    _guard: Option<Box<dyn Send + Sync>>,
}

/// A closing handshake that is under way.
struct Closing {
    /// Whether the last packets have left.
    is_flushed: bool,
    until: Pin<Box<Sleep>>,
}

impl<H: EngineHandler> WebSocketTask<H> {
    /// Makes the task of a WebSocket that carries `session`, or probes for it if `is_probe`, and
    /// handles the bytes that hyper has read ahead.
    pub(super) fn new(
        shared: Arc<Shared<H>>,
        session: Arc<Session<H::Data>>,
        recovered: Recovered,
        is_probe: bool,
        read_ahead: &[u8],
    ) -> Self {
        let (reader, mut writer) = recovered.stream.split();
        let is_tls = writer.is_tls();
        shared.core.websockets.fetch_add(1, Ordering::Relaxed);
        let probe = match is_probe {
            true => {
                let timeout = shared.core.settings.upgrade_timeout;
                Some(Box::new(Probe::new(writer, &recovered.unsent, timeout)))
            }
            false => {
                if let Err(head) = session.queue().precede(recovered.unsent) {
                    refuse(&mut writer, &head, &session);
                }
                session.attach(writer);
                None
            }
        };
        let mut task = Self {
            shared,
            session,
            reader,
            is_tls,
            messages: MessageReader::default(),
            probe,
            closing: None,
            _guard: recovered.guard,
        };
        if !read_ahead.is_empty() {
            // The first poll of the task notices the end of the connection.
            let _ = task.on_bytes(&mut read_ahead.to_vec());
        }
        task
    }

    /// Runs until the connection is at its end. Other tasks run, and the clocks go on, after each
    /// [`BUFFER_BYTES`] of the client.
    fn run(&mut self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<()> {
        self.session.reader.register(context.waker());
        let mut handled_bytes = 0;
        loop {
            if handled_bytes >= BUFFER_BYTES {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            if self.is_over(context) {
                return Poll::Ready(());
            }
            if self.probe.is_none() && self.session.is_blocked() {
                match self.reader.poll_write_ready(context) {
                    Poll::Ready(Ok(())) => {
                        self.session.clone().flush_now(Instant::now());
                        continue;
                    }
                    Poll::Ready(Err(_)) => return Poll::Ready(()),
                    Poll::Pending => {}
                }
            }
            match ready!(self.poll_read(context, buffer)) {
                Ok(read) if read > 0 => {
                    handled_bytes += read;
                    let handled = self.on_bytes(&mut buffer[..read]);
                    // There may be a token in it.
                    buffer[..read].fill(0);
                    if handled.is_break() {
                        // What the end has queued in this turn.
                        self.session.clone().flush_now(Instant::now());
                        return Poll::Ready(());
                    }
                }
                Ok(_) | Err(_) => return Poll::Ready(()),
            }
        }
    }

    /// Whether there is nothing left to read or to write.
    fn is_over(&mut self, context: &mut Context<'_>) -> bool {
        let phase = self.phase();
        match &mut self.probe {
            Some(probe) => match self.session.close_reason() {
                Some(CloseReason::Killed) => true,
                reason => probe.is_over(context, reason.map(CloseReason::close_code)),
            },
            None => match phase {
                Phase::Open => false,
                Phase::Closing => self.is_closing_over(context),
                Phase::Ended => true,
            },
        }
    }

    fn phase(&self) -> Phase {
        self.session.state().phase()
    }

    fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if !self.is_tls {
            return self.reader.poll_read(context, buffer);
        }
        let mut own = self.session.writer();
        let writer = match &mut self.probe {
            Some(probe) => Some(&mut probe.writer),
            None => own.as_mut(),
        };
        let Some(writer) = writer else {
            return Poll::Ready(Ok(0));
        };
        let read = writer.poll_read_tls(&mut self.reader, context, buffer);
        // TLS itself answers some messages. An error shows at the next read.
        let _ = self.session.write_pending(writer);
        let has_pending = writer.has_pending();
        drop(own);
        if has_pending && self.probe.is_none() {
            self.session.flush();
        }
        read
    }

    /// Handles bytes of the client. `Break` means that the connection is at its end.
    fn on_bytes(&mut self, bytes: &mut [u8]) -> ControlFlow<()> {
        // After a violation, the rest of the bytes cannot be divided into frames.
        if let Some(CloseReason::Violated(_)) = self.session.close_reason() {
            return ControlFlow::Continue(());
        }
        let mut sink = Sink {
            shared: &self.shared,
            session: &self.session,
            probe: &mut self.probe,
        };
        self.messages
            .read(bytes, &mut sink)
            .unwrap_or_else(|violation| {
                match &mut self.probe {
                    Some(probe) => probe.refuse(violation.close_code()),
                    None if self.session.is_open() => {
                        self.session.end(CloseReason::Violated(violation));
                    }
                    None => return ControlFlow::Break(()),
                }
                ControlFlow::Continue(())
            })
    }

    /// Goes on with the closing handshake. Returns whether the connection can be closed.
    fn is_closing_over(&mut self, context: &mut Context<'_>) -> bool {
        self.shared.announce_end(&self.session);
        self.session.clone().flush_now(Instant::now());
        if self.phase() == Phase::Ended {
            return true;
        }
        let is_flushed = !self.session.is_blocked();
        let reason = self.session.close_reason();
        if is_flushed && reason == Some(CloseReason::ClosedByClient) {
            return true;
        }
        let grace = match is_flushed {
            true => ECHO_GRACE,
            false => FLUSH_GRACE,
        };
        let closing = self.closing.get_or_insert_with(|| {
            let until = Box::pin(tokio::time::sleep(grace));
            Box::new(Closing { is_flushed, until })
        });
        if is_flushed && !mem::replace(&mut closing.is_flushed, true) {
            // From now on the client has the time to answer.
            closing.until.as_mut().reset(Instant::now() + grace);
        }
        closing.until.as_mut().poll(context).is_ready()
    }
}

impl<H: EngineHandler> Future for WebSocketTask<H> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let _turn = Turn::begin();
        let mut buffer = BUFFER.take();
        buffer.resize(BUFFER_BYTES, 0);
        let run = self.get_mut().run(context, &mut buffer);
        BUFFER.set(buffer);
        run
    }
}

impl<H: EngineHandler> Drop for WebSocketTask<H> {
    fn drop(&mut self) {
        self.shared.core.websockets.fetch_sub(1, Ordering::Relaxed);
        if self.probe.is_some() {
            // The session goes on by polling.
            self.session.state().fail_probe();
            return;
        }
        let failure = std::thread::panicking().then_some(CloseCode::InternalError);
        let reason = failure.map_or(CloseReason::ConnectionLost, CloseReason::Requested);
        self.session.abort(reason);
        let is_blocked = self.session.is_blocked();
        if let Some(mut writer) = self.session.detach() {
            if is_blocked {
                writer.discard_on_close();
            } else {
                if let Some(code) = failure {
                    // The connection closes anyway.
                    let _ = writer.try_write(&[IoSlice::new(close_frame(code).frames())]);
                }
                writer.close_notify();
            }
            writer.forget();
        }
        self.shared.core.unregister(self.session.sid());
        self.shared.announce_end(&self.session);
    }
}

/// Answers the opening handshake of a session that has ended meanwhile, if the connection takes that.
fn refuse<D: Send + Sync + 'static>(writer: &mut Writer, head: &[u8], session: &Session<D>) {
    let reason = session.close_reason().unwrap_or(CloseReason::Killed);
    let close = close_frame(reason.close_code());
    let _ = writer.try_write(&[IoSlice::new(head), IoSlice::new(close.frames())]);
}

/// Hands messages to the probe, or to the handler once the WebSocket carries the session.
struct Sink<'a, H: EngineHandler> {
    shared: &'a Arc<Shared<H>>,
    session: &'a Arc<Session<H::Data>>,
    probe: &'a mut Option<Box<Probe>>,
}

impl<H: EngineHandler> Sink<'_, H> {
    /// Handles a message of a WebSocket that does not carry the session yet.
    fn probe_message(
        &mut self,
        mut probe: Box<Probe>,
        message: Message<'_>,
    ) -> Result<ControlFlow<()>, Violation> {
        let result = match message {
            Message::Text("2probe") => {
                let poll = self.session.state().answer_probe();
                poll.into_iter().for_each(Waker::wake);
                probe.answer()
            }
            Message::Text("5") => {
                let upgraded = self.session.state().upgrade();
                if let Some(poll) = upgraded {
                    poll.into_iter().for_each(Waker::wake);
                    self.session.attach(probe.into_writer());
                    return Ok(ControlFlow::Continue(()));
                }
                Err(Violation::Protocol)
            }
            Message::Ping(_) | Message::Pong => Ok(()),
            Message::Text(_) | Message::Binary(_) | Message::Close(_) => Err(Violation::Protocol),
        };
        *self.probe = Some(probe);
        result.map(ControlFlow::Continue)
    }
}

impl<H: EngineHandler> MessageSink for Sink<'_, H> {
    fn limit(&self) -> usize {
        self.session.message_limit()
    }

    fn message(&mut self, message: Message<'_>) -> Result<ControlFlow<()>, Violation> {
        if let Some(probe) = self.probe.take() {
            return self.probe_message(probe, message);
        }
        if !self.session.is_open() {
            // After the end only the close frame of the client counts.
            return Ok(match message {
                Message::Close(_) => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            });
        }
        match message {
            Message::Text(text) => self.shared.on_text(self.session, text)?,
            Message::Binary(data) => self.shared.on_binary(self.session, data)?,
            Message::Ping(data) => {
                if self.session.queue().waiting().bytes <= PONG_BACKLOG_BYTES {
                    self.session.send(Packet::control(Opcode::Pong, data));
                }
            }
            Message::Pong => {}
            Message::Close(_) => self.session.end(CloseReason::ClosedByClient),
        }
        Ok(ControlFlow::Continue(()))
    }
}
