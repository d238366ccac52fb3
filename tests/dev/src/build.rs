//! Builds the services, and asks cargo where it put them.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use serde_json::Value;

use crate::settings::forget_own_package;

/// The two programs.
pub(crate) struct Binaries {
    pub(crate) auth: PathBuf,
    pub(crate) realtime: PathBuf,
}

/// Runs `cargo build` for both services; its progress and its complaints go to the terminal.
///
/// # Errors
///
/// When cargo cannot be started, or the build fails.
pub(crate) fn build(root: &Path) -> anyhow::Result<Binaries> {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args([
            "build",
            "--package",
            "auth-service",
            "--package",
            "realtime-service",
        ])
        .arg("--message-format=json-render-diagnostics")
        .current_dir(root)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit());
    forget_own_package(&mut cargo);

    let output = cargo.output().context("cargo could not be started")?;
    if !output.status.success() {
        bail!("the build failed; the reason stands above");
    }
    let messages = String::from_utf8(output.stdout).context("cargo's messages are no UTF-8")?;
    Ok(Binaries {
        auth: executable(&messages, "auth-service")?,
        realtime: executable(&messages, "realtime-service")?,
    })
}

/// Finds the program called `name` among cargo's messages, one JSON object a line.
fn executable(messages: &str, name: &str) -> anyhow::Result<PathBuf> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["target"]["name"] == name)
        .filter_map(|message| message["executable"].as_str().map(PathBuf::from))
        .next_back()
        .with_context(|| format!("cargo built no program called {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_found_among_libraries_of_the_same_name() {
        let messages = r#"
            {"reason":"compiler-artifact","target":{"name":"auth-service"},"executable":null}
            {"reason":"compiler-artifact","target":{"name":"auth-service"},"executable":"/t/auth-service"}
            {"reason":"compiler-artifact","target":{"name":"other"},"executable":"/t/other"}
            {"reason":"build-finished","success":true}
            no JSON at all
        "#;
        let found = executable(messages, "auth-service").expect("it is there");
        assert_eq!(found, PathBuf::from("/t/auth-service"));
        assert!(executable(messages, "realtime-service").is_err());
    }
}
