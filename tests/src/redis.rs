//! A Redis server for one test, which the test can take away.

use std::process::Stdio;

use nix::{sys::signal::Signal, unistd::Pid};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    process::{Child, Command},
};

use crate::{eventually, free_address, soon};

/// A Redis server on a port of its own on loopback, without persistence. It ends with this.
pub struct Redis {
    address: String,
    directory: TempDir,
    server: Child,
}

impl Redis {
    /// Starts a server, and waits until it answers.
    ///
    /// # Panics
    ///
    /// When there is no program `redis-server`, or it does not start.
    pub async fn start() -> Self {
        let (address, directory) = (free_address(), tempfile::tempdir().expect("a directory"));
        let server = spawn(&address, &directory);
        let this = Self {
            address,
            directory,
            server,
        };
        this.answering().await;
        this
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
        self.server = spawn(&self.address, &self.directory);
        self.answering().await;
    }

    /// Sends a command whose arguments have no spaces, and returns the first line of the answer.
    ///
    /// # Panics
    ///
    /// When there is no answer.
    pub async fn command(&self, command: &str) -> String {
        soon("an answer of Redis", self.ask(command))
            .await
            .expect("an answer")
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

fn spawn(address: &str, directory: &TempDir) -> Child {
    let (host, port) = address.rsplit_once(':').expect("a host and a port");
    let mut command = Command::new("redis-server");
    command
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
        .arg("--dir")
        .arg(directory.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true);
    command
        .spawn()
        .expect("redis-server, which Debian has in the package redis-server")
}
