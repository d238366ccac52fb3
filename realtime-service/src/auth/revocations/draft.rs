//! The next version of the file, which holds what is in force and nothing else.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use super::{Record, entries::Entries, file::open_to_append, line_of};
use crate::clock::{unix_secs, wall_now};

/// A file that will replace the one in use.
pub(super) struct Draft {
    path: PathBuf,
    file: File,
    lines: usize,
}

impl Draft {
    /// Begins a draft at `path`. A draft that was left behind by a crash is replaced.
    pub(super) fn begin(path: PathBuf) -> io::Result<Self> {
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = open_to_append(&path)?;
        Ok(Self {
            path,
            file,
            lines: 0,
        })
    }

    /// Writes everything that is in force, shard by shard, and waits until it is on the disk. Rests for
    /// `pause` after each shard, so that handshakes have the processor.
    ///
    /// # Errors
    ///
    /// When it cannot be written, or `is_cancelled` was set meanwhile.
    pub(super) fn fill(
        &mut self,
        entries: &Entries,
        pause: Duration,
        is_cancelled: &AtomicBool,
    ) -> io::Result<()> {
        let now = unix_secs(wall_now());
        let mut writer = BufWriter::new(&self.file);
        let mut shard = 0;
        while let Some(copied) = entries.copy(shard, now) {
            if is_cancelled.load(Ordering::Relaxed) {
                return Err(io::ErrorKind::Interrupted.into());
            }
            for (key, entry) in copied {
                let scope = std::slice::from_ref(&key.1);
                let record = Record::of(&key.0, scope, (entry.iat, entry.until));
                writeln!(writer, "{}", line_of(&record))?;
                self.lines += 1;
            }
            shard += 1;
            std::thread::sleep(pause);
        }
        writer.flush()?;
        drop(writer);
        self.file.sync_all()
    }

    /// Appends the `lines` lines that `file` has from `offset` on.
    pub(super) fn append_tail(
        &mut self,
        mut file: &File,
        offset: u64,
        lines: usize,
    ) -> io::Result<()> {
        file.seek(SeekFrom::Start(offset))?;
        let mut tail = Vec::new();
        file.read_to_end(&mut tail)?;
        self.file.write_all(&tail)?;
        self.lines += lines;
        self.file.sync_all()
    }

    /// Puts the draft in the place of `path`. Returns the file and how many lines it has.
    pub(super) fn replace(self, path: &Path) -> io::Result<(File, usize)> {
        fs::rename(&self.path, path)?;
        Ok((self.file, self.lines))
    }
}
