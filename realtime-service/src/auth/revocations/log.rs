//! The file that revocations are appended to: one thread appends, and one sync serves everybody who
//! waits for it. Another thread writes the next version of the file while the first one goes on.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    time::Duration,
};

use tokio::sync::{oneshot, watch};

use super::{
    draft::Draft,
    entries::Entries,
    file::{beside, lock_beside, open_to_append, sync_directory_of},
};

/// The rest after each shard that is written anew while the gateway serves: about as long as the
/// shard takes.
const SHARD_PAUSE: Duration = Duration::from_millis(2);

/// How many revocations may wait for the disk.
const QUEUE: usize = 1024;

/// What the thread is asked to do.
enum Command {
    /// Append these lines, and say when they are on the disk.
    Append(Vec<String>, oneshot::Sender<io::Result<()>>),
    /// Write the file anew with what is in force, and send the draft to the queue.
    Rewrite(Arc<Entries>, SyncSender<Command>),
    /// The draft is complete but for what was appended since it was begun.
    Finish(io::Result<Draft>),
    /// Release the file, and say so.
    Close(oneshot::Sender<()>),
}

/// The way to the thread that writes. The thread ends with it.
pub(super) struct Log {
    queue: SyncSender<Command>,
    lines: watch::Receiver<usize>,
    is_incomplete: Arc<AtomicBool>,
}

/// The file, for the thread that writes it.
pub(super) struct Writer {
    path: PathBuf,
    file: File,
    /// How many lines the file has.
    lines: watch::Sender<usize>,
    /// Whether the file lacks a revocation that is in force. Set when one cannot be appended, and cleared
    /// when a draft is begun, which has all of them.
    is_incomplete: Arc<AtomicBool>,
    rewriting: Option<Rewriting>,
    /// Held for as long as the file is ours; the file itself is replaced now and then.
    _lock: File,
}

/// A draft that another thread fills.
struct Rewriting {
    /// The length of the file when the draft was begun: what comes after is not in the draft.
    offset: u64,
    /// How many lines were appended since.
    appended: usize,
    is_cancelled: Arc<AtomicBool>,
}

impl Drop for Rewriting {
    fn drop(&mut self) {
        self.is_cancelled.store(true, Ordering::Relaxed);
    }
}

impl Log {
    /// Starts the thread.
    pub(super) fn start(writer: Writer) -> io::Result<Self> {
        let (queue, commands) = sync_channel(QUEUE);
        let lines = writer.lines.subscribe();
        let is_incomplete = writer.is_incomplete.clone();
        std::thread::Builder::new()
            .name("revocations".to_owned())
            .spawn(move || writer.run(&commands))?;
        Ok(Self {
            queue,
            lines,
            is_incomplete,
        })
    }

    /// Returns the number of lines in the file.
    pub(super) fn lines(&self) -> usize {
        *self.lines.borrow()
    }

    /// Whether the file lacks a revocation that is in force, and has to be written anew.
    pub(super) fn is_incomplete(&self) -> bool {
        self.is_incomplete.load(Ordering::Acquire)
    }

    /// Waits until the file has at most `most` lines.
    #[cfg(test)]
    pub(super) async fn is_short(&self, most: usize) {
        let mut lines = self.lines.clone();
        let waited = lines.wait_for(|lines| *lines <= most).await;
        waited.expect("a thread that writes");
    }

    /// Appends a line; when this returns it is on the disk.
    pub(super) async fn append(&self, line: String) -> io::Result<()> {
        let (answer, answered) = oneshot::channel();
        self.queue
            .try_send(Command::Append(vec![line], answer))
            .map_err(|_| io::Error::other("too many revocations at once"))?;
        answered
            .await
            .map_err(|_| io::Error::other("the thread that writes has gone"))?
    }

    /// Appends a line whose revocation is in force, without waiting for the disk. With a full queue the file
    /// is [incomplete](Self::is_incomplete) until it is written anew.
    pub(super) fn append_later(&self, line: String) {
        let (answer, _) = oneshot::channel();
        self.queue_later(vec![line], answer);
    }

    /// Appends lines whose revocations are in force, and waits until they are on the disk, or the file is
    /// known to be [incomplete](Self::is_incomplete).
    pub(super) async fn append_all(&self, lines: Vec<String>) {
        if lines.is_empty() {
            return;
        }
        let (answer, answered) = oneshot::channel();
        self.queue_later(lines, answer);
        // A failed write has marked the file.
        let _ = answered.await;
    }

    fn queue_later(&self, lines: Vec<String>, answer: oneshot::Sender<io::Result<()>>) {
        if self.queue.try_send(Command::Append(lines, answer)).is_err() {
            self.is_incomplete.store(true, Ordering::Release);
            tracing::warn!("revocations of other gateways wait for the file to be written anew");
        }
    }

    /// Writes the file anew when there is a moment for it.
    pub(super) fn rewrite_later(&self, entries: Arc<Entries>) {
        // With a full queue there is none; a later call asks again.
        let _ = self
            .queue
            .try_send(Command::Rewrite(entries, self.queue.clone()));
    }

