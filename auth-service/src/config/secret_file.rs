//! The file with the secrets, as a file.

use std::{
    fs::File,
    io::{self, Read as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
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
    if data.permissions().mode() & 0o007 != 0 {
        tracing::warn!("a file with secrets can be read by everybody on this machine");
    }
    let mut text = String::new();
    file.take(MAXIMUM_BYTES).read_to_string(&mut text)?;
    Ok(text)
}
