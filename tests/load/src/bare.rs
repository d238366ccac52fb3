//! Socketioxide without a gateway: rooms and acknowledgements, no tokens, rules, order or history.

use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context;
use axum::Router;
use axum::serve::ListenerExt as _;
use serde::Deserialize;
use serde_json::{Value, json};
use socketioxide::SocketIo;
use socketioxide::extract::{AckSender, Data, SocketRef};
use tokio::net::TcpListener;

/// Largest message, as in the gateway's default settings, in bytes.
const MESSAGE_BYTES: u64 = 1024 * 1024;

static NEXT_OFFSET: AtomicU64 = AtomicU64::new(1);

#[derive(Deserialize)]
struct Subscription {
    room: String,
}

#[derive(Deserialize)]
struct Publication {
    room: String,
    event: String,
    data: Value,
}

/// Serves until the task is dropped.
///
/// # Errors
///
/// Returns an error if the listener fails.
pub async fn serve(listener: std::net::TcpListener) -> anyhow::Result<()> {
    listener
        .set_nonblocking(true)
        .context("the listener cannot be used")?;
    let listener = TcpListener::from_std(listener).context("the listener cannot be used")?;
    let (layer, io) = SocketIo::builder()
        .max_payload(MESSAGE_BYTES)
        .max_buffer_size(65_536)
        .build_layer();
    io.ns("/", on_connect);
    let router = Router::new().layer(layer);
    let listener = listener.tap_io(|stream| {
        // Without it, small messages wait for the acknowledgement of earlier ones.
        let _ = stream.set_nodelay(true);
    });
    axum::serve(listener, router)
        .await
        .context("the listener failed")
}

async fn on_connect(socket: SocketRef) {
    socket.on("rt:subscribe", on_subscribe);
    socket.on("rt:publish", on_publish);
}

async fn on_subscribe(socket: SocketRef, ack: AckSender, Data(wanted): Data<Subscription>) {
    socket.join(wanted.room.clone());
    // A client that has left takes no acknowledgement.
    let _ = ack.send(&json!({ "ok": true, "room": wanted.room, "epoch": "1", "offset": 0 }));
}

async fn on_publish(io: SocketIo, ack: AckSender, Data(message): Data<Publication>) {
    let offset = NEXT_OFFSET.fetch_add(1, Ordering::Relaxed);
    let meta = json!({
        "room": message.room, "epoch": "jY37Iensx0wqKyxQqVjlxA", "offset": offset,
        "id": "jY37Iensx0wqKyxQqVjlxA", "ts": 1_795_799_857_000_u64,
        "from": { "sub": "load", "name": "load", "connection": "jY37Iensx0wqKyxQqVjlxA" },
    });
    let room = io.to(message.room);
    // Both fail only for clients that have left, and for a publisher that asked for no answer.
    let _ = room.emit(message.event, &(message.data, meta)).await;
    let _ = ack.send(&json!({ "ok": true, "epoch": "1", "offset": offset }));
}
