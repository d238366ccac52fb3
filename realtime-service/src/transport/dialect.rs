//! The dialects of the protocol that clients speak.

/// The revision of the Engine.IO protocol, and with it that of the Socket.IO protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ProtocolVersion {
    /// Engine.IO 3 under Socket.IO protocol 4: clients of Socket.IO 2.
    V3 = 3,
    /// Engine.IO 4 under Socket.IO protocol 5: clients of Socket.IO 3 and 4.
    V4 = 4,
}

impl ProtocolVersion {
    /// Returns what precedes binary data in base64: `b`, and in Engine.IO 3 the packet type.
    #[must_use]
    pub fn base64_prefix(self) -> &'static str {
        match self {
            Self::V3 => "b4",
            Self::V4 => "b",
        }
    }
}

/// The form in which a client sends and takes packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dialect {
    /// The revision of the protocol.
    pub version: ProtocolVersion,
    /// Whether binary data travels as base64 in text: the parameter `b64`.
    pub uses_base64: bool,
}

impl Dialect {
    /// The dialect in which packets are encoded first: Engine.IO 4 with binary frames.
    pub const DEFAULT: Self = Self {
        version: ProtocolVersion::V4,
        uses_base64: false,
    };
}
