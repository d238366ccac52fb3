//! Log lines, to stderr.

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
    time::{Duration, Instant},
};

use shared_claims::forwarded::ReportInterval;
use tracing::{Event, Level, Metadata};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{
    Layer,
    filter::Targets,
    layer::{Context, Filter, SubscriberExt as _},
    util::SubscriberInitExt as _,
};

use crate::{config::LogFormat, error::OUTAGE_TARGET};

/// The crates that `RUST_LOG` may open beyond INFO: the ones that never log a payload. Libraries
/// print headers and bodies at DEBUG and TRACE, and with them passwords and tokens.
const OUR_CRATES: [&str; 2] = ["auth_service", "shared_claims"];

/// The crate that logs an error for each connection whose bytes are no HTTP. Strangers decide how many.
const HTTP_CRATE: &str = "actix_http";

/// The crate of TLS, which writes a line for what a stranger sends before any handshake. Its failures are
/// values too.
const TLS_CRATE: &str = "rustls";

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

/// Starts logging for the whole process, at the level that `RUST_LOG` asks for (INFO by default). A thread of its own
/// writes the lines, so that nobody waits for a slow disk or a full pipe.
///
/// # Errors
///
/// When logging was started before, or there is no standard error.
pub fn start(format: LogFormat, rust_log: Option<&str>) -> anyhow::Result<Log> {
    let (requested, unreadable) = match rust_log.map(str::parse::<Targets>) {
        None => (Targets::new().with_default(Level::INFO), false),
        Some(Ok(targets)) => (targets, false),
        Some(Err(_)) => (Targets::new().with_default(Level::INFO), true),
    };
    let filter = LineFilter::new(requested);
    let (writer, log) = start_writer()?;
    let layer = tracing_subscriber::fmt::layer().with_writer(writer);
    let layer = match format {
        LogFormat::Text => layer.with_ansi(false).boxed(),
        LogFormat::Json => layer.json().boxed(),
    };
    tracing_subscriber::registry()
        .with(layer.with_filter(filter))
        .try_init()?;
    panic::set_hook(Box::new(log_panic));
    if unreadable {
        tracing::warn!("RUST_LOG cannot be read and is ignored");
    }
    Ok(log)
}

/// Logs a panic as one line with its place in the code. The message is left out: it can quote what a visitor
/// sent.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let place = panic.location().map(ToString::to_string);
    tracing::error!(place, "panic");
}

/// Shows the lines that were asked for and are allowed, and of those that strangers cause one a minute of each kind.
struct LineFilter {
    requested: Targets,
    started: Instant,
    of_strangers: ReportInterval,
    of_outages: ReportInterval,
}

impl LineFilter {
    fn new(requested: Targets) -> Self {
        Self {
            requested,
            started: Instant::now(),
            of_strangers: ReportInterval::default(),
            of_outages: ReportInterval::default(),
        }
    }
}

impl<S> Filter<S> for LineFilter {
    fn enabled(&self, metadata: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        is_shown(&self.requested, metadata)
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        let interval = match event.metadata().target() {
            OUTAGE_TARGET => &self.of_outages,
            target if root_of(target) == HTTP_CRATE => &self.of_strangers,
            _ => return true,
        };
        interval.is_due(self.started.elapsed().as_secs())
    }
}

fn root_of(target: &str) -> &str {
    target.split("::").next().unwrap_or_default()
}

fn is_shown(requested: &Targets, metadata: &Metadata<'_>) -> bool {
    is_allowed(metadata.target(), *metadata.level())
        && requested.would_enable(metadata.target(), metadata.level())
}

fn is_allowed(target: &str, level: Level) -> bool {
    let root = root_of(target);
    root != TLS_CRATE && (level <= Level::INFO || OUR_CRATES.contains(&root))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log_lines::LogLines;

    #[test]
    fn only_our_own_crates_speak_below_info() {
        assert!(is_allowed("auth_service::login", Level::TRACE));
        assert!(is_allowed("actix_server::builder", Level::INFO));
        assert!(!is_allowed("actix_http::h1", Level::DEBUG));
        assert!(!is_allowed("sqlx::query", Level::TRACE));
        assert!(!is_allowed("auth_service_elsewhere", Level::DEBUG));
    }

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
    fn a_panic_is_one_line_with_its_place_and_without_its_message() {
        let lines = LogLines::default();
        let own = lines.clone();
        let layer = tracing_subscriber::fmt::layer().json();
        let layer = layer.with_writer(move || own.clone());
        let subscriber = tracing_subscriber::registry().with(layer);
        let before = panic::take_hook();
        panic::set_hook(Box::new(log_panic));
        tracing::subscriber::with_default(subscriber, || {
            let ended = panic::catch_unwind(|| panic!("the password {}", "open sesame"));
            assert!(ended.is_err());
        });
        panic::set_hook(before);
        let line: serde_json::Value =
            serde_json::from_str(&lines.text()).expect("one line of JSON");
        assert_eq!(line["level"], "ERROR");
        assert_eq!(line["fields"]["message"], "panic");
        let place = line["fields"]["place"].as_str().expect("a place");
        assert!(place.contains("telemetry.rs:"), "{place}");
        assert!(!line.to_string().contains("sesame"), "{line}");
    }

    #[test]
    fn of_the_lines_that_strangers_cause_one_a_minute_is_shown() {
        let lines = LogLines::default();
        let own = lines.clone();
        let layer = tracing_subscriber::fmt::layer().with_writer(move || own.clone());
        let filter = LineFilter::new(Targets::new().with_default(Level::INFO));
        let subscriber = tracing_subscriber::registry().with(layer.with_filter(filter));
        tracing::subscriber::with_default(subscriber, || {
            for _ in 0..100 {
                tracing::error!(target: "actix_http::h1::dispatcher", "stream error: parse error");
                tracing::error!(target: "actix_server::server", "a worker has died");
                tracing::error!(target: OUTAGE_TARGET, "the disk is full");
            }
        });
        let text = lines.text();
        assert_eq!(text.matches("stream error").count(), 1);
        assert_eq!(text.matches("a worker has died").count(), 100);
        assert_eq!(text.matches("the disk is full").count(), 1);
    }
}
