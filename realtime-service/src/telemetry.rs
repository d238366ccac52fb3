//! Logging: to standard error, and of our own crates alone below INFO.

use std::{
    borrow::Cow,
    fs::File,
    io,
    os::fd::AsFd as _,
    panic::{self, PanicHookInfo},
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{EnvFilter, filter::Directive};

use crate::config::LogFormat;

/// Third-party crates print what passes through them, tokens included, when they are asked to be
/// verbose. So `RUST_LOG` applies to these crates, and nothing lowers the level of any other.
const OWN_CRATES: [&str; 2] = ["realtime_service", "shared_claims"];

/// Maximum number of lines that wait for standard error. Further ones are dropped and counted.
const QUEUED_LINES: usize = 8192;

/// Maximum time for the last lines when the process ends.
const LAST_LINES: Duration = Duration::from_millis(1500);

/// Counter of the lines that found the queue full.
static DROPPED: OnceLock<ErrorCounter> = OnceLock::new();

/// Number of lines that standard error refused.
static REFUSED: AtomicU64 = AtomicU64::new(0);

/// Standard error, by a descriptor of its own: the lock of `io::stderr` is held during a write.
struct Stderr(File);

impl io::Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    /// Writes an event, which ends with a line feed.
    fn write_all(&mut self, event: &[u8]) -> io::Result<()> {
        self.0.write_all(&one_line(event)).inspect_err(|_| {
            REFUSED.fetch_add(1, Ordering::Relaxed);
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Returns an event without line breaks but the last: the text of an error can be another server's, which would forge
/// lines.
fn one_line(event: &[u8]) -> Cow<'_, [u8]> {
    let end = event.len().saturating_sub(1);
    let is_break = |byte: &u8| matches!(byte, b'\n' | b'\r');
    if !event[..end].iter().any(is_break) {
        return event.into();
    }
    let mut line = event.to_vec();
    line[..end]
        .iter_mut()
        .filter(|byte| is_break(byte))
        .for_each(|byte| *byte = b' ');
    line.into()
}

/// The log of the process. Dropping it waits for the last lines, as long as [`LAST_LINES`].
pub struct Log(Option<WorkerGuard>);

impl Drop for Log {
    fn drop(&mut self) {
        let guard = self.0.take();
        let (sender, written) = mpsc::channel();
        // With a full queue, the guard writes to standard output, which may be the same pipe.
        let waiting = thread::Builder::new().spawn(move || {
            drop(guard);
            let _ = sender.send(());
        });
        if waiting.is_ok() {
            let _ = written.recv_timeout(LAST_LINES);
        }
    }
}

/// Starts the thread that writes lines to standard error.
fn start_writer() -> io::Result<(NonBlocking, Log)> {
    let stderr = Stderr(File::from(io::stderr().as_fd().try_clone_to_owned()?));
    let (writer, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(QUEUED_LINES)
        .thread_name("log")
        .finish(stderr);
    // The process starts logging once.
    let _ = DROPPED.set(writer.error_counter());
    Ok((writer, Log(Some(guard))))
}

/// Number of lines that are lost: they found the queue full, or standard error refused them.
pub fn lost_lines() -> u64 {
    let dropped = DROPPED.get().map(ErrorCounter::dropped_lines);
    let dropped = u64::try_from(dropped.unwrap_or_default()).unwrap_or(u64::MAX);
    dropped.saturating_add(REFUSED.load(Ordering::Relaxed))
}

/// Starts logging. Lines that were written before it are lost. A thread of its own writes the lines, so that nobody
/// waits for a slow disk or a full pipe.
///
/// # Errors
///
/// When there is no standard error.
pub fn init(format: LogFormat) -> io::Result<Log> {
    let wanted = std::env::var("RUST_LOG").unwrap_or_default();
    let (writer, log) = start_writer()?;
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(own_crates_only(&wanted))
        .with_ansi(io::IsTerminal::is_terminal(&io::stderr()))
        .with_writer(writer);
    // A second start, as tests have it, keeps the first subscriber.
    let _ = match format {
        LogFormat::Text => subscriber.try_init(),
        LogFormat::Json => subscriber.json().try_init(),
    };
    panic::set_hook(Box::new(log_panic));
    Ok(log)
}

/// Logs a panic as one line with its place in the code. The message is left out: it can quote what a client sent.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let place = panic.location().map(ToString::to_string);
    tracing::error!(place, "panic");
}

/// `wanted` as far as it is about our own crates; INFO for all else.
fn own_crates_only(wanted: &str) -> EnvFilter {
    let mut filter = EnvFilter::new("info");
    for part in wanted
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
    {
        let is_own = OWN_CRATES.iter().any(|own| part.starts_with(own));
        let directives: Vec<String> = if is_own {
            vec![part.to_owned()]
        } else if part.contains(['=', '[', ':']) {
            vec![]
        } else {
            OWN_CRATES
                .iter()
                .map(|own| format!("{own}={part}"))
                .collect()
        };
        let directives = directives
            .iter()
            .filter_map(|text| text.parse::<Directive>().ok());
        filter = directives.fold(filter, EnvFilter::add_directive);
    }
    filter
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_whatever_another_server_sends() {
        for (event, line) in [
            (&b"a\r\nERROR forged\n"[..], &b"a  ERROR forged\n"[..]),
            (b"a\n", b"a\n"),
            (b"", b""),
        ] {
            assert_eq!(one_line(event).as_ref(), line);
        }
    }

    #[test]
    fn a_level_applies_to_our_own_crates_alone() {
        let filter = own_crates_only("trace").to_string();
        assert!(filter.contains("realtime_service=trace"), "{filter}");
        assert!(filter.split(',').any(|part| part == "info"), "{filter}");
        for wanted in ["socketioxide=trace", "hyper=debug,trace", "[span]=trace"] {
            let filter = own_crates_only(wanted).to_string();
            assert!(
                !filter.contains("socketioxide") && !filter.contains("hyper"),
                "{filter}"
            );
            assert!(filter.split(',').any(|part| part == "info"), "{filter}");
        }
    }
}