    /// Releases the file, so that another process can have it.
    pub(super) async fn close(&self) {
        let (answer, answered) = oneshot::channel();
        if self.queue.try_send(Command::Close(answer)).is_ok() {
            // A thread that has gone has released the file too.
            let _ = answered.await;
        }
    }
}

impl Writer {
    /// Opens or makes the file, and hands each of its lines to `read`. A last line without its end was
    /// never acknowledged, and is left out.
    pub(super) fn open(
        path: &Path,
        mut read: impl FnMut(&str) -> anyhow::Result<()>,
    ) -> anyhow::Result<Self> {
        let lock = lock_beside(path)?;
        let file = open_to_append(path)?;
        let (mut reader, mut line, mut lines) = (BufReader::new(&file), Vec::new(), 0);
        // A line that was cut off may end within a character.
        while reader.read_until(b'\n', &mut line)? > 0 && line.ends_with(b"\n") {
            read(str::from_utf8(&line)?.trim_end())?;
            lines += 1;
            line.clear();
        }
        Ok(Self {
            path: path.to_owned(),
            file,
            lines: watch::Sender::new(lines),
            is_incomplete: Arc::default(),
            rewriting: None,
            _lock: lock,
        })
    }

    /// Writes the file anew with what is in force, whole or not at all.
    pub(super) fn rewrite(&mut self, entries: &Entries) -> io::Result<()> {
        let mut draft = Draft::begin(beside(&self.path, ".new"))?;
        draft.fill(entries, Duration::ZERO, &AtomicBool::new(false))?;
        self.adopt(draft)
    }

    /// Begins a draft, which another thread fills and sends to `queue`.
    fn begin_rewriting(
        &mut self,
        entries: Arc<Entries>,
        queue: SyncSender<Command>,
    ) -> io::Result<()> {
        let mut draft = Draft::begin(beside(&self.path, ".new"))?;
        self.is_incomplete.store(false, Ordering::Release);
        let is_cancelled = Arc::new(AtomicBool::new(false));
        let rewriting = Rewriting {
            offset: self.file.metadata()?.len(),
            appended: 0,
            is_cancelled: is_cancelled.clone(),
        };
        std::thread::Builder::new()
            .name("revocations-new".to_owned())
            .spawn(move || {
                let filled = draft
                    .fill(&entries, SHARD_PAUSE, &is_cancelled)
                    .map(|()| draft);
                // A queue without its thread has released the file.
                let _ = queue.send(Command::Finish(filled));
            })?;
        self.rewriting = Some(rewriting);
        Ok(())
    }

    /// Puts a draft in the place of the file, with what was appended since the draft was begun.
    fn finish_rewriting(&mut self, draft: io::Result<Draft>) -> io::Result<()> {
        let Some(rewriting) = self.rewriting.take() else {
            return Ok(());
        };
        let mut draft = draft?;
        draft.append_tail(&self.file, rewriting.offset, rewriting.appended)?;
        self.adopt(draft)
    }

    fn adopt(&mut self, draft: Draft) -> io::Result<()> {
        let (file, lines) = draft.replace(&self.path)?;
        // From here on the former file is nobody's, whatever fails.
        self.file = file;
        self.lines.send_replace(lines);
        sync_directory_of(&self.path)
    }

    fn run(mut self, commands: &Receiver<Command>) {
        while let Ok(first) = commands.recv() {
            let mut lines = Vec::new();
            let mut waiting = Vec::new();
            let (mut draft, mut closing) = (None, None);
            for command in std::iter::once(first).chain(commands.try_iter().take(QUEUE)) {
                match command {
                    Command::Append(some, answer) => {
                        lines.extend(some);
                        waiting.push(answer);
                    }
                    Command::Rewrite(entries, queue) if self.rewriting.is_none() => {
                        let begun = self.begin_rewriting(entries, queue);
                        self.note_rewriting(begun);
                    }
                    // One draft at a time.
                    Command::Rewrite(..) => {}
                    Command::Finish(finished) => draft = Some(finished),
                    Command::Close(answer) => closing = Some(answer),
                }
            }
            let written = self.append(&lines);
            if written.is_err() {
                self.is_incomplete.store(true, Ordering::Release);
            }
            for answer in waiting {
                let copy = written.as_ref().map_err(|error| error.kind().into());
                // Whoever does not wait any more is told again when the issuer asks again.
                let _ = answer.send(copy.copied());
            }
            if let Some(draft) = draft {
                let finished = self.finish_rewriting(draft);
                self.note_rewriting(finished);
            }
            if let Some(answer) = closing {
                drop(self);
                let _ = answer.send(());
                return;
            }
        }
    }

    /// Notes that a draft failed, which may have had more than the file has.
    fn note_rewriting(&self, rewritten: io::Result<()>) {
        if let Err(error) = rewritten {
            self.is_incomplete.store(true, Ordering::Release);
            tracing::warn!("revocations cannot be written anew: {error}");
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
            self.lines.send_modify(|count| *count += lines.len());
            if let Some(rewriting) = &mut self.rewriting {
                rewriting.appended += lines.len();
            }
        }
        written
    }
}

fn joined(lines: &[String]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests;
