//! `health`: what a container's health check calls, since its image has no other HTTP client.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use reqwest::{Client, redirect::Policy};

use super::{Failure, print_line};
use crate::config::Settings;

/// Maximum time in which the service answers.
const DEADLINE: Duration = Duration::from_secs(2);

pub(super) async fn ask(settings: &Settings) -> Result<(), Failure> {
    let address = reachable(settings.listen);
    match is_ready(address, settings.tls.is_on()).await {
        Ok(true) => print_line("ready"),
        Ok(false) => Err(Failure::Other(format!("{address} is not ready"))),
        Err(error) => Err(Failure::Other(format!(
            "{address} does not answer: {:#}",
            anyhow::Error::from(error)
        ))),
    }
}

/// An address to connect to: "any" can be listened on, but not called.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

async fn is_ready(address: SocketAddr, with_tls: bool) -> reqwest::Result<bool> {
    let client = Client::builder()
        .redirect(Policy::none())
        .no_proxy()
        .timeout(DEADLINE)
        // The certificate is for the public name, and this is this machine. Without this the
        // client would also need to find root certificates, even where there is no TLS at all.
        .tls_danger_accept_invalid_certs(true)
        .build()?;
    let scheme = if with_tls { "https" } else { "http" };
    let answer = client
        .get(format!("{scheme}://{address}/health/ready"))
        .send();
    let answer = answer.await.map_err(reqwest::Error::without_url)?;
    Ok(answer.status() == reqwest::StatusCode::OK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_address_is_called_on_loopback() {
        for (listen, call) in [
            ("0.0.0.0:80", "127.0.0.1:80"),
            ("[::]:80", "[::1]:80"),
            ("192.0.2.1:80", "192.0.2.1:80"),
        ] {
            let listen = listen.parse().expect("an address");
            assert_eq!(reachable(listen).to_string(), call);
        }
    }
}
