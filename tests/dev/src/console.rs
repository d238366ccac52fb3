//! The page's one npm dependency: embedded in the gateway when it is installed.

use std::path::Path;
use std::process::{Command, Stdio};

const CLIENT: &str = "node_modules/socket.io-client/dist/socket.io.min.js";
const WITHOUT: &str = "the page will load socket.io-client from its CDN";

/// Installs socket.io-client where npm is there and it is missing; never fails, since the page
/// works without.
pub(crate) fn install_client(root: &Path) {
    let console = root.join("realtime-service/console");
    if console.join(CLIENT).is_file() {
        return;
    }
    println!("cargo dev: installing socket.io-client");
    let status = Command::new("npm")
        .args([
            "ci",
            "--ignore-scripts",
            "--no-audit",
            "--no-fund",
            "--loglevel=error",
        ])
        .args(["--fetch-retries=1", "--fetch-timeout=30000"])
        .current_dir(&console)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status();
    match status {
        Ok(status) if status.success() => {}
        Ok(_) => println!("cargo dev: npm ci failed: {WITHOUT}"),
        Err(_) => println!("cargo dev: npm was not found: {WITHOUT}"),
    }
}
