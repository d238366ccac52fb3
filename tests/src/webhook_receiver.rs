//! A receiver of webhooks that verifies them with a library that we did not write. See
//! `tests/clients/webhook-receiver.mjs`.

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout},
};

use crate::{soon, stock::node_program};

/// The receiver as a child process, which ends with this.
pub struct WebhookReceiver {
    /// The URL at which it takes webhooks.
    pub url: String,
    lines: Lines<BufReader<ChildStdout>>,
    _child: Child,
}

impl WebhookReceiver {
    /// Starts a receiver that verifies with `secret`.
    ///
    /// # Panics
    ///
    /// When Node or the packages are missing.
    pub async fn start(secret: &str) -> Self {
        let mut child = node_program("webhook-receiver.mjs", &[secret]);
        let stdout = child.stdout.take().expect("a piped stdout");
        let mut this = Self {
            url: String::new(),
            lines: BufReader::new(stdout).lines(),
            _child: child,
        };
        let started = this.next().await;
        this.url = started["url"].as_str().expect("a URL").to_owned();
        this
    }

    /// The next message: `{id, verified}` or `{refused}`.
    ///
    /// # Panics
    ///
    /// When there is none in time.
    pub async fn next(&mut self) -> Value {
        let line = soon("a line of the receiver", self.lines.next_line()).await;
        let line = line.expect("text").expect("a receiver that runs");
        serde_json::from_str(&line).expect("JSON")
    }
}
