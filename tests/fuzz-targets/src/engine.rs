//! The files of the gateway's engine that read what clients send, compiled here without the
//! gateway, which would take minutes.

pub mod bodies;
pub mod frames;
pub mod socket_io;

#[path = "../../../realtime-service/src/transport/engine/frame.rs"]
mod frame;
#[path = "../../../realtime-service/src/transport/engine/messages.rs"]
mod messages;
#[expect(dead_code, reason = "the gateway uses the rest")]
#[path = "../../../realtime-service/src/transport/engine/received.rs"]
mod received;
#[expect(dead_code, reason = "the gateway uses the rest")]
#[path = "../../../realtime-service/src/transport/engine/violation.rs"]
pub mod violation;
