//! Where the operator listens.

use std::{fmt, net::SocketAddr, str::FromStr};

use serde::{Deserialize, Serialize, Serializer};

use super::parse::{self, TextValue};

/// What is for the operator and not for visitors.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdminSettings {
    /// Address and port of a listener for the operator, with `/metrics` and `/health/…` for every
    /// client that reaches it, or `off`. `AUTH__ADMIN__LISTEN`, default `off`.
    #[serde(deserialize_with = "parse::from_text")]
    pub listen: AdminListen,
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
