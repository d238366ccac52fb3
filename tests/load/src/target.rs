//! The server under load: its address, its credentials, and the events that it understands.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, ensure};
use clap::{Args, ValueEnum};

/// Place of the token in a handshake.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub(crate) enum Credential {
    /// The member `token` of the payload of CONNECT.
    Payload,
    /// The same, as `Bearer TOKEN`.
    Bearer,
    /// The query parameter `token`.
    Query,
    /// The header `Authorization`.
    Header,
    /// No token.
    None,
}

/// Transport of a connection.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub(crate) enum Transport {
    /// WebSocket from the first request on.
    Websocket,
    /// HTTP polling, upgraded to WebSocket before CONNECT.
    Upgrade,
    /// HTTP polling only.
    Polling,
}

/// Options that describe the server.
#[derive(Args, Clone, Debug)]
pub(crate) struct Target {
    /// Loopback address and port of the server.
    #[arg(long, default_value = "127.0.0.1:9000", value_parser = loopback)]
    pub(crate) address: SocketAddr,
    /// Path of Engine.IO.
    #[arg(long, default_value = "/socket.io/")]
    pub(crate) path: String,
    /// Namespace of Socket.IO.
    #[arg(long, default_value = "/")]
    pub(crate) namespace: String,
    /// Token; can be given several times, and connections then use the tokens in turn.
    #[arg(long = "token", value_name = "TOKEN")]
    pub(crate) tokens: Vec<String>,
    /// File with one token a line, in addition to `--token`.
    #[arg(long, value_name = "FILE")]
    pub(crate) tokens_file: Option<PathBuf>,
    /// Place of the token in a handshake.
    #[arg(long, value_enum, default_value_t = Credential::Payload)]
    pub(crate) credential: Credential,
    /// Transport of the connections.
    #[arg(long, value_enum, default_value_t = Transport::Websocket)]
    pub(crate) transport: Transport,
    /// Process id of the server, for its CPU time and memory.
    #[arg(long)]
    pub(crate) pid: Option<u32>,
    /// The other servers of a cluster, and their process ids: connection `n` is to server `n` of all, in
    /// turn, or, of a sender and its receivers, the sender's is to the first of these.
    #[arg(skip)]
    pub(crate) others: Vec<(SocketAddr, u32)>,
    /// Number of source addresses, from 127.0.0.2 on; 0 lets the system choose.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(0..=200))]
    pub(crate) sources: u32,
    /// Handshakes in progress at the same time.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) concurrency: u32,
    /// Events of the server.
    #[command(flatten)]
    pub(crate) events: Events,
}

/// Options that describe the server's events. Arguments are JSON without the outer brackets.
///
/// `{data}` is a text with a time stamp, and `{room}` the room's name.
#[derive(Args, Clone, Debug)]
pub(crate) struct Events {
    /// Room that connections subscribe to.
    #[arg(long, default_value = "lobby")]
    pub(crate) room: String,
    /// Event that subscribes to a room; the server acknowledges it.
    #[arg(long, default_value = "rt:subscribe")]
    pub(crate) subscribe_event: String,
    /// Arguments of the subscription.
    #[arg(long, default_value = r#"{"room":"{room}"}"#)]
    pub(crate) subscribe_args: String,
    /// Arguments of a subscription with full presence.
    #[arg(long, default_value = r#"{"room":"{room}","presence":"full"}"#)]
    pub(crate) presence_args: String,
    /// Event that publishes a message.
    #[arg(long, default_value = "rt:publish")]
    pub(crate) publish_event: String,
    /// Arguments of a message to the room.
    #[arg(long, default_value = r#"{"room":"{room}","event":"m","data":{data}}"#)]
    pub(crate) publish_args: String,
    /// Arguments of an acknowledged message that no connection receives.
    #[arg(
        long,
        default_value = r#"{"room":"{room}","event":"m","id":{data},"data":{data}}"#
    )]
    pub(crate) acknowledged_args: String,
    /// Event that delivers a message.
    #[arg(long, default_value = "m")]
    pub(crate) delivery_event: String,
    /// Bytes of a message's data.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=900_000))]
    pub(crate) payload_bytes: u32,
}

/// Parses an address, and rejects an address beyond the loopback interface.
pub(crate) fn loopback(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = text
        .replace("localhost", "127.0.0.1")
        .parse()
        .map_err(|_| format!("`{text}` is not an address and a port, such as 127.0.0.1:9000"))?;
    if address.ip().is_loopback() && address.is_ipv4() {
        Ok(address)
    } else {
        Err(format!(
            "{address} is not an IPv4 loopback address; load stays on this machine"
        ))
    }
}

