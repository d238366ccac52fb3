//! Files with secrets, as files.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, Read as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

/// The longest file that is read, in bytes: it holds a few lines.
const MAXIMUM_BYTES: u64 = 64 * 1024;

/// Reads a regular file of a sensible length. What never ends, such as a pipe or a device, is not
/// waited for.
pub(crate) fn read(path: &Path) -> io::Result<String> {
    const O_NONBLOCK: i32 = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let file = File::options()
        .read(true)
        .custom_flags(O_NONBLOCK)
        .open(path)?;
    let data = file.metadata()?;
    if !data.is_file() || data.len() > MAXIMUM_BYTES {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    warn_of_mode(path, data.permissions().mode());
    let mut text = String::new();
    file.take(MAXIMUM_BYTES).read_to_string(&mut text)?;
    Ok(text)
}

/// Logs a warning that names a file when everybody can read it, once until the mode is mended: some files
/// are read for each request.
fn warn_of_mode(path: &Path, mode: u32) {
    static WARNED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    let mut warned = WARNED.lock().unwrap_or_else(PoisonError::into_inner);
    if mode & 0o007 == 0 {
        warned.remove(path);
    } else if warned.insert(path.to_owned()) {
        let file = path.display();
        tracing::warn!(%file, "a file with secrets can be read by everybody on this machine");
    }
}
