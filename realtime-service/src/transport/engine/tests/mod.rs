//! The engine over loopback sockets, with tungstenite and raw HTTP as clients.

mod broadcast;
mod heartbeat;
mod polling;
mod server;
mod tls;
mod upgrade;
mod version_3;
mod websocket;
