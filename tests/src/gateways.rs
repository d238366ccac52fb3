//! The gateway of a stack, started again, and further ones beside it: with the same issuer, the same secret
//! and the same settings.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use crate::{
    Mode, Stack,
    binary::Ended,
    random_text,
    service::{Service, address, listener},
};

/// A further gateway.
pub struct Gateway {
    /// Where it is, for those who open connections by themselves.
    pub address: SocketAddr,
    /// The same as a URL.
    pub url: String,
    queue_file: PathBuf,
    service: Service,
}

/// A service that does nothing until it is stopped.
fn idle() -> Service {
    Service::in_process(|stopped| async {
        let _ = stopped.await;
        Ok(())
    })
}

/// The file of the queue of a gateway whose revocations are in `file`.
fn queue_beside(file: &Path) -> PathBuf {
    file.with_extension("webhooks.db")
}

impl Stack {
    /// Stops the gateway and starts it again where it was, with what it had written.
    ///
    /// # Panics
    ///
    /// When it does not end well, or its port is taken.
    pub async fn restart_gateway(&mut self) {
        std::mem::replace(&mut self.gateway, idle()).stop().await;
        self.start_again().await;
    }

    /// Ends the process of the gateway at this moment, and starts it again where it was.
    ///
    /// # Panics
    ///
    /// When the gateway is no process of its own.
    pub async fn kill_gateway(&mut self) {
        std::mem::replace(&mut self.gateway, idle()).kill().await;
        self.start_again().await;
    }

    /// Starts the gateway where it was, in the place of an idle service.
    async fn start_again(&mut self) {
        let gateway = match self.plan.options.mode {
            Mode::InProcess => {
                let listener = std::net::TcpListener::bind(self.gateway_address);
                let listener = listener.expect("the same port");
                let file = self.plan.revocations();
                self.plan.start_gateway_in_process(listener, file)
            }
            Mode::Binaries => {
                let secrets = self.plan.unspeakable(self.passwords());
                let variables = &self.variables.gateway;
                self.plan.start_gateway_binary(variables, secrets).await
            }
        };
        std::mem::replace(&mut self.gateway, gateway).stop().await;
    }

    /// Starts a further gateway.
    pub async fn start_gateway(&self) -> Gateway {
        let listener = listener();
        let address = address(&listener);
        let file = format!("revocations-{}.jsonl", random_text(6));
        let file = self.plan.directory.path().join(file);
        let queue_file = queue_beside(&file);
        let service = match self.plan.options.mode {
            Mode::InProcess => self.plan.start_further_in_process(listener, file),
            Mode::Binaries => {
                drop(listener);
                let mut variables = self.variables.gateway.clone();
                // Its address is taken.
                variables.retain(|(name, _)| name != "REALTIME__API__LISTEN");
                let own = [
                    ("REALTIME__LISTEN", address.to_string()),
                    ("REALTIME__REVOCATIONS__FILE", file.display().to_string()),
                    ("REALTIME__WEBHOOKS__FILE", queue_file.display().to_string()),
                ];
                variables.extend(own.map(|(name, value)| (name.to_owned(), value)));
                let secrets = self.plan.unspeakable(self.passwords());
                self.plan.start_gateway_binary(&variables, secrets).await
            }
        };
        Gateway {
            address,
            url: format!("{}://{address}", self.root.scheme()),
            queue_file,
            service,
        }
    }

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

impl Gateway {
    /// Stops it.
    ///
    /// # Panics
    ///
    /// When it does not end well.
    pub async fn stop(self) {
        self.service.stop().await;
    }

    /// Ends the process at this moment, and loses the file of its queue.
    ///
    /// # Panics
    ///
    /// When it is no process of its own.
    pub async fn lose(self) {
        self.service.kill().await;
        for suffix in ["", "-wal", "-shm"] {
            let mut file = self.queue_file.clone().into_os_string();
            file.push(suffix);
            // SQLite may have removed a file beside it.
            let _ = std::fs::remove_file(file);
        }
    }
}
