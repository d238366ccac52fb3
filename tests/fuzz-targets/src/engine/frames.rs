//! The bytes of a WebSocket client, against tungstenite.

use std::{
    io::{self, Cursor, Read, Write},
    ops::ControlFlow,
};

use tungstenite::{
    Error, Message as Theirs, WebSocket,
    error::CapacityError,
    protocol::{Role, WebSocketConfig},
};

use super::{
    messages::{Message, MessageReader, MessageSink},
    violation::Violation,
};

/// The limit of messages, in bytes: small, so that the fuzzer reaches it.
const LIMIT: usize = 300;

/// A message, comparable between the two implementations.
#[derive(Debug, PartialEq, Eq)]
enum Received {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong,
    Close(Option<u16>),
}

/// How the reading ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// More bytes are needed, or a close frame was read.
    Open,
    Refused(Violation),
}

struct Collector(Vec<Received>);

impl MessageSink for Collector {
    fn limit(&self) -> usize {
        LIMIT
    }

    fn message(&mut self, message: Message<'_>) -> Result<ControlFlow<()>, Violation> {
        let is_close = matches!(message, Message::Close(_));
        self.0.push(match message {
            Message::Text(text) => Received::Text(text.to_owned()),
            Message::Binary(data) => Received::Binary(data.to_vec()),
            Message::Ping(data) => Received::Ping(data.to_vec()),
            Message::Pong => Received::Pong,
            Message::Close(code) => Received::Close(code),
        });
        Ok(match is_close {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        })
    }
}

/// Reads the input, whose first byte is the size of the pieces in which it arrives.
///
/// # Panics
///
/// When the outcome depends on the pieces, or differs from tungstenite's in a way that is not known.
pub fn check(input: &[u8]) {
    let Some((size, bytes)) = input.split_first() else {
        return;
    };
    let whole = read(bytes, bytes.len().max(1));
    let pieces = read(bytes, usize::from(*size).max(1));
    assert_eq!(whole, pieces, "the outcome depends on the pieces");
    let (ours, our_end) = whole;
    let (theirs, their_end) = read_theirs(bytes);
    let common = ours.len().min(theirs.len());
    assert_eq!(ours[..common], theirs[..common]);
    match (&our_end, &their_end) {
        // We refuse a header at the first byte that is wrong, and tungstenite once it is complete. We
        // decide on text at its end, and tungstenite at the first byte that is wrong.
        (End::Refused(_), End::Open) => assert!(theirs.len() <= ours.len()),
        (End::Open, End::Refused(Violation::InvalidText)) => {
            assert_eq!(ours.len(), theirs.len(), "only the last message differs");
        }
        (End::Open, End::Refused(violation)) => panic!("we accept {ours:?}, they: {violation:?}"),
        (End::Open, End::Open) | (End::Refused(_), End::Refused(_)) => {
            assert_eq!(ours.len(), theirs.len());
        }
    }
}

fn read(bytes: &[u8], size: usize) -> (Vec<Received>, End) {
    let mut reader = MessageReader::default();
    let mut collector = Collector(Vec::new());
    for piece in bytes.chunks(size) {
        match reader.read(&mut piece.to_vec(), &mut collector) {
            Ok(ControlFlow::Continue(())) => {}
            Ok(ControlFlow::Break(())) => break,
            Err(violation) => return (collector.0, End::Refused(violation)),
        }
    }
    (collector.0, End::Open)
}

/// The bytes of a client that says nothing afterwards and takes every answer.
struct Client<'a>(Cursor<&'a [u8]>);

impl Read for Client<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer)? {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            read => Ok(read),
        }
    }
}

impl Write for Client<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn read_theirs(bytes: &[u8]) -> (Vec<Received>, End) {
    let config = WebSocketConfig::default()
        .max_message_size(Some(LIMIT))
        .max_frame_size(Some(LIMIT));
    let client = Client(Cursor::new(bytes));
    let mut socket = WebSocket::from_raw_socket(client, Role::Server, Some(config));
    let mut messages = Vec::new();
    loop {
        let message = match socket.read() {
            Ok(message) => message,
            Err(Error::Io(_) | Error::ConnectionClosed) => return (messages, End::Open),
            Err(Error::Utf8(_)) => return (messages, End::Refused(Violation::InvalidText)),
            Err(Error::Capacity(CapacityError::MessageTooLong { .. })) => {
                return (messages, End::Refused(Violation::TooLarge));
            }
            Err(_) => return (messages, End::Refused(Violation::Protocol)),
        };
        messages.push(match message {
            Theirs::Text(text) => Received::Text(text.as_str().to_owned()),
            Theirs::Binary(data) => Received::Binary(data.to_vec()),
            Theirs::Ping(data) => Received::Ping(data.to_vec()),
            Theirs::Pong(_) => Received::Pong,
            Theirs::Close(frame) => {
                let code = frame.map(|frame| frame.code.into());
                messages.push(Received::Close(code));
                return (messages, End::Open);
            }
            Theirs::Frame(_) => continue,
        });
    }
}
