//! Mails by SMTP, to servers that keep to the protocol and to others.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::*;
use crate::{
    config::{MailSettings, SmtpUrl, StartTls, TlsSettings},
    tls::Certificate,
};

/// A server that speaks with one client.
struct Server<T> {
    port: u16,
    thread: JoinHandle<T>,
}

impl<T: Send + 'static> Server<T> {
    fn start(serve: impl FnOnce(TcpStream) -> T + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let thread = thread::spawn(move || serve(listener.accept().expect("a client").0));
        Self { port, thread }
    }

    fn end(self) -> T {
        self.thread.join().expect("no panic")
    }
}

fn letter() -> Letter {
    Letter {
        id: "one".to_owned(),
        kind: MailKind::PasswordChanged,
        to: "alice@example.org".to_owned(),
        username: "alice".to_owned(),
        name: None,
        token: None,
    }
}

/// Sends a mail to a server at `port`.
async fn send(
    port: u16,
    is_tls: bool,
    starttls: StartTls,
    ca_file: &Path,
) -> Result<(), MailError> {
    let is_open = !is_tls && starttls == StartTls::Off;
    let url = SmtpUrl {
        is_tls,
        host: "localhost".to_owned(),
        port,
        user: (!is_open).then(|| "latchkey".to_owned()),
        password: (!is_open).then(|| "open sesame".to_owned()),
    };
    let settings = MailSettings {
        starttls,
        ca_file: ca_file.to_owned(),
        ..MailSettings::default()
    };
    let relay = Relay::open(&url, &settings).expect("a relay");
    let from = "noreply@example.org".parse().expect("an address");
    let text = Text {
        subject: "A subject".to_owned(),
        plain: "A text".to_owned().into(),
        html: "<p>A text</p>".to_owned().into(),
    };
    relay.send(&from, &letter(), text).await
}

/// Makes a certificate for localhost, and returns the settings of a server that has it.
fn certificate(directory: &Path) -> (Arc<ServerConfig>, std::path::PathBuf) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("made");
    let settings = TlsSettings {
        cert_file: directory.join("cert.pem"),
        key_file: directory.join("key.pem"),
    };
    fs::write(&settings.cert_file, made.cert.pem()).expect("written");
    fs::write(&settings.key_file, made.signing_key.serialize_pem()).expect("written");
    let certificate = Certificate::open(&settings).expect("a certificate");
    let certificate = certificate.expect("files");
    let config = certificate.server_config().expect("a configuration");
    (Arc::new(config), settings.cert_file)
}

/// Answers commands until the client leaves or asks for TLS, and returns them, a mail among them.
fn converse(stream: &mut (impl Read + Write), commands: &mut Vec<String>, offer: &str) {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    let mut is_mail = false;
    while stream.read_line(&mut line).is_ok_and(|count| count > 0) {
        let command = std::mem::take(&mut line).trim_end().to_owned();
        let answer = match command.as_str() {
            "." => "250 taken",
            _ if is_mail => continue,
            "DATA" => "354 go on",
            "STARTTLS" => "220 ready",
            "QUIT" => "221 goodbye",
            _ if command.starts_with("EHLO") => offer,
            _ if command.starts_with("AUTH") => "235 welcome",
            _ => "250 fine",
        };
        is_mail = command == "DATA";
        let writing = stream
            .get_mut()
            .write_all(format!("{answer}\r\n").as_bytes());
        writing
            .and_then(|()| stream.get_mut().flush())
            .expect("sent");
        let word = command.split([' ', ':']).next().unwrap_or_default();
        commands.push(word.to_owned());
        if word == "STARTTLS" {
            return;
        }
    }
}

const MAIL: [&str; 5] = ["EHLO", "AUTH", "MAIL", "RCPT", "DATA"];

