//! A webhook of the operator's, signed after Standard Webhooks 1.0.0
//! (<https://www.standardwebhooks.com>).

use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, bail};
use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use reqwest::{Client, Response, header::CONTENT_TYPE, redirect::Policy};
use zeroize::Zeroizing;

use crate::{
    clock::seconds_since_epoch,
    config::{WebhookUrl, read_secret_file},
};

/// Maximum time that a receiver takes to accept a connection, and to answer.
const CONNECT_DEADLINE: Duration = Duration::from_secs(2);
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);

/// The prefix of a secret in its usual form.
const SECRET_PREFIX: &str = "whsec_";

/// The lengths of a secret, in bytes.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// Maximum number of secrets: the one of today, and the one before or after it.
const SECRETS: usize = 2;

/// Posts signed messages to one URL.
pub(crate) struct Webhook {
    client: Client,
    url: WebhookUrl,
    secrets: PathBuf,
}

impl Webhook {
    /// Makes the webhook at `url`, with its secrets in the file `secrets`.
    ///
    /// # Errors
    ///
    /// When the file holds no secrets, or TLS cannot be set up.
    pub(crate) fn open(url: &WebhookUrl, secrets: &Path) -> anyhow::Result<Self> {
        read_keys(secrets)?;
        let client = Client::builder()
            // The body would go to whatever the answer names.
            .redirect(Policy::none())
            .connect_timeout(CONNECT_DEADLINE)
            .timeout(ANSWER_DEADLINE)
            .build()?;
        Ok(Self {
            client,
            url: url.clone(),
            secrets: secrets.to_owned(),
        })
    }

    /// Posts a message of JSON under an identifier that is the same at every attempt. The secrets are
    /// read anew each time, so that the file can be replaced.
    ///
    /// # Errors
    ///
    /// When the receiver does not answer 2xx.
    pub(crate) async fn post(&self, id: &str, body: Zeroizing<String>) -> anyhow::Result<()> {
        self.send(id, body).await?;
        Ok(())
    }

    /// Posts a message of JSON, and returns the body of the answer, of up to `limit` bytes.
    ///
    /// # Errors
    ///
    /// When the receiver does not answer 2xx, or the body is longer.
    pub(crate) async fn ask(
        &self,
        id: &str,
        body: Zeroizing<String>,
        limit: usize,
    ) -> anyhow::Result<Vec<u8>> {
        let mut answer = self.send(id, body).await?;
        let mut read = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(reqwest::Error::without_url)? {
            if read.len() + chunk.len() > limit {
                bail!("its answer has more than {limit} bytes");
            }
            read.extend_from_slice(&chunk);
        }
        Ok(read)
    }

    async fn send(&self, id: &str, body: Zeroizing<String>) -> anyhow::Result<Response> {
        let keys = read_keys(&self.secrets)?;
        let timestamp = seconds_since_epoch(SystemTime::now())?;
        let signature = sign(&keys, id, timestamp, &body);
        let answer = self
            .client
            .post(self.url.expose())
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", signature)
            .header(CONTENT_TYPE, "application/json")
            .body(body.to_string())
            .send()
            .await
            .map_err(reqwest::Error::without_url)?;
        if !answer.status().is_success() {
            bail!("it answered {}", answer.status());
        }
        Ok(answer)
    }
}

/// Reads the secrets, one a line.
fn read_keys(file: &Path) -> anyhow::Result<Vec<hmac::Key>> {
    let text = read_secret_file(file);
    let text = Zeroizing::new(text.context("the file with the webhook's secrets cannot be read")?);
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let keys = lines.map(parse_key).collect::<anyhow::Result<Vec<_>>>()?;
    if !(1..=SECRETS).contains(&keys.len()) {
        bail!("the file with the webhook's secrets must hold one or two, one a line");
    }
    Ok(keys)
}

fn parse_key(line: &str) -> anyhow::Result<hmac::Key> {
    let text = line.strip_prefix(SECRET_PREFIX).unwrap_or(line);
    let bytes = STANDARD.decode(text).ok().map(Zeroizing::new);
    let bytes = bytes.filter(|bytes| SECRET_BYTES.contains(&bytes.len()));
    let bytes = bytes.context("a webhook's secret is whsec_ and 24 to 64 bytes in base64")?;
    Ok(hmac::Key::new(hmac::HMAC_SHA256, &bytes))
}

/// Returns the header `webhook-signature`: one signature for each secret.
fn sign(keys: &[hmac::Key], id: &str, timestamp: i64, body: &str) -> String {
    let signed = Zeroizing::new(format!("{id}.{timestamp}.{body}"));
    let signatures = keys.iter().map(|key| {
        let tag = hmac::sign(key, signed.as_bytes());
        format!("v1,{}", STANDARD.encode(tag))
    });
    signatures.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;
    use crate::log_lines::LogLines;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    #[test]
    fn a_signature_is_that_of_the_specification() {
        let keys = [parse_key(SECRET).expect("a key")];
        let signature = sign(
            &keys,
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            r#"{"test": 2432232314}"#,
        );
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_file_holds_one_secret_or_two_and_each_signs() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("secrets");
        let read = |text: &str| {
            fs::write(&file, text).expect("a file");
            read_keys(&file).ok().map(|keys| keys.len())
        };
        let other = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
        assert_eq!(read(SECRET), Some(1));
        assert_eq!(read(&format!("{SECRET}\n\n{other}\n")), Some(2));
        let short = format!("whsec_{}", STANDARD.encode([1; 23]));
        let long = format!("whsec_{}", STANDARD.encode([1; 65]));
        for bad in ["", "\n", "whsec_", "secret", &short, &long] {
            assert_eq!(read(bad), None, "{bad}");
        }
        assert_eq!(read(&format!("{SECRET}\n{other}\n{SECRET}")), None);
        let keys = [SECRET, other].map(|secret| parse_key(secret).expect("a key"));
        assert_eq!(sign(&keys, "id", 1, "{}").matches("v1,").count(), 2);
    }

    #[tokio::test]
    async fn a_file_that_others_can_read_is_named_once_and_not_for_each_request() {
        let lines = LogLines::default();
        let own = lines.clone();
        let subscriber = tracing_subscriber::fmt().with_writer(move || own.clone());
        let _guard = tracing::subscriber::set_default(subscriber.finish());
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("secrets");
        fs::write(&file, SECRET).expect("a file");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("a mode");
        let url = "http://127.0.0.1:1/".parse().expect("a URL");
        let webhook = Webhook::open(&url, &file).expect("a webhook");
        for _ in 0..3 {
            let posted = webhook.post("id", "{}".to_owned().into()).await;
            assert!(posted.is_err(), "nobody listens there");
        }
        let text = lines.text();
        assert_eq!(
            text.matches("can be read by everybody").count(),
            1,
            "{text}"
        );
        assert!(text.contains(&file.display().to_string()), "{text}");
    }
}
