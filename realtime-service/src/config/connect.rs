//! The back end that is asked when a client connects.

use serde::{Deserialize, Serialize};

use super::{Config, ConfigError, check};

/// The back end that is asked when a client connects.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConnectSettings {
    /// Name of the back end of `[[backends]]` that is asked about each client whose token was verified,
    /// before the client is admitted: see [back ends](backends.md#who-may-connect).
    /// `REALTIME__CONNECT__BACKEND`, default ``, no back end.
    pub backend: String,
    /// Outcome for a client about whom the back end gives no answer: `refuse` closes its transport, so
    /// that it tries again by itself; `admit` admits it with the grants of its token alone.
    /// `REALTIME__CONNECT__ON_FAILURE`, default `refuse`.
    pub on_failure: OnFailure,
}

/// Outcome for a client about whom the back end gives no answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// The transport is closed. Stock clients try again by themselves.
    #[default]
    Refuse,
    /// The client is admitted with the grants of its token alone, unless an answer cannot be used or has a status
    /// that no later request changes.
    Admit,
}

impl ConnectSettings {
    /// Whether a back end is asked.
    #[must_use]
    pub fn is_on(&self) -> bool {
        !self.backend.is_empty()
    }
}

impl Config {
    /// Checks that the back end exists that a namespace asks, and that it answers within the time that a
    /// client without an admitted socket has. The settings of the namespace begin with `place`.
    pub(super) fn check_connect(
        &self,
        place: &str,
        settings: &ConnectSettings,
    ) -> Result<(), ConfigError> {
        if !settings.is_on() {
            return Ok(());
        }
        let setting = format!("{place}connect.backend");
        self.check_backend_exists(&setting, &settings.backend)?;
        let mut all = self.backends.iter();
        let backend = all.find(|one| one.name == settings.backend);
        let limit_ms = self.limits.unauthenticated_secs.saturating_mul(1000);
        let is_in_time = backend.is_none_or(|backend| backend.timeout_ms < limit_ms);
        let problem = "its timeout_ms must be less than limits.unauthenticated_secs";
        check(&setting, is_in_time, problem)
    }
}
