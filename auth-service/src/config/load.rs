//! Where the settings come from, and how it is said that they are wrong: the setting by its name,
//! and never the value, which may have been meant for another one.

use std::{collections::HashMap, env, fs, path::Path};

use config::{Environment, File, FileFormat};
use shared_claims::secret::{SecretError, Secrets};

use super::{Config, Reload, Settings, secret_file};

/// Prefix of the service's variables.
const VARIABLE_PREFIX: &str = "AUTH";

/// Separator of the parts of a variable's name.
const VARIABLE_SEPARATOR: &str = "__";

/// Reason that the configuration cannot be used: one line, without the value.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A setting has a value that it cannot have.
    #[error("{variable} ({key}): {rule}")]
    Value {
        /// The setting, as a file has it.
        key: String,
        /// The setting, as the environment has it.
        variable: String,
        /// Rule that the value breaks.
        rule: String,
    },
    /// The file cannot be read.
    #[error("--config {path}: {reason}")]
    File {
        /// The file that was named.
        path: String,
        /// Problem of the text.
        reason: String,
    },
    /// Something is set that is no setting.
    #[error("{0}")]
    Unknown(String),
    /// There is no secret to sign with, or a weak one.
    #[error(transparent)]
    Secret(#[from] SecretError),
}

impl ConfigError {
    pub(super) fn value(key: &str, rule: impl Into<String>) -> Self {
        let parts = key.split('.').map(str::to_ascii_uppercase);
        let variable = std::iter::once(VARIABLE_PREFIX.to_owned()).chain(parts);
        Self::Value {
            key: key.to_owned(),
            variable: variable.collect::<Vec<_>>().join(VARIABLE_SEPARATOR),
            rule: rule.into(),
        }
    }
}

impl Config {
    /// Reads everything: the settings as [`Settings::load`] does, and the secrets.
    ///
    /// # Errors
    ///
    /// One line that names what is wrong.
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        Self::with_secrets(Settings::load(file)?)
    }

    /// Reads the secrets that go with `settings`.
    ///
    /// # Errors
    ///
    /// One line that names what is wrong.
    pub fn with_secrets(settings: Settings) -> Result<Self, ConfigError> {
        Ok(Self {
            settings,
            secrets: load_secrets()?,
            reload: Reload::by(load_secrets),
        })
    }
}

fn load_secrets() -> Result<Secrets, ConfigError> {
    Ok(Secrets::load(|name| env::var_os(name), secret_file::read)?)
}

impl Settings {
    /// Reads the settings from `file` and the environment.
    ///
    /// # Errors
    ///
    /// One line that names the setting and what is wrong with it.
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        let text = file.map(|path| {
            fs::read_to_string(path).map_err(|error| file_error(path, &error.kind().to_string()))
        });
        let variables = env::vars_os().map(|(name, value)| {
            let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
            (text(name), text(value))
        });
        Self::read(file.zip(text.transpose()?.as_deref()), variables.collect())
    }

    /// Puts `file`, a path and its text, and `variables` over the defaults.
    fn read(
        file: Option<(&Path, &str)>,
        variables: HashMap<String, String>,
    ) -> Result<Self, ConfigError> {
        let mut sources = config::Config::builder();
        if let Some((path, text)) = file {
            let source = config::Config::builder()
                .add_source(File::from_str(text, FileFormat::Toml))
                .build()
                .map_err(|error| file_error(path, &first_and_last_line(&error.to_string())))?;
            sources = sources.add_source(source);
        }
        // `try_parsing` stays off: it would make a number of every text that looks like one.
        let environment = Environment::with_prefix(VARIABLE_PREFIX)
            .prefix_separator(VARIABLE_SEPARATOR)
            .separator(VARIABLE_SEPARATOR)
            .source(Some(variables));
        let settings: Self = sources
            .add_source(environment)
            .build()
            .and_then(config::Config::try_deserialize)
            .map_err(|error| describe(&error, None))?;
        settings.check()?;
        Ok(settings)
    }
}

fn file_error(path: &Path, reason: &str) -> ConfigError {
    ConfigError::File {
        path: path.display().to_string(),
        reason: reason.to_owned(),
    }
}

/// Where the syntax is broken, and how; between the two the parser shows the line itself, with
/// whatever value stands in it.
fn first_and_last_line(text: &str) -> String {
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    let first = lines.next().unwrap_or_default().to_owned();
    match lines.next_back() {
        Some(last) => format!("{first}: {}", last.trim()),
        None => first,
    }
}

