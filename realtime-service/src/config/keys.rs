//! By which keys tokens are verified, and where the secrets are read.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};
use shared_claims::secret::{SECRET_FILE_VARIABLE, SECRET_VARIABLE, Secrets};

use super::{Config, ConfigError, secret_file};

/// What a gateway that verifies published keys must not have.
const SECRETS_ARE_TOO_MUCH: &str = "is set, but keys.mode is asymmetric: whoever reads this \
                                    gateway's secrets must not be able to sign";

/// Where the keys of our own issuer come from.
#[derive(Clone)]
pub enum KeySource {
    /// Secrets that the issuer has too, and how they are read again.
    Shared(Secrets, ReloadSecrets),
    /// What the issuer publishes.
    Published,
}

/// Reads the secrets again.
pub type ReloadSecrets = Arc<dyn Fn() -> Result<Secrets, ConfigError> + Send + Sync>;

impl fmt::Debug for KeySource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Shared(..) => "Shared",
            Self::Published => "Published",
        })
    }
}

impl KeySource {
    /// Secrets that stay as they are.
    #[must_use]
    pub fn fixed(secrets: Secrets) -> Self {
        let same = secrets.clone();
        Self::Shared(secrets, Arc::new(move || Ok(same.clone())))
    }
}

/// Where the keys come from, as the settings and the environment say.
///
/// # Errors
///
/// When there are no secrets, or weak ones, or some where there must be none.
pub fn load_keys(config: &Config) -> Result<KeySource, ConfigError> {
    if config.keys.mode == KeyMode::Asymmetric {
        let variables = [SECRET_VARIABLE, SECRET_FILE_VARIABLE];
        return match variables
            .into_iter()
            .find(|name| std::env::var_os(name).is_some())
        {
            None => Ok(KeySource::Published),
            Some(name) => Err(ConfigError::Invalid {
                setting: name.to_owned(),
                problem: SECRETS_ARE_TOO_MUCH.to_owned(),
            }),
        };
    }
    Ok(KeySource::Shared(load_secrets()?, Arc::new(load_secrets)))
}

fn load_secrets() -> Result<Secrets, ConfigError> {
    Ok(Secrets::load(
        |name| std::env::var_os(name),
        secret_file::read,
    )?)
}

impl Config {
    /// Where the issuer publishes its keys.
    #[must_use]
    pub fn jwks_uri(&self) -> String {
        match self.keys.jwks_uri.as_str() {
            "" => format!("{}/.well-known/jwks.json", self.issuer),
            uri => uri.to_owned(),
        }
    }
}

/// By which keys tokens are verified.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KeySettings {
    /// `shared`: tokens are verified with the secrets, which the issuer has too. `asymmetric`:
    /// tokens are verified with the keys that the issuer publishes, and the gateway has no secret.
    /// `REALTIME__KEYS__MODE`, default `shared`.
    pub mode: KeyMode,
    /// URL of the issuer's published keys, when it is not `/.well-known/jwks.json` of the issuer.
    /// `REALTIME__KEYS__JWKS_URI`, default ``.
    pub jwks_uri: String,
}

impl Default for KeySettings {
    fn default() -> Self {
        Self {
            mode: KeyMode::Shared,
            jwks_uri: String::new(),
        }
    }
}

/// Who can sign a token that is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyMode {
    /// Whoever has the secret: both services.
    Shared,
    /// The issuer alone.
    Asymmetric,
}
