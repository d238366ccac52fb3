//! The operator's listener, and the bounds of an import.

use std::{fmt, net::SocketAddr, str::FromStr};

use serde::{Deserialize, Serialize, Serializer};

use super::{
    ConfigError, check,
    parse::{self, TextValue},
};

/// The operator's listener, which visitors do not reach.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdminSettings {
    /// Address and port of a listener for the operator, or `off`: with `/metrics` and `/health/…` for
    /// every client that reaches it, and the API for accounts, which wants a token.
    /// `AUTH__ADMIN__LISTEN`, default `off`.
    #[serde(deserialize_with = "parse::from_text")]
    pub listen: AdminListen,
    /// Maximum size of a dump that `POST /v1/users:import` takes, in bytes, 16384 to 1073741824. It is
    /// read line by line and never held as a whole. `AUTH__ADMIN__IMPORT_LIMIT_BYTES`, default
    /// 134217728.
    pub import_limit_bytes: u64,
}

impl Default for AdminSettings {
    fn default() -> Self {
        Self {
            listen: AdminListen::default(),
            import_limit_bytes: 128 * 1024 * 1024,
        }
    }
}

impl AdminSettings {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let limit = (16 * 1024..=1024 * 1024 * 1024).contains(&self.import_limit_bytes);
        let rule = "must be 16384 to 1073741824";
        check("admin.import_limit_bytes", limit, rule)
    }
}

/// An address, or none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AdminListen(pub Option<SocketAddr>);

impl FromStr for AdminListen {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "off" => Ok(Self(None)),
            text => text.parse().map(|address| Self(Some(address))).or(Err(())),
        }
    }
}

impl TextValue for AdminListen {
    const RULE: &str = "must be an IP address with a port, such as 127.0.0.1:8081, or off";
}

impl fmt::Display for AdminListen {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(address) => address.fmt(formatter),
            None => formatter.write_str("off"),
        }
    }
}

impl Serialize for AdminListen {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_an_address_or_off() {
        for text in ["off", "127.0.0.1:8081", "[::1]:8081"] {
            let listen: AdminListen = text.parse().expect(text);
            assert_eq!(listen.to_string(), text);
        }
        for bad in ["", "on", "8081", "localhost:8081"] {
            assert_eq!(bad.parse::<AdminListen>(), Err(()), "{bad}");
        }
        assert_eq!(AdminListen::default(), AdminListen(None));
    }
}
