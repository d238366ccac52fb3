//! Where the settings come from, and how it is said that they cannot be used.

use std::path::Path;

use config::{Environment, File, FileFormat};

use super::{Config, ConfigError};

impl Config {
    /// Reads the settings: the defaults, then `file`, then the environment.
    ///
    /// # Errors
    ///
    /// When something does not parse, is unknown, or cannot work.
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        let text = file.map(std::fs::read_to_string).transpose();
        let text = text.map_err(|error| ConfigError::File(error.kind().to_string()))?;
        let mut builder = config::Config::builder();
        if let Some(text) = text {
            let source = File::from_str(&text, FileFormat::Toml);
            let source = config::Config::builder().add_source(source).build();
            let source = source.map_err(|error| ConfigError::File(without_the_line(&error)))?;
            builder = builder.add_source(source);
        }
        let environment = Environment::with_prefix("REALTIME")
            .prefix_separator("__")
            .separator("__")
            .try_parsing(true)
            .list_separator(",")
            .with_list_parse_key("origins")
            .with_list_parse_key("credentials")
            .with_list_parse_key("trusted_proxies")
            .with_list_parse_key("backend_deny_networks");
        let config: Self = builder
            .add_source(environment)
            .build()
            .and_then(config::Config::try_deserialize)
            .map_err(|error| describe(&error, None))?;
        config.check()?;
        Ok(config)
    }
}

/// Where the syntax is broken, and how; in between the parser shows the line itself, with whatever
/// stands in it.
fn without_the_line(error: &config::ConfigError) -> String {
    let text = error.to_string();
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or_default();
    lines
        .next_back()
        .map_or_else(|| first.to_owned(), |last| format!("{first}: {last}"))
}

/// Names the setting and what it takes, and leaves out what was found there.
fn describe(error: &config::ConfigError, key: Option<&str>) -> ConfigError {
    use config::ConfigError as Error;

    let setting = |own: Option<&str>| own.or(key).unwrap_or("settings").to_owned();
    match error {
        Error::Type {
            expected, key: own, ..
        } => ConfigError::Invalid {
            setting: setting(own.as_deref()),
            problem: format!("must be {expected}"),
        },
        Error::At {
            error, key: own, ..
        } => describe(error, own.as_deref().or(key)),
        Error::Message(text) if text.starts_with("unknown field") => {
            ConfigError::Unknown(text.clone())
        }
        Error::Message(text) if text.starts_with("missing field") => ConfigError::Invalid {
            setting: setting(None),
            problem: text.clone(),
        },
        Error::Message(text) => ConfigError::Invalid {
            setting: setting(None),
            problem: match text.rsplit_once(", expected ") {
                Some((_, expected)) if expected.starts_with("struct ") => {
                    "must be a section: what is in it is set by names of their own".to_owned()
                }
                Some((_, expected)) => format!("must be {expected}"),
                None => rule_of(&setting(None)).to_owned(),
            },
        },
        _ => ConfigError::Invalid {
            setting: setting(None),
            problem: rule_of(&setting(None)).to_owned(),
        },
    }
}

