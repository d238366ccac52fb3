//! Where credentials are looked for.
//!
//! The fuzz target for the payload of CONNECT compiles this file alone.

use serde::{Deserialize, Serialize};

/// A place where a client can put its token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CredentialSource {
    /// The payload of CONNECT: `auth: {token}`.
    Auth,
    /// `Authorization: Bearer TOKEN`.
    Header,
    /// `?token=`, which ends up in the logs of proxies.
    Query,
    /// The cookie that `auth.cookie_name` names, from a page whose origin is listed.
    Cookie,
}
