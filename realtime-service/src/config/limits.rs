//! Bounds on what clients can make grow or last.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{ConfigError, check};

/// Bounds on what clients can make grow or last.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Maximum number of open TCP connections. `REALTIME__LIMITS__CONNECTIONS`, default 20000.
    pub connections: usize,
    /// Maximum number of open TCP connections of one address, or of one /64 network of IPv6.
    /// Connections of `trusted_proxies` do not count. `REALTIME__LIMITS__CONNECTIONS_PER_ADDRESS`,
    /// default 1000.
    pub connections_per_address: usize,
    /// Maximum number of open Engine.IO sessions. One TCP connection can open several.
    /// `REALTIME__LIMITS__SESSIONS`, default 20000.
    pub sessions: usize,
    /// Maximum number of open Engine.IO sessions of one address.
    /// `REALTIME__LIMITS__SESSIONS_PER_ADDRESS`, default 1000.
    pub sessions_per_address: usize,
    /// Maximum number of connections of one user, identified by issuer and subject, with an admitted socket.
    /// The sockets of a connection in several namespaces count once.
    /// `REALTIME__LIMITS__SOCKETS_PER_SUBJECT`, default 100.
    pub sockets_per_subject: usize,
    /// Maximum number of namespaces that one connection may be in.
    /// `REALTIME__LIMITS__NAMESPACES_PER_CONNECTION`, default 8.
    pub namespaces_per_connection: usize,
    /// Deadline for a TLS handshake and for the headers of a request, and idle timeout of a
    /// connection between two requests, in seconds. `REALTIME__LIMITS__HEADER_READ_SECS`, default
    /// 10.
    pub header_read_secs: u64,
    /// Deadline for the body of a request, in seconds. `REALTIME__LIMITS__BODY_READ_SECS`, default
    /// 15.
    pub body_read_secs: u64,
    /// Time after which a connection is closed when its client reads nothing, in seconds.
    /// `REALTIME__LIMITS__WRITE_STALL_SECS`, default 10.
    pub write_stall_secs: u64,
    /// Maximum time that an Engine.IO session may be without an admitted socket, after it is opened
    /// and after its last socket leaves, in seconds. `REALTIME__LIMITS__UNAUTHENTICATED_SECS`,
    /// default 10.
    pub unauthenticated_secs: u64,
    /// Time that a session stays open after a refused token, in milliseconds. In that time the
    /// client can read the refusal or present another token. `REALTIME__LIMITS__REFUSAL_LINGER_MS`,
    /// default 2000.
    pub refusal_linger_ms: u64,
    /// Number of refused tokens after which a session is closed. `REALTIME__LIMITS__REFUSALS`,
    /// default 3.
    pub refusals: u32,
    /// Maximum number of refused tokens of one address in a minute. Further sessions of the address
    /// are answered 429, without a look at their tokens. `REALTIME__LIMITS__REFUSALS_PER_ADDRESS`,
    /// default 300.
    pub refusals_per_address: u32,
    /// Maximum number of refused logout tokens of one address in a minute. Further ones are
    /// answered 429, without a look at them. `REALTIME__LIMITS__LOGOUT_REFUSALS_PER_ADDRESS`,
    /// default 60.
    pub logout_refusals_per_address: u32,
    /// Maximum size of one message, and of one polling request, in bytes.
    /// `REALTIME__LIMITS__MESSAGE_BYTES`, default 1048576.
    pub message_bytes: usize,
    /// Maximum number of packets that wait for one client. A client that reads too slowly for it is
    /// closed. `REALTIME__LIMITS__OUTBOUND_PACKETS`, default 4096.
    pub outbound_packets: usize,
    /// Maximum number of bytes that wait for one client. A client that reads too slowly for it is
    /// closed. `REALTIME__LIMITS__OUTBOUND_BYTES`, default 4194304.
    pub outbound_bytes: usize,
    /// Maximum number of bytes that wait for all clients together. Bytes that several clients wait
    /// for count once. Beyond it, the clients that have read nothing for longest are closed, and a
    /// publish is answered `unavailable` when there are none.
    /// `REALTIME__LIMITS__OUTBOUND_TOTAL_BYTES`, default 67108864.
    pub outbound_total_bytes: usize,
    /// Maximum number of received events of one client, in all namespaces, that wait to be handled. A client that sends
    /// more is closed. `REALTIME__LIMITS__INBOUND_EVENTS`, default 4096.
    pub inbound_events: usize,
    /// Maximum size of these events, in bytes. `REALTIME__LIMITS__INBOUND_BYTES`, default 4194304.
    pub inbound_bytes: usize,
    /// Events per second that one client may send continuously, in all namespaces. `REALTIME__LIMITS__EVENTS_PER_SEC`,
    /// default 1000.
    pub events_per_sec: u32,
    /// Events that one client may send at once. Further ones are answered `rate_limited`.
    /// `REALTIME__LIMITS__EVENTS_BURST`, default 4096.
    pub events_burst: u32,
    /// Number of events that are answered `rate_limited` before the client is closed.
    /// `REALTIME__LIMITS__EVENTS_EXCESS`, default 1000.
    pub events_excess: u32,
    /// Maximum number of rooms that one client may be in, in all namespaces. `REALTIME__LIMITS__ROOMS_PER_SOCKET`,
    /// default 100.
    pub rooms_per_socket: usize,
    /// Time between `rt:drain` and the end of a client's transport, in which the client can read what
    /// waits for it; also the time that disconnect handlers have at a shutdown. Each in milliseconds.
    /// `REALTIME__LIMITS__DRAIN_MS`, default 500.
    pub drain_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 20_000,
            connections_per_address: 1000,
            sessions: 20_000,
            sessions_per_address: 1000,
            sockets_per_subject: 100,
            namespaces_per_connection: 8,
            header_read_secs: 10,
            body_read_secs: 15,
            write_stall_secs: 10,
            unauthenticated_secs: 10,
            refusal_linger_ms: 2000,
            refusals: 3,
            refusals_per_address: 300,
            logout_refusals_per_address: 60,
            message_bytes: 1024 * 1024,
            outbound_packets: 4096,
            outbound_bytes: 4 * 1024 * 1024,
            outbound_total_bytes: 64 * 1024 * 1024,
            inbound_events: 4096,
            inbound_bytes: 4 * 1024 * 1024,
            events_per_sec: 1000,
            events_burst: 4096,
            events_excess: 1000,
            rooms_per_socket: 100,
            drain_ms: 500,
        }
    }
}

