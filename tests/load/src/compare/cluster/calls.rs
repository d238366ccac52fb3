//! Single HTTP requests to a gateway, beside the clients.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::wire::http::decode_response;

/// Maximum time of one request.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Interval of the questions whether a gateway is ready.
const INTERVAL: Duration = Duration::from_millis(10);

/// Waits until a gateway says that it can do everything, and returns how long that took.
///
/// # Errors
///
/// Returns an error if it does not within `limit`.
pub(super) fn until_ready(gateway: SocketAddr, limit: Duration) -> anyhow::Result<Duration> {
    let start = Instant::now();
    while !is_ready(gateway) {
        ensure!(
            start.elapsed() < limit,
            "the gateway does not reach Redis in time"
        );
        thread::sleep(INTERVAL);
    }
    Ok(start.elapsed())
}

fn is_ready(gateway: SocketAddr) -> bool {
    let answer = request(gateway, "GET /health/ready", "");
    answer.is_ok_and(|(status, body)| status == 200 && body.contains(r#""ok""#))
}

/// Posts a logout token to a gateway.
///
/// # Errors
///
/// Returns an error if it is not acknowledged.
pub(super) fn log_out(gateway: SocketAddr, token: &str) -> anyhow::Result<()> {
    let body = format!("logout_token={token}");
    let (status, body) = request(gateway, "POST /oidc/backchannel-logout", &body)?;
    ensure!(
        status == 200,
        "a logout token was answered with {status}: {body}"
    );
    Ok(())
}

fn request(server: SocketAddr, line: &str, body: &str) -> anyhow::Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&server, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    let length = body.len();
    let text = format!(
        "{line} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(text.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let response = decode_response(&answer)?.context("the answer is not complete")?;
    let body = String::from_utf8_lossy(&answer[response.body]).into_owned();
    Ok((response.status, body))
}
