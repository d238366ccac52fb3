//! One of the two services, running one way or the other.

use std::net::{SocketAddr, TcpListener};

use tokio::{sync::oneshot, task::JoinHandle};

use crate::{
    binary::{Binary, Ended},
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
        variables: &[(String, String)],
        secrets: impl IntoIterator<Item = String>,
    ) -> Self {
        let mut binary = Binary::spawn(name, &[], variables, None);
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

/// A listener on a free port of this machine.
pub(crate) fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").expect("a free port")
}

/// The address of `listener`.
pub(crate) fn address(listener: &TcpListener) -> SocketAddr {
    listener.local_addr().expect("a bound listener")
}
