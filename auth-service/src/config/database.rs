//! Where the accounts are.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use serde::{Serialize, Serializer};

use super::parse::TextValue;

const SQLITE_SCHEME: &str = "sqlite://";
const POSTGRES_SCHEMES: [&str; 2] = ["postgres://", "postgresql://"];

/// Text in place of a password.
const REDACTED: &str = "[redacted]";

/// The URL of an SQLite file or of a PostgreSQL database. It is shown without its password.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl(String);

impl DatabaseUrl {
    /// The URL of an SQLite file.
    #[must_use]
    pub fn sqlite(path: &Path) -> Self {
        Self(format!("{SQLITE_SCHEME}{}", path.display()))
    }

    /// The SQLite file, or `None` for PostgreSQL. There is none in memory: two connections would
    /// see two databases.
    pub(crate) fn sqlite_path(&self) -> Option<PathBuf> {
        self.0.strip_prefix(SQLITE_SCHEME).map(PathBuf::from)
    }

    /// The URL with its password, for the one who connects.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl FromStr for DatabaseUrl {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let is_file = text.strip_prefix(SQLITE_SCHEME).is_some_and(|path| {
            !path.is_empty() && !path.starts_with(':') && !path.contains(['?', '\0'])
        });
        let is_server = POSTGRES_SCHEMES.iter().any(|scheme| {
            let rest = text.strip_prefix(scheme);
            rest.is_some_and(|rest| !rest.is_empty())
                && sqlx::postgres::PgConnectOptions::from_str(text).is_ok()
        });
        (is_file || is_server)
            .then(|| Self(text.to_owned()))
            .ok_or(())
    }
}

impl TextValue for DatabaseUrl {
    const RULE: &str =
        "must be sqlite://PATH, or postgres://USER:PASSWORD@HOST/NAME for PostgreSQL";
}

/// The URL without what stands between the user's name and the host, and without the parameters,
/// which may hold a password too.
impl fmt::Display for DatabaseUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.sqlite_path().is_some() {
            return formatter.write_str(&self.0);
        }
        let (url, parameters) = match self.0.split_once('?') {
            Some((url, _)) => (url, format!("?{REDACTED}")),
            None => (self.0.as_str(), String::new()),
        };
        let (scheme, rest) = url.split_once("://").unwrap_or_default();
        match rest.rsplit_once('@') {
            Some((who, place)) if who.contains(':') => {
                let user = who.split(':').next().unwrap_or_default();
                write!(
                    formatter,
                    "{scheme}://{user}:{REDACTED}@{place}{parameters}"
                )
            }
            _ => write!(formatter, "{scheme}://{rest}{parameters}"),
        }
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "DatabaseUrl({self})")
    }
}

impl Serialize for DatabaseUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_is_a_file_or_a_server() {
        let path = |text: &str| {
            text.parse::<DatabaseUrl>()
                .ok()
                .map(|url| url.sqlite_path())
        };
        assert_eq!(path("sqlite://a.db"), Some(Some("a.db".into())));
        assert_eq!(path("sqlite:///v/a.db"), Some(Some("/v/a.db".into())));
        assert_eq!(path("postgres://u:p@host:5432/db"), Some(None));
        for bad in [
            "",
            "a.db",
            "sqlite://",
            "sqlite://:memory:",
            "sqlite://a?b",
            "mysql://u@h/d",
            "postgres://",
        ] {
            assert_eq!(path(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_password_is_not_shown() {
        for (text, shown) in [
            ("sqlite://a:b@c.db", "sqlite://a:b@c.db"),
            ("postgres://u:p4ss@h/d", "postgres://u:[redacted]@h/d"),
            ("postgres://u:p@ss@h/d", "postgres://u:[redacted]@h/d"),
            ("postgres://u@h/d", "postgres://u@h/d"),
            ("postgres://h/d?password=p", "postgres://h/d?[redacted]"),
        ] {
            let url = DatabaseUrl(text.to_owned());
            assert_eq!(url.to_string(), shown);
            assert_eq!(format!("{url:?}"), format!("DatabaseUrl({shown})"));
        }
    }
}
