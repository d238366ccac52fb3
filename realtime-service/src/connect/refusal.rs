//! The refusal of a client: its entry of the closed list, and the text of the back end that refuses it.

use serde_json::{Value, json};
use shared_claims::Rejection;

use crate::transport::ProtocolVersion;

/// The refusal of a client.
pub(super) struct ClientRefusal {
    /// The entry of the closed list.
    pub(super) rejection: Rejection,
    /// The text of the back end.
    pub(super) detail: Option<Box<str>>,
}

impl ClientRefusal {
    /// Returns the content of CONNECT_ERROR. A client of Socket.IO 2 gets the data alone.
    pub(super) fn to_error(&self, version: ProtocolVersion) -> Value {
        let Self { rejection, detail } = self;
        let mut data = json!({
            "message": rejection.message(),
            "code": rejection.code(),
            "type": "UnauthorizedError",
            "reason": rejection.reason(),
        });
        if let Some(detail) = detail {
            data["detail"] = json!(detail);
        }
        match version {
            ProtocolVersion::V3 => data,
            ProtocolVersion::V4 => json!({ "message": rejection.message(), "data": data }),
        }
    }
}

impl From<Rejection> for ClientRefusal {
    fn from(rejection: Rejection) -> Self {
        Self {
            rejection,
            detail: None,
        }
    }
}
