//! Fakes of many providers in one process: `tests/clients/providers.mjs`.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Child,
};

use crate::{soon, stock::node_program};

/// The fakes, which end with this.
pub struct FakeProviders {
    base: String,
    /// Dropping it ends the process, and so does the end of its standard input.
    _child: Child,
}

/// Tokens of one provider.
#[derive(Deserialize)]
pub struct FakeTokens {
    /// Tokens that are to be admitted.
    pub admitted: Vec<FakeToken>,
    /// Tokens that are to be refused, each of which differs from an admitted one in one thing.
    pub refused: Vec<FakeToken>,
}

/// A token of a fake.
#[derive(Deserialize)]
pub struct FakeToken {
    /// The kind of token, or its fault.
    pub what: String,
    /// The token.
    pub token: String,
    /// The message with which it is to be refused.
    #[serde(default)]
    pub message: String,
}

impl FakeProviders {
    /// Starts the fakes.
    ///
    /// # Panics
    ///
    /// When Node is missing.
    pub async fn start() -> Self {
        let mut child = node_program("providers.mjs", &[]);
        let stdout = child.stdout.take().expect("a piped stdout");
        let mut lines = BufReader::new(stdout).lines();
        let line = soon("the fakes", lines.next_line()).await.expect("text");
        let started: Value = serde_json::from_str(&line.expect("a line")).expect("JSON");
        Self {
            base: started["base"].as_str().expect("an address").to_owned(),
            _child: child,
        }
    }

    /// Returns settings in TOML with the fakes in place of the providers.
    #[must_use]
    pub fn redirect(&self, settings: &str) -> String {
        let mut redirected = settings.to_owned();
        for key in ["issuer", "jwks_uri"] {
            let (real, fake) = (
                format!("\n{key} = \"https://"),
                format!("\n{key} = \"{}/", self.base),
            );
            redirected = redirected.replace(&real, &fake);
        }
        redirected
    }

    /// Returns the tokens of each provider by its name.
    pub async fn tokens(&self) -> BTreeMap<String, FakeTokens> {
        let answer = reqwest::get(format!("{}/tokens", self.base));
        let answer = soon("tokens", answer).await.expect("an answer");
        soon("tokens", answer.json()).await.expect("JSON")
    }
}
