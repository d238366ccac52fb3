//! Revocations that gateways are told when a session ends.

use std::{
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use actix_web::{App, HttpResponse, HttpServer, web};
use auth_service::{credentials::Username, users};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use reqwest::StatusCode;
use serde_json::{Value, json};
use shared_claims::{Rejection, revocation::LogoutClaims};
use tokio::sync::mpsc;

use crate::fixture::{Service, own_secrets};

/// A gateway that answers 503 so many times before it acknowledges, and what it was told.
struct Gateway {
    origin: String,
    told: mpsc::UnboundedReceiver<String>,
    attempts: Arc<AtomicUsize>,
}

impl Gateway {
    fn start(failures: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let origin = format!("http://{}", listener.local_addr().expect("an address"));
        let (sender, told) = mpsc::unbounded_channel();
        let attempts = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&attempts);
        let factory = move || {
            let (sender, counter) = (sender.clone(), Arc::clone(&counter));
            let take = move |form: web::Form<Vec<(String, String)>>| {
                let is_failure = counter.fetch_add(1, Ordering::SeqCst) < failures;
                let sender = sender.clone();
                async move {
                    if is_failure {
                        return HttpResponse::ServiceUnavailable().finish();
                    }
                    let [(name, token)] = form.as_slice() else {
                        return HttpResponse::BadRequest().finish();
                    };
                    assert_eq!(name, "logout_token");
                    sender.send(token.clone()).expect("a test that listens");
                    HttpResponse::Ok().finish()
                }
            };
            App::new().route("/oidc/backchannel-logout", web::post().to(take))
        };
        let server = HttpServer::new(factory).workers(1).listen(listener);
        tokio::spawn(server.expect("a server").run());
        Self {
            origin,
            told,
            attempts,
        }
    }

    async fn token(&mut self) -> String {
        let told = tokio::time::timeout(std::time::Duration::from_secs(20), self.told.recv());
        told.await.expect("in time").expect("a token")
    }
}

async fn service_for(gateways: &[&str]) -> Service {
    let gateways = gateways.iter().map(|&origin| origin.to_owned()).collect();
    let service = Service::start_with(|settings| settings.revocation.gateways = gateways).await;
    service.add_user("alice").await;
    service
}

fn claims_of(token: &str) -> (jsonwebtoken::Header, LogoutClaims) {
    let mut validation = Validation::new(Algorithm::HS256);
    validation.set_audience(&["latchkey-realtime"]);
    let key = DecodingKey::from_secret(own_secrets().signing().expose());
    let data = jsonwebtoken::decode(token, &key, &validation).expect("our signature");
    (data.header, data.claims)
}

/// An operator's shell has the address of the database and the secrets, and need not have more.
#[tokio::test]
async fn a_command_without_the_settings_of_the_service_tells_its_gateways_all_the_same() {
    for names_another in [false, true] {
        let [mut gateway, mut other] = [0; 2].map(Gateway::start);
        let service = service_for(&[&gateway.origin, &other.origin]).await;
        service.login("alice").await;
        let mut settings = service.config.settings.clone();
        settings.revocation.gateways = match names_another {
            true => vec![other.origin.clone()],
            false => Vec::new(),
        };
        let alice = Username::parse("alice").expect("a name");
        users::disable_user(&settings, &alice)
            .await
            .expect("disabled");
        other.token().await;
        if names_another {
            // One message is one attempt; a second gateway would have been told at the same time.
            assert_eq!(gateway.attempts.load(Ordering::SeqCst), 0);
        } else {
            gateway.token().await;
        }
    }
}

#[tokio::test]
async fn a_logout_is_told_as_a_logout_token_and_not_as_anything_else() {
    let mut gateway = Gateway::start(0);
    let service = service_for(&[&gateway.origin]).await;
    let login = service.login("alice").await;
    let now = std::time::SystemTime::now();
    let verified = service.verifier().verify(&login.token, now);
    let verified = verified.expect("a token");
    let sid = verified.sid.clone().expect("a session");
    let (verified_iat, exp) = (verified.iat, verified.exp);
    let answer = service
        .post("/logout", Some(&login.token), &json!({}))
        .await;
    assert_eq!(answer.status(), StatusCode::NO_CONTENT);

    let token = gateway.token().await;
    let (header, claims) = claims_of(&token);
    assert_eq!(header.typ.as_deref(), Some("logout+jwt"));
    assert_eq!(claims.iss, "http://localhost:8080");
    assert_eq!((claims.sid, claims.exp - claims.iat), (sid, 120));
    // A token could have been signed until the end.
    let tokens_exp = claims.tokens_exp.expect("an end");
    assert!(
        (exp..=claims.iat + (exp - verified_iat)).contains(&tokens_exp),
        "{tokens_exp}"
    );
    let events = serde_json::to_value(claims.events).expect("JSON");
    assert_eq!(
        events,
        json!({"http://schemas.openid.net/event/backchannel-logout": {}})
    );
    let refused = service
        .verifier()
        .verify(&token, now)
        .expect_err("no access token");
    assert_eq!(refused, Rejection::TypeInvalid);
}

#[tokio::test]
async fn it_is_told_again_until_it_is_acknowledged_and_a_silent_gateway_delays_no_other() {
    // The gateway takes connections and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let silent = format!("http://{}", silent.local_addr().expect("an address"));
    let mut failing = Gateway::start(2);
    let service = service_for(&[&silent, &failing.origin]).await;
    let login = service.login("alice").await;
    service
        .post("/logout", Some(&login.token), &json!({}))
        .await;
    claims_of(&failing.token().await);
    assert_eq!(failing.attempts.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn every_reason_to_end_a_session_is_told() {
    let mut gateway = Gateway::start(0);
    let service = service_for(&[&gateway.origin]).await;
    let sid_of = |token: &str| {
        let now = std::time::SystemTime::now();
        service
            .verifier()
            .verify(token, now)
            .expect("a token")
            .sid
            .clone()
            .expect("a session")
    };
    for reason in ["reuse", "logout_all", "delete", "disable"] {
        let login = service.login("alice").await;
        match reason {
            "reuse" => {
                let answer = service.refresh(&login.refresh_token).await;
                let next: Value = answer.json().await.expect("JSON");
                service
                    .refresh(next["refresh_token"].as_str().expect("a token"))
                    .await;
                let answer = service.refresh(&login.refresh_token).await;
                assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
            }
            "logout_all" => {
                service
                    .post("/logout/all", Some(&login.token), &json!({}))
                    .await;
            }
            "delete" => {
                let url = service.url(&format!("/sessions/{}", sid_of(&login.token)));
                let request = service.client.delete(url).bearer_auth(&login.token);
                request.send().await.expect("an answer");
            }
            // By another process, which cannot wake this one.
            _ => service.disable_user("alice").await,
        }
        let (_, claims) = claims_of(&gateway.token().await);
        assert_eq!(claims.sid, sid_of(&login.token), "{reason}");
    }
}