/// Returns the values that a setting can have, for those whose parser does not name them.
fn rule_of(setting: &str) -> &'static str {
    let name = setting.split('[').next().unwrap_or_default();
    match (name, setting.contains("actions[")) {
        ("listen", _) => "must be an IP address with a port, such as 127.0.0.1:9000",
        ("carrier", _) => "must be engine or socketioxide",
        ("cluster.while_away", _) => "must be refuse or local",
        ("connect.on_failure", _) => "must be refuse or admit",
        ("namespaces", _) if setting.ends_with("on_failure") => "must be refuse or admit",
        ("rooms" | "namespaces", _) if setting.ends_with("authorize") => "must be backend",
        ("credentials", _) => "must be some of auth, header, query and cookie",
        ("auth.session_binding", _) => "must be credentials or address",
        ("forwarded_header", _) => "must be x-forwarded-for or forwarded",
        ("issuers", _) if setting.contains("algorithms") => {
            "must be some of ES256, ES384, EdDSA, PS256, RS256, RS384 and RS512"
        }
        ("events" | "namespaces", _) if setting.ends_with("mode") => "must be call or notify",
        ("lifecycle" | "namespaces", _) if setting.contains("types[") => {
            "must be some of connection.opened, connection.closed, room.occupied, room.vacated, \
             message.published and session.revoked"
        }
        ("keys.mode", _) => "must be shared or asymmetric",
        ("log_format", _) => "must be text or json",
        (_, true) => "must be some of sub, pub, hst and prs",
        _ => "is not a value that this setting can have; docs/configuration.md describes it",
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn error_of(toml: &str) -> String {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(toml.as_bytes()).expect("a line");
        Config::load(Some(file.path())).expect_err(toml).to_string()
    }

    #[test]
    fn what_cannot_be_used_is_named_and_not_repeated() {
        for (toml, expected) in [
            ("secret = 'hunter2'", "`secret`"),
            ("[limits]\nsessions = 'hunter2'", "limits.sessions"),
            ("log_format = 'hunter2'", "log_format"),
            ("credentials = ['hunter2']", "credentials"),
            ("listen = 'hunter2'", "listen"),
            ("origins = ['http://x:hunter2@y']", "origins"),
            ("issuer = 'hunter2'", "issuer"),
            ("trusted_proxies = ['hunter2']", "trusted_proxies"),
            ("[admin]\nlisten = 'hunter2'", "admin.listen"),
            ("[tls]\ncert_file = 'hunter2'", "tls.key_file"),
            ("[limits]\nevents_burst = 0", "limits.events_burst"),
            ("secret = hunter2", "line 1"),
            ("[limits]\nsessions = 0", "limits.sessions"),
            (
                "[limits]\nunauthenticated_secs = 100000000",
                "limits.unauthenticated_secs",
            ),
        ] {
            let error = error_of(toml);
            assert!(error.contains(expected), "{toml}: {error}");
            assert!(
                !error.contains("hunter2") && !error.contains('\n'),
                "{toml}: {error}"
            );
        }
    }

    #[test]
    fn an_origin_that_no_browser_sends_is_refused_with_the_one_that_it_sends() {
        for (origin, spelled) in [
            ("https://app.example:443", "https://app.example"),
            ("https://App.example", "https://app.example"),
            ("https://app.example/", "https://app.example"),
        ] {
            let error = error_of(&format!("origins = ['{origin}']"));
            assert!(error.contains("origins"), "{error}");
            assert!(error.ends_with(spelled), "{error}");
        }
        let file = tempfile::NamedTempFile::new().expect("a file");
        let listed = "origins = ['capacitor://localhost', 'https://*.app.example']";
        std::fs::write(file.path(), listed).expect("written");
        assert!(Config::load(Some(file.path())).is_ok());
    }

    #[test]
    fn a_wrong_value_is_told_which_values_are_right_and_they_are() {
        let rooms = |action: &str| format!("[[rooms]]\nrooms = ['a']\nactions = ['{action}']");
        let text = |name: &str, value: &str| match name.split_once('.') {
            Some((table, key)) => format!("[{table}]\n{key} = '{value}'"),
            None if name == "credentials" => format!("{name} = ['{value}']"),
            None if name == "actions" => rooms(value),
            None => format!("{name} = '{value}'"),
        };
        for (name, words) in [
            ("listen", &["127.0.0.1:9000"][..]),
            ("carrier", &["engine", "socketioxide"]),
            ("cluster.while_away", &["refuse", "local"]),
            ("connect.on_failure", &["refuse", "admit"]),
            ("credentials", &["auth", "header", "query"]),
            ("keys.mode", &["shared", "asymmetric"]),
            ("auth.session_binding", &["credentials", "address"]),
            ("forwarded_header", &["x-forwarded-for", "forwarded"]),
            ("log_format", &["text", "json"]),
            ("actions", &["sub", "pub", "hst", "prs"]),
        ] {
            let error = error_of(&text(name, "hunter2"));
            for word in words {
                assert!(error.contains(word), "{name}: {error}");
                let mut file = tempfile::NamedTempFile::new().expect("a file");
                file.write_all(text(name, word).as_bytes()).expect("a line");
                assert!(Config::load(Some(file.path())).is_ok(), "{name} = {word}");
            }
        }
    }

    #[test]
    fn a_file_that_says_nothing_is_fine() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        assert!(Config::load(Some(file.path())).is_ok());
    }
}
