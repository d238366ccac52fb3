//! A gateway that is replaced by another one of the same issuer.

use std::net::SocketAddr;

use crate::{
    Stack,
    binary::Ended,
    service::{Service, address, listener},
};

/// A second gateway for the issuer of a stack. It ends when it is dropped.
pub struct OtherGateway {
    /// Where its clients connect.
    pub address: SocketAddr,
    _service: Service,
    _directory: tempfile::TempDir,
}

impl OtherGateway {
    /// Starts a gateway with the settings of that of `stack`, at another address.
    ///
    /// # Panics
    ///
    /// When the services of `stack` are no processes of their own.
    pub async fn of(stack: &Stack) -> Self {
        let address = address(&listener());
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut variables = stack.variables.gateway.clone();
        assert!(!variables.is_empty(), "the stack has no processes");
        variables.retain(|(name, _)| name != "REALTIME__API__LISTEN");
        let file = directory.path().join("revocations.jsonl");
        for (name, value) in [
            ("REALTIME__LISTEN", address.to_string()),
            ("REALTIME__REVOCATIONS__FILE", file.display().to_string()),
        ] {
            variables.retain(|(other, _)| other != name);
            variables.push((name.to_owned(), value));
        }
        Self {
            address,
            _service: Service::binary("realtime-service", &variables, []).await,
            _directory: directory,
        }
    }
}

impl Stack {
    /// Sends SIGTERM to the gateway, and goes on.
    ///
    /// # Panics
    ///
    /// When the gateway is no process of its own.
    pub fn terminate_gateway(&self) {
        match &self.gateway {
            Service::InProcess { .. } => panic!("only a process can be sent SIGTERM"),
            Service::Binary(binary) => binary.terminate(),
        }
    }

    /// Waits for the end of a gateway that was sent SIGTERM, and stops the rest.
    ///
    /// # Panics
    ///
    /// When the gateway is no process of its own, or does not end.
    pub async fn gateway_ended(self) -> Ended {
        let (_, ended) = tokio::join!(self.auth.stop(), async {
            match self.gateway {
                Service::InProcess { .. } => panic!("it has no end of its own"),
                Service::Binary(binary) => binary.ended().await,
            }
        });
        ended
    }
}
