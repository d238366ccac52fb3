//! The SQLite file, as a file.

use std::{
    fs, io,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
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
