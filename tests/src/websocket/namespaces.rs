//! The same in any namespace.

use serde_json::{Value, json};

use super::{Refused, WebSocket, parse};

impl WebSocket {
    /// Presents `token` with CONNECT to a namespace, and gives the `sid` that the client is told.
    ///
    /// # Errors
    ///
    /// When it is refused.
    ///
    /// # Panics
    ///
    /// When something else is answered.
    pub async fn connect_to(&mut self, namespace: &str, token: &str) -> Result<String, Refused> {
        let payload = json!({ "token": token });
        self.send(format!("40{namespace},{payload}")).await;
        let packet = self.packet().await;
        let rest = packet[2..].strip_prefix(&format!("{namespace},"));
        let body = rest.unwrap_or_else(|| panic!("another namespace: {packet}"));
        match &packet[..2] {
            "40" => Ok(parse(body)["sid"].as_str().expect("a sid").to_owned()),
            "44" => Err(Refused(parse(body))),
            _ => panic!("neither admitted nor refused: {packet}"),
        }
    }

    /// Emits an event in a namespace and waits for its acknowledgement. Events that come first are kept.
    pub async fn call_in(&mut self, namespace: &str, event: &str, payload: Value) -> Value {
        let namespace = header(namespace);
        self.send(format!("42{namespace}1{}", json!([event, payload])))
            .await;
        self.acknowledgement_after(&format!("43{namespace}1")).await
    }

    /// The next event, which must be in this namespace: its name and its arguments, in one array.
    ///
    /// # Panics
    ///
    /// When it is none, or in another namespace.
    pub async fn event_in(&mut self, namespace: &str) -> Value {
        let packet = self.packet().await;
        match packet.strip_prefix(&format!("42{}", header(namespace))) {
            Some(event) => parse(event),
            None => panic!("no event of {namespace}: {packet}"),
        }
    }
}

/// A namespace as packets name it: the main one is left out.
fn header(namespace: &str) -> String {
    match namespace {
        "/" => String::new(),
        name => format!("{name},"),
    }
}
