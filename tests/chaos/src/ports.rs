//! Free ports of loopback.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::atomic::{AtomicUsize, Ordering},
};

use anyhow::Context;

/// Ports of processes, below those that the system gives to clients: a process that is started again
/// finds its port free.
const PORTS: std::ops::Range<u16> = 21_000..31_000;

/// Finds a port of loopback that no process listens on.
///
/// # Errors
///
/// Returns an error if there is none.
pub(crate) fn free_address() -> anyhow::Result<SocketAddr> {
    /// The next port that is tried.
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let count = usize::from(PORTS.end - PORTS.start);
    let first = std::process::id() as usize * 16;
    let free = (0..count).find_map(|_| {
        let index = (first + NEXT.fetch_add(1, Ordering::Relaxed)) % count;
        let port = PORTS.start + u16::try_from(index).ok()?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()?;
        listener.local_addr().ok()
    });
    free.context("no port of loopback is free")
}
