//! What a test wants to be different about its stack.

use realtime_service::{
    App,
    config::{Config, KeySource},
};
use serde_json::{Value, json};

use crate::tls::{Certificate, Root};

/// How the services run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// As two tasks of the test, on its runtime.
    InProcess,
    /// As the binaries that `cargo build --workspace` makes.
    Binaries,
}

impl Mode {
    /// What `E2E_STACK` asks for: `binaries`, or in-process when it is not set.
    ///
    /// # Panics
    ///
    /// When it is set to something else.
    #[must_use]
    pub fn from_environment() -> Self {
        match std::env::var("E2E_STACK").as_deref() {
            Err(_) | Ok("" | "in-process") => Self::InProcess,
            Ok("binaries") => Self::Binaries,
            Ok(other) => panic!("E2E_STACK={other}: must be `binaries` or `in-process`"),
        }
    }
}

/// What makes an application of its own around the gateway.
pub type NewApp = fn(Config, KeySource) -> anyhow::Result<App>;

/// A setting of a service by its path in the TOML file, and its value.
pub(crate) type Setting = (&'static str, Value);

/// Settings of a stack. Paths are those of the TOML file, such as `limits.write_stall_secs`, and
/// become fields in-process and variables for the binaries.
#[derive(Clone, Debug)]
pub struct Options {
    pub(crate) mode: Mode,
    pub(crate) auth: Vec<Setting>,
    pub(crate) gateway: Vec<Setting>,
    pub(crate) log: Option<&'static str>,
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) root: Root,
    pub(crate) app: Option<NewApp>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            mode: Mode::from_environment(),
            auth: Vec::new(),
            gateway: carrier_from_environment(),
            log: None,
            environment: Vec::new(),
            root: Root::default(),
            app: None,
        }
    }
}

/// What `E2E_CARRIER` asks for: the carrier of Socket.IO 3 and 4, the gateway's default when it is not
/// set. The gateway refuses what is none.
fn carrier_from_environment() -> Vec<Setting> {
    let carrier = std::env::var("E2E_CARRIER").ok();
    let carrier = carrier.filter(|carrier| !carrier.is_empty());
    carrier
        .map(|carrier| ("carrier", json!(carrier)))
        .into_iter()
        .collect()
}

impl Options {
    /// Runs the services this way, whatever the environment says.
    #[must_use]
    pub fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// Lets tokens from `POST /login` live for `secs` seconds.
    #[must_use]
    pub fn token_lifetime_secs(self, secs: u64) -> Self {
        self.auth("token.lifetime_secs", secs)
    }

    /// Changes a setting of the auth-service.
    #[must_use]
    pub fn auth(mut self, path: &'static str, value: impl Into<Value>) -> Self {
        self.auth.push((path, value.into()));
        self
    }

    /// Changes a setting of the gateway.
    #[must_use]
    pub fn gateway(mut self, path: &'static str, value: impl Into<Value>) -> Self {
        self.gateway.push((path, value.into()));
        self
    }

    /// Lets the gateway speak TLS with this certificate, and its clients know it.
    #[must_use]
    pub fn tls(self, certificate: &Certificate) -> Self {
        let mut this = self
            .gateway("tls.cert_file", json!(certificate.cert_file()))
            .gateway("tls.key_file", json!(certificate.key_file()));
        this.root = certificate.root();
        this
    }

    /// Serves an application of its own instead of the gateway's rooms, in this process.
    #[must_use]
    pub fn app(mut self, app: NewApp) -> Self {
        self.app = Some(app);
        self.mode(Mode::InProcess)
    }

    /// Sets a variable that is no setting of ours, such as `LD_PRELOAD`, for both binaries.
    #[must_use]
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets `RUST_LOG` of the binaries.
    #[must_use]
    pub fn log(mut self, filter: &'static str) -> Self {
        self.log = Some(filter);
        self
    }
}

/// Puts `settings` into the JSON form of a configuration; each must be there already.
pub(crate) fn apply(mut config: Value, settings: &[Setting]) -> Value {
    for (path, value) in settings {
        let pointer = format!("/{}", path.replace('.', "/"));
        let place = config.pointer_mut(&pointer);
        *place.unwrap_or_else(|| panic!("{path}: there is no such setting")) = value.clone();
    }
    config
}

/// The environment variables that stand for `settings`.
pub(crate) fn variables(prefix: &str, settings: &[Setting]) -> Vec<(String, String)> {
    let variable = |(path, value): &Setting| {
        let name = path.to_uppercase().replace('.', "__");
        (format!("{prefix}__{name}"), text(value))
    };
    settings.iter().map(variable).collect()
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(text).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}