/// Names the setting that `error` is about, and leaves out what was found there.
fn describe(error: &config::ConfigError, key: Option<&str>) -> ConfigError {
    match error {
        config::ConfigError::Type {
            expected, key: own, ..
        } => {
            let key = own.as_deref().or(key).unwrap_or("settings");
            ConfigError::value(key, format!("must be {expected}"))
        }
        config::ConfigError::At {
            error, key: own, ..
        } => describe(error, own.as_deref().or(key)),
        config::ConfigError::Message(text) if !text.starts_with("unknown field") => {
            // Whatever stands before may be what was found.
            let rule = match text.rsplit_once(", expected ") {
                Some((_, expected)) if expected.starts_with("struct ") => {
                    "must be a section: what is in it is set by names of their own".to_owned()
                }
                Some((_, expected)) => format!("must be {expected}"),
                None => text.clone(),
            };
            ConfigError::value(key.unwrap_or("settings"), rule)
        }
        other => ConfigError::Unknown(match key {
            Some(key) => format!("settings under {key}: {other}"),
            None => format!("settings: {other}"),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(file: &str, variables: &[(&str, &str)]) -> Result<Settings, String> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Settings::read(
            Some((Path::new("auth.toml"), file)),
            variables.iter().map(owned).collect(),
        )
        .map_err(|error| error.to_string())
    }

    #[test]
    fn nothing_set_is_the_defaults() {
        assert_eq!(read("", &[]), Ok(Settings::default()));
    }

    #[test]
    fn a_variable_beats_the_file_and_the_file_beats_the_default() {
        let file = "listen = '127.0.0.1:1'\n[token]\nlifetime_secs = 60\nprofile = false\n";
        let variables = [
            ("AUTH__LISTEN", "[::1]:2"),
            ("AUTH__TOKEN__LIFETIME_SECS", "61"),
            ("AUTH__ORIGINS", "https://a.example, https://b.example"),
            ("AUTH__TOKEN__AUDIENCES", "https://api.example, shop"),
            ("AUTH__LOG_FORMAT", "json"),
            ("PATH", "/bin"),
        ];
        let settings = read(file, &variables).expect("settings");
        assert_eq!(settings.listen.to_string(), "[::1]:2");
        assert_eq!(settings.token.lifetime_secs, 61);
        assert!(!settings.token.profile);
        assert_eq!(settings.origins, ["https://a.example", "https://b.example"]);
        assert_eq!(settings.token.audiences, ["https://api.example", "shop"]);
        assert_eq!(settings.log_format, super::super::LogFormat::Json);
    }

    #[test]
    fn a_text_that_looks_like_a_number_stays_a_text() {
        let settings = read("", &[("AUTH__DATABASE_URL", "sqlite://00123")]).expect("settings");
        assert_eq!(settings.database_url.to_string(), "sqlite://00123");
    }

    #[test]
    fn what_is_no_setting_is_refused_by_name() {
        for (file, variables, name) in [
            ("colour = 1", &[][..], "`colour`"),
            ("secret = 'hidden'", &[], "`secret`"),
            ("[token]\ncolour = 1", &[], "`colour`"),
            ("", &[("AUTH__COLOUR", "hidden")], "`colour`"),
            ("", &[("AUTH__TOKEN__COLOUR", "hidden")], "`colour`"),
        ] {
            let error = read(file, variables).expect_err(name);
            assert!(error.contains(name), "{error}");
            assert!(
                !error.contains("hidden") && !error.contains('\n'),
                "{error}"
            );
        }
    }

    #[test]
    fn a_wrong_value_is_named_by_its_variable_and_not_repeated() {
        for (name, value) in [
            ("AUTH__LISTEN", "hidden"),
            ("AUTH__MAIL", "smtp://hidden@mail.example.org"),
            ("AUTH__EVENTS", "hidden, expected"),
            ("AUTH__TOKEN__CLAIMS_WEBHOOK", "https://hidden.example.org"),
            ("AUTH__PUBLIC_URL", "http://hidden/"),
            ("AUTH__PUBLIC_URL", "https://hidden:443"),
            ("AUTH__PUBLIC_URL", "capacitor://hidden"),
            ("AUTH__PUBLIC_URL", "https://*.hidden.example"),
            ("AUTH__FORWARDED_HEADER", "hidden"),
            ("AUTH__KEEP_ALIVE_SECS", "0"),
            ("AUTH__DRAIN_SECS", "301"),
            ("AUTH__SESSION__RETRY_SECS", "301"),
            ("AUTH__LIMITS__SITE_FACTOR", "0"),
            ("AUTH__DATABASE_URL", "mysql://hidden"),
            ("AUTH__ORIGINS", "*"),
            ("AUTH__WORKERS", "hidden"),
            ("AUTH__LOG_FORMAT", "hidden"),
            ("AUTH__REGISTRATION", "hidden"),
            ("AUTH__KEYS__MODE", "hidden"),
            ("AUTH__TRUSTED_PROXIES", "hidden"),
            ("AUTH__REVOCATION__GATEWAYS", "hidden"),
            ("AUTH__ADMIN__LISTEN", "hidden"),
            ("AUTH__TOKEN__LIFETIME_SECS", "86401"),
            ("AUTH__TOKEN__LIFETIME_SECS", "0"),
            ("AUTH__TOKEN__PROFILE", "hidden"),
            ("AUTH__TOKEN__AUDIENCES", "latchkey-api"),
            ("AUTH__TOKEN__AUDIENCES", "https://api.example.org,hid den"),
            ("AUTH__PASSWORD__QUEUE", "0"),
            ("AUTH__LOGIN__BODY_LIMIT_BYTES", "-1"),
        ] {
            let error = read("", &[(name, value)]).expect_err(name);
            assert!(error.starts_with(name), "{name}: {error}");
            let is_told = error.contains("must be ") || error.contains("only https://*.HOST");
            assert!(is_told, "{name}: what is allowed? {error}");
            assert!(
                !error.contains("hidden") && !error.contains('\n'),
                "{error}"
            );
        }
    }

    #[test]
    fn an_origin_that_no_browser_sends_is_refused_with_the_right_spelling() {
        let origins = |list| read("", &[("AUTH__ORIGINS", list)]);
        let good = "capacitor://localhost,https://*.example.org,tauri://localhost";
        assert_eq!(origins(good).expect("settings").origins.len(), 3);
        let error = origins("https://a.example,https://b.example:443").expect_err("a port");
        assert!(error.ends_with("origin as https://b.example"), "{error}");
    }

    #[test]
    fn broken_syntax_is_one_line_that_says_where() {
        let error = read("listen = '127.0.0.1:1'\nsecret = hidden\n", &[]).expect_err("syntax");
        assert!(error.starts_with("--config auth.toml: "), "{error}");
        assert!(error.contains("line 2"), "{error}");
        assert!(
            !error.contains("hidden") && !error.contains('\n'),
            "{error}"
        );
    }
}
