//! The origins of web pages (RFC 6454), as settings list them and as browsers send them.

use url::{Host, Url};

/// What stands for one label of a host.
const ANY_LABEL: &str = "*.";

/// An entry in a list of origins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginPattern(Pattern);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Pattern {
    /// An origin, byte for byte.
    Exact(String),
    /// Every host with one label more: `before` ends with `://`, `after` begins with a dot.
    OneLabel { before: String, after: String },
}

/// Why a text cannot be in a list of origins.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OriginError {
    /// The text is no origin at all.
    #[error(
        "{0:?} is no origin: write SCHEME://HOST or SCHEME://HOST:PORT, \
         or https://*.HOST for one label of any name"
    )]
    NoOrigin(String),
    /// Browsers write the origin in another way, so that this one would never match.
    #[error("{written:?} matches no page: browsers write this origin as {spelled}")]
    Spelling {
        /// The text.
        written: String,
        /// The origin as browsers write it.
        spelled: String,
    },
    /// A star stands elsewhere than for the first label of a domain.
    #[error(
        "{0:?} has a star in a place where it stands for nothing: only https://*.HOST and \
         http://*.HOST, for one label of a domain, are patterns"
    )]
    Star(String),
}

impl OriginPattern {
    /// Parses an origin of any scheme, such as `https://example.org:8443` or `capacitor://localhost`,
    /// or a pattern such as `https://*.example.org`.
    ///
    /// # Errors
    ///
    /// When browsers never send such an origin: with a default port, a path, capitals, or letters
    /// beyond ASCII. The error then names the right spelling.
    pub fn parse(text: &str) -> Result<Self, OriginError> {
        let Some(star) = text.find('*') else {
            return Ok(Self(Pattern::Exact(checked(text, text)?)));
        };
        let refuse = || OriginError::Star(text.to_owned());
        let before = &text[..star];
        let rest = text[star..].strip_prefix(ANY_LABEL).ok_or_else(refuse)?;
        let is_web = matches!(before, "https://" | "http://");
        if !is_web || rest.contains('*') {
            return Err(refuse());
        }
        let spelled = checked(&format!("{before}{rest}"), text)?;
        let host = Url::parse(&spelled).ok();
        let host = host.as_ref().and_then(Url::host);
        // A star over a whole top-level domain is nobody's own.
        let is_domain = |host: &Host<&str>| match host {
            Host::Domain(domain) => domain.contains('.') || *domain == "localhost",
            Host::Ipv4(_) | Host::Ipv6(_) => false,
        };
        host.filter(is_domain).ok_or_else(refuse)?;
        Ok(Self(Pattern::OneLabel {
            before: before.to_owned(),
            after: format!(".{rest}"),
        }))
    }

    /// Returns whether this is one origin over HTTP or HTTPS, and no pattern.
    #[must_use]
    pub fn is_web_origin(&self) -> bool {
        match &self.0 {
            Pattern::Exact(origin) => {
                origin.starts_with("https://") || origin.starts_with("http://")
            }
            Pattern::OneLabel { .. } => false,
        }
    }

    /// Returns whether a browser's `origin`, as its header has it, is this one.
    #[must_use]
    pub fn matches(&self, origin: &str) -> bool {
        match &self.0 {
            Pattern::Exact(own) => own == origin,
            Pattern::OneLabel { before, after } => origin
                .strip_prefix(before.as_str())
                .and_then(|rest| rest.strip_suffix(after.as_str()))
                .is_some_and(is_label),
        }
    }
}

/// A list of origins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OriginList(Vec<OriginPattern>);

impl OriginList {
    /// Parses each of the `texts`.
    ///
    /// # Errors
    ///
    /// The error of the first that is none.
    pub fn parse<T: AsRef<str>>(texts: &[T]) -> Result<Self, OriginError> {
        let parse = |text: &T| OriginPattern::parse(text.as_ref());
        texts.iter().map(parse).collect::<Result<_, _>>().map(Self)
    }

    /// Returns whether a browser's `origin` is on the list.
    #[must_use]
    pub fn contains(&self, origin: &str) -> bool {
        self.0.iter().any(|pattern| pattern.matches(origin))
    }
}

/// Returns the `origin` when browsers write it so. `written` is the text of the setting.
fn checked(origin: &str, written: &str) -> Result<String, OriginError> {
    let spelled = spelled(origin).ok_or_else(|| OriginError::NoOrigin(written.to_owned()))?;
    if spelled == origin {
        return Ok(spelled);
    }
    let spelled = match written == origin {
        true => spelled,
        // The star goes back to where it was.
        false => spelled.replacen("://", "://*.", 1),
    };
    Err(OriginError::Spelling {
        written: written.to_owned(),
        spelled,
    })
}

/// The origin of a URL as browsers write it; `None` when it has none.
fn spelled(text: &str) -> Option<String> {
    // A URL may have white space around it, which is cut off, and no origin has any.
    if text.contains(|character: char| character.is_whitespace() || character.is_control()) {
        return None;
    }
    let url = Url::parse(text).ok()?;
    if !url.username().is_empty() || url.password().is_some() {
        return None;
    }
    let origin = url.origin();
    if origin.is_tuple() {
        return Some(origin.ascii_serialization());
    }
    // Browsers give pages of an application's own scheme an origin too, where the standard has none.
    let host = url.host_str().filter(|host| !host.is_empty())?;
    let port = url.port().map(|port| format!(":{port}"));
    Some(format!(
        "{}://{host}{}",
        url.scheme(),
        port.unwrap_or_default()
    ))
}

