//! The lines of the log, for tests that read them.

use std::{
    io,
    sync::{Arc, Mutex},
};

/// Takes the text of lines. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct LogLines(Arc<Mutex<Vec<u8>>>);

impl LogLines {
    /// Returns the text of the lines until now.
    pub(crate) fn text(&self) -> String {
        let bytes = self.0.lock().expect("a lock").clone();
        String::from_utf8(bytes).expect("text")
    }
}

impl io::Write for LogLines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("a lock").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
