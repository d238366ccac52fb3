//! Where the operator listens.

use serde::{Deserialize, Serialize};

use super::OptionalAddress;

/// What is for the operator and not for clients.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdminSettings {
    /// Address and port of a listener for the operator, with `/metrics` and `/health/…` for every
    /// client that reaches it, or `off`. `REALTIME__ADMIN__LISTEN`, default `off`.
    pub listen: OptionalAddress,
}
