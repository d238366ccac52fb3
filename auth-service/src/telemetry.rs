//! Log lines, to stderr.

use std::io;

use tracing::{Level, Metadata};
use tracing_subscriber::{
    Layer, filter::FilterFn, filter::Targets, layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

use crate::config::LogFormat;

/// The crates that `RUST_LOG` may open beyond INFO: the ones that never log a payload. Libraries
/// print headers and bodies at DEBUG and TRACE, and with them passwords and tokens.
const OUR_CRATES: [&str; 2] = ["auth_service", "shared_claims"];

/// Starts logging for the whole process, at the level that `RUST_LOG` asks for (INFO by default).
///
/// # Errors
///
/// When logging was started before.
pub fn start(format: LogFormat, rust_log: Option<&str>) -> anyhow::Result<()> {
    let (requested, unreadable) = match rust_log.map(str::parse::<Targets>) {
        None => (Targets::new().with_default(Level::INFO), false),
        Some(Ok(targets)) => (targets, false),
        Some(Err(_)) => (Targets::new().with_default(Level::INFO), true),
    };
    let filter = FilterFn::new(move |metadata| is_shown(&requested, metadata));
    let layer = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    let layer = match format {
        LogFormat::Text => layer.with_ansi(false).boxed(),
        LogFormat::Json => layer.json().boxed(),
    };
    tracing_subscriber::registry()
        .with(layer.with_filter(filter))
        .try_init()?;
    if unreadable {
        tracing::warn!("RUST_LOG cannot be read and is ignored");
    }
    Ok(())
}

fn is_shown(requested: &Targets, metadata: &Metadata<'_>) -> bool {
    is_allowed(metadata.target(), *metadata.level())
        && requested.would_enable(metadata.target(), metadata.level())
}

fn is_allowed(target: &str, level: Level) -> bool {
    let root = target.split("::").next().unwrap_or_default();
    level <= Level::INFO || OUR_CRATES.contains(&root)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_crates_speak_below_info() {
        assert!(is_allowed("auth_service::login", Level::TRACE));
        assert!(is_allowed("actix_server::builder", Level::INFO));
        assert!(!is_allowed("actix_http::h1", Level::DEBUG));
        assert!(!is_allowed("sqlx::query", Level::TRACE));
        assert!(!is_allowed("auth_service_elsewhere", Level::DEBUG));
    }
}
