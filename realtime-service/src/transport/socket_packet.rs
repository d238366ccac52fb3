//! The text of a Socket.IO packet, taken apart (Socket.IO protocol, revision 5).

/// The type of a Socket.IO packet, as far as the gateway sends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SocketPacketType {
    /// The server or the client leaves a namespace.
    Disconnect,
    /// An event, with attachments or without.
    Event,
    /// An acknowledgement, with attachments or without.
    Ack,
}

/// A Socket.IO packet in its text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SocketPacket<'a> {
    pub(super) kind: SocketPacketType,
    /// The namespace; the main one is `/`.
    pub(super) namespace: &'a str,
    pub(super) ack_id: Option<u64>,
    /// An array with the arguments; empty without any.
    pub(super) json: &'a str,
}

impl<'a> SocketPacket<'a> {
    /// Parses the Engine.IO packet `text`; `None` when it holds no such packet.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let packet = text.strip_prefix('4')?;
        let (kind, mut rest) = packet.split_at_checked(1)?;
        let (kind, has_attachments) = match kind {
            "1" => (SocketPacketType::Disconnect, false),
            "2" => (SocketPacketType::Event, false),
            "3" => (SocketPacketType::Ack, false),
            "5" => (SocketPacketType::Event, true),
            "6" => (SocketPacketType::Ack, true),
            _ => return None,
        };
        if has_attachments {
            rest = rest.split_once('-')?.1;
        }
        let mut namespace = "/";
        if rest.starts_with('/') {
            (namespace, rest) = rest.split_once(',')?;
        }
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (id, json) = rest.split_at(digits);
        Some(Self {
            kind,
            namespace,
            ack_id: id.parse().ok(),
            json,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_is_found() {
        for (text, kind, namespace, ack_id, json) in [
            ("41", SocketPacketType::Disconnect, "/", None, ""),
            ("41/a,", SocketPacketType::Disconnect, "/a", None, ""),
            ("42[\"a\"]", SocketPacketType::Event, "/", None, "[\"a\"]"),
            ("42/a,7[1]", SocketPacketType::Event, "/a", Some(7), "[1]"),
            ("4312[]", SocketPacketType::Ack, "/", Some(12), "[]"),
            ("451-[1]", SocketPacketType::Event, "/", None, "[1]"),
            ("461-/a,3[1]", SocketPacketType::Ack, "/a", Some(3), "[1]"),
        ] {
            let packet = SocketPacket {
                kind,
                namespace,
                ack_id,
                json,
            };
            assert_eq!(SocketPacket::parse(text), Some(packet), "{text}");
        }
        for text in ["", "4", "2", "40{}", "45[1]"] {
            assert_eq!(SocketPacket::parse(text), None, "{text}");
        }
    }
}
