//! A token in a file, since every user of a machine sees the arguments of a process.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

/// The most that is read of the file, in bytes; a token is shorter.
const MAXIMUM_FILE_BYTES: u64 = 64 * 1024;

/// Reads the file with a token; `-` is standard input.
///
/// # Errors
///
/// When the file cannot be read or is no text.
pub(super) fn read(path: &Path) -> io::Result<String> {
    let source: Box<dyn Read> = match path.to_str() {
        Some("-") => Box::new(io::stdin()),
        _ => Box::new(File::open(path)?),
    };
    let mut token = String::new();
    source.take(MAXIMUM_FILE_BYTES).read_to_string(&mut token)?;
    Ok(token)
}
