//! Encodes and decodes WebSocket frames, HTTP responses and Socket.IO packets. This module opens no
//! connection.

pub(crate) mod frame;
pub(crate) mod http;
pub(crate) mod packet;
