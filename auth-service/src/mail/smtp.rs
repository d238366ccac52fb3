//! A mail server, by SMTP (RFC 5321) with TLS from the start or by STARTTLS (RFC 3207).

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Context as _, anyhow};
use lettre::{
    Address, Message,
    message::{
        Mailbox, MultiPart,
        header::{HeaderName, HeaderValue},
    },
    transport::smtp::{
        self,
        authentication::{Credentials, DEFAULT_MECHANISMS},
        client::{AsyncSmtpConnection, Certificate, TlsParameters},
        extension::ClientId,
    },
};
use tokio::{net::TcpStream, time::timeout};
use zeroize::Zeroizing;

use super::{
    Letter, MailError, Text,
    bounded_stream::{BoundedStream, TlsStream},
};
use crate::config::{MailSettings, SmtpUrl, StartTls, read_secret_file};

/// Maximum time from the look-up of the server's address until the server has taken the mail.
const SEND_DEADLINE: Duration = Duration::from_secs(30);

/// Maximum time to say goodbye after the mail was taken.
const QUIT_DEADLINE: Duration = Duration::from_secs(2);

/// Maximum number of bytes that a server sends in one conversation. Certificates take up to some ten
/// thousand, replies some thousand.
const READ_LIMIT: usize = 64 * 1024;

/// A mail server. Each mail has a connection of its own.
pub(super) struct Relay {
    url: SmtpUrl,
    encryption: Encryption,
    password_file: Option<PathBuf>,
}

/// Start of TLS within the conversation.
enum Encryption {
    /// No TLS.
    Off,
    /// By STARTTLS, without which no mail is sent.
    ByStartTls(TlsParameters),
    /// Before the greeting.
    FromStart(TlsParameters),
}

impl Relay {
    /// Makes the way to the server at `url`.
    ///
    /// # Errors
    ///
    /// When a file of the settings cannot be read, or TLS cannot be set up.
    pub(super) fn open(url: &SmtpUrl, settings: &MailSettings) -> anyhow::Result<Self> {
        let file = &settings.password_file;
        let relay = Self {
            url: url.clone(),
            encryption: encryption(url, settings)?,
            password_file: (!file.as_os_str().is_empty()).then(|| file.clone()),
        };
        relay.credentials()?;
        Ok(relay)
    }

    /// Sends one mail.
    ///
    /// # Errors
    ///
    /// [`MailError::Refused`] when the server refuses this mail for good.
    pub(super) async fn send(
        &self,
        from: &Mailbox,
        letter: &Letter,
        text: Text,
    ) -> Result<(), MailError> {
        let message = message(from, letter, text)
            .map_err(|error| MailError::Refused(format!("{error:#}")))?;
        let conversation = timeout(SEND_DEADLINE, self.converse(&message, letter)).await;
        let mut connection = conversation
            .unwrap_or_else(|_| Err(MailError::Failed(anyhow!("the mail server took too long"))))?;
        // The server has the mail, whatever it answers now.
        let _ = timeout(QUIT_DEADLINE, connection.quit()).await;
        Ok(())
    }

    /// Connects, logs in and hands the mail over. Returns the connection.
    async fn converse(
        &self,
        message: &Message,
        letter: &Letter,
    ) -> Result<AsyncSmtpConnection, MailError> {
        let credentials = self.credentials();
        let credentials = credentials.map_err(MailError::Failed)?;
        let stream = BoundedStream::connect(&self.url.host, self.url.port, READ_LIMIT).await;
        let stream = stream.map_err(|error| {
            MailError::Failed(anyhow!("the mail server cannot be reached: {error}"))
        })?;
        let conversation = async {
            let mut connection = self.greet(stream).await?;
            if let Some(credentials) = &credentials {
                connection.auth(DEFAULT_MECHANISMS, credentials).await?;
            }
            let text = message.formatted();
            connection.send(message.envelope(), &text).await?;
            Ok(connection)
        };
        conversation.await.map_err(|error| judge(&error, letter))
    }

    /// Reads the greeting, before or after the handshake of TLS.
    async fn greet(
        &self,
        stream: BoundedStream<TcpStream>,
    ) -> Result<AsyncSmtpConnection, smtp::Error> {
        let name = ClientId::default();
        match &self.encryption {
            Encryption::Off => {
                AsyncSmtpConnection::connect_with_transport(Box::new(stream), &name).await
            }
            Encryption::ByStartTls(parameters) => {
                let connecting =
                    AsyncSmtpConnection::connect_with_transport(Box::new(stream), &name);
                let mut connection = connecting.await?;
                connection.starttls(parameters.clone(), &name).await?;
                Ok(connection)
            }
            Encryption::FromStart(parameters) => {
                let stream = TlsStream::connect(stream, parameters.clone()).await?;
                AsyncSmtpConnection::connect_with_transport(Box::new(stream), &name).await
            }
        }
    }

