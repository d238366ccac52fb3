//! Redis servers for one test, which the test can take away: one server, a Redis Cluster, or a primary with
//! a replica and sentinels.

mod cluster;
mod sentinel;

pub use self::{cluster::RedisCluster, sentinel::SentinelGroup};

use std::{path::PathBuf, process::Stdio};

use nix::{sys::signal::Signal, unistd::Pid};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    process::{Child, Command},
};

use crate::{eventually, free_address, soon, tls::Certificate};

/// A Redis server on a port of its own on loopback, without persistence. It ends with this.
pub struct Redis {
    address: String,
    directory: TempDir,
    /// Options beside those that every server has.
    options: Vec<String>,
    server: Child,
}

impl Redis {
    /// Starts a server, and waits until it answers.
    ///
    /// # Panics
    ///
    /// When there is no program `redis-server`, or it does not start.
    pub async fn start() -> Self {
        Self::start_with(Vec::new()).await
    }

    /// Starts a server that speaks TLS too, at the second address.
    pub async fn start_with_tls(certificate: &Certificate) -> (Self, String) {
        let address = free_address();
        let (_, port) = address.rsplit_once(':').expect("a host and a port");
        let path = |path: PathBuf| path.display().to_string();
        let options = [
            ("--tls-port", port.to_owned()),
            ("--tls-cert-file", path(certificate.cert_file())),
            ("--tls-key-file", path(certificate.key_file())),
            ("--tls-auth-clients", "no".to_owned()),
        ];
        let options = options.into_iter();
        let options = options.flat_map(|(name, value)| [name.to_owned(), value]);
        let redis = Self::start_with(options.collect()).await;
        (redis, address)
    }

    async fn start_with(options: Vec<String>) -> Self {
        let this = Self::spawn_with(options);
        this.answering().await;
        this
    }

    fn spawn_with(options: Vec<String>) -> Self {
        let (address, directory) = (free_address(), tempfile::tempdir().expect("a directory"));
        let server = spawn(&address, &directory, &options);
        Self {
            address,
            directory,
            options,
            server,
        }
    }

    /// The address of the server, `HOST:PORT`.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The URL of the server.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Stops the process where it is, so that it answers nobody and keeps its connections.
    pub fn pause(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Lets the process go on.
    pub fn go_on(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// Kills the server, and with it all that it has.
    ///
    /// # Panics
    ///
    /// When the process cannot be killed.
    pub async fn kill(&mut self) {
        soon("the end of redis-server", self.server.kill())
            .await
            .expect("a process to kill");
    }

    /// Starts the server again where it was, with nothing.
    pub async fn restart(&mut self) {
        self.server = spawn(&self.address, &self.directory, &self.options);
        self.answering().await;
    }

    /// Sends a command as a line, in which an argument may be in quotes, and returns the first line of the answer.
    ///
    /// # Panics
    ///
    /// When there is no answer.
    pub async fn command(&self, command: &str) -> String {
        soon("an answer of Redis", self.ask(command))
            .await
            .expect("an answer")
    }

    /// Sends a command as a line, and returns all that the server answers before it closes the connection.
    ///
    /// # Panics
    ///
    /// When there is no answer.
    pub async fn text(&self, command: &str) -> String {
        let answer = self.try_text(command).await;
        answer.expect("an answer")
    }

    /// Does the same as [`Self::text`], also while the server does not listen.
    async fn try_text(&self, command: &str) -> std::io::Result<String> {
        let answer = async {
            let mut stream = TcpStream::connect(&self.address).await?;
            stream
                .write_all(format!("{command}\r\n").as_bytes())
                .await?;
            // The server answers, and then closes the connection too. Sentinels know no QUIT.
            stream.shutdown().await?;
            let mut answer = Vec::new();
            match stream.read_to_end(&mut answer).await {
                // A server that closes first resets a connection whose end it has not read.
                Err(error) if answer.is_empty() => Err(error),
                _ => String::from_utf8(answer).map_err(std::io::Error::other),
            }
        };
        soon("an answer of Redis", answer).await
    }

    async fn ask(&self, command: &str) -> std::io::Result<String> {
        let mut stream = BufReader::new(TcpStream::connect(&self.address).await?);
        let line = format!("{command}\r\n");
        stream.get_mut().write_all(line.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_line(&mut answer).await?;
        Ok(answer.trim_end().to_owned())
    }

    async fn answering(&self) {
        eventually("an answer of redis-server", async || {
            self.ask("PING").await.is_ok_and(|answer| answer == "+PONG")
        })
        .await;
    }

    fn signal(&self, signal: Signal) {
        let id = self.server.id().expect("a server that was not killed");
        let id = Pid::from_raw(i32::try_from(id).expect("a process id"));
        nix::sys::signal::kill(id, signal).expect("a process to signal");
    }
}

fn spawn(address: &str, directory: &TempDir, options: &[String]) -> Child {
    let (host, port) = address.rsplit_once(':').expect("a host and a port");
    let mut command = Command::new("redis-server");
    // A sentinel keeps its state in the file of its settings, which is its first argument.
    let (files, options): (Vec<_>, Vec<_>) =
        options.iter().partition(|option| option.ends_with(".conf"));
    command
        .args(files)
        .args([
            "--bind",
            host,
            "--port",
            port,
            "--save",
            "",
            "--appendonly",
            "no",
        ])
        .args(options)
        .arg("--dir")
        .arg(directory.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true);
    command
        .spawn()
        .expect("redis-server, which Debian has in the package redis-server")
}
