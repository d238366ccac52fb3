//! The service as a process of its own, so that its CPU time and its memory are nobody else's.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::Context as _;
use auth_service::{
    Settings,
    config::DatabaseUrl,
    store::Store,
    users::{self, NewUser},
};
use tempfile::TempDir;

/// Number of accounts, one for each connection of the flood: none reaches the limit of its sessions within
/// the measurement, so that a login costs what it costs, without the end of another session.
pub(crate) const USERS: u32 = 250;

pub(crate) const PASSWORD: &str = "a horse that is no battery";

/// The ticks in which Linux tells CPU time to programs, on every architecture.
const TICKS_PER_SECOND: u64 = 100;

pub(crate) fn username(number: u32) -> String {
    format!("user-{number}")
}

/// The binary, serving with its defaults but for the port, the database, and keys that it publishes.
pub(crate) struct Service {
    child: Child,
    pub(crate) address: SocketAddr,
    directory: TempDir,
}

impl Service {
    /// Makes the accounts, and serves.
    pub(crate) fn start() -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let database = directory.path().join("latchkey.db");
        add_users(&database)?;
        let mut child = Command::new(env!("CARGO_BIN_EXE_auth-service"))
            .env_clear()
            .env("AUTH__LISTEN", "127.0.0.1:0")
            .env("AUTH__KEYS__MODE", "asymmetric")
            .env("LATCHKEY_SECRET", "mZq3vX8pL1rT6wYc9sHd2kFg5jBn7uEa")
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            // A log that is written costs what it costs.
            .stderr(File::create(directory.path().join("log"))?)
            .spawn()?;
        let mut line = String::new();
        let stdout = child.stdout.as_mut().context("no output")?;
        BufReader::new(stdout).read_line(&mut line)?;
        let address = line.trim_end().strip_prefix("listening on http://");
        let address = address.context("it does not listen")?.parse()?;
        Ok(Self {
            child,
            address,
            directory,
        })
    }

    /// The directory of the database.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The CPU time of the process until now.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        cpu_of(&self.child.id().to_string())
    }

    /// The part of it that the password threads have taken.
    pub(crate) fn password_cpu(&self) -> anyhow::Result<Duration> {
        let tasks = format!("/proc/{}/task", self.child.id());
        let mut total = Duration::ZERO;
        for task in fs::read_dir(tasks)? {
            let task = task?.path();
            if fs::read_to_string(task.join("comm"))?.starts_with("password-") {
                total += cpu_in(&fs::read_to_string(task.join("stat"))?)?;
            }
        }
        Ok(total)
    }

    /// The most memory that the process has had at once.
    pub(crate) fn peak_memory_mib(&self) -> anyhow::Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
        Ok(kib.context("no VmHWM")?.parse::<f64>()? / 1024.0)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // The process may have ended by itself, which the figures show.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The CPU time of this process until now.
pub(crate) fn own_cpu() -> anyhow::Result<Duration> {
    cpu_of("self")
}

fn cpu_of(process: &str) -> anyhow::Result<Duration> {
    cpu_in(&fs::read_to_string(format!("/proc/{process}/stat"))?)
}

/// The CPU time in the `stat` of a process or a thread.
fn cpu_in(stat: &str) -> anyhow::Result<Duration> {
    // The name may hold anything; what follows its parenthesis is numbers, of which the 12th and the
    // 13th are the time in user mode and in the kernel.
    let (_, numbers) = stat.rsplit_once(')').context("no name")?;
    let numbers = numbers.split_whitespace().skip(11).take(2);
    let ticks = numbers.map(str::parse::<u64>).sum::<Result<u64, _>>()?;
    Ok(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
}

fn add_users(database: &Path) -> anyhow::Result<()> {
    let settings = Settings {
        database_url: DatabaseUrl::sqlite(database),
        ..Settings::default()
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        Store::open(&settings.database_url).await?.close().await;
        for number in 0..USERS {
            let user = NewUser::parse(&username(number), PASSWORD)?;
            users::add_user(&settings, user).await?;
        }
        Ok(())
    })
}