fn is_label(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spelling(text: &str) -> Option<String> {
        match OriginPattern::parse(text) {
            Err(OriginError::Spelling { spelled, .. }) => Some(spelled),
            _ => None,
        }
    }

    #[test]
    fn an_origin_of_any_scheme_matches_itself_and_nothing_else() {
        let origins = [
            "http://localhost:9000",
            "https://example.org",
            "https://example.org:8443",
            "https://example.org:80",
            "http://example.org:443",
            "http://192.0.2.1",
            "http://[2001:db8::1]:8080",
            "https://xn--mnchen-3ya.example",
            "capacitor://localhost",
            "ionic://localhost",
            "tauri://localhost",
            "app://obsidian.md",
            "chrome-extension://abcdefghijklmnopabcdefghijklmnop",
            "moz-extension://0b5f9c1e-7f7e-4e0a-9d27-6f1f6d0c7f9e",
        ];
        for origin in origins {
            let pattern = OriginPattern::parse(origin).expect(origin);
            for other in origins {
                assert_eq!(pattern.matches(other), origin == other, "{origin} {other}");
            }
            assert!(!pattern.matches(&format!("{origin}/")), "{origin}");
            assert!(!pattern.matches(&origin.to_ascii_uppercase()), "{origin}");
        }
    }

    #[test]
    fn what_no_browser_sends_is_refused_with_the_right_spelling() {
        for (text, expected) in [
            ("https://x:443", "https://x"),
            ("http://x:80", "http://x"),
            ("https://Example.org", "https://example.org"),
            ("HTTPS://example.org", "https://example.org"),
            ("https://example.org/", "https://example.org"),
            ("https://example.org/path", "https://example.org"),
            ("https://example.org?query", "https://example.org"),
            ("https://example.org#fragment", "https://example.org"),
            (
                "https://m\u{fc}nchen.example",
                "https://xn--mnchen-3ya.example",
            ),
            ("http://0x7f.1", "http://127.0.0.1"),
            ("http://[2001:DB8:0::1]", "http://[2001:db8::1]"),
            ("https://example.org:08443", "https://example.org:8443"),
            ("capacitor://localhost/", "capacitor://localhost"),
            ("Capacitor://localhost", "capacitor://localhost"),
            ("https://*.example.org:443", "https://*.example.org"),
            ("https://*.Example.org", "https://*.example.org"),
        ] {
            assert_eq!(spelling(text).as_deref(), Some(expected), "{text}");
            assert!(OriginPattern::parse(expected).is_ok(), "{expected}");
        }
        let error = OriginPattern::parse("https://x:443").expect_err("a default port");
        let expected =
            r#""https://x:443" matches no page: browsers write this origin as https://x"#;
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn what_is_no_origin_is_refused() {
        for bad in [
            "",
            "null",
            "example.org",
            "localhost:8080",
            "//example.org",
            "file://",
            "data:text/html,x",
            "mailto:a@example.org",
            "https://",
            "https://user@example.org",
            "https://user:password@example.org",
            " https://example.org",
            "https://example.org\n",
            "https://exa mple.org",
            "https://example.org:65536",
        ] {
            let refused = OriginPattern::parse(bad);
            assert!(
                matches!(refused, Err(OriginError::NoOrigin(_))),
                "{bad:?}: {refused:?}"
            );
        }
    }

    #[test]
    fn a_star_stands_for_one_label_of_a_domain() {
        let pattern = OriginPattern::parse("https://*.example.org").expect("a pattern");
        for (origin, expected) in [
            ("https://a.example.org", true),
            ("https://a-1_x.example.org", true),
            ("https://example.org", false),
            ("https://.example.org", false),
            ("https://a.b.example.org", false),
            ("https://*.example.org", false),
            ("https://A.example.org", false),
            ("https://a@b.example.org", false),
            ("https://evil.com/.example.org", false),
            ("https://aexample.org", false),
            ("http://a.example.org", false),
            ("https://a.example.org:8443", false),
            ("https://a.example.org.evil.com", false),
        ] {
            assert_eq!(pattern.matches(origin), expected, "{origin}");
        }
        let pattern = OriginPattern::parse("http://*.localhost:9000").expect("a pattern");
        assert!(pattern.matches("http://a.localhost:9000"));
        assert!(!pattern.matches("http://a.localhost"));
        for bad in [
            "*",
            "https://*",
            "https://*.org",
            "https://*.192.0.2.1",
            "https://*.*.example.org",
            "https://a.*.example.org",
            "https://a*.example.org",
            "https://*example.org",
            "https://example.org:*",
            "capacitor://*.localhost",
        ] {
            let refused = OriginPattern::parse(bad);
            assert!(
                matches!(refused, Err(OriginError::Star(_))),
                "{bad}: {refused:?}"
            );
        }
    }

    #[test]
    fn a_list_has_what_one_of_its_entries_matches() {
        let list = ["https://example.org", "https://*.example.net"];
        let list = OriginList::parse(&list).expect("a list");
        assert!(list.contains("https://example.org"));
        assert!(list.contains("https://a.example.net"));
        assert!(!list.contains("https://example.net"));
        assert!(OriginList::parse(&["https://example.org", "*"]).is_err());
        assert!(!OriginList::default().contains(""));
    }

    #[test]
    fn a_web_origin_is_one_origin_of_http_or_https() {
        let is_web = |text: &str| OriginPattern::parse(text).expect(text).is_web_origin();
        assert!(is_web("https://example.org"));
        assert!(is_web("http://localhost:8080"));
        assert!(!is_web("capacitor://localhost"));
        assert!(!is_web("https://*.example.org"));
    }
}
