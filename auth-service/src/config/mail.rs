//! Delivery of mail.

use std::{fmt, path::PathBuf, str::FromStr};

use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize, Serializer};
use url::Url;

use super::{
    ConfigError, check,
    parse::{self, TextValue},
    webhook::WebhookUrl,
};
use crate::credentials::email::Email;

/// Stands in place of a password.
const REDACTED: &str = "[redacted]";

/// The way by which mail is sent. Without `mail.url` and `mail.webhook` the service sends none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MailSettings {
    /// The mail server: `smtp://USER:PASSWORD@HOST:PORT` (port 587 by default) or `smtps://…` with TLS
    /// from the start (465), without `USER:PASSWORD@` if it wants no login. Characters such as `@` are
    /// percent-encoded in the user and the password. The password is shown by nothing. Empty sends no
    /// mail by SMTP. `AUTH__MAIL__URL`, default ``.
    #[serde(deserialize_with = "parse::from_text")]
    pub url: MailUrl,
    /// File with the password of `mail.url`, in place of one in the URL. It is read for each mail.
    /// `AUTH__MAIL__PASSWORD_FILE`, default ``.
    pub password_file: PathBuf,
    /// TLS of `smtp://`: `required`, or `off` for a server on this machine or a private network. A login
    /// needs `required`. `AUTH__MAIL__STARTTLS`, default `required`.
    #[serde(deserialize_with = "parse::from_text")]
    pub starttls: StartTls,
    /// PEM file with a further certificate authority for the mail server. `AUTH__MAIL__CA_FILE`,
    /// default ``.
    pub ca_file: PathBuf,
    /// The URL of a service of yours that sends the mail, in place of `mail.url`: each mail is posted to
    /// it as JSON, signed after Standard Webhooks. `AUTH__MAIL__WEBHOOK`, default ``.
    #[serde(deserialize_with = "parse::from_text")]
    pub webhook: WebhookUrl,
    /// File with the secrets that sign for `mail.webhook`: `whsec_` and base64, one a line, two at most.
    /// It is read for each mail. `AUTH__MAIL__WEBHOOK_SECRET_FILE`, default ``.
    pub webhook_secret_file: PathBuf,
    /// The sender: `alice@example.org` or `Name <alice@example.org>`. `AUTH__MAIL__FROM`, default ``.
    pub from: String,
    /// Directory with templates that replace the built-in ones. `AUTH__MAIL__TEMPLATES`, default ``.
    pub templates: PathBuf,
    /// Maximum number of mails that wait for the server; whoever asks for one more is answered 503. One account
    /// has a sixteenth of it, at least two mails, and notices leave half of it to links.
    /// `AUTH__MAIL__QUEUE`, default 10000.
    pub queue: u32,
}

impl Default for MailSettings {
    fn default() -> Self {
        Self {
            url: MailUrl::default(),
            password_file: PathBuf::new(),
            starttls: StartTls::Required,
            ca_file: PathBuf::new(),
            webhook: WebhookUrl::default(),
            webhook_secret_file: PathBuf::new(),
            from: String::new(),
            templates: PathBuf::new(),
            queue: 10_000,
        }
    }
}

impl MailSettings {
    /// Whether the service sends mail.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.url.get().is_some() || self.webhook.is_on()
    }

    /// Returns the maximum number of mails that wait; `None` when no mail is sent.
    pub(crate) fn waiting(&self) -> Option<i64> {
        self.is_on().then_some(self.queue.into())
    }

    /// Checks the settings. `app_url` is needed for the links.
    pub(super) fn check(&self, app_url: &str) -> Result<(), ConfigError> {
        let is_url = |url: &Url| {
            matches!(url.scheme(), "http" | "https")
                && url.has_host()
                && url.username().is_empty()
                && url.password().is_none()
                && url.query().is_none()
                && url.fragment().is_none()
        };
        let is_app_url = Url::parse(app_url).is_ok_and(|url| is_url(&url));
        let rule = "must be an http or https URL without a query or a fragment, such as \
                    https://app.example.org/";
        check("app_url", app_url.is_empty() || is_app_url, rule)?;
        let queue = (1..=1_000_000).contains(&self.queue);
        check("mail.queue", queue, "must be 1 to 1000000")?;
        let both = self.url.get().is_some() && self.webhook.is_on();
        check("mail.webhook", !both, "must not be set beside mail.url")?;
        if !self.is_on() {
            return Ok(());
        }
        let rule = "must be set when mail is sent: links point to it";
        check("app_url", !app_url.is_empty(), rule)?;
        let rule = "must be alice@example.org or Name <alice@example.org>";
        check("mail.from", is_sender(&self.from), rule)?;
        let has_secret = !self.webhook_secret_file.as_os_str().is_empty();
        let rule = "must be set with mail.webhook, and only with it";
        check(
            "mail.webhook_secret_file",
            has_secret == self.webhook.is_on(),
            rule,
        )?;
        self.check_login()
    }

    fn check_login(&self) -> Result<(), ConfigError> {
        let has_file = !self.password_file.as_os_str().is_empty();
        let user = self.url.get().and_then(|url| url.user.as_ref());
        let in_url = self.url.get().is_some_and(|url| url.password.is_some());
        let rule = "needs a USER in mail.url, and no password there";
        check(
            "mail.password_file",
            !has_file || (user.is_some() && !in_url),
            rule,
        )?;
        let rule = "names a USER without a password; set mail.password_file";
        check("mail.url", user.is_none() || in_url || has_file, rule)?;
        let is_open =
            self.url.get().is_some_and(|url| !url.is_tls) && self.starttls == StartTls::Off;
        let rule = "must be required when mail.url names a USER";
        check("mail.starttls", !(is_open && user.is_some()), rule)
    }
}

