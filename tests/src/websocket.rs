//! Engine.IO and Socket.IO by hand over a WebSocket, for what a library would never send.

mod namespaces;

use std::{collections::VecDeque, time::Duration};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio_tungstenite::{WebSocketStream, tungstenite::Message};

use crate::{DEADLINE, soon, tls::Stream};

/// A WebSocket that speaks Engine.IO. Pings are answered while something else is waited for.
pub struct WebSocket {
    /// The session's id, once the gateway has told it.
    pub sid: String,
    stream: WebSocketStream<Box<dyn Stream>>,
    /// Packets that came while an acknowledgement was waited for.
    early: VecDeque<String>,
    /// Whether the packet before was a refusal.
    is_refused: bool,
    /// The binary data that came so far.
    pub attachments: Vec<Vec<u8>>,
}

/// Why CONNECT was refused, as the wire has it.
#[derive(Debug, PartialEq)]
pub struct Refused(pub Value);

impl Refused {
    /// The text for people.
    #[must_use]
    pub fn message(&self) -> &str {
        self.0["message"].as_str().unwrap_or_default()
    }
}

impl WebSocket {
    pub(crate) fn new(stream: WebSocketStream<Box<dyn Stream>>) -> Self {
        Self {
            sid: String::new(),
            stream,
            early: VecDeque::new(),
            is_refused: false,
            attachments: Vec::new(),
        }
    }

    /// Sends one packet.
    pub async fn send(&mut self, packet: impl Into<String>) {
        let sent = self.stream.send(Message::text(packet.into()));
        soon("a packet to be sent", sent)
            .await
            .expect("an open WebSocket");
    }

    /// Sends the bytes that belong to the packet before.
    pub async fn send_binary(&mut self, bytes: &[u8]) {
        let sent = self.stream.send(Message::binary(bytes.to_vec()));
        soon("bytes to be sent", sent)
            .await
            .expect("an open WebSocket");
    }

    /// The next bytes, which belong to a packet that came before them.
    ///
    /// # Panics
    ///
    /// When a packet comes first, or the end.
    pub async fn binary(&mut self) -> Vec<u8> {
        let next = soon("bytes", self.stream.next()).await;
        match next {
            Some(Ok(Message::Binary(bytes))) => bytes.to_vec(),
            other => panic!("no bytes: {other:?}"),
        }
    }

    /// Sends what may find the connection closed meanwhile.
    pub async fn try_send(&mut self, packet: impl Into<String>) {
        // The end of the connection shows when it is read from.
        let _ =
            tokio::time::timeout(DEADLINE, self.stream.send(Message::text(packet.into()))).await;
    }

    /// Sends bytes that may find the connection closed meanwhile.
    pub async fn try_send_binary(&mut self, bytes: &[u8]) {
        let sent = self.stream.send(Message::binary(bytes.to_vec()));
        // The end of the connection shows when it is read from.
        let _ = tokio::time::timeout(DEADLINE, sent).await;
    }

    /// Sends several packets in one write to the network.
    pub async fn send_at_once(&mut self, packets: &[String]) {
        for packet in packets {
            let queued = self.stream.feed(Message::text(packet.clone()));
            soon("a packet to be queued", queued)
                .await
                .expect("an open WebSocket");
        }
        soon("packets to be sent", self.stream.flush())
            .await
            .expect("an open WebSocket");
    }

    /// Sends bytes as they are, in place of a frame.
    pub async fn send_raw(&mut self, bytes: &[u8]) {
        let sent = self.stream.get_mut().write_all(bytes);
        soon("bytes to be sent", sent)
            .await
            .expect("an open connection");
    }

    /// Waits for the end of the connection, and gives the code of its close frame.
    ///
    /// # Panics
    ///
    /// When the connection ends without a close frame, or with one that has no code.
    pub async fn close_code(&mut self) -> u16 {
        let code = async {
            loop {
                match self.stream.next().await {
                    Some(Ok(Message::Close(Some(frame)))) => return u16::from(frame.code),
                    Some(Ok(Message::Text(_) | Message::Binary(_) | Message::Ping(_))) => {}
                    other => panic!("no close frame: {other:?}"),
                }
            }
        };
        soon("a close frame", code).await
    }

    /// The next packet; `None` when the connection has ended.
    pub async fn next(&mut self) -> Option<String> {
        soon("a packet, or the end", self.receive()).await
    }

    /// The next packet.
    pub async fn packet(&mut self) -> String {
        self.next()
            .await
            .expect("a packet before the connection ends")
    }

    /// The next packet, if one comes within `time`; `Some(None)` is the connection's end.
    pub async fn next_within(&mut self, time: Duration) -> Option<Option<String>> {
        tokio::time::timeout(time, self.receive()).await.ok()
    }

