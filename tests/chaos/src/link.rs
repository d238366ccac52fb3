//! A client of the stock protocol (Engine.IO 4, Socket.IO 5) over WebSocket, which sees each packet.

use std::{net::SocketAddr, time::Duration};

use anyhow::Context;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout, timeout_at},
};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{Message, protocol::WebSocketConfig},
};

/// Maximum time of a handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum time without a packet: the ping interval and the ping timeout of the gateways.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(20);
/// Maximum time of an acknowledgement.
const ACK_TIMEOUT: Duration = Duration::from_secs(10);
/// Size of a read, small since there are thousands of connections.
const READ_BYTES: usize = 4096;

/// A packet that concerns a client.
#[derive(Debug)]
pub(crate) enum Packet {
    /// An event: its name and its arguments in one array.
    Event(Value),
    /// An acknowledgement: its id and its first argument.
    Ack(u64, Value),
}

/// Reason for which there is no connection.
#[derive(Debug)]
pub(crate) enum OpenError {
    /// The gateway refused the token, with this message.
    Refused(String),
    /// The connection failed.
    Failed,
}

/// An admitted connection.
pub(crate) struct Link {
    stream: WebSocketStream<TcpStream>,
    last_ack: u64,
}

impl Link {
    /// Connects to a gateway and presents the token.
    ///
    /// # Errors
    ///
    /// See [`OpenError`].
    pub(crate) async fn open(address: SocketAddr, token: &str) -> Result<Self, OpenError> {
        let opened = timeout(HANDSHAKE_TIMEOUT, Self::handshake(address, token)).await;
        opened.unwrap_or(Err(OpenError::Failed))
    }

    async fn handshake(address: SocketAddr, token: &str) -> Result<Self, OpenError> {
        let stream = TcpStream::connect(address).await;
        let stream = stream.map_err(|_| OpenError::Failed)?;
        let url = format!("ws://{address}/socket.io/?EIO=4&transport=websocket");
        let config = WebSocketConfig::default().read_buffer_size(READ_BYTES);
        let opened = client_async_with_config(url, stream, Some(config)).await;
        let (stream, _) = opened.map_err(|_| OpenError::Failed)?;
        let mut link = Self {
            stream,
            last_ack: 0,
        };
        let failed = |_: anyhow::Error| OpenError::Failed;
        let connect = format!("40{}", json!({ "token": token }));
        link.send(connect).await.map_err(failed)?;
        loop {
            let text = link.text().await.map_err(failed)?;
            if let Some(refusal) = text.strip_prefix("44") {
                let refusal: Value = serde_json::from_str(refusal).unwrap_or_default();
                let message = refusal["message"].as_str().unwrap_or_default();
                return Err(OpenError::Refused(message.to_owned()));
            }
            if text.starts_with("40") {
                return Ok(link);
            }
        }
    }

    /// Emits an event with one argument, and returns the id of its acknowledgement.
    ///
    /// # Errors
    ///
    /// Returns an error if the connection has ended.
    pub(crate) async fn emit(&mut self, event: &str, argument: &Value) -> anyhow::Result<u64> {
        self.last_ack += 1;
        let packet = format!("42{}{}", self.last_ack, json!([event, argument]));
        self.send(packet).await?;
        Ok(self.last_ack)
    }

    /// Emits an event and waits for its acknowledgement. Events that arrive meanwhile are dropped.
    ///
    /// # Errors
    ///
    /// Returns an error if the connection ends first, or there is no acknowledgement in time.
    pub(crate) async fn call(&mut self, event: &str, argument: &Value) -> anyhow::Result<Value> {
        let id = self.emit(event, argument).await?;
        let end = Instant::now() + ACK_TIMEOUT;
        loop {
            let packet = timeout_at(end, self.next())
                .await
                .context("no acknowledgement")??;
            match packet {
                Packet::Ack(acked, answer) if acked == id => return Ok(answer),
                _ => {}
            }
        }
    }

    /// Returns the next packet, and answers the pings before it.
    ///
    /// # Errors
    ///
    /// Returns an error if the connection has ended, or nothing arrives for as long as a live gateway
    /// can be silent.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Packet> {
        loop {
            let text = self.text().await?;
            let Some(rest) = text.strip_prefix('4') else {
                continue;
            };
            anyhow::ensure!(!rest.starts_with('1'), "the gateway sent DISCONNECT");
            if let Some(event) = rest.strip_prefix('2') {
                return Ok(Packet::Event(serde_json::from_str(event)?));
            }
            if let Some(ack) = rest.strip_prefix('3') {
                let (id, arguments) = ack.split_at(ack.find('[').context("an acknowledgement")?);
                let mut arguments: Value = serde_json::from_str(arguments)?;
                return Ok(Packet::Ack(id.parse()?, arguments[0].take()));
            }
        }
    }

    /// Returns the next packet of Engine.IO that is no ping.
    async fn text(&mut self) -> anyhow::Result<String> {
        loop {
            let message = timeout(SILENCE_TIMEOUT, self.stream.next()).await;
            let message = message.context("nothing arrives")?.context("the end")??;
            match message {
                Message::Text(text) if text.as_str() == "2" => self.send("3".to_owned()).await?,
                Message::Text(text) => return Ok(text.as_str().to_owned()),
                Message::Close(_) => anyhow::bail!("the gateway closed the connection"),
                _ => {}
            }
        }
    }

    async fn send(&mut self, packet: String) -> anyhow::Result<()> {
        let sent = timeout(ACK_TIMEOUT, self.stream.send(Message::text(packet))).await;
        Ok(sent.context("the connection takes nothing")??)
    }
}
