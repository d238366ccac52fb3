//! The file that revocations are appended to: one thread writes, and one sync serves everybody who
//! waits for it.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
};

use tokio::sync::oneshot;

/// How many revocations may wait for the disk.
const QUEUE: usize = 1024;

/// What the thread is asked to do.
enum Command {
    /// Append this line, and say when it is on the disk.
    Append(String, oneshot::Sender<io::Result<()>>),
    /// Write the file anew with these lines alone.
    Rewrite(Vec<String>),
    /// Let go of the file, and say so.
    Close(oneshot::Sender<()>),
}

/// The way to the thread that writes. The thread ends with it.
pub(super) struct Log {
    queue: SyncSender<Command>,
    lines: Arc<AtomicUsize>,
}

/// The file, for the one who writes it.
pub(super) struct Writer {
    path: PathBuf,
    file: File,
    lines: Arc<AtomicUsize>,
    /// Held for as long as the file is ours; the file itself is replaced now and then.
    _lock: File,
}

impl Log {
    /// Starts the thread.
    pub(super) fn start(writer: Writer) -> io::Result<Self> {
        let (queue, commands) = sync_channel(QUEUE);
        let lines = writer.lines.clone();
        std::thread::Builder::new()
            .name("revocations".to_owned())
            .spawn(move || writer.run(&commands))?;
        Ok(Self { queue, lines })
    }

    /// How many lines there are.
    pub(super) fn lines(&self) -> usize {
        self.lines.load(Ordering::Relaxed)
    }

    /// Appends a line; when this returns it is on the disk.
    pub(super) async fn append(&self, line: String) -> io::Result<()> {
        let (answer, answered) = oneshot::channel();
        self.queue
            .try_send(Command::Append(line, answer))
            .map_err(|_| io::Error::other("too many revocations at once"))?;
        answered
            .await
            .map_err(|_| io::Error::other("the thread that writes has gone"))?
    }

    /// Writes the file anew when there is a moment for it.
    pub(super) fn rewrite_later(&self, lines: Vec<String>) {
        // With a full queue there is none; a later revocation asks again.
        let _ = self.queue.try_send(Command::Rewrite(lines));
    }

    /// Lets go of the file, so that another process can have it.
    pub(super) async fn close(&self) {
        let (answer, answered) = oneshot::channel();
        if self.queue.try_send(Command::Close(answer)).is_ok() {
            // A thread that has gone has let go too.
            let _ = answered.await;
        }
    }
}

impl Writer {
    /// Opens or makes the file, and reads its lines. A last line without its end was never
    /// acknowledged, and is left out.
    pub(super) fn open(path: &Path) -> io::Result<(Self, Vec<String>)> {
        let lock = lock_beside(path)?;
        let mut file = open_to_append(path)?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        let lines: Vec<String> = text[..whole].lines().map(str::to_owned).collect();
        let writer = Self {
            path: path.to_owned(),
            file,
            lines: Arc::new(AtomicUsize::new(lines.len())),
            _lock: lock,
        };
        Ok((writer, lines))
    }

    /// Writes the file anew, whole or not at all.
    pub(super) fn rewrite(&mut self, lines: &[String]) -> io::Result<()> {
        let draft = beside(&self.path, ".new");
        // A draft that was left behind by a crash is nobody's.
        match fs::remove_file(&draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = open_to_append(&draft)?;
        file.write_all(joined(lines).as_bytes())?;
        file.sync_all()?;
        fs::rename(&draft, &self.path)?;
        // From here on the other file is nobody's, whatever fails.
        self.file = file;
        self.lines.store(lines.len(), Ordering::Relaxed);
        sync_directory_of(&self.path)
    }

    fn run(mut self, commands: &Receiver<Command>) {
        while let Ok(first) = commands.recv() {
            let mut lines = Vec::new();
            let mut waiting = Vec::new();
            let mut closing = None;
            for command in std::iter::once(first).chain(commands.try_iter().take(QUEUE)) {
                match command {
                    Command::Append(line, answer) => {
                        lines.push(line);
                        waiting.push(answer);
                    }
                    Command::Rewrite(lines) => {
                        if let Err(error) = self.rewrite(&lines) {
                            tracing::warn!("revocations cannot be written anew: {error}");
                        }
                    }
                    Command::Close(answer) => closing = Some(answer),
                }
            }
            let written = self.append(&lines);
            for answer in waiting {
                let copy = written.as_ref().map_err(|error| error.kind().into());
                // Who does not wait any more is told again when the issuer asks again.
                let _ = answer.send(copy.copied());
            }
            if let Some(answer) = closing {
                drop(self);
                let _ = answer.send(());
                return;
            }
        }
    }

    fn append(&mut self, lines: &[String]) -> io::Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        let length = self.file.metadata()?.len();
        let written = self
            .file
            .write_all(joined(lines).as_bytes())
            .and_then(|()| self.file.sync_data());
        if written.is_err() {
            // Half a line must not stand before the next one.
            self.file.set_len(length)?;
        } else {
            self.lines.fetch_add(lines.len(), Ordering::Relaxed);
        }
        written
    }
}

fn joined(lines: &[String]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

fn open_to_append(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
}

/// Two gateways with one file would overwrite each other's lines.
fn lock_beside(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(beside(path, ".lock"))?;
    file.try_lock()
        .map_err(|_| io::Error::other("another process uses it"))?;
    Ok(file)
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// A file that was renamed is there after a power cut once its directory is on the disk too.
fn sync_directory_of(path: &Path) -> io::Result<()> {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}