#[tokio::test]
async fn a_mail_is_sent_by_starttls_with_a_login() {
    let directory = tempfile::tempdir().expect("a directory");
    let (config, ca_file) = certificate(directory.path());
    let server = Server::start(move |mut stream| {
        let mut commands = Vec::new();
        stream.write_all(b"220 ready\r\n").expect("sent");
        converse(&mut stream, &mut commands, "250-localhost\r\n250 STARTTLS");
        let session = ServerConnection::new(config).expect("a session");
        let mut stream = StreamOwned::new(session, stream);
        converse(
            &mut stream,
            &mut commands,
            "250-localhost\r\n250 AUTH PLAIN",
        );
        commands
    });
    let sent = send(server.port, false, StartTls::Required, &ca_file).await;
    sent.expect("sent");
    let commands = server.end();
    assert_eq!(commands[..2], ["EHLO", "STARTTLS"]);
    assert_eq!(commands[2..7], MAIL);
    assert_eq!(commands[7..], [".", "QUIT"]);
}

#[tokio::test]
async fn a_mail_is_sent_with_tls_from_the_start_and_to_the_right_server_alone() {
    let directory = tempfile::tempdir().expect("a directory");
    let stranger = tempfile::tempdir().expect("a directory");
    let (_, other_file) = certificate(stranger.path());
    for is_known in [true, false] {
        let (config, ca_file) = certificate(directory.path());
        let server = Server::start(move |stream| {
            let mut commands = Vec::new();
            let session = ServerConnection::new(config).expect("a session");
            let mut stream = StreamOwned::new(session, stream);
            if stream.write_all(b"220 ready\r\n").is_ok() {
                converse(
                    &mut stream,
                    &mut commands,
                    "250-localhost\r\n250 AUTH PLAIN",
                );
            }
            commands
        });
        let file = if is_known { &ca_file } else { &other_file };
        let sent = send(server.port, true, StartTls::Required, file).await;
        assert_eq!(sent.is_ok(), is_known);
        let commands = server.end();
        if is_known {
            assert_eq!(commands[..5], MAIL);
            assert_eq!(commands[5..], [".", "QUIT"]);
        } else {
            assert!(commands.is_empty(), "{commands:?}");
        }
    }
}

#[tokio::test]
async fn a_server_that_never_ends_its_line_is_left_before_it_fills_the_memory() {
    for starttls in [StartTls::Required, StartTls::Off] {
        let server = Server::start(|mut stream| {
            let mut count = 0_u64;
            stream.write_all(b"220-").expect("sent");
            while stream.write_all(&[b'x'; 4096]).is_ok() {
                count += 4096;
            }
            count
        });
        let sending = send(server.port, false, starttls, Path::new(""));
        let sent = tokio::time::timeout(Duration::from_secs(10), sending).await;
        let sent = sent.expect("an end in time");
        assert!(matches!(sent, Err(MailError::Failed(_))), "{sent:?}");
        // As much as the buffers of the sockets hold.
        let count = server.end();
        assert!(count < 64 << 20, "{count}");
    }
}

/// A server that has taken the mail, and never answers the last command.
#[tokio::test]
async fn a_mail_that_was_taken_is_sent_however_the_server_ends() {
    let server = Server::start(|mut stream| {
        let mut commands = Vec::new();
        stream.write_all(b"220 ready\r\n").expect("sent");
        let mut reader = BufReader::new(stream.try_clone().expect("a stream"));
        let mut line = String::new();
        while reader.read_line(&mut line).is_ok_and(|count| count > 0) {
            let command = std::mem::take(&mut line).trim_end().to_owned();
            let answer = match command.as_str() {
                "DATA" => "354 go on\r\n",
                "." => "250 taken\r\n",
                "QUIT" => "",
                _ if commands.contains(&"DATA".to_owned()) => "",
                _ => "250 fine\r\n",
            };
            stream.write_all(answer.as_bytes()).expect("sent");
            commands.push(command);
        }
        commands
    });
    let sent = send(server.port, false, StartTls::Off, Path::new("")).await;
    sent.expect("sent");
    assert_eq!(server.end().last().expect("a command"), "QUIT");
}
