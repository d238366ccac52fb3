//! One of the two services, running one way or the other.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    ops::Range,
    sync::{
        LazyLock,
        atomic::{AtomicU16, Ordering},
    },
};

use tokio::{sync::oneshot, task::JoinHandle};

use crate::{
    Stack,
    binary::{Binary, Ended, UnreadLines},
    soon,
};

/// A running service. When it is dropped it goes away, gracefully or not.
pub(crate) enum Service {
    InProcess {
        shutdown: oneshot::Sender<()>,
        served: JoinHandle<anyhow::Result<()>>,
    },
    Binary(Box<Binary>),
}

impl Service {
    /// Starts what `serve` makes of a shutdown signal, as a task.
    pub(crate) fn in_process<F>(serve: impl FnOnce(oneshot::Receiver<()>) -> F) -> Self
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let (shutdown, stopped) = oneshot::channel();
        Self::InProcess {
            shutdown,
            served: tokio::spawn(serve(stopped)),
        }
    }

    /// Starts the binary `name`, and waits until it listens. It must never write any of `secrets`.
    pub(crate) async fn binary(
        name: &'static str,
        arguments: &[&str],
        variables: &[(String, String)],
        secrets: impl IntoIterator<Item = String>,
    ) -> Self {
        let mut binary = Binary::spawn(name, arguments, variables, None);
        binary.forbid(secrets);
        binary.listening().await;
        Self::Binary(Box::new(binary))
    }

    /// What the service has written so far; nothing when it has no output of its own.
    pub(crate) fn output(&self) -> String {
        match self {
            Self::InProcess { .. } => String::new(),
            Self::Binary(binary) => binary.output.text(),
        }
    }

    /// Memory of the service's process in bytes, by a field of `/proc/PID/status`.
    ///
    /// # Panics
    ///
    /// When it is no process of its own.
    pub(crate) fn memory_bytes(&self, field: &str) -> u64 {
        match self {
            Self::InProcess { .. } => panic!("its memory is that of the test"),
            Self::Binary(binary) => binary.memory_bytes(field),
        }
    }

    /// How often `text` is in the memory of the service's process.
    ///
    /// # Panics
    ///
    /// When it is no process of its own.
    pub(crate) fn count_in_memory(&self, text: &str) -> usize {
        match self {
            Self::InProcess { .. } => panic!("its memory is that of the test"),
            Self::Binary(binary) => binary.count_in_memory(text),
        }
    }

    /// Lets the service read its secrets again, and waits until it says `done`.
    ///
    /// # Panics
    ///
    /// When it is no process of its own.
    pub(crate) async fn reload(&self, done: &'static str) {
        match self {
            Self::InProcess { .. } => panic!("only a process can be sent SIGHUP"),
            Self::Binary(binary) => binary.reload(done).await,
        }
    }

    /// Ends the service at this moment, as a crash does.
    ///
    /// # Panics
    ///
    /// When it is no process of its own.
    pub(crate) async fn kill(self) {
        match self {
            Self::InProcess { .. } => panic!("only a process can be killed"),
            Self::Binary(binary) => {
                binary.kill();
                binary.ended().await;
            }
        }
    }

    /// Asks the service to stop, and waits until it has.
    pub(crate) async fn stop(self) -> Option<Ended> {
        match self {
            Self::InProcess { shutdown, served } => {
                // A service that has ended by itself says so below.
                let _ = shutdown.send(());
                let result = soon("the end of a service", served)
                    .await
                    .expect("no panic");
                result.expect("a service that ends well");
                None
            }
            Self::Binary(binary) => {
                binary.terminate();
                Some(binary.ended().await)
            }
        }
    }
}

impl Stack {
    /// Stops reading what both services write.
    ///
    /// # Panics
    ///
    /// When they are no processes of their own.
    pub async fn stop_reading_logs(&self) -> [UnreadLines; 2] {
        let [Service::Binary(auth), Service::Binary(gateway)] = [&self.auth, &self.gateway] else {
            panic!("the log of a service in this process is that of the test");
        };
        [
            auth.output.stop_reading().await,
            gateway.output.stop_reading().await,
        ]
    }

    /// Asks the gateway to stop, and waits until its process has ended, also when nobody reads its log.
    ///
    /// # Panics
    ///
    /// When the gateway is no process of its own.
    pub async fn stop_gateway(mut self) -> Option<i32> {
        let Service::Binary(gateway) = &mut self.gateway else {
            panic!("the log of a service in this process is that of the test");
        };
        gateway.terminate();
        gateway.exited().await.code()
    }

    /// Sends SIGHUP to the gateway, and waits until it says `done`.
    ///
    /// # Panics
    ///
    /// When the gateway is no process of its own.
    pub async fn reload_gateway(&self, done: &'static str) {
        self.gateway.reload(done).await;
    }

    /// Returns the memory of the gateway's process in bytes, by a field of `/proc/PID/status`: `VmRSS`
    /// is resident now, and `VmHWM` is the most that ever was.
    ///
    /// # Panics
    ///
    /// When the gateway is no process of its own.
    #[must_use]
    pub fn gateway_memory_bytes(&self, field: &str) -> u64 {
        self.gateway.memory_bytes(field)
    }

    /// Returns how often `text` is in the memory of the gateway's process.
    ///
    /// # Panics
    ///
    /// When the gateway is no process of its own.
    #[must_use]
    pub fn count_in_gateway_memory(&self, text: &str) -> usize {
        self.gateway.count_in_memory(text)
    }
}

/// The ports that are tried one after the other. The system gives none of them to a client, which
/// could take a service's between the choice and the start.
const PORTS: Range<u16> = 20_000..32_000;

/// A listener on a free port of this machine.
pub(crate) fn listener() -> TcpListener {
    /// From which one on: that of two checkouts at once is another.
    static NEXT: LazyLock<AtomicU16> = LazyLock::new(|| AtomicU16::new(std::process::id() as u16));
    let count = PORTS.end - PORTS.start;
    { PORTS }
        .find_map(|_| {
            let port = PORTS.start + NEXT.fetch_add(1, Ordering::Relaxed) % count;
            TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()
        })
        .expect("a free port")
}

/// The address of `listener`.
pub(crate) fn address(listener: &TcpListener) -> SocketAddr {
    listener.local_addr().expect("a bound listener")
}
