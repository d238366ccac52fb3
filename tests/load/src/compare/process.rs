//! Server processes, each pinned to its cores and stopped by its own handle.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Maximum time between the start of a server and its first accepted connection.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// Ports of servers, below the range from which the system gives ports to clients.
const PORTS: std::ops::Range<u16> = 21_000..31_000;
/// Bytes of a failed server's log that an error shows.
const LOG_BYTES: usize = 2000;

/// Cores of the servers and of the generator.
#[derive(Clone, Debug)]
pub(crate) struct Cores {
    all: Vec<usize>,
}

impl Cores {
    /// Reads which cores this process may use.
    ///
    /// # Errors
    ///
    /// Returns an error if there are less than two.
    pub(crate) fn available() -> anyhow::Result<Self> {
        let set = sched_getaffinity(None).context("the cores of this process cannot be read")?;
        let all: Vec<_> = (0..CpuSet::MAX_CPU)
            .filter(|core| set.is_set(*core))
            .collect();
        ensure!(
            all.len() > 1,
            "compare needs two cores: one for the server and one for the generator"
        );
        Ok(Self { all })
    }

    /// Returns how many cores there are.
    pub(crate) fn count(&self) -> usize {
        self.all.len()
    }

    /// Pins this thread to the generator's core, the last one.
    pub(crate) fn pin_generator(&self) -> anyhow::Result<()> {
        pin(&self.all[self.all.len() - 1..])
    }

    /// Pins this thread, and so the processes that it starts, to the first `count` cores.
    fn pin_server(&self, count: usize) -> anyhow::Result<()> {
        pin(&self.all[..count.min(self.all.len())])
    }

    /// Allows this thread all cores again.
    pub(crate) fn unpin(&self) -> anyhow::Result<()> {
        pin(&self.all)
    }
}

fn pin(cores: &[usize]) -> anyhow::Result<()> {
    let mut set = CpuSet::new();
    cores.iter().for_each(|core| set.set(*core));
    sched_setaffinity(None, &set).context("this thread cannot be pinned to a core")
}

/// A running server. It is killed when the value is dropped.
pub(crate) struct Process {
    child: Child,
    command: Command,
    cores: (Cores, usize),
    log: PathBuf,
    pub(crate) address: SocketAddr,
}

impl Process {
    /// Starts a server on the first `cores.1` cores, and waits until it accepts connections.
    ///
    /// # Errors
    ///
    /// Returns an error with the end of the server's log if it stops or does not listen in time.
    pub(crate) fn start(
        mut command: Command,
        cores: (Cores, usize),
        address: SocketAddr,
        log: &Path,
    ) -> anyhow::Result<Self> {
        let child = spawn(&mut command, &cores, log)?;
        let mut process = Self {
            child,
            command,
            cores,
            log: log.to_owned(),
            address,
        };
        let begin = Instant::now();
        while TcpStream::connect(address).is_err() {
            if let Some(status) = process.child.try_wait()? {
                bail!("the server stopped with {status}: {}", process.last_lines());
            }
            if begin.elapsed() > START_TIMEOUT {
                bail!(
                    "the server does not listen on {address}: {}",
                    process.last_lines()
                );
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(process)
    }

    /// Returns the process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal to the process.
    ///
    /// # Errors
    ///
    /// Returns an error if the process has ended.
    pub(crate) fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw);
        let pid = pid.context("the process has no id")?;
        kill_process(pid, signal).context("the process cannot be signalled")
    }

    /// Kills the server with SIGKILL and starts it again on the same port, without waiting for it.
    ///
    /// # Errors
    ///
    /// Returns an error if the program cannot be started.
    pub(crate) fn restart(&mut self) -> anyhow::Result<u32> {
        self.stop();
        self.child = spawn(&mut self.command, &self.cores, &self.log)?;
        Ok(self.child.id())
    }

    fn stop(&mut self) {
        // Both fail only for a process that has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn last_lines(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let start = text.len().saturating_sub(LOG_BYTES);
        String::from_utf8_lossy(&text[start..]).trim().to_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Starts a process that inherits the pinning of this thread, which returns to its core afterwards.
fn spawn(command: &mut Command, cores: &(Cores, usize), log: &Path) -> anyhow::Result<Child> {
    let output = File::create(log).context("the server's log cannot be created")?;
    let errors = output
        .try_clone()
        .context("the server's log cannot be shared")?;
    command.stdin(Stdio::null()).stdout(output).stderr(errors);
    cores.0.pin_server(cores.1)?;
    let child = command.spawn();
    cores.0.pin_generator()?;
    let program = command.get_program().to_string_lossy().into_owned();
    child.with_context(|| format!("{program} cannot be started"))
}

/// Finds a loopback port that no process listens on.
///
/// # Errors
///
/// Returns an error if all of them are taken.
pub(crate) fn free_address() -> anyhow::Result<SocketAddr> {
    let offset = (std::process::id() % 9000) as u16;
    PORTS
        .map(|port| PORTS.start + (port - PORTS.start + offset) % (PORTS.end - PORTS.start))
        .find_map(|port| {
            TcpListener::bind((Ipv4Addr::LOCALHOST, port))
                .ok()?
                .local_addr()
                .ok()
        })
        .context("no loopback port from 21000 to 31000 is free")
}
