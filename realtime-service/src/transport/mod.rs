//! The way between the gateway and its clients: connections, Engine.IO sessions, and the bytes on
//! them. It knows neither rooms nor who a client is.

mod packet;
mod send_queue;

pub use self::{
    packet::{Opcode, Packet, Payload},
    send_queue::{Queued, SendQueue, Written},
};