impl Limits {
    /// See [`Limits::header_read_secs`].
    #[must_use]
    pub const fn header_read(&self) -> Duration {
        Duration::from_secs(self.header_read_secs)
    }

    /// See [`Limits::body_read_secs`].
    #[must_use]
    pub const fn body_read(&self) -> Duration {
        Duration::from_secs(self.body_read_secs)
    }

    /// See [`Limits::write_stall_secs`].
    #[must_use]
    pub const fn write_stall(&self) -> Duration {
        Duration::from_secs(self.write_stall_secs)
    }

    /// See [`Limits::unauthenticated_secs`].
    #[must_use]
    pub const fn unauthenticated(&self) -> Duration {
        Duration::from_secs(self.unauthenticated_secs)
    }

    /// See [`Limits::refusal_linger_ms`].
    #[must_use]
    pub const fn refusal_linger(&self) -> Duration {
        Duration::from_millis(self.refusal_linger_ms)
    }

    /// See [`Limits::drain_ms`].
    #[must_use]
    pub const fn drain(&self) -> Duration {
        Duration::from_millis(self.drain_ms)
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        self.check_times()?;
        self.check_sizes()?;
        self.check_rates()?;
        for (setting, bytes) in [
            ("limits.outbound_bytes", self.outbound_bytes),
            ("limits.outbound_total_bytes", self.outbound_total_bytes),
        ] {
            let fits = bytes >= self.message_bytes;
            check(setting, fits, "must not be less than limits.message_bytes")?;
        }
        Ok(())
    }

    fn check_times(&self) -> Result<(), ConfigError> {
        for (setting, secs) in [
            ("limits.header_read_secs", self.header_read_secs),
            ("limits.body_read_secs", self.body_read_secs),
            ("limits.write_stall_secs", self.write_stall_secs),
            ("limits.unauthenticated_secs", self.unauthenticated_secs),
        ] {
            check(setting, (1..=3600).contains(&secs), "must be 1 to 3600")?;
        }
        let is_fine = (100..=60_000).contains(&self.refusal_linger_ms);
        let problem = "must be 100 to 60000";
        check("limits.refusal_linger_ms", is_fine, problem)?;
        let is_fine = self.drain_ms <= 3000;
        check("limits.drain_ms", is_fine, "must be at most 3000")
    }

    fn check_sizes(&self) -> Result<(), ConfigError> {
        for (setting, size) in [
            ("limits.connections", self.connections),
            (
                "limits.connections_per_address",
                self.connections_per_address,
            ),
            ("limits.sessions", self.sessions),
            ("limits.sessions_per_address", self.sessions_per_address),
            ("limits.sockets_per_subject", self.sockets_per_subject),
            (
                "limits.namespaces_per_connection",
                self.namespaces_per_connection,
            ),
            ("limits.message_bytes", self.message_bytes),
            ("limits.outbound_packets", self.outbound_packets),
            ("limits.outbound_bytes", self.outbound_bytes),
            ("limits.outbound_total_bytes", self.outbound_total_bytes),
            ("limits.inbound_events", self.inbound_events),
            ("limits.inbound_bytes", self.inbound_bytes),
            ("limits.rooms_per_socket", self.rooms_per_socket),
        ] {
            let is_fine = (1..=1 << 30).contains(&size);
            check(setting, is_fine, "must be 1 to 1073741824")?;
        }
        Ok(())
    }

    fn check_rates(&self) -> Result<(), ConfigError> {
        check("limits.refusals", self.refusals > 0, "must not be 0")?;
        for (setting, count) in [
            ("limits.refusals_per_address", self.refusals_per_address),
            (
                "limits.logout_refusals_per_address",
                self.logout_refusals_per_address,
            ),
            ("limits.events_per_sec", self.events_per_sec),
            ("limits.events_burst", self.events_burst),
            ("limits.events_excess", self.events_excess),
        ] {
            let problem = "must be 1 to 1000000";
            check(setting, (1..=1_000_000).contains(&count), problem)?;
        }
        Ok(())
    }
}
