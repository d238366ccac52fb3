//! The start of a gateway, as a task or as a process.

use std::{net::TcpListener, path::PathBuf};

use anyhow::Context as _;
use realtime_service::config::{Config, KeyMode, KeySource, RevocationSettings, WebhookSettings};

use super::{Plan, Stack};
use crate::{
    options::{Setting, apply, toml_of},
    service::Service,
};

impl Stack {
    /// The file of the gateway's queue of events.
    #[must_use]
    pub fn webhooks_file(&self) -> PathBuf {
        self.plan.webhooks()
    }
}

impl Plan {
    pub(super) fn webhooks(&self) -> PathBuf {
        self.revocations().with_extension("webhooks.db")
    }

    /// Starts the gateway as a process. Settings that are no variables are in a file.
    pub(crate) async fn start_gateway_binary(
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

    /// Starts a gateway as a task of the test, with its revocations in `file` and its queue beside it.
    pub(crate) fn start_gateway_in_process(&self, listener: TcpListener, file: PathBuf) -> Service {
        self.start_in_process(listener, file, &self.options.gateway)
    }

    /// Starts a further gateway in the same way. It has no listener for back ends: that address is taken.
    pub(crate) fn start_further_in_process(&self, listener: TcpListener, file: PathBuf) -> Service {
        let settings = self.options.gateway.iter();
        let settings = settings.filter(|(path, _)| *path != "api.listen");
        let settings: Vec<Setting> = settings.cloned().collect();
        self.start_in_process(listener, file, &settings)
    }

    fn start_in_process(
        &self,
        listener: TcpListener,
        file: PathBuf,
        settings: &[Setting],
    ) -> Service {
        let config = Config {
            issuer: self.issuer(),
            origins: self.origins().to_vec(),
            revocations: RevocationSettings {
                file: file.clone(),
                ..Default::default()
            },
            webhooks: WebhookSettings {
                file: file.with_extension("webhooks.db"),
                ..Default::default()
            },
            ..Default::default()
        };
        let config = serde_json::to_value(&config).expect("settings as JSON");
        let config: Config =
            serde_json::from_value(apply(config, settings)).expect("settings of the gateway");
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
