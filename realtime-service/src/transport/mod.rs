//! The way between the gateway and its clients: connections, Engine.IO sessions, and the bytes on
//! them. It knows neither rooms nor who a client is.

mod acks;
mod context;
mod copies;
mod credentials;
mod dialect;
pub mod engine;
mod engine_carrier;
mod engine_session;
mod gate;
pub mod listener;
mod packet;
mod placeholders;
mod poll_body;
mod registry;
mod request;
mod send_queue;
mod socket_packet;
mod socketioxide_carrier;
#[cfg(test)]
pub(crate) mod testing;
mod tls;
pub mod turn;

pub use self::{
    acks::{Acknowledgement, InvalidAcknowledgement, PendingAcks},
    context::TransportContext,
    credentials::RequestCredentials,
    dialect::{Dialect, ProtocolVersion},
    engine_carrier::Client,
    engine_session::EngineSession,
    gate::{Entrance, Gate, Socketioxide},
    packet::{Opcode, Packet, Payload},
    placeholders::Placed,
    send_queue::{Queued, SendQueue, Waiting, Written},
    tls::Certificate,
};
