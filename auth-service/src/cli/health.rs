//! `health`: what a container's health check calls, since its image has no other HTTP client.

use std::{
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use super::{Failure, print_line};

/// How long the service may take to answer.
const DEADLINE: Duration = Duration::from_secs(2);

const READY: &[u8] = b"HTTP/1.1 200 ";

pub(super) fn ask(listen: SocketAddr) -> Result<(), Failure> {
    let address = reachable(listen);
    match is_ready(address) {
        Ok(true) => print_line("ready"),
        Ok(false) => Err(Failure::Other(format!("{address} is not ready"))),
        Err(error) => Err(Failure::Other(format!(
            "{address} does not answer: {error}"
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

fn is_ready(address: SocketAddr) -> io::Result<bool> {
    let end = Instant::now() + DEADLINE;
    let mut stream = TcpStream::connect_timeout(&address, DEADLINE)?;
    stream.set_write_timeout(Some(DEADLINE))?;
    let request =
        format!("GET /health/ready HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut start = [0; READY.len()];
    let mut filled = 0;
    while filled < start.len() {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut start[filled..])? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => filled += count,
        }
    }
    Ok(start == READY)
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
