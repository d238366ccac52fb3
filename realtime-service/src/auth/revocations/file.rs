//! Calls to the file system that the log of revocations and its draft share.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// Opens the file for reading and appending, and creates it for its owner alone when it is missing.
pub(super) fn open_to_append(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
}

/// Locks the file `path.lock`. The lock lasts until the returned file is dropped. Two gateways with one
/// file would overwrite each other's lines.
///
/// # Errors
///
/// When another process holds the lock, or the file cannot be created.
pub(crate) fn lock_beside(path: &Path) -> io::Result<File> {
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

/// Returns `path` with `ending` appended to its file name.
pub(super) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// Syncs the directory of `path`. A file that was renamed survives a power cut only after that.
pub(super) fn sync_directory_of(path: &Path) -> io::Result<()> {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}
