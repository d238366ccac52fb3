//! The binaries that are shipped, as child processes whose output is kept.

use std::{
    os::unix::fs::FileExt as _,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
};

use nix::{
    fcntl::{FcntlArg, fcntl},
    sys::signal::Signal,
    unistd::Pid,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader},
    process::{Child, Command},
    sync::{Notify, OwnedMutexGuard},
    task::JoinHandle,
};

use shared_claims::secret::SECRET_VARIABLE;

use crate::soon;

/// How every token begins: the header's first member, or the claims', in base64url.
const TOKEN_BEGINNINGS: [&str; 3] = ["eyJ0eXAi", "eyJhbGci", "eyJpc3Mi"];

/// The size of a page of memory.
const PAGE_BYTES: usize = 4096;

/// Everything that a process has written so far, both streams together, and the lock that keeps further lines from
/// being read.
#[derive(Clone, Default)]
pub(crate) struct Output(Arc<(Mutex<String>, Notify)>, Arc<tokio::sync::Mutex<()>>);

/// Lines of a process that are not read until this is dropped.
pub struct UnreadLines {
    _lock: OwnedMutexGuard<()>,
}

impl Output {
    pub(crate) fn text(&self) -> String {
        self.0
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Reads no further lines, but one that is being read.
    pub(crate) async fn stop_reading(&self) -> UnreadLines {
        UnreadLines {
            _lock: self.1.clone().lock_owned().await,
        }
    }

    fn push(&self, line: &str) {
        let mut text = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        text.push_str(line);
        text.push('\n');
        drop(text);
        self.0.1.notify_waiters();
    }

    fn collect(&self, stream: impl AsyncRead + Unpin + Send + 'static) -> JoinHandle<()> {
        let output = self.clone();
        tokio::spawn(async move {
            let mut reader = BufReader::new(stream);
            let mut line = Vec::new();
            while reader
                .read_until(b'\n', &mut line)
                .await
                .is_ok_and(|read| read > 0)
            {
                output.push(String::from_utf8_lossy(&line).trim_end());
                line.clear();
                drop(output.1.lock().await);
            }
        })
    }
}

/// One of our binaries, running.
pub(crate) struct Binary {
    name: &'static str,
    child: Child,
    readers: Vec<JoinHandle<()>>,
    pub(crate) output: Output,
    /// What it must never write.
    unspeakable: Vec<String>,
}

/// How a process ended, and what it wrote.
#[derive(Debug)]
pub struct Ended {
    /// Its exit status.
    pub status: ExitStatus,
    /// Both of its streams, line by line as they came.
    pub output: String,
}

impl Binary {
    /// Starts the binary `name` with these arguments and variables and no other ones of ours.
    pub(crate) fn spawn(
        name: &'static str,
        arguments: &[&str],
        variables: &[(String, String)],
        input: Option<&str>,
    ) -> Self {
        let path = path_of(name);
        let mut command = Command::new(&path);
        command.args(arguments).kill_on_drop(true);
        command.stdin(if input.is_some() {
            Stdio::piped()
        } else {
            Stdio::null()
        });
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        for (variable, _) in std::env::vars_os() {
            let name = variable.to_string_lossy();
            if ["AUTH__", "REALTIME__", "LATCHKEY_", "RUST_LOG"]
                .iter()
                .any(|ours| name.starts_with(ours))
            {
                command.env_remove(&variable);
            }
        }
        command.envs(variables.iter().map(|(name, value)| (name, value)));
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => panic!(
                "cannot start {}: {error}; `cargo build --workspace` makes it",
                path.display()
            ),
        };
        let output = Output::default();
        let stdout = child.stdout.take().expect("a piped stdout");
        let stderr = child.stderr.take().expect("a piped stderr");
        let small = FcntlArg::F_SETPIPE_SZ(PAGE_BYTES as i32);
        fcntl(&stderr, small).expect("a pipe of one page, which is full soon when nobody reads");
        let readers = vec![output.collect(stdout), output.collect(stderr)];
        if let Some(input) = input {
            let mut stdin = child.stdin.take().expect("a piped stdin");
            let input = input.to_owned();
            tokio::spawn(async move {
                // A process that does not want its input has ended, and its status tells.
                let _ = stdin.write_all(input.as_bytes()).await;
            });
        }
        let secrets = variables.iter().filter(|(name, _)| name == SECRET_VARIABLE);
        let mut unspeakable: Vec<String> = secrets.map(|(_, value)| value.clone()).collect();
        unspeakable.retain(|secret| !secret.is_empty());
        unspeakable.extend(TOKEN_BEGINNINGS.map(str::to_owned));
        unspeakable.extend(input.map(str::to_owned));
        Self {
            name,
            child,
            readers,
            output,
            unspeakable,
        }
    }

    /// Adds what it must never write either.
    pub(crate) fn forbid(&mut self, secrets: impl IntoIterator<Item = String>) {
        self.unspeakable.extend(secrets);
    }

