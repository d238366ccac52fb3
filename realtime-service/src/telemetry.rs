//! Logging: to standard error, and of our own crates alone below INFO.

use std::{fs::File, io, os::fd::AsFd as _, sync::OnceLock};

use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{EnvFilter, filter::Directive};

use crate::config::LogFormat;

/// Third-party crates print what passes through them, tokens included, when they are asked to be
/// verbose. So `RUST_LOG` applies to these crates, and nothing lowers the level of any other.
const OWN_CRATES: [&str; 2] = ["realtime_service", "shared_claims"];

/// Maximum number of lines that wait for standard error. Further ones are dropped and counted.
const QUEUED_LINES: usize = 8192;

/// Counter of the dropped lines.
static DROPPED_LINES: OnceLock<ErrorCounter> = OnceLock::new();

/// Starts logging. Lines that were written before it are lost. A thread of its own writes the lines, so that nobody
/// waits for a slow disk or a full pipe; dropping the guard waits for the last ones, for about a second at most.
///
/// # Errors
///
/// When there is no standard error.
pub fn init(format: LogFormat) -> io::Result<WorkerGuard> {
    let wanted = std::env::var("RUST_LOG").unwrap_or_default();
    // A file of its own: the lock of `io::stderr` is held during a write.
    let stderr = File::from(io::stderr().as_fd().try_clone_to_owned()?);
    let (writer, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(QUEUED_LINES)
        .thread_name("log")
        .finish(stderr);
    // The process starts logging once.
    let _ = DROPPED_LINES.set(writer.error_counter());
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(own_crates_only(&wanted))
        .with_ansi(io::IsTerminal::is_terminal(&io::stderr()))
        .with_writer(writer);
    // A second start, as tests have it, keeps the first subscriber.
    let _ = match format {
        LogFormat::Text => subscriber.try_init(),
        LogFormat::Json => subscriber.json().try_init(),
    };
    Ok(guard)
}

/// Number of lines that were dropped.
pub fn dropped_lines() -> u64 {
    let dropped = DROPPED_LINES.get().map(ErrorCounter::dropped_lines);
    u64::try_from(dropped.unwrap_or_default()).unwrap_or(u64::MAX)
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
