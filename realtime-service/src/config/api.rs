//! The HTTP API for back ends.

use serde::{Deserialize, Serialize};

use super::{ConfigError, OptionalAddress, check};

/// The HTTP API for back ends.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ApiSettings {
    /// Address and port of the listener for back ends, such as `127.0.0.1:9001`, or `off`. It
    /// speaks TLS when the listener for clients does. `REALTIME__API__LISTEN`, default `off`.
    pub listen: OptionalAddress,
    /// Whether the listener serves a page at `/docs/` that shows the description at `/openapi.json` and
    /// calls the endpoints: `true` or `false`. `cargo dev` turns it on. `REALTIME__API__DOCS`, default
    /// `false`.
    pub docs: bool,
    /// Requests per second that one back end may send continuously.
    /// `REALTIME__API__REQUESTS_PER_SEC`, default 100.
    pub requests_per_sec: u32,
    /// Requests that one back end may send at once. `REALTIME__API__REQUESTS_BURST`, default 200.
    pub requests_burst: u32,
}

impl Default for ApiSettings {
    fn default() -> Self {
        Self {
            listen: OptionalAddress::default(),
            docs: false,
            requests_per_sec: 100,
            requests_burst: 200,
        }
    }
}

impl ApiSettings {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        for (setting, count) in [
            ("api.requests_per_sec", self.requests_per_sec),
            ("api.requests_burst", self.requests_burst),
        ] {
            let problem = "must be 1 to 1000000";
            check(setting, (1..=1_000_000).contains(&count), problem)?;
        }
        Ok(())
    }
}
