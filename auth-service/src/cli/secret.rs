//! `secret init`: a file with a random secret, made once however often it is asked for.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use shared_claims::secret::{SECRET_FILE_VARIABLE, Secrets, from_random};
use zeroize::Zeroizing;

use super::{Failure, print_line};
use crate::ids::random_id;

/// The owner writes, the gateway's group reads, and nobody else does either.
const SECRET_MODE: u32 = 0o640;

/// Makes the file whole or not at all, and leaves a valid one as it is.
pub(super) fn init(path: &Path) -> Result<(), Failure> {
    let display = path.display();
    match create(path) {
        Ok(()) => print_line(&format!("made {display}")),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            check(path)?;
            print_line(&format!("kept {display}"))
        }
        Err(error) => Err(Failure::Other(format!("cannot make {display}: {error}"))),
    }
}

fn check(path: &Path) -> Result<(), Failure> {
    let refuse = |reason: String| {
        Failure::Configuration(format!("{} exists, but: {reason}", path.display()))
    };
    let text = fs::read_to_string(path)
        .map(Zeroizing::new)
        .map_err(|error| refuse(error.kind().to_string()))?;
    Secrets::parse(SECRET_FILE_VARIABLE, &text, '\n').map_err(|error| refuse(error.to_string()))?;
    Ok(())
}

/// Writes to a file beside it and gives that its name, so that no reader ever sees half a secret
/// and of two that start at once the same one wins for both.
fn create(path: &Path) -> io::Result<()> {
    if path.symlink_metadata().is_ok() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let draft = Draft::create(directory)?;
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *bytes).map_err(io::Error::other)?;
    draft.write(from_random(*bytes).as_bytes())?;
    // A link fails when the name exists, where a rename would take its place.
    fs::hard_link(&draft.0, path)?;
    File::open(directory)?.sync_all()
}

/// A file under a name of its own, which is gone in the end whatever happens.
struct Draft(PathBuf);

impl Draft {
    fn create(directory: &Path) -> io::Result<Self> {
        let name = format!(".secret-{}", random_id().map_err(io::Error::other)?);
        let draft = Self(directory.join(name));
        fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(SECRET_MODE)
            .open(&draft.0)?;
        Ok(draft)
    }

    fn write(&self, secret: &[u8]) -> io::Result<()> {
        let mut file = fs::OpenOptions::new().write(true).open(&self.0)?;
        // The umask may have taken the group's right away.
        file.set_permissions(fs::Permissions::from_mode(SECRET_MODE))?;
        file.write_all(secret)?;
        file.write_all(b"\n")?;
        file.sync_all()
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // The file may never have been made.
        let _ = fs::remove_file(&self.0);
    }
}
