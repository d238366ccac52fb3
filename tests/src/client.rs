//! The Socket.IO client that the tests of whole scenarios use.
//!
//! It is rust_socketio with its traps fenced off: `connect` answers before the namespace is joined,
//! a refused client reconnects for ever, and a callback that emits waits for itself. So nothing
//! reconnects, callbacks only send into a channel, and one acknowledgement is waited for at a time.

use futures_util::FutureExt;
use rust_socketio::{
    Event, Payload, TransportType,
    asynchronous::{Client, ClientBuilder},
};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::{DEADLINE, soon};

/// How a token is presented.
#[derive(Clone, Debug)]
pub enum Credential {
    /// In the payload of CONNECT: `auth: {token}`.
    Auth(Value),
    /// As the `Authorization` header.
    Header(String),
    /// In the query: `?token=`, as the tutorial has it.
    Query(String),
    /// Not at all.
    None,
}

/// What happened to a client.
#[derive(Debug)]
enum Signal {
    Connected,
    Failed(String),
    Closed,
    Event(String, Vec<Value>),
}

/// A connected client of the gateway.
pub struct SocketClient {
    client: Client,
    signals: mpsc::UnboundedReceiver<Signal>,
}

impl SocketClient {
    /// Connects to the main namespace of the gateway at `url` by WebSocket.
    ///
    /// # Errors
    ///
    /// The text of the refusal.
    pub async fn connect(url: &str, credential: Credential) -> Result<Self, String> {
        Self::connect_to(url, "/", credential).await
    }

    /// Connects to a namespace of the gateway at `url` by WebSocket.
    ///
    /// # Errors
    ///
    /// The text of the refusal.
    ///
    /// # Panics
    ///
    /// When there is neither a connection nor a refusal.
    pub async fn connect_to(
        url: &str,
        namespace: &str,
        credential: Credential,
    ) -> Result<Self, String> {
        let (sender, signals) = mpsc::unbounded_channel();
        let on = |event: Event, signal: fn(Payload) -> Signal| {
            let sender = sender.clone();
            (event, move |payload: Payload, _: Client| {
                // Nobody listens when the test is over.
                let _ = sender.send(signal(payload));
                async {}.boxed()
            })
        };
        let connected = on(Event::Connect, |_| Signal::Connected);
        let failed = on(Event::Error, |payload| Signal::Failed(text_of(&payload)));
        let closed = on(Event::Close, |_| Signal::Closed);
        let any = sender.clone();
        let builder = match &credential {
            Credential::Query(token) => ClientBuilder::new(format!("{url}/?token={token}")),
            _ => ClientBuilder::new(url),
        };
        let builder = match credential {
            Credential::Auth(token) => builder.auth(json!({ "token": token })),
            Credential::Header(value) => builder.opening_header("Authorization", value),
            Credential::Query(_) | Credential::None => builder,
        };
        let client = builder
            .namespace(namespace)
            .transport_type(TransportType::Websocket)
            .reconnect(false)
            .on(connected.0, connected.1)
            .on(failed.0, failed.1)
            .on(closed.0, closed.1)
            .on_any(move |event, payload, _| {
                let _ = any.send(Signal::Event(event.into(), values_of(payload)));
                async {}.boxed()
            })
            .connect();
        let client = soon("a connection", client)
            .await
            .map_err(|error| error.to_string())?;
        let mut this = Self { client, signals };
        match this.signal().await {
            Some(Signal::Connected) => Ok(this),
            Some(Signal::Failed(text)) => Err(text),
            other => panic!("neither connected nor refused: {other:?}"),
        }
    }

    async fn signal(&mut self) -> Option<Signal> {
        soon("something to happen to a client", self.signals.recv()).await
    }

    /// Emits an event, and gives the argument of its acknowledgement.
    ///
    /// # Panics
    ///
    /// When there is none.
    pub async fn call(&mut self, event: &str, payload: Value) -> Value {
        let arguments = self.acknowledged(event, payload).await;
        arguments.into_iter().next().expect("an argument")
    }

    /// Emits an event, and gives all arguments of its acknowledgement.
    ///
    /// # Panics
    ///
    /// When there is none.
    pub async fn acknowledged(&mut self, event: &str, payload: Value) -> Vec<Value> {
        let (sender, mut answers) = mpsc::unbounded_channel();
        let answered = move |payload: Payload, _: Client| {
            let _ = sender.send(values_of(payload));
            async {}.boxed()
        };
        let sent = self
            .client
            .emit_with_ack(event, payload, DEADLINE, answered);
        soon("an event to be sent", sent)
            .await
            .expect("an open connection");
        let answer = soon("an acknowledgement", answers.recv()).await;
        // rust_socketio wraps the array of arguments into another one.
        match answer.expect("an answer").as_slice() {
            [Value::Array(arguments)] => arguments.clone(),
            other => panic!("no arguments: {other:?}"),
        }
    }

    /// Emits an event with binary data as its argument. There is no acknowledgement: with one, rust_socketio sends the
    /// event as the answer to an event of the server.
    ///
    /// # Panics
    ///
    /// When the connection has ended.
    pub async fn emit_binary(&self, event: &str, bytes: &[u8]) {
        let sent = self.client.emit(event, bytes.to_vec());
        soon("an event to be sent", sent)
            .await
            .expect("an open connection");
    }

    /// The next event: its name and its arguments. Binary data is an array of numbers.
    ///
    /// # Panics
    ///
    /// When the connection ends first.
    pub async fn event(&mut self) -> (String, Vec<Value>) {
        match self.signal().await {
            Some(Signal::Event(name, arguments)) => (name, arguments),
            other => panic!("no event: {other:?}"),
        }
    }

    /// Waits until the connection has ended; nothing else may happen before that.
    ///
    /// # Panics
    ///
    /// When another event comes.
    pub async fn closed(self) {
        let Self {
            client,
            mut signals,
        } = self;
        // What is left of the callbacks then goes with the connection, which may end in silence.
        drop(client);
        match soon("the end of the connection", signals.recv()).await {
            None | Some(Signal::Closed | Signal::Failed(_)) => {}
            Some(other) => panic!("not the end of the connection: {other:?}"),
        }
    }

    /// Leaves.
    pub async fn disconnect(self) {
        // It may have been thrown out already.
        let _ = soon("to leave", self.client.disconnect()).await;
    }
}

fn values_of(payload: Payload) -> Vec<Value> {
    match payload {
        Payload::Text(values) => values,
        Payload::Binary(bytes) => vec![json!(bytes.to_vec())],
        #[expect(deprecated, reason = "the enum still has it")]
        Payload::String(text) => vec![Value::String(text)],
    }
}

fn text_of(payload: &Payload) -> String {
    values_of(payload.clone())
        .iter()
        .map(|value| {
            value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned)
        })
        .collect()
}
