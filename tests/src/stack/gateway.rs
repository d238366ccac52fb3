//! The gateway of a stack: how it starts, and how it is stopped and killed.

use std::path::PathBuf;

use anyhow::Context as _;
use realtime_service::config::{Config, KeyMode, KeySource, RevocationSettings, WebhookSettings};

use super::{Plan, Stack};
use crate::{
    options::{Mode, apply, toml_of},
    service::Service,
};

impl Stack {
    /// Stops the gateway and starts it again where it was, with what it had written.
    ///
    /// # Panics
    ///
    /// When it does not end well, or its port is taken.
    pub async fn restart_gateway(&mut self) {
        let idle = Service::in_process(|stopped| async {
            let _ = stopped.await;
            Ok(())
        });
        std::mem::replace(&mut self.gateway, idle).stop().await;
        self.start_gateway().await;
    }

    /// Ends the process of the gateway at this moment, and starts it again where it was.
    ///
    /// # Panics
    ///
    /// When the gateway is no process of its own.
    pub async fn kill_gateway(&mut self) {
        let idle = Service::in_process(|stopped| async {
            let _ = stopped.await;
            Ok(())
        });
        std::mem::replace(&mut self.gateway, idle).kill().await;
        self.start_gateway().await;
    }

    /// Starts the gateway in the place of an idle service.
    async fn start_gateway(&mut self) {
        let gateway = match self.plan.options.mode {
            Mode::InProcess => {
                let listener = std::net::TcpListener::bind(self.gateway_address);
                self.plan
                    .start_gateway_in_process(listener.expect("the same port"))
            }
            Mode::Binaries => {
                let secrets = self.plan.unspeakable(&self.passwords);
                self.plan
                    .start_gateway_binary(&self.variables.gateway, secrets)
                    .await
            }
        };
        std::mem::replace(&mut self.gateway, gateway).stop().await;
    }

    /// The file of the gateway's queue of events.
    #[must_use]
    pub fn webhooks_file(&self) -> PathBuf {
        self.plan.webhooks()
    }
}

impl Plan {
    /// Starts the gateway as a process. Settings that are no variables are in a file.
    pub(super) async fn start_gateway_binary(
        &self,
        variables: &[(String, String)],
        secrets: impl IntoIterator<Item = String>,
    ) -> Service {
        let file = self.directory.path().join("gateway.toml");
        std::fs::write(&file, toml_of(&self.options.gateway)).expect("a written file");
        let file = file.to_str().expect("a path in UTF-8");
        let arguments = ["--config", file];
        Service::binary("realtime-service", &arguments, variables, secrets).await
    }

    /// Starts the gateway as a task of the test.
    pub(super) fn start_gateway_in_process(&self, listener: std::net::TcpListener) -> Service {
        let config = Config {
            issuer: self.issuer(),
            origins: self.origins().to_vec(),
            revocations: RevocationSettings {
                file: self.revocations(),
                ..Default::default()
            },
            webhooks: WebhookSettings {
                file: self.webhooks(),
                ..Default::default()
            },
            ..Default::default()
        };
        let config = serde_json::to_value(&config).expect("settings as JSON");
        let config: Config = serde_json::from_value(apply(config, &self.options.gateway))
            .expect("settings of the gateway");
        let keys = match config.keys.mode {
            KeyMode::Shared => KeySource::fixed(self.secrets()),
            KeyMode::Asymmetric => KeySource::Published,
        };
        let app = self.options.app;
        Service::in_process(move |stopped| async move {
            let shutdown = async {
                let _ = stopped.await;
            };
            let served = match app {
                Some(app) => app(config, keys)?.serve(listener, shutdown).await,
                None => realtime_service::serve(config, keys, listener, shutdown).await,
            };
            served.context("the gateway")
        })
    }
}
