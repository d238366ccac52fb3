//! An issuer beside our own that signs whatever a test wants.

use jsonwebtoken::EncodingKey;
use rcgen::{KeyPair, PublicKeyData};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinHandle,
};

use crate::{
    Forge,
    tls::{Certificate, Stream},
};

/// The `aud` of its access tokens.
const AUDIENCE: &str = "https://realtime.example";

const KEY_ID: &str = "1";

/// An issuer that publishes one key. It goes away with this.
pub struct OtherIssuer {
    /// The `iss` of its tokens.
    pub url: String,
    key: EncodingKey,
    serving: JoinHandle<()>,
}

impl OtherIssuer {
    /// Starts one.
    pub async fn start() -> Self {
        Self::start_with(None).await
    }

    /// Starts one that speaks TLS with this certificate.
    pub async fn start_with_tls(certificate: &Certificate) -> Self {
        Self::start_with(Some(certificate)).await
    }

    async fn start_with(certificate: Option<&Certificate>) -> Self {
        let pair = KeyPair::generate().expect("a key");
        let (x, y) = pair.der_bytes()[1..].split_at(32);
        let [x, y] = [x, y].map(base64url);
        let key = json!({"kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": KEY_ID});
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound listener");
        let document = json!({ "keys": [key] }).to_string();
        let acceptor = certificate.map(Certificate::acceptor);
        let scheme = if acceptor.is_some() { "https" } else { "http" };
        Self {
            url: format!("{scheme}://{address}"),
            key: EncodingKey::from_ec_der(&pair.serialize_der()),
            serving: tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    match &acceptor {
                        None => answer(stream, &document).await,
                        Some(acceptor) => {
                            // Who does not know the certificate hangs up.
                            if let Ok(stream) = acceptor.accept(stream).await {
                                answer(stream, &document).await;
                            }
                        }
                    }
                }
            }),
        }
    }

    /// What a gateway has to know to accept its tokens.
    #[must_use]
    pub fn settings(&self) -> Value {
        json!({
            "issuer": self.url, "audience": AUDIENCE, "client_id": "app",
            "jwks_uri": format!("{}/keys", self.url),
        })
    }

    /// An access token that a gateway would accept, to be changed.
    #[must_use]
    pub fn forge(&self) -> Forge {
        Forge::of_another(&self.url, AUDIENCE, (KEY_ID, self.key.clone()))
    }

    /// The logout token of what `claims` of `forge` name, as it sends them.
    #[must_use]
    pub fn logout(&self, forge: &Forge, claims: &[&str]) -> Forge {
        forge.clone().logout(claims).claim("aud", "app")
    }
}

impl Drop for OtherIssuer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Whatever is asked for, the keys are the answer.
async fn answer(mut stream: impl Stream, document: &str) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        match stream.read_buf(&mut request).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
    let length = document.len();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    // Who hangs up asks again.
    let _ = stream
        .write_all(format!("{head}{document}").as_bytes())
        .await;
    let _ = stream.shutdown().await;
}

fn base64url(bytes: &[u8]) -> String {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

    URL_SAFE_NO_PAD.encode(bytes)
}
