//! Encodes and decodes what the generator sends and receives: WebSocket frames, HTTP messages and
//! Socket.IO packets. This module opens no connection.

pub(crate) mod frame;
pub(crate) mod http;
pub(crate) mod packet;