/// Whether `text` is one address, with a display name or without.
fn is_sender(text: &str) -> bool {
    let mailbox = text.parse::<lettre::message::Mailbox>();
    mailbox.is_ok_and(|mailbox| Email::parse(mailbox.email.as_ref()).is_ok())
}

/// TLS of a connection that begins without.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StartTls {
    /// No mail is sent without it.
    Required,
    /// Everything is sent in the clear.
    Off,
}

impl FromStr for StartTls {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "required" => Ok(Self::Required),
            "off" => Ok(Self::Off),
            _ => Err(()),
        }
    }
}

impl TextValue for StartTls {
    const RULE: &str = "must be required or off";
}

/// A mail server.
#[derive(Clone, PartialEq, Eq)]
pub struct SmtpUrl {
    /// Whether TLS comes first.
    pub is_tls: bool,
    /// The host's name or address.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The user to log in as.
    pub user: Option<String>,
    /// The password, unless a file holds it.
    pub password: Option<String>,
}

/// The URL of a mail server, or none. It is shown without its password.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct MailUrl(Option<SmtpUrl>);

impl MailUrl {
    /// The server.
    #[must_use]
    pub fn get(&self) -> Option<&SmtpUrl> {
        self.0.as_ref()
    }
}

impl FromStr for MailUrl {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        if text.is_empty() {
            return Ok(Self(None));
        }
        let url = Url::parse(text).map_err(|_| ())?;
        let (is_tls, port) = match url.scheme() {
            "smtp" => (false, 587),
            "smtps" => (true, 465),
            _ => return Err(()),
        };
        let is_plain =
            matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none();
        let host = url.host_str().filter(|host| is_plain && !host.is_empty());
        let decode = |text: &str| {
            let decoded = percent_decode_str(text).decode_utf8();
            decoded.map(std::borrow::Cow::into_owned).map_err(|_| ())
        };
        let user = Some(url.username()).filter(|user| !user.is_empty());
        if user.is_none() && url.password().is_some() {
            return Err(());
        }
        Ok(Self(Some(SmtpUrl {
            is_tls,
            host: host.ok_or(())?.trim_matches(['[', ']']).to_owned(),
            port: url.port().unwrap_or(port),
            user: user.map(decode).transpose()?,
            password: url.password().map(decode).transpose()?,
        })))
    }
}

impl TextValue for MailUrl {
    const RULE: &str = "must be smtp://USER:PASSWORD@HOST:PORT or smtps://USER:PASSWORD@HOST:PORT";
}

impl fmt::Display for MailUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(url) = &self.0 else {
            return Ok(());
        };
        let scheme = if url.is_tls { "smtps" } else { "smtp" };
        let user = match (&url.user, &url.password) {
            (Some(user), Some(_)) => format!("{user}:{REDACTED}@"),
            (Some(user), None) => format!("{user}@"),
            (None, _) => String::new(),
        };
        write!(formatter, "{scheme}://{user}{}:{}", url.host, url.port)
    }
}

impl fmt::Debug for MailUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "MailUrl({self})")
    }
}

