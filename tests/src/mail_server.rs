//! A mail server that we did not write: `aiosmtpd` from PyPI. See `tests/clients/smtp_server.py`.

use std::{path::Path, process::Stdio, time::Duration};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

use crate::{soon, stock::python, tls::Certificate};

/// Maximum time until a mail arrives whose first attempts have failed.
const DEADLINE: Duration = Duration::from_secs(60);

/// The user that may send, whose name is an address.
const USER: &str = "latchkey@example.org";

/// The way to a mail server.
#[derive(Clone)]
pub struct Access<'a> {
    certificate: Option<&'a Certificate>,
    password: String,
}

impl<'a> Access<'a> {
    /// By STARTTLS and a login.
    #[must_use]
    pub fn by_starttls(certificate: &'a Certificate) -> Self {
        Self {
            certificate: Some(certificate),
            password: format!("p@ss:{}", crate::random_text(12)),
        }
    }

    /// In the clear, by everybody.
    #[must_use]
    pub fn open() -> Self {
        Self {
            certificate: None,
            password: String::new(),
        }
    }

    /// The URL of a server on this port, for the setting `mail.url`.
    #[must_use]
    pub fn url(&self, port: u16) -> String {
        let encoded = |text: &str| text.replace('@', "%40").replace(':', "%3A");
        match self.certificate {
            Some(_) => {
                let (user, password) = (encoded(USER), encoded(&self.password));
                format!("smtp://{user}:{password}@localhost:{port}")
            }
            None => format!("smtp://localhost:{port}"),
        }
    }

    /// The password of the login.
    #[must_use]
    pub fn password(&self) -> &str {
        &self.password
    }
}

/// The server as a child process, which ends with this.
pub struct MailServer {
    /// Its port, which stays the same when it is started again.
    pub port: u16,
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl MailServer {
    /// Starts a server on a free port, or on that of one that has ended.
    ///
    /// # Panics
    ///
    /// When Python or the packages are missing.
    pub async fn start(access: &Access<'_>, port: u16) -> Self {
        Self::start_with(access, port, None).await
    }

    /// Starts a server on a free port that writes its lines into a file too.
    ///
    /// # Panics
    ///
    /// When Python or the packages are missing.
    pub async fn start_into(access: &Access<'_>, file: &Path) -> Self {
        Self::start_with(access, 0, Some(file)).await
    }

    async fn start_with(access: &Access<'_>, port: u16, file: Option<&Path>) -> Self {
        let mut command: Command = python("smtp_server.py");
        command.arg(port.to_string());
        if let Some(certificate) = access.certificate {
            command.args([certificate.cert_file(), certificate.key_file()]);
            command.args([USER, &access.password]);
        }
        command.envs(file.map(|file| ("MAIL_FILE", file)));
        let mut child = command
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("python");
        let stdout = child.stdout.take().expect("a piped stdout");
        let mut this = Self {
            port,
            lines: BufReader::new(stdout).lines(),
            child,
        };
        let started = this.next().await;
        let port = started["port"].as_u64().expect("a port");
        this.port = port.try_into().expect("a port");
        this
    }

    /// The next mail that is taken, or recipient that is refused.
    ///
    /// # Panics
    ///
    /// When there is none in time.
    pub async fn next(&mut self) -> Value {
        let line = tokio::time::timeout(DEADLINE, self.lines.next_line()).await;
        let line = line.expect("a line of the mail server in time");
        let line = line.expect("text").expect("a mail server that runs");
        serde_json::from_str(&line).expect("JSON")
    }

    /// Ends it, and waits until it has gone.
    ///
    /// # Panics
    ///
    /// When it has gone before.
    pub async fn stop(mut self) {
        let killed = soon("the mail server's end", self.child.kill()).await;
        killed.expect("a mail server that was still there");
    }
}

/// The values of a mail's headers of this name.
///
/// # Panics
///
/// When it is no mail.
#[must_use]
pub fn headers<'a>(mail: &'a Value, name: &str) -> Vec<&'a str> {
    let headers = mail["headers"].as_array().expect("headers").iter();
    let named = headers.filter(|header| {
        header[0]
            .as_str()
            .is_some_and(|own| own.eq_ignore_ascii_case(name))
    });
    named
        .map(|header| header[1].as_str().expect("text"))
        .collect()
}

/// The token of the link in a mail that does `action`.
///
/// # Panics
///
/// When there is none.
#[must_use]
pub fn link_token(mail: &Value, action: &str) -> String {
    let text = mail["text"].as_str().expect("a text");
    let (_, rest) = text.split_once(&format!("#{action}=")).expect("a link");
    rest.split_whitespace().next().expect("a token").to_owned()
}
