//! The time that the disk itself takes: no commit can be faster.

use std::{
    fs::File,
    io::{Seek as _, SeekFrom, Write as _},
    path::Path,
    thread,
    time::{Duration, Instant},
};

/// Interval between two blocks.
const INTERVAL: Duration = Duration::from_millis(100);

/// Two pages of SQLite, about what a refresh adds to the write-ahead log.
const BLOCK: [u8; 8192] = [0; 8192];

/// Writes a block in `directory` until then, and syncs it, as SQLite does at a commit.
pub(crate) fn sync_until(
    directory: &Path,
    until: Instant,
    latencies: &mut Vec<Duration>,
) -> anyhow::Result<()> {
    let mut file = File::create(directory.join("disk"))?;
    while Instant::now() < until {
        let start = Instant::now();
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&BLOCK)?;
        file.sync_data()?;
        latencies.push(start.elapsed());
        thread::sleep(INTERVAL);
    }
    Ok(())
}