impl Target {
    /// Reads the file of tokens, and checks that there is a token if one is needed.
    ///
    /// # Errors
    ///
    /// Returns an error if the file cannot be read or no token is given.
    pub(crate) fn load_tokens(&mut self) -> anyhow::Result<()> {
        if let Some(path) = self.tokens_file.take() {
            let text = fs::read_to_string(&path)
                .with_context(|| format!("the tokens in {} cannot be read", path.display()))?;
            self.tokens.extend(
                text.lines()
                    .filter(|line| !line.is_empty())
                    .map(str::to_owned),
            );
        }
        ensure!(
            self.credential == Credential::None || !self.tokens.is_empty(),
            "no token is given: use --token or --tokens-file, or --credential none"
        );
        Ok(())
    }

    /// Returns the process ids of all servers, if they are known.
    pub(crate) fn pids(&self) -> Vec<u32> {
        let others = self.others.iter().map(|(_, pid)| *pid);
        self.pid.into_iter().chain(others).collect()
    }

    /// Returns the token of the connection `slot`.
    pub(crate) fn token(&self, slot: usize) -> &str {
        match self.tokens.len() {
            0 => "",
            count => &self.tokens[slot % count],
        }
    }

    /// Returns the namespace as packets carry it: empty for `/`, else with a comma.
    pub(crate) fn packet_namespace(&self) -> String {
        match self.namespace.as_str() {
            "/" => String::new(),
            name => format!("{name},"),
        }
    }

    /// Returns the request line and headers of a request without a body, including the empty line.
    pub(crate) fn request(&self, slot: usize, method: &str, transport: &str, sid: &str) -> String {
        let mut query = format!("EIO=4&transport={transport}");
        if !sid.is_empty() {
            query.push_str("&sid=");
            query.push_str(sid);
        }
        if self.credential == Credential::Query {
            query.push_str("&token=");
            query.push_str(self.token(slot));
        }
        let mut head = format!(
            "{method} {}?{query} HTTP/1.1\r\nHost: {}\r\n",
            self.path, self.address
        );
        if self.credential == Credential::Header {
            head.push_str("Authorization: Bearer ");
            head.push_str(self.token(slot));
            head.push_str("\r\n");
        }
        if transport == "websocket" {
            head.push_str(
                "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
            );
            head.push_str("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n");
        }
        head.push_str("\r\n");
        head
    }

    /// Returns the CONNECT packet of the connection `slot`.
    pub(crate) fn connect_packet(&self, slot: usize) -> String {
        let token = self.token(slot);
        let namespace = self.packet_namespace();
        match self.credential {
            Credential::Payload => {
                format!("40{namespace}{}", serde_json::json!({ "token": token }))
            }
            Credential::Bearer => {
                let token = format!("Bearer {token}");
                format!("40{namespace}{}", serde_json::json!({ "token": token }))
            }
            _ => format!("40{namespace}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Options {
        #[command(flatten)]
        target: Target,
    }

    fn target(arguments: &[&str]) -> Target {
        let arguments = ["load"].iter().chain(arguments);
        Options::try_parse_from(arguments)
            .expect("valid options")
            .target
    }

    #[test]
    fn only_loopback_addresses_are_accepted() {
        assert!(loopback("localhost:1").is_ok());
        assert!(loopback("127.0.0.9:1").is_ok());
        assert!(loopback("10.0.0.1:1").is_err());
        assert!(loopback("127.0.0.1").is_err());
    }

    #[test]
    fn tokens_are_used_in_turn_and_placed_as_asked() {
        let target = target(&["--token", "a", "--token", "b", "--credential", "query"]);
        let request = target.request(3, "GET", "polling", "xyz");
        assert!(
            request.starts_with("GET /socket.io/?EIO=4&transport=polling&sid=xyz&token=b HTTP/1.1")
        );
        assert_eq!(target.connect_packet(0), "40");
    }

    #[test]
    fn a_token_is_needed_unless_none_is_presented() {
        assert!(target(&[]).load_tokens().is_err());
        assert!(target(&["--credential", "none"]).load_tokens().is_ok());
        let own = target(&["--token", "a", "--namespace", "/x"]);
        assert_eq!(own.connect_packet(0), r#"40/x,{"token":"a"}"#);
    }
}
