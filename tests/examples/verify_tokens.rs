//! A service that verifies the tokens of people, and asks nobody about them.

use std::{
    env,
    error::Error,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Json, Router,
    extract::FromRequestParts,
    http::{StatusCode, header::AUTHORIZATION, request::Parts},
    response::{IntoResponse, Response},
    routing::get,
};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header, jwk::JwkSet};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    sync::{Mutex, RwLock},
};

/// Interval at which keys are fetched at most: a `kid` that nobody has must not flood the issuer.
const REFETCH: Duration = Duration::from_secs(30);

struct Verifier {
    rules: Validation,
    jwks_uri: String,
    client: reqwest::Client,
    keys: RwLock<JwkSet>,
    /// Time of the last fetch.
    fetched: Mutex<Option<Instant>>,
}

/// The person of an accepted token.
#[derive(Deserialize)]
struct User {
    preferred_username: String,
    #[serde(default)]
    roles: Vec<String>,
}

impl Verifier {
    fn new(issuer: &str, audience: &str) -> Result<Self, Box<dyn Error>> {
        let mut rules = Validation::new(Algorithm::ES256);
        rules.set_issuer(&[issuer]);
        rules.set_audience(&[audience]);
        rules.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        rules.leeway = 0;
        Ok(Self {
            rules,
            jwks_uri: format!("{issuer}/.well-known/jwks.json"),
            client: reqwest::Client::builder()
                .timeout(Duration::from_secs(5))
                .build()?,
            keys: RwLock::new(JwkSet { keys: Vec::new() }),
            fetched: Mutex::new(None),
        })
    }

    async fn verify(&self, token: &str) -> Option<User> {
        let header = decode_header(token).ok()?;
        if header.typ.as_deref() != Some("at+jwt") {
            return None;
        }
        let key = self.key(header.kid.as_deref()?).await?;
        let accepted = decode::<User>(token, &key, &self.rules);
        Some(accepted.ok()?.claims)
    }

    async fn key(&self, id: &str) -> Option<DecodingKey> {
        if let Some(key) = self.keys.read().await.find(id) {
            return DecodingKey::from_jwk(key).ok();
        }
        // Known keys are found while this waits for the issuer.
        let mut fetched = self.fetched.lock().await;
        if fetched.is_none_or(|at| at.elapsed() > REFETCH) {
            *fetched = Some(Instant::now());
            let answer = self.client.get(&self.jwks_uri).send().await.ok()?;
            let set = answer.error_for_status().ok()?.json().await.ok()?;
            *self.keys.write().await = set;
        }
        DecodingKey::from_jwk(self.keys.read().await.find(id)?).ok()
    }
}

impl FromRequestParts<Arc<Verifier>> for User {
    type Rejection = Response;

    async fn from_request_parts(
        parts: &mut Parts,
        verifier: &Arc<Verifier>,
    ) -> Result<Self, Response> {
        let header = parts
            .headers
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok());
        let token = header
            .and_then(|value| value.strip_prefix("Bearer "))
            .unwrap_or_default();
        let challenge = [("www-authenticate", "Bearer")];
        let user = verifier.verify(token).await;
        user.ok_or_else(|| (StatusCode::UNAUTHORIZED, challenge).into_response())
    }
}

async fn orders(user: User) -> Json<Value> {
    Json(json!({"user": user.preferred_username, "orders": []}))
}

async fn refunds(user: User) -> Result<Json<Value>, StatusCode> {
    if !user.roles.iter().any(|role| role == "billing") {
        return Err(StatusCode::FORBIDDEN);
    }
    Ok(Json(json!({"refunds": []})))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let verifier = Verifier::new(&env::var("ISSUER_URL")?, &env::var("AUDIENCE")?)?;
    let routes = Router::new()
        .route("/orders", get(orders))
        .route("/refunds", get(refunds));
    let listener = TcpListener::bind(format!("127.0.0.1:{}", env::var("PORT")?)).await?;
    axum::serve(listener, routes.with_state(Arc::new(verifier))).await?;
    Ok(())
}
