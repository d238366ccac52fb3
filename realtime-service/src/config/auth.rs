//! How sockets say who they are.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How sockets say who they are, and how long they stay.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuthSettings {
    /// Whether a client without a token may connect and present one later with `authenticate`.
    /// Until then every other event is refused. `REALTIME__AUTH__DEFERRED`, default false.
    pub deferred: bool,
    /// Deadline for that token, in seconds. `REALTIME__AUTH__DEFERRED_SECS`, default 15.
    pub deferred_secs: u64,
    /// Whether a client without a token may stay as a guest, in the rooms that a rule opens to
    /// guests. A guest can authenticate later. `REALTIME__AUTH__ANONYMOUS`, default false.
    pub anonymous: bool,
    /// Name of the cookie that holds a token, when `credentials` list `cookie`. The cookie is read
    /// only from requests whose `Origin` is listed. `REALTIME__AUTH__COOKIE_NAME`, default ``.
    pub cookie_name: String,
    /// Properties that every request with the `sid` of a session shares with the request that opened it,
    /// `credentials` or `address`. `REALTIME__AUTH__SESSION_BINDING`, default `credentials`.
    pub session_binding: SessionBinding,
    /// How long before the end of its token a client receives `rt:expiring`, in seconds.
    /// `REALTIME__AUTH__EXPIRING_NOTICE_SECS`, default 60.
    pub expiring_notice_secs: u64,
}

/// Properties that every request with the `sid` of a session shares with the request that opened it. Any
/// other request is answered as for a `sid` that is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SessionBinding {
    /// The token of the query, and the `Authorization` and the `Origin` wherever they are sent: what a
    /// client keeps that changes its network.
    Credentials,
    /// The address and the `User-Agent` too, and the `Authorization` of every poll.
    Address,
}

impl Default for AuthSettings {
    fn default() -> Self {
        Self {
            deferred: false,
            deferred_secs: 15,
            anonymous: false,
            cookie_name: String::new(),
            session_binding: SessionBinding::Credentials,
            expiring_notice_secs: 60,
        }
    }
}

impl AuthSettings {
    /// See [`Self::deferred_secs`].
    #[must_use]
    pub const fn deferred_deadline(&self) -> Duration {
        Duration::from_secs(self.deferred_secs)
    }

    /// See [`Self::expiring_notice_secs`].
    #[must_use]
    pub const fn expiring_notice(&self) -> Duration {
        Duration::from_secs(self.expiring_notice_secs)
    }
}