    async fn receive(&mut self) -> Option<String> {
        if let Some(packet) = self.early.pop_front() {
            return Some(packet);
        }
        loop {
            match self.stream.next().await? {
                Ok(Message::Text(text)) if text.as_str() == "2" => {
                    self.stream.send(Message::text("3")).await.ok()?;
                }
                // Engine.IO's own goodbye: the end of the connection has to follow.
                Ok(Message::Text(text)) if text.as_str() == "1" => {}
                // The end of a refusal.
                Ok(Message::Text(text)) if self.is_refused && text.starts_with("41") => {
                    self.is_refused = false;
                }
                Ok(Message::Text(text)) => {
                    self.is_refused = text.starts_with("44");
                    return Some(text.to_string());
                }
                Ok(Message::Binary(bytes)) => self.attachments.push(bytes.to_vec()),
                Ok(Message::Close(_)) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// Presents `payload` with CONNECT, and gives the `sid` that the client is told.
    ///
    /// # Errors
    ///
    /// When it is refused.
    pub async fn connect(&mut self, payload: &Value) -> Result<String, Refused> {
        self.connect_with(&payload.to_string()).await
    }

    /// The same with any text after the packet's type.
    ///
    /// # Errors
    ///
    /// When it is refused.
    ///
    /// # Panics
    ///
    /// When something else is answered.
    pub async fn connect_with(&mut self, payload: &str) -> Result<String, Refused> {
        self.send(format!("40{payload}")).await;
        admission(&self.packet().await)
    }

    /// Presents another payload after a refusal. A CONNECT that comes before the gateway has put
    /// the refused one away is passed over, so it is repeated until there is an answer.
    ///
    /// # Errors
    ///
    /// When it is refused.
    ///
    /// # Panics
    ///
    /// When something else is answered, or nothing.
    pub async fn connect_again(&mut self, payload: &Value) -> Result<String, Refused> {
        const PATIENCE: Duration = Duration::from_millis(300);

        let answer = async {
            loop {
                self.send(format!("40{payload}")).await;
                if let Some(packet) = self.next_within(PATIENCE).await {
                    return packet.expect("an answer before the connection ends");
                }
            }
        };
        let answer = soon("an answer to CONNECT", answer).await;
        admission(&answer)
    }

    /// Emits an event and waits for its acknowledgement. Events that come first are kept.
    pub async fn call(&mut self, event: &str, payload: Value) -> Value {
        self.send(format!("421{}", json!([event, payload]))).await;
        self.acknowledgement(1).await
    }

    /// Waits for the acknowledgement with this number. Events that come first are kept.
    pub async fn acknowledgement(&mut self, number: u32) -> Value {
        self.acknowledgement_after(&format!("43{number}")).await
    }

    async fn acknowledgement_after(&mut self, header: &str) -> Value {
        let prefix = format!("{header}[");
        let mut others = VecDeque::new();
        let answer = loop {
            let packet = self.packet().await;
            if packet.starts_with(&prefix) {
                break parse(&packet[prefix.len() - 1..]);
            }
            others.push_back(packet);
        };
        others.append(&mut self.early);
        self.early = others;
        answer[0].clone()
    }

    /// The next event: its name and its arguments, in one array.
    pub async fn event(&mut self) -> Value {
        let packet = self.packet().await;
        match packet.strip_prefix("42") {
            Some(event) => parse(event),
            None => panic!("no event: {packet}"),
        }
    }

    /// Subscribes to `room`, and gives the answer.
    ///
    /// # Panics
    ///
    /// When it is refused.
    pub async fn subscribe(&mut self, room: &str) -> Value {
        let answer = self.call("rt:subscribe", json!({ "room": room })).await;
        assert_eq!(answer["ok"], true, "{answer}");
        answer
    }

    /// Publishes `data` in `room` as the event `message`, and gives the answer.
    ///
    /// # Panics
    ///
    /// When it is refused.
    pub async fn publish(&mut self, room: &str, data: Value) -> Value {
        let payload = json!({"room": room, "event": "message", "data": data});
        let answer = self.call("rt:publish", payload).await;
        assert_eq!(answer["ok"], true, "{answer}");
        answer
    }

    /// Waits for the end of the connection, and gives what came before it.
    pub async fn closed(&mut self) -> Vec<String> {
        let mut packets = Vec::new();
        while let Some(packet) = self.next().await {
            packets.push(packet);
        }
        packets
    }
}

/// What a packet that answers CONNECT says.
fn admission(packet: &str) -> Result<String, Refused> {
    match packet.split_at(2) {
        ("40", body) => Ok(parse(body)["sid"].as_str().expect("a sid").to_owned()),
        ("44", body) => Err(Refused(parse(body))),
        _ => panic!("neither admitted nor refused: {packet}"),
    }
}

/// The JSON of a packet.
///
/// # Panics
///
/// When it is none.
#[must_use]
pub fn parse(body: &str) -> Value {
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {body}"))
}