    /// Waits until the service says that it listens.
    pub(crate) async fn listening(&mut self) {
        let output = self.output.clone();
        let announced = async {
            loop {
                let changed = output.0.1.notified();
                if output.text().contains("listening on http") {
                    return;
                }
                changed.await;
            }
        };
        let ended = tokio::select! {
            () = soon("listening on http://…", announced) => None,
            status = self.child.wait() => Some(status),
        };
        if let Some(status) = ended {
            panic!(
                "{} ended with {status:?}:\n{}",
                self.name,
                self.output.text()
            );
        }
    }

    /// Asks the process to end, as an operator's supervisor does.
    pub(crate) fn terminate(&self) {
        self.signal(Signal::SIGTERM);
    }

    /// Ends the process, which cannot do anything about it.
    pub(crate) fn kill(&self) {
        self.signal(Signal::SIGKILL);
    }

    /// Asks the process to read its secrets again, and waits until it says `done`.
    pub(crate) async fn reload(&self, done: &'static str) {
        let before = self.output.text().matches(done).count();
        self.signal(Signal::SIGHUP);
        let said = async {
            loop {
                let changed = self.output.0.1.notified();
                if self.output.text().matches(done).count() > before {
                    return;
                }
                changed.await;
            }
        };
        soon(done, said).await;
    }

    /// Memory of the process in bytes, by a field of `/proc/PID/status` such as `VmRSS`.
    pub(crate) fn memory_bytes(&self, field: &str) -> u64 {
        let path = format!("/proc/{}/status", self.id());
        let status = std::fs::read_to_string(path).expect("the status of a process");
        let mut lines = status.lines();
        let line = lines.find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        let number = line.and_then(|line| line.split_whitespace().next());
        let kib: u64 = number.and_then(|text| text.parse().ok()).expect("a number");
        kib * 1024
    }

    /// How often `text` is in the memory that the process can write.
    pub(crate) fn count_in_memory(&self, text: &str) -> usize {
        let folder = format!("/proc/{}", self.id());
        let maps = std::fs::read_to_string(format!("{folder}/maps")).expect("the mappings");
        let memory = std::fs::File::open(format!("{folder}/mem")).expect("the memory");
        let finder = memchr::memmem::Finder::new(text);
        let mut found = 0;
        for line in maps.lines() {
            let (range, rest) = line.split_once(' ').expect("a mapping");
            let (start, end) = range.split_once('-').expect("a range");
            let [mut at, end] =
                [start, end].map(|at| u64::from_str_radix(at, 16).expect("an address"));
            let mut page = [0; PAGE_BYTES];
            let mut run = Vec::new();
            // Some mappings belong to the system, and cannot be read.
            while rest.starts_with("rw") && at < end && memory.read_exact_at(&mut page, at).is_ok()
            {
                at += PAGE_BYTES as u64;
                if page != [0; PAGE_BYTES] {
                    run.extend_from_slice(&page);
                    continue;
                }
                found += finder.find_iter(&run).count();
                run.clear();
            }
            found += finder.find_iter(&run).count();
        }
        found
    }

    fn id(&self) -> u32 {
        let id = self.child.id();
        id.expect("a process that has not been waited for")
    }

    fn signal(&self, signal: Signal) {
        let id = self.id();
        let id = Pid::from_raw(i32::try_from(id).expect("a process id"));
        nix::sys::signal::kill(id, signal).expect("a process to signal");
    }

    /// Waits until the process has ended, also when nobody reads its output.
    pub(crate) async fn exited(&mut self) -> ExitStatus {
        let exited = soon(self.name, self.child.wait()).await;
        exited.expect("an exit status")
    }

    /// Waits until the process has ended and its output is complete.
    pub(crate) async fn ended(mut self) -> Ended {
        let status = soon(self.name, self.child.wait())
            .await
            .expect("an exit status");
        for reader in self.readers.drain(..) {
            soon("the end of the output", reader)
                .await
                .expect("a reader that does not panic");
        }
        Ended {
            status,
            output: self.output.text(),
        }
    }
}

impl Drop for Binary {
    fn drop(&mut self) {
        let output = self.output.text();
        let is_written = |secret: &String| output.contains(secret);
        if !std::thread::panicking() && self.unspeakable.iter().any(is_written) {
            panic!("{} wrote a token, a password or a secret", self.name);
        }
    }
}

/// Runs one of our binaries to its end.
pub async fn run(
    name: &'static str,
    arguments: &[&str],
    variables: &[(String, String)],
    input: Option<&str>,
) -> Ended {
    Binary::spawn(name, arguments, variables, input)
        .ended()
        .await
}

/// Beside the test's own directory, where cargo puts both.
pub(crate) fn path_of(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("the path of this test");
    let directory = test
        .parent()
        .and_then(|deps| deps.parent())
        .expect("target/PROFILE/deps");
    directory.join(format!("{name}{}", std::env::consts::EXE_SUFFIX))
}
