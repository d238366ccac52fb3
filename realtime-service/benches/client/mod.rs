//! A client of the gateway that costs little, and the tokens that it presents.

use std::{
    net::SocketAddr,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::Context;
use futures_util::{SinkExt, StreamExt};
use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Value, json};
use shared_claims::secret::{SECRET_VARIABLE, Secrets};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, protocol::WebSocketConfig},
};

pub(crate) const SECRET: &str = "mZq3vX8pL1rT6wYc9sHd2kFg5jBn7uEa";
pub(crate) const ISSUER: &str = "http://issuer.example";

/// As in the binary.
#[global_allocator]
static ALLOCATOR: zeroizing_alloc::ZeroAlloc<mimalloc::MiMalloc> =
    zeroizing_alloc::ZeroAlloc(mimalloc::MiMalloc);

const READ_BUFFER_BYTES: usize = 4 * 1024;

pub(crate) type Socket = WebSocketStream<TcpStream>;

/// A token of this type with these claims besides those that all have.
pub(crate) fn sign(typ: &str, claims: Value) -> anyhow::Result<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let secrets = Secrets::parse(SECRET_VARIABLE, SECRET, ',')?;
    let mut all = json!({
        "iss": ISSUER, "aud": "latchkey-realtime", "iat": now, "exp": now + 120, "jti": "bench",
    });
    for (name, value) in claims.as_object().context("claims")? {
        all[name] = value.clone();
    }
    if typ == "at+jwt" {
        all["sid"] = json!("bench");
    }
    let header = Header {
        typ: Some(typ.to_owned()),
        kid: Some(secrets.signing().key_id()?),
        ..Header::default()
    };
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    Ok(jsonwebtoken::encode(&header, &all, &key)?)
}

/// Connects with `token`, and has the system take no more than about `buffer` bytes that are not read.
pub(crate) async fn connect(
    address: SocketAddr,
    token: &str,
    buffer: Option<u32>,
) -> anyhow::Result<Socket> {
    let tcp = TcpSocket::new_v4()?;
    if let Some(bytes) = buffer {
        tcp.set_recv_buffer_size(bytes)?;
    }
    let tcp = tcp.connect(address).await?;
    tcp.set_nodelay(true)?;
    let url = format!("ws://{address}/socket.io/?EIO=4&transport=websocket");
    // The default is zeroed before each read, and takes more of the machine than the gateway does.
    let config = WebSocketConfig::default().read_buffer_size(READ_BUFFER_BYTES);
    let (mut socket, _) =
        tokio_tungstenite::client_async_with_config(url, tcp, Some(config)).await?;
    let connect = format!("40{}", json!({ "token": token }));
    socket.send(Message::text(connect)).await?;
    until(&mut socket, "40").await?;
    Ok(socket)
}

/// What comes after `prefix` in the next packet that has it.
pub(crate) async fn until(socket: &mut Socket, prefix: &str) -> anyhow::Result<String> {
    loop {
        let message = socket.next().await.context("the connection ended")??;
        let Message::Text(text) = message else {
            continue;
        };
        if text.as_str() == "2" {
            socket.send(Message::text("3")).await?;
        }
        if let Some(rest) = text.strip_prefix(prefix) {
            return Ok(rest.to_owned());
        }
    }
}
