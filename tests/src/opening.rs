//! How a WebSocket to the gateway is opened.

use std::net::{IpAddr, SocketAddr};

use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};
use tokio_tungstenite::tungstenite::{
    Error,
    client::IntoClientRequest,
    http::{HeaderName, HeaderValue},
};

use crate::{
    Stack, soon,
    tls::Root,
    websocket::{WebSocket, parse},
};

/// How a WebSocket is to be opened.
#[derive(Clone)]
pub struct Opening {
    gateway: SocketAddr,
    root: Root,
    query: String,
    headers: Vec<(HeaderName, HeaderValue)>,
    from: Option<IpAddr>,
    receive_buffer_bytes: Option<u32>,
    earlier: Option<(&'static str, u16)>,
}

impl Opening {
    /// A WebSocket to the gateway of `stack`, with version 4 of Engine.IO and no credential.
    #[must_use]
    pub fn of(stack: &Stack) -> Self {
        Self {
            gateway: stack.gateway_address,
            root: stack.root.clone(),
            query: "EIO=4&transport=websocket".to_owned(),
            headers: Vec::new(),
            from: None,
            receive_buffer_bytes: None,
            earlier: None,
        }
    }

    /// Speaks version 3 of Engine.IO, as clients of Socket.IO 2 do.
    #[must_use]
    pub fn version_3(mut self) -> Self {
        self.query = self.query.replace("EIO=4", "EIO=3");
        self
    }

    /// Adds `name=value` to the query, as it is.
    #[must_use]
    pub fn query(mut self, name: &str, value: &str) -> Self {
        self.query += &format!("&{name}={value}");
        self
    }

    /// Adds a header.
    ///
    /// # Panics
    ///
    /// When it is none.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        let value = value.parse().expect("a header's value");
        self.headers.push((HeaderName::from_static(name), value));
        self
    }

    /// Goes to another gateway.
    #[must_use]
    pub fn at(mut self, gateway: SocketAddr) -> Self {
        self.gateway = gateway;
        self
    }

    /// Comes from another address of this machine.
    #[must_use]
    pub fn from(mut self, address: IpAddr) -> Self {
        self.from = Some(address);
        self
    }

    /// Lets the system take no more than about this much that is not read.
    #[must_use]
    pub fn receive_buffer_bytes(mut self, bytes: u32) -> Self {
        self.receive_buffer_bytes = Some(bytes);
        self
    }

    /// Sends a request on the same connection first, if there is one, and sees it answered with this
    /// status and an empty body.
    #[must_use]
    pub fn after(mut self, earlier: Option<(&'static str, u16)>) -> Self {
        self.earlier = earlier;
        self
    }

    /// Opens a session of Engine.IO 3 with `token` in its query, and sees it admitted.
    ///
    /// # Panics
    ///
    /// When it is refused.
    pub async fn admitted_by_query(self, token: &str) -> WebSocket {
        let mut socket = self.version_3().query("token", token).session().await;
        let packet = socket.packet().await;
        assert!(packet.starts_with("40"), "{packet}");
        socket
    }

    /// Opens the WebSocket, or gives the status that it is refused with.
    ///
    /// # Errors
    ///
    /// The status of the HTTP answer.
    ///
    /// # Panics
    ///
    /// When there is no answer at all.
    pub async fn open(&self) -> Result<WebSocket, u16> {
        soon("a WebSocket", async {
            let tcp = self.connect().await.expect("a TCP connection");
            let url = format!("ws://{}/socket.io/?{}", self.gateway, self.query);
            let mut request = url.into_client_request().expect("a request");
            request.headers_mut().extend(self.headers.iter().cloned());
            let mut stream = self.root.wrap(tcp).await.expect("a TLS handshake");
            if let Some((request, status)) = self.earlier {
                stream.write_all(request.as_bytes()).await.expect("sent");
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.expect("an answer"));
                }
                let head = String::from_utf8(head).expect("text").to_lowercase();
                assert!(head.starts_with(&format!("http/1.1 {status} ")), "{head}");
                let length = head.split("\r\ncontent-length: ").nth(1).expect("a length");
                let length = length.split("\r\n").next().expect("a length");
                let mut body = vec![0; length.parse().expect("a length")];
                stream.read_exact(&mut body).await.expect("a body");
            }
            match tokio_tungstenite::client_async(request, stream).await {
                Ok((stream, _)) => Ok(WebSocket::new(stream)),
                Err(Error::Http(answer)) => Err(answer.status().as_u16()),
                Err(error) => panic!("no WebSocket and no answer: {error}"),
            }
        })
        .await
    }

    /// Opens a WebSocket that is a session of its own, and reads the packet that says so.
    ///
    /// # Panics
    ///
    /// When it is refused, or something else is said.
    pub async fn session(&self) -> WebSocket {
        self.try_session().await.expect("a WebSocket")
    }

    /// The same, when the gateway may refuse it.
    ///
    /// # Errors
    ///
    /// The status of the HTTP answer.
    ///
    /// # Panics
    ///
    /// When something else is said.
    pub async fn try_session(&self) -> Result<WebSocket, u16> {
        let mut socket = self.open().await?;
        let packet = socket.packet().await;
        let open = packet
            .strip_prefix('0')
            .unwrap_or_else(|| panic!("no open packet: {packet}"));
        socket.sid = parse(open)["sid"].as_str().expect("a sid").to_owned();
        Ok(socket)
    }

    /// Opens a session and presents `token` with CONNECT.
    pub async fn admitted(&self, token: &str) -> WebSocket {
        let mut socket = self.session().await;
        socket
            .connect(&json!({ "token": token }))
            .await
            .expect("a token that is accepted");
        socket
    }

    async fn connect(&self) -> std::io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        if let Some(address) = self.from {
            socket.bind((address, 0).into())?;
        }
        if let Some(bytes) = self.receive_buffer_bytes {
            socket.set_recv_buffer_size(bytes)?;
        }
        socket.connect(self.gateway).await
    }
}
