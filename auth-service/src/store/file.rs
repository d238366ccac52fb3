//! The SQLite file, as a file.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use super::StoreError;

/// Makes the file for its owner alone; SQLite gives the files beside it the same mode. A file that
/// exists is not opened: closing it would drop the locks that SQLite holds on it in this process.
pub(super) fn create_private(path: &Path) -> Result<(), StoreError> {
    let created = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    match created {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            warn_if_readable(path);
            Ok(())
        }
        Err(source) => Err(StoreError::file(path, source)),
    }
}

fn warn_if_readable(path: &Path) {
    let mode = fs::metadata(path).map(|data| data.permissions().mode());
    if mode.is_ok_and(|mode| mode & 0o077 != 0) {
        tracing::warn!("the database can be read by others than its owner");
    }
}

/// Identity of the file, whatever its name becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OpenedFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl OpenedFile {
    /// The file at `path`, when there is one.
    pub(super) fn at(path: &Path) -> Option<Self> {
        let data = fs::metadata(path).ok()?;
        Some(Self {
            path: path.to_owned(),
            device: data.dev(),
            inode: data.ino(),
        })
    }

    /// Whether it is where it was. What is written to a file that was moved or removed is not found
    /// by the next who opens it.
    pub(super) fn is_in_place(&self) -> bool {
        Self::at(&self.path).as_ref() == Some(self)
    }
}

/// Holds everybody else off until it is dropped. SQLite has no lock that spans the migrations, and
/// the switch to a write-ahead log does not wait for one: of two processes that open a new database
/// at once, one would fail.
pub(super) async fn lock_beside(path: &Path) -> Result<fs::File, StoreError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let failed = |source| StoreError::file(Path::new(&name), source);
    let file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&name)
        .map_err(failed)?;
    let locking = tokio::task::spawn_blocking(move || file.lock().map(|()| file));
    let locked = locking.await.map_err(io::Error::other);
    locked.and_then(|locked| locked).map_err(failed)
}