    /// Reads the password anew for each mail, so that the file can be replaced.
    fn credentials(&self) -> anyhow::Result<Option<Credentials>> {
        let Some(user) = &self.url.user else {
            return Ok(None);
        };
        let password = match &self.password_file {
            Some(file) => {
                let text = read_secret_file(file).context("mail.password_file cannot be read")?;
                let text = Zeroizing::new(text);
                text.trim_end_matches(['\r', '\n']).to_owned()
            }
            None => self.url.password.clone().unwrap_or_default(),
        };
        Ok(Some(Credentials::new(user.clone(), password)))
    }
}

fn encryption(url: &SmtpUrl, settings: &MailSettings) -> anyhow::Result<Encryption> {
    if !url.is_tls && settings.starttls == StartTls::Off {
        return Ok(Encryption::Off);
    }
    let mut parameters = TlsParameters::builder(url.host.clone());
    if !settings.ca_file.as_os_str().is_empty() {
        let file = &settings.ca_file;
        let pem = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        let certificate = Certificate::from_pem(&pem).ok();
        let certificate =
            certificate.with_context(|| format!("{} holds no certificate", file.display()))?;
        parameters = parameters.add_root_certificate(certificate);
    }
    let parameters = parameters.build_rustls().context("cannot do TLS")?;
    Ok(if url.is_tls {
        Encryption::FromStart(parameters)
    } else {
        // Never without: who sits between the two could take STARTTLS out of the answer.
        Encryption::ByStartTls(parameters)
    })
}

/// Composes the mail. Every header's value is encoded by the library, and none holds a line break.
fn message(from: &Mailbox, letter: &Letter, text: Text) -> anyhow::Result<Message> {
    let to: Address = letter.to.parse().ok().context("no address of SMTP")?;
    let automatic = HeaderName::new_from_ascii_str("Auto-Submitted");
    let id = format!("<{}@{}>", letter.id, from.email.domain());
    let mut message = Message::builder()
        .from(from.clone())
        .to(Mailbox::new(None, to))
        .subject(text.subject)
        .message_id(Some(id))
        .multipart(MultiPart::alternative_plain_html(
            text.plain.to_string(),
            text.html.to_string(),
        ))
        .context("no mail")?;
    // Nobody's holiday answers it (RFC 3834, section 5).
    let value = HeaderValue::new(automatic, "auto-generated".to_owned());
    message.headers_mut().insert_raw(value);
    Ok(message)
}

/// Returns whether a reply code refuses this mail for good: a mailbox, an address or a text that the
/// server never takes (RFC 5321, section 4.2.3; RFC 7504 for 556). Any other code, such as 554 in place
/// of a greeting, may be of the server or of this client, and the mail is tried again.
fn is_of_this_mail(code: &str) -> bool {
    matches!(code, "501" | "550" | "551" | "552" | "553" | "556")
}

/// Tells a mail that is refused for good from a server that does not work. The answer's text is left
/// out: servers repeat addresses in it.
fn judge(error: &smtp::Error, letter: &Letter) -> MailError {
    let code = error.status().map(|code| code.to_string());
    if let Some(code) = code {
        let text = format!("the mail server answered {code}");
        return if is_of_this_mail(&code) {
            MailError::Refused(text)
        } else {
            MailError::Failed(anyhow!(text))
        };
    }
    if error.is_client() && !letter.to.is_ascii() {
        let text = "the mail server takes no address beyond ASCII (RFC 6531)";
        return MailError::Refused(text.to_owned());
    }
    MailError::Failed(anyhow!("the mail server cannot be used: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_about_the_mailbox_ends_a_mail_and_one_about_the_server_does_not() {
        for code in ["501", "550", "551", "552", "553", "556"] {
            assert!(is_of_this_mail(code), "{code}");
        }
        for code in [
            "421", "450", "451", "452", "500", "502", "503", "504", "521", "530", "534", "535",
            "538", "554", "555",
        ] {
            assert!(!is_of_this_mail(code), "{code}");
        }
    }
}
