//! nginx with the configuration of `docs/deploy/nginx`.

use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
    process::Stdio,
};

use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::{
    eventually,
    service::{address, listener},
};

/// Debian's place for the program, beside the path of most people.
const PROGRAM: &str = "/usr/sbin/nginx";

/// nginx in front of several gateways. It ends when it is dropped.
pub struct Nginx {
    /// Where it listens, without TLS.
    pub address: SocketAddr,
    directory: TempDir,
    _child: Child,
}

/// One line of nginx's log.
#[derive(Clone, Debug)]
pub struct Served {
    /// Address of the client.
    pub client: IpAddr,
    /// Status of the answer.
    pub status: u16,
    /// The gateways that were asked, in this order.
    pub gateways: Vec<SocketAddr>,
}

impl Nginx {
    /// Starts nginx with `docs/deploy/nginx/gateways.conf` in front of `gateways`.
    ///
    /// # Panics
    ///
    /// When it does not start, or the file has not as many servers.
    pub async fn start(gateways: &[SocketAddr]) -> Self {
        let address = address(&listener());
        let directory = tempfile::tempdir().expect("a temporary directory");
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/deploy/nginx/gateways.conf");
        let text = std::fs::read_to_string(file).expect("the configuration");
        let path = directory.path().join("nginx.conf");
        std::fs::write(&path, configuration(&text, address, gateways)).expect("written");
        let child = Command::new(PROGRAM)
            .arg("-p")
            .arg(directory.path())
            .args(["-e", "error.log", "-c", "nginx.conf"])
            .kill_on_drop(true)
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run {PROGRAM}: {error}"));
        eventually("nginx that listens", async || {
            tokio::net::TcpStream::connect(address).await.is_ok()
        })
        .await;
        Self {
            address,
            directory,
            _child: child,
        }
    }

    /// The URL for clients.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The requests that have been answered so far. A line is written after its answer.
    ///
    /// # Panics
    ///
    /// When a line is not of the documented format.
    #[must_use]
    pub fn log(&self) -> Vec<Served> {
        let file = self.directory.path().join("realtime.log");
        let text = std::fs::read_to_string(file).unwrap_or_default();
        text.lines().map(parse).collect()
    }
}

/// The documented configuration for these gateways, without TLS, in one process.
fn configuration(text: &str, address: SocketAddr, gateways: &[SocketAddr]) -> String {
    let mut servers = gateways.iter();
    let lines = text.lines().map(|line| match line.trim() {
        "listen 443 ssl;" => format!("listen {address};"),
        line if line.starts_with("ssl_certificate") => String::new(),
        line if line.starts_with("server 10.0.0.") => {
            let gateway = servers.next().expect("a gateway for each server");
            let (_, options) = line.split_once(":9000").expect("a port");
            format!("server {gateway}{options}")
        }
        line => line.replace("/var/log/nginx/", ""),
    });
    let lines: Vec<String> = lines.collect();
    assert!(servers.next().is_none(), "more gateways than servers");
    let folders = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let folders = folders.map(|name| format!("{name}_temp_path {name};"));
    format!(
        "daemon off; master_process off; pid nginx.pid; events {{}}\nhttp {{\n{}\n{}\n}}\n",
        folders.join("\n"),
        lines.join("\n")
    )
}

/// Reads a line of the format `latchkey`.
fn parse(line: &str) -> Served {
    let words: Vec<&str> = line.split(' ').collect();
    let [client, _, _, _, status, _, gateways @ ..] = &words[..] else {
        panic!("not of the format: {line}");
    };
    let gateways = gateways.iter().map(|gateway| gateway.trim_end_matches(','));
    Served {
        client: client.parse().expect("an address"),
        status: status.parse().expect("a status"),
        gateways: gateways
            .filter_map(|gateway| gateway.parse().ok())
            .collect(),
    }
}
