//! Socket.IO packets of a client.

use self::packet::{ROOT, SocketPacket, write_header};

#[path = "../../../../realtime-service/src/transport/engine/socket_io/packet.rs"]
pub mod packet;

/// Parses a packet. What is accepted, and written again, is the same packet.
///
/// # Panics
///
/// When it is not.
pub fn check(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let Ok(packet) = SocketPacket::parse(text) else {
        return;
    };
    let mut written = Vec::new();
    write_header(
        &mut written,
        packet.packet_type,
        packet.attachments,
        packet.namespace,
        packet.id,
    );
    written.extend_from_slice(packet.json.as_bytes());
    let written = String::from_utf8(written).expect("UTF-8");
    assert_eq!(SocketPacket::parse(&written), Ok(packet));
    assert!(written.len() <= text.len() + 1, "only a comma may be added");
    assert!(packet.namespace.starts_with(ROOT));
    assert!(!packet.namespace.contains(','));
}
