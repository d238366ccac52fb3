//! The two sides of a TCP stream, or of the pipe that stands for one in the tests that choose the order
//! of threads.

#[cfg(shuttle)]
pub(super) use super::pipe::{OwnedReadHalf, OwnedWriteHalf, split};
#[cfg(not(shuttle))]
pub(super) use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// Divides a stream into its two sides.
#[cfg(not(shuttle))]
pub(super) fn split(tcp: tokio::net::TcpStream) -> (OwnedReadHalf, OwnedWriteHalf) {
    tcp.into_split()
}
