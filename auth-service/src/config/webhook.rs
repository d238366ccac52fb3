//! The URL of a webhook.

use std::{fmt, str::FromStr};

use serde::{Serialize, Serializer};
use url::Url;

use super::parse::TextValue;

/// The URL of a webhook of the operator's, or none. Its user, password and query are shown by nothing.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct WebhookUrl(Option<Url>);

impl WebhookUrl {
    /// Whether there is one.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// The whole URL, for the one who connects; the empty text when there is none.
    pub(crate) fn expose(&self) -> &str {
        self.0.as_ref().map_or("", Url::as_str)
    }
}

impl FromStr for WebhookUrl {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        if text.is_empty() {
            return Ok(Self(None));
        }
        let url = Url::parse(text).map_err(|_| ())?;
        let is_web = matches!(url.scheme(), "http" | "https") && url.fragment().is_none();
        is_web.then_some(Self(Some(url))).ok_or(())
    }
}

impl TextValue for WebhookUrl {
    const RULE: &str = "must be an http or https URL";
}

impl fmt::Display for WebhookUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(url) = &self.0 else {
            return Ok(());
        };
        let query = url.query().map_or("", |_| "?[redacted]");
        write!(
            formatter,
            "{}{}{query}",
            url.origin().ascii_serialization(),
            url.path()
        )
    }
}

impl fmt::Debug for WebhookUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "WebhookUrl({self})")
    }
}

impl Serialize for WebhookUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_webhook_is_shown_without_what_may_be_secret() {
        for (text, shown) in [
            ("", ""),
            ("https://h.example/in", "https://h.example/in"),
            (
                "https://u:p@h.example:1/in?key=s",
                "https://h.example:1/in?[redacted]",
            ),
        ] {
            let url: WebhookUrl = text.parse().expect(text);
            assert_eq!((url.to_string().as_str(), url.expose()), (shown, text));
        }
        for bad in [
            "h.example",
            "ftp://h.example",
            "https://h.example/#f",
            "smtp://h",
        ] {
            assert_eq!(bad.parse::<WebhookUrl>(), Err(()), "{bad}");
        }
    }
}
