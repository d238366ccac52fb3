//! Bounds on what clients can make grow or last.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{ConfigError, check};

/// Bounds on what clients can make grow or last.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// TCP connections in all. `REALTIME__LIMITS__CONNECTIONS`, default 20000.
    pub connections: usize,
    /// TCP connections of one address (IPv6: of one /64), those of `trusted_proxies` aside.
    /// `REALTIME__LIMITS__CONNECTIONS_PER_ADDRESS`, default 1000.
    pub connections_per_address: usize,
    /// Engine.IO sessions in all; one connection can open many. `REALTIME__LIMITS__SESSIONS`,
    /// default 20000.
    pub sessions: usize,
    /// Engine.IO sessions of one address. `REALTIME__LIMITS__SESSIONS_PER_ADDRESS`, default 1000.
    pub sessions_per_address: usize,
    /// Admitted sockets of one subject, counted by issuer and subject.
    /// `REALTIME__LIMITS__SOCKETS_PER_SUBJECT`, default 100.
    pub sockets_per_subject: usize,
    /// Seconds that a TLS handshake and that a request's headers may take, each, and that a
    /// connection may idle between requests.
    /// `REALTIME__LIMITS__HEADER_READ_SECS`, default 10.
    pub header_read_secs: u64,
    /// Seconds that a request's body may take. `REALTIME__LIMITS__BODY_READ_SECS`, default 15.
    pub body_read_secs: u64,
    /// Seconds after which a client that takes nothing is let go.
    /// `REALTIME__LIMITS__WRITE_STALL_SECS`, default 10.
    pub write_stall_secs: u64,
    /// Seconds that a session may have no admitted socket, at its start and after its last one
    /// left. `REALTIME__LIMITS__UNAUTHENTICATED_SECS`, default 10.
    pub unauthenticated_secs: u64,
    /// Milliseconds that a session is kept after a refusal, for the client to read it or to try
    /// another token. `REALTIME__LIMITS__REFUSAL_LINGER_MS`, default 2000.
    pub refusal_linger_ms: u64,
    /// How many refusals one session gets; it ends with the last. `REALTIME__LIMITS__REFUSALS`,
    /// default 3.
    pub refusals: u32,
    /// Refused CONNECTs of one address in a minute; with more its new sessions are answered 429,
    /// before a token is looked at. `REALTIME__LIMITS__REFUSALS_PER_ADDRESS`, default 300.
    pub refusals_per_address: u32,
    /// Refused logout tokens of one address in a minute; with more its next ones are answered 429,
    /// before they are looked at. `REALTIME__LIMITS__LOGOUT_REFUSALS_PER_ADDRESS`, default 60.
    pub logout_refusals_per_address: u32,
    /// Bytes of one message, and of one polling request. `REALTIME__LIMITS__MESSAGE_BYTES`, default
    /// 1048576.
    pub message_bytes: usize,
    /// Packets that wait for one client; a client that lets more pile up is closed.
    /// `REALTIME__LIMITS__OUTBOUND_PACKETS`, default 4096.
    pub outbound_packets: usize,
    /// Bytes that wait for one client; a client that lets more pile up is closed.
    /// `REALTIME__LIMITS__OUTBOUND_BYTES`, default 4194304.
    pub outbound_bytes: usize,
    /// Bytes that wait for all clients; what many clients wait for counts once. When there are more,
    /// the clients that have taken nothing for longest are closed.
    /// `REALTIME__LIMITS__OUTBOUND_TOTAL_BYTES`, default 67108864.
    pub outbound_total_bytes: usize,
    /// Events of one client that wait to be handled; a client that sends more is closed.
    /// `REALTIME__LIMITS__INBOUND_EVENTS`, default 4096.
    pub inbound_events: usize,
    /// Bytes of the events that wait. `REALTIME__LIMITS__INBOUND_BYTES`, default 4194304.
    pub inbound_bytes: usize,
    /// Events that one socket may send in a second, for as long as it likes.
    /// `REALTIME__LIMITS__EVENTS_PER_SEC`, default 1000.
    pub events_per_sec: u32,
    /// Events that one socket may send at once; more are answered `rate_limited`.
    /// `REALTIME__LIMITS__EVENTS_BURST`, default 4096.
    pub events_burst: u32,
    /// Events that are answered so before the socket is closed.
    /// `REALTIME__LIMITS__EVENTS_EXCESS`, default 1000.
    pub events_excess: u32,
    /// Rooms that one socket may be in. `REALTIME__LIMITS__ROOMS_PER_SOCKET`, default 100.
    pub rooms_per_socket: usize,
    /// Milliseconds that clients have at a shutdown to receive what was sent to them, and that
    /// disconnect handlers have after that.
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
        for (setting, secs) in [
            ("limits.header_read_secs", self.header_read_secs),
            ("limits.body_read_secs", self.body_read_secs),
            ("limits.write_stall_secs", self.write_stall_secs),
            ("limits.unauthenticated_secs", self.unauthenticated_secs),
        ] {
            check(setting, (1..=3600).contains(&secs), "must be 1 to 3600")?;
        }
        let linger = self.refusal_linger_ms;
        check(
            "limits.refusal_linger_ms",
            (100..=60_000).contains(&linger),
            "must be 100 to 60000",
        )?;
        check(
            "limits.drain_ms",
            self.drain_ms <= 3000,
            "must be at most 3000",
        )?;
        check("limits.refusals", self.refusals > 0, "must not be 0")?;
        for (setting, count) in [
            ("limits.connections", self.connections),
            (
                "limits.connections_per_address",
                self.connections_per_address,
            ),
            ("limits.sessions", self.sessions),
            ("limits.sessions_per_address", self.sessions_per_address),
            ("limits.sockets_per_subject", self.sockets_per_subject),
            ("limits.message_bytes", self.message_bytes),
            ("limits.outbound_packets", self.outbound_packets),
            ("limits.outbound_bytes", self.outbound_bytes),
            ("limits.outbound_total_bytes", self.outbound_total_bytes),
            ("limits.inbound_events", self.inbound_events),
            ("limits.inbound_bytes", self.inbound_bytes),
            ("limits.rooms_per_socket", self.rooms_per_socket),
        ] {
            check(
                setting,
                (1..=1 << 30).contains(&count),
                "must be 1 to 1073741824",
            )?;
        }
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
        let fits = self.outbound_bytes >= self.message_bytes;
        check(
            "limits.outbound_bytes",
            fits,
            "must not be less than limits.message_bytes",
        )?;
        let fits = self.outbound_total_bytes >= self.message_bytes;
        check(
            "limits.outbound_total_bytes",
            fits,
            "must not be less than limits.message_bytes",
        )
    }
}
