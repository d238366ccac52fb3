//! The processes of the cluster: gateways and Redis servers. Each ends with its value.

use std::{
    fs::File,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use nix::{sys::signal::Signal, unistd::Pid};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    process::{Child, Command},
    sync::Mutex,
    time::{Instant, sleep, timeout},
};

/// Maximum time between the start of a process and its first accepted connection.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// Maximum time of an answer of Redis.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// A program with its settings, which can be killed, paused and started again.
pub(crate) struct Process {
    name: String,
    program: PathBuf,
    arguments: Vec<String>,
    variables: Vec<(String, String)>,
    folder: PathBuf,
    address: SocketAddr,
    child: Mutex<Option<Child>>,
}

impl Process {
    /// Describes a process. Nothing is started until [`Self::start`].
    pub(crate) fn new(
        name: &str,
        program: &Path,
        arguments: Vec<String>,
        variables: Vec<(String, String)>,
        folder: &Path,
        address: SocketAddr,
    ) -> Self {
        Self {
            name: name.to_owned(),
            program: program.to_owned(),
            arguments,
            variables,
            folder: folder.to_owned(),
            address,
            child: Mutex::default(),
        }
    }

    /// Starts the process and waits until it accepts connections. Its output goes into the file
    /// `NAME.log` of the folder.
    ///
    /// # Errors
    ///
    /// Returns an error with the end of the log if the process ends, or accepts no connection in time.
    pub(crate) async fn start(&self) -> anyhow::Result<()> {
        let path = self.log();
        let output = File::options().append(true).create(true).open(&path);
        let output = output.with_context(|| format!("{} cannot be written", path.display()))?;
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .env_clear()
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stderr(output.try_clone()?)
            .stdout(output)
            .kill_on_drop(true);
        let child = command.spawn();
        let mut child = child.with_context(|| format!("{} cannot be started", self.name))?;
        let begin = Instant::now();
        while TcpStream::connect(self.address).await.is_err() {
            if let Some(status) = child.try_wait()? {
                bail!("{} ended with {status}: {}", self.name, self.last_lines());
            }
            if begin.elapsed() > START_TIMEOUT {
                bail!("{} does not listen: {}", self.name, self.last_lines());
            }
            sleep(Duration::from_millis(10)).await;
        }
        *self.child.lock().await = Some(child);
        Ok(())
    }

    /// Sends SIGKILL and waits for the end.
    pub(crate) async fn kill(&self) {
        if let Some(mut child) = self.child.lock().await.take() {
            // It fails only for a process that has ended.
            let _ = child.kill().await;
        }
    }

    /// Kills the process, and starts it again after `length`.
    ///
    /// # Errors
    ///
    /// See [`Self::start`].
    pub(crate) async fn be_dead_for(&self, length: Duration) -> anyhow::Result<()> {
        self.kill().await;
        sleep(length).await;
        self.start().await
    }

    /// Sends SIGTERM, waits until the process has ended well, and starts it again.
    ///
    /// # Errors
    ///
    /// Returns an error if the process does not end well within `limit`. See [`Self::start`] too.
    pub(crate) async fn replace(&self, limit: Duration) -> anyhow::Result<()> {
        self.signal(Signal::SIGTERM).await;
        let child = self.child.lock().await.take();
        let mut child = child.with_context(|| format!("{} does not run", self.name))?;
        let status = timeout(limit, child.wait()).await;
        let status = status.with_context(|| format!("{} does not end", self.name))??;
        ensure!(
            status.success(),
            "{} ended with {status}: {}",
            self.name,
            self.last_lines()
        );
        self.start().await
    }

    /// Sends SIGSTOP, so that the process answers nobody and keeps its connections, and SIGCONT after
    /// `length`.
    pub(crate) async fn be_paused_for(&self, length: Duration) {
        self.signal(Signal::SIGSTOP).await;
        sleep(length).await;
        self.signal(Signal::SIGCONT).await;
    }

    /// Returns how the process ended, if it was not killed by [`Self::kill`].
    pub(crate) async fn ended(&self) -> Option<String> {
        let mut child = self.child.lock().await;
        let status = child.as_mut()?.try_wait().ok()??;
        Some(format!(
            "{} ended with {status}: {}",
            self.name,
            self.last_lines()
        ))
    }

    /// Sends a signal to the process, if it runs.
    pub(crate) async fn signal(&self, signal: Signal) {
        let child = self.child.lock().await;
        let id = child.as_ref().and_then(Child::id);
        if let Some(id) = id.and_then(|id| i32::try_from(id).ok()) {
            // It fails only for a process that has ended.
            let _ = nix::sys::signal::kill(Pid::from_raw(id), signal);
        }
    }

    fn log(&self) -> PathBuf {
        self.folder.join(format!("{}.log", self.name))
    }

    fn last_lines(&self) -> String {
        let text = std::fs::read(self.log()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text[text.len().saturating_sub(2000)..]);
        text.trim().to_owned()
    }
}

/// Describes a Redis server without persistence, with further `options`.
pub(crate) fn redis(
    number: usize,
    folder: &Path,
    address: SocketAddr,
    options: &[(&str, String)],
) -> Process {
    let port = address.port().to_string();
    let host = address.ip().to_string();
    let arguments = [
        "--bind",
        &host,
        "--port",
        &port,
        "--save",
        "",
        "--appendonly",
        "no",
        "--repl-diskless-sync-delay",
        "0",
        // A paused gateway keeps its connection.
        "--client-output-buffer-limit",
        "pubsub 256mb 64mb 60",
    ];
    let mut arguments = arguments.map(str::to_owned).to_vec();
    for (name, value) in options {
        arguments.extend([format!("--{name}"), value.clone()]);
    }
    let path = std::env::var("PATH").unwrap_or_default();
    let variables = vec![("PATH".to_owned(), path)];
    let name = format!("redis-{number}");
    Process::new(
        &name,
        Path::new("redis-server"),
        arguments,
        variables,
        folder,
        address,
    )
}

/// Sends a command to a Redis server, and returns its answer: a line, or the text of a bulk string.
///
/// # Errors
///
/// Returns an error if there is no answer in time.
pub(crate) async fn command(address: SocketAddr, command: &str) -> anyhow::Result<String> {
    let asked = async {
        let mut stream = BufReader::new(TcpStream::connect(address).await?);
        let line = format!("{command}\r\n");
        stream.get_mut().write_all(line.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_line(&mut answer).await?;
        if let Some(length) = answer.strip_prefix('$') {
            let length = length.trim().parse().unwrap_or_default();
            let mut bytes = vec![0; length];
            stream.read_exact(&mut bytes).await?;
            answer = String::from_utf8_lossy(&bytes).into_owned();
        }
        Ok::<_, std::io::Error>(answer.trim_end().to_owned())
    };
    let answer = timeout(ANSWER_TIMEOUT, asked).await;
    answer
        .with_context(|| format!("Redis did not answer {command} in time"))?
        .with_context(|| format!("Redis did not answer {command}"))
}
