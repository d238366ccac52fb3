//! Engine.IO by hand over polling.

use std::{collections::VecDeque, net::IpAddr};

use reqwest::{Client, RequestBuilder, StatusCode};
use serde_json::{Value, json};

use crate::{Stack, soon, tls::Root, websocket::parse};

/// What separates packets in the body of a poll.
const SEPARATOR: char = '\u{1e}';

/// A client that polls: how it looks to the gateway, and its session once it has one.
#[derive(Clone)]
pub struct Polling {
    http: Client,
    root: Root,
    url: String,
    headers: Vec<(&'static str, String)>,
    /// The session's id; empty before it is opened.
    pub sid: String,
    received: VecDeque<String>,
    /// Whether the packet before was a refusal.
    is_refused: bool,
}

impl Polling {
    /// A client of `stack` with a `User-Agent` of its own and no credential.
    #[must_use]
    pub fn of(stack: &Stack) -> Self {
        Self {
            http: stack.root.http(None),
            root: stack.root.clone(),
            url: format!("{}/socket.io/?EIO=4&transport=polling", stack.gateway_url),
            headers: vec![("user-agent", "polling/1".to_owned())],
            sid: String::new(),
            received: VecDeque::new(),
            is_refused: false,
        }
    }

    /// Speaks version 3 of Engine.IO, as clients of Socket.IO 2 do. Only [`Self::get`] and
    /// [`Self::post`] work then: the bodies have another form.
    #[must_use]
    pub fn version_3(mut self) -> Self {
        self.url = self.url.replace("EIO=4", "EIO=3");
        self
    }

    /// Goes to another gateway, or a proxy, at `url`.
    #[must_use]
    pub fn at(mut self, url: &str) -> Self {
        self.url = format!("{url}/socket.io/?EIO=4&transport=polling");
        self
    }

    /// Comes from another address of this machine.
    #[must_use]
    pub fn from(mut self, address: IpAddr) -> Self {
        self.http = self.root.http(Some(address));
        self
    }

    /// Sets a header of every request.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.retain(|(other, _)| *other != name);
        self.headers.push((name, value.to_owned()));
        self
    }

    /// Adds `name=value` to the query of every request.
    #[must_use]
    pub fn query(mut self, name: &str, value: &str) -> Self {
        self.url += &format!("&{name}={value}");
        self
    }

    fn request(&self, post: Option<String>) -> RequestBuilder {
        let mut url = self.url.clone();
        if !self.sid.is_empty() {
            url += &format!("&sid={}", self.sid);
        }
        let request = match post {
            None => self.http.get(url),
            Some(body) => self
                .http
                .post(url)
                .header("content-type", "text/plain;charset=UTF-8")
                .body(body),
        };
        self.headers.iter().fold(request, |request, (name, value)| {
            request.header(*name, value)
        })
    }

    /// Polls once, and gives the answer's status and body.
    pub async fn get(&self) -> (StatusCode, String) {
        Self::answer(self.request(None)).await
    }

    /// Sends packets, and gives the answer's status and body.
    pub async fn post(&self, packets: impl Into<String>) -> (StatusCode, String) {
        Self::answer(self.request(Some(packets.into()))).await
    }

    async fn answer(request: RequestBuilder) -> (StatusCode, String) {
        soon("the answer to a poll", async {
            let answer = request.send().await.expect("an answer");
            (answer.status(), answer.text().await.expect("a body"))
        })
        .await
    }

    /// Opens a session.
    ///
    /// # Errors
    ///
    /// The status with which it is refused.
    ///
    /// # Panics
    ///
    /// When the answer is no open packet.
    pub async fn open(mut self) -> Result<Self, StatusCode> {
        let (status, body) = self.get().await;
        if status != StatusCode::OK {
            return Err(status);
        }
        let mut packets = body.split(SEPARATOR);
        let open = packets.next().and_then(|packet| packet.strip_prefix('0'));
        self.sid = parse(open.expect("an open packet"))["sid"]
            .as_str()
            .expect("a sid")
            .to_owned();
        self.received.extend(packets.map(str::to_owned));
        Ok(self)
    }

    /// Opens a session and presents `token` with CONNECT.
    ///
    /// # Panics
    ///
    /// When it is refused.
    pub async fn admitted(self, token: &str) -> Self {
        let mut session = self.open().await.expect("a session");
        let packet = session.connect(&json!({ "token": token })).await;
        assert!(packet.starts_with("40"), "{packet}");
        session
    }

    /// Presents `payload` with CONNECT, and gives the packet that is answered.
    pub async fn connect(&mut self, payload: &Value) -> String {
        let (status, body) = self.post(format!("40{payload}")).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        self.packet().await.expect("an answer to CONNECT")
    }

    /// Emits an event and waits for its acknowledgement.
    ///
    /// # Panics
    ///
    /// When the session has ended, or something else comes.
    pub async fn call(&mut self, event: &str, payload: Value) -> Value {
        let (status, body) = self.post(format!("421{}", json!([event, payload]))).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        loop {
            let packet = self.packet().await.expect("a session that goes on");
            if let Some(answer) = packet.strip_prefix("431") {
                return parse(answer)[0].clone();
            }
        }
    }

    /// The next packet; `None` when the session has ended. Pings are answered.
    pub async fn packet(&mut self) -> Option<String> {
        loop {
            match self.received.pop_front().as_deref() {
                Some("2") => {
                    self.post("3").await;
                }
                Some("6") => {}
                Some("1") => return None,
                // The end of a refusal.
                Some(packet) if self.is_refused && packet.starts_with("41") => {
                    self.is_refused = false;
                }
                Some(packet) => {
                    self.is_refused = packet.starts_with("44");
                    return Some(packet.to_owned());
                }
                None => {
                    let (status, body) = self.get().await;
                    if status != StatusCode::OK {
                        return None;
                    }
                    self.received
                        .extend(body.split(SEPARATOR).map(str::to_owned));
                }
            }
        }
    }

    /// Reads until the session ends, and gives what came before that.
    pub async fn closed(&mut self) -> Vec<String> {
        let mut packets = Vec::new();
        while let Some(packet) = self.packet().await {
            packets.push(packet);
        }
        packets
    }
}