impl Serialize for MailUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mail_server_has_its_port_by_its_scheme_and_hides_its_password() {
        for (text, shown) in [
            ("", ""),
            ("smtp://mail.example.org", "smtp://mail.example.org:587"),
            ("smtps://mail.example.org/", "smtps://mail.example.org:465"),
            ("smtp://127.0.0.1:1025", "smtp://127.0.0.1:1025"),
            ("smtp://a%40b.c:p%3Aw@h:25", "smtp://a@b.c:[redacted]@h:25"),
            ("smtp://user@h", "smtp://user@h:587"),
        ] {
            let url: MailUrl = text.parse().expect(text);
            assert_eq!(url.to_string(), shown);
            assert_eq!(format!("{url:?}"), format!("MailUrl({shown})"));
        }
        let url: MailUrl = "smtp://a%40b.c:p%3Aw@h:25".parse().expect("a URL");
        let server = url.get().expect("a server");
        assert_eq!(server.user.as_deref(), Some("a@b.c"));
        assert_eq!(server.password.as_deref(), Some("p:w"));
        for bad in [
            "mail.example.org",
            "http://h",
            "smtp://",
            "smtp://h/path",
            "smtp://h?tls=none",
            "smtp://h#f",
            "smtp://:p@h",
            "smtp://h:99999",
        ] {
            assert_eq!(bad.parse::<MailUrl>(), Err(()), "{bad}");
        }
    }

    const APP: &str = "https://app.example.org/";

    fn good() -> MailSettings {
        MailSettings {
            url: "smtp://h".parse().expect("a URL"),
            from: "Latchkey <noreply@example.org>".to_owned(),
            ..MailSettings::default()
        }
    }

    /// The variable that is refused, without its prefix.
    fn refused(settings: &MailSettings, app_url: &str) -> Option<String> {
        let error = settings.check(app_url).err()?.to_string();
        let variable = error.split(' ').next().expect("a variable");
        variable.strip_prefix("AUTH__").map(str::to_owned)
    }

    fn assert_refused(settings: &MailSettings, variable: &str) {
        assert_eq!(refused(settings, APP).as_deref(), Some(variable));
    }

    fn assert_fine(settings: &MailSettings) {
        assert_eq!(refused(settings, APP), None);
    }

    #[test]
    fn mail_needs_a_page_for_its_links_and_a_sender() {
        assert_eq!(refused(&MailSettings::default(), ""), None);
        assert_fine(&good());
        for bad in [
            "",
            "ftp://a",
            "https://a/?b",
            "https://a/#b",
            "https://u@a/",
            "/reset",
        ] {
            assert_eq!(refused(&good(), bad).as_deref(), Some("APP_URL"), "{bad}");
        }
        for bad in [
            "",
            "no address",
            "a@b.example\r\nBcc: c@d.example",
            "a@localhost",
        ] {
            let settings = MailSettings {
                from: bad.to_owned(),
                ..good()
            };
            assert_refused(&settings, "MAIL__FROM");
        }
    }

    #[test]
    fn a_login_needs_a_password_and_tls() {
        let with = |url: &str, starttls| MailSettings {
            url: url.parse().expect("a URL"),
            starttls,
            ..good()
        };
        assert_fine(&with("smtp://u:p@h", StartTls::Required));
        assert_refused(&with("smtp://u@h", StartTls::Required), "MAIL__URL");
        assert_refused(&with("smtp://u:p@h", StartTls::Off), "MAIL__STARTTLS");
        assert_fine(&with("smtps://u:p@h", StartTls::Off));
        assert_fine(&with("smtp://h", StartTls::Off));
        let by_file = |url: &str| MailSettings {
            password_file: "password".into(),
            ..with(url, StartTls::Required)
        };
        assert_fine(&by_file("smtp://u@h"));
        assert_refused(&by_file("smtp://u:p@h"), "MAIL__PASSWORD_FILE");
        assert_refused(&by_file("smtp://h"), "MAIL__PASSWORD_FILE");
    }

    #[test]
    fn a_webhook_stands_alone_and_signs() {
        let hook = MailSettings {
            webhook: "https://h/".parse().expect("a URL"),
            webhook_secret_file: "secret".into(),
            url: MailUrl::default(),
            ..good()
        };
        assert_fine(&hook);
        let both = MailSettings {
            url: good().url,
            ..hook.clone()
        };
        assert_refused(&both, "MAIL__WEBHOOK");
        let unsigned = MailSettings {
            webhook_secret_file: PathBuf::new(),
            ..hook
        };
        assert_refused(&unsigned, "MAIL__WEBHOOK_SECRET_FILE");
    }
}
