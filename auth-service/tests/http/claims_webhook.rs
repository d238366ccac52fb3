//! The claims webhook: what it adds, what it refuses, and what happens when it does not answer.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use actix_web::{HttpRequest, HttpResponse};
use auth_service::{Settings, config::OnFailure};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, mpsc};

use crate::{
    fixture::{Login, PASSWORD, Service, problem},
    receiver::{Receiver, status_of},
};

/// Answer of the webhook.
#[derive(Clone)]
pub(crate) enum Reply {
    Text(u16, String),
    /// To another place, which would add a claim.
    Redirect,
    /// Waits until the test lets it go on, for an account of this name; others are answered at once.
    Held(&'static str),
}

/// The claims webhook of a service.
pub(crate) struct Hook {
    receiver: Receiver,
    reply: Arc<Mutex<Reply>>,
    asked: mpsc::UnboundedReceiver<Value>,
    release: Arc<Semaphore>,
}

impl Hook {
    pub(crate) fn start() -> Self {
        let reply = Arc::new(Mutex::new(Reply::Text(200, "{}".to_owned())));
        let release = Arc::new(Semaphore::new(0));
        let (sender, asked) = mpsc::unbounded_channel();
        let (own, held) = (Arc::clone(&reply), Arc::clone(&release));
        let answer = move |_: HttpRequest, asked: Value| {
            let reply = own.lock().expect("a lock").clone();
            let username = asked["data"]["username"].clone();
            // The test may have ended.
            let _ = sender.send(asked);
            let held = Arc::clone(&held);
            async move {
                match reply {
                    Reply::Text(status, text) => HttpResponse::build(status_of(status)).body(text),
                    Reply::Redirect => Receiver::elsewhere(307),
                    Reply::Held(name) => {
                        if username == name {
                            held.acquire().await.expect("a test").forget();
                        }
                        HttpResponse::Ok().body(r#"{"roles": ["held"]}"#)
                    }
                }
            }
        };
        Self {
            receiver: Receiver::start(r#"{"roles": ["elsewhere"]}"#, answer),
            reply,
            asked,
            release,
        }
    }

    /// Starts a service that asks the webhook, and has nobody yet.
    pub(crate) async fn empty_service(&self, change: impl FnOnce(&mut Settings)) -> Service {
        Service::start_with(|settings| {
            let hook = &mut settings.token.claims_webhook;
            hook.url = self.receiver.url().parse().expect("a URL");
            hook.secret_file = self.receiver.secret_file();
            hook.timeout_ms = 10_000;
            change(settings);
        })
        .await
    }

    async fn service(&self, change: impl FnOnce(&mut Settings)) -> Service {
        let service = self.empty_service(change).await;
        service.add_user("alice").await;
        service
    }

    pub(crate) fn replies(&self, reply: Reply) {
        *self.reply.lock().expect("a lock") = reply;
    }

    pub(crate) fn answers(&self, answer: &Value) {
        self.replies(Reply::Text(200, answer.to_string()));
    }

    async fn next(&mut self) -> Value {
        let asked = tokio::time::timeout(Duration::from_secs(20), self.asked.recv());
        asked
            .await
            .expect("a question in time")
            .expect("a question")
    }

    pub(crate) fn was_asked(&mut self) -> bool {
        self.asked.try_recv().is_ok()
    }
}

fn claims_of(service: &Service, token: &str) -> Value {
    let verified = service.verifier().verify(token, SystemTime::now());
    Value::Object(verified.expect("a token").all().clone())
}

#[tokio::test]
async fn claims_are_added_at_a_login_and_at_a_refresh() {
    let mut hook = Hook::start();
    let service = hook.service(|_| {}).await;
    hook.answers(&json!({"roles": ["editor"], "claims": {"org": "acme"}}));
    let login = service.login("alice").await;
    let asked = hook.next().await;
    assert_eq!(asked["type"], "token.claims");
    let data = &asked["data"];
    assert_eq!(
        (&data["username"], &data["occasion"]),
        (&json!("alice"), &json!("login"))
    );
    assert_eq!((&data["roles"], &data["claims"]), (&json!([]), &json!({})));
    let claims = claims_of(&service, &login.token);
    assert_eq!(
        (&claims["roles"], &claims["org"]),
        (&json!(["editor"]), &json!("acme"))
    );
    assert_eq!(claims["sub"], data["user_id"]);

    hook.answers(&json!({"roles": ["billing"]}));
    let refreshed = service.refresh(&login.refresh_token).await;
    let refreshed = Login::of(&refreshed.json().await.expect("JSON"));
    assert_eq!(hook.next().await["data"]["occasion"], "refresh");
    let claims = claims_of(&service, &refreshed.token);
    assert_eq!(claims["roles"], json!(["billing"]));
    assert!(claims.get("org").is_none());
    // A wrong password asks nobody.
    service.post_login("alice", "wrong").await;
    assert!(!hook.was_asked());
}

#[tokio::test]
async fn a_refused_login_has_the_text_and_no_session() {
    let mut hook = Hook::start();
    let service = hook.service(|_| {}).await;
    let login = service.login("alice").await;
    hook.answers(&json!({"refuse": "The trial has ended."}));
    let refused = service.post_login("alice", PASSWORD).await;
    let refused = problem(refused, StatusCode::FORBIDDEN, "login_refused").await;
    assert_eq!(refused["detail"], "The trial has ended.");
    let refused = service.refresh(&login.refresh_token).await;
    problem(refused, StatusCode::FORBIDDEN, "login_refused").await;
    let form = format!(
        "grant_type=refresh_token&client_id=latchkey-login&refresh_token={}",
        login.refresh_token
    );
    let kind = "application/x-www-form-urlencoded";
    let request = service.client.post(service.url("/oauth/token")).body(form);
    let refused = request.header("content-type", kind).send().await;
    let refused = refused.expect("an answer");
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    let refused: Value = refused.json().await.expect("JSON");
    assert_eq!(refused["error"], "access_denied");
    assert_eq!(service.execute("update sessions set id = id").await, 1);
    // The refresh token of before is good once the webhook lets it be.
    hook.answers(&json!({}));
    assert_eq!(
        service.refresh(&login.refresh_token).await.status(),
        StatusCode::OK
    );
    while hook.was_asked() {}
}

#[tokio::test]
async fn without_an_answer_that_can_be_used_a_login_fails_closed_or_open_by_setting() {
    let failures = || {
        [
            Reply::Text(500, "{}".to_owned()),
            Reply::Text(200, "no JSON".to_owned()),
            Reply::Text(200, json!({"claims": {"sub": "bob"}}).to_string()),
            Reply::Text(200, r#"{"claims": {"a": 1, "a": 2}}"#.to_owned()),
            Reply::Text(200, format!("{{}}{}", " ".repeat(17_000))),
            Reply::Redirect,
            Reply::Held("alice"),
        ]
    };
    let hook = Hook::start();
    let service = hook
        .service(|settings| settings.token.claims_webhook.timeout_ms = 500)
        .await;
    let open = hook
        .service(|settings| {
            settings.token.claims_webhook.timeout_ms = 500;
            settings.token.claims_webhook.on_failure = OnFailure::Ignore;
        })
        .await;
    for failure in failures() {
        hook.replies(failure);
        let refused = service.post_login("alice", PASSWORD).await;
        assert_eq!(refused.headers()["retry-after"], "1");
        problem(refused, StatusCode::SERVICE_UNAVAILABLE, "unavailable").await;
        let claims = claims_of(&open, &open.login("alice").await.token);
        assert!(claims.get("roles").is_none() && claims.get("a").is_none());
        assert_ne!(claims["sub"], "bob");
    }
    assert_eq!(service.execute("update sessions set id = id").await, 0);
    hook.answers(&json!({"claims": {"a": 1}}));
    for service in [&service, &open] {
        let claims = claims_of(service, &service.login("alice").await.token);
        assert_eq!(claims["a"], 1);
    }
}

/// Nor does somebody whom the webhook would refuse sign in by keeping it busy.
#[tokio::test]
async fn one_account_takes_no_place_of_another_at_the_webhook() {
    let mut hook = Hook::start();
    let service = hook
        .service(|settings| {
            settings.token.claims_webhook.timeout_ms = 10_000;
            settings.token.claims_webhook.concurrency = 3;
            settings.token.claims_webhook.on_failure = OnFailure::Ignore;
        })
        .await;
    service.add_user("bob").await;
    hook.replies(Reply::Held("alice"));
    let held = async { tokio::join!(service.login("alice"), service.login("alice")) };
    let others = async {
        for _ in 0..2 {
            assert_eq!(hook.next().await["data"]["username"], "alice");
        }
        let third = service.post_login("alice", PASSWORD).await;
        problem(third, StatusCode::SERVICE_UNAVAILABLE, "unavailable").await;
        service.login("bob").await;
        hook.release.add_permits(3);
    };
    tokio::join!(held, others);
    service.login("alice").await;
}

#[tokio::test]
async fn an_answer_is_kept_for_the_time_that_it_names_and_while_the_account_is_the_same() {
    let mut hook = Hook::start();
    let service = hook.service(|_| {}).await;
    for (cache_secs, asks) in [(0, true), (60, true), (60, false)] {
        hook.answers(&json!({"roles": ["editor"], "cache_secs": cache_secs}));
        let claims = claims_of(&service, &service.login("alice").await.token);
        assert_eq!(claims["roles"], json!(["editor"]));
        assert_eq!(hook.was_asked(), asks, "{cache_secs}");
    }
    let login = service.login("alice").await;
    assert_eq!(
        service.refresh(&login.refresh_token).await.status(),
        StatusCode::OK
    );
    assert!(!hook.was_asked());
    service
        .execute("update users set claims = '{\"roles\":[\"owner\"]}'")
        .await;
    let claims = claims_of(&service, &service.login("alice").await.token);
    assert_eq!(claims["roles"], json!(["owner", "editor"]));
    assert!(hook.was_asked());
    // A refusal is kept too.
    hook.answers(&json!({"refuse": "no", "cache_secs": 60}));
    service.execute("update users set name = 'Another'").await;
    for asks in [true, false] {
        let refused = service.post_login("alice", PASSWORD).await;
        problem(refused, StatusCode::FORBIDDEN, "login_refused").await;
        assert_eq!(hook.was_asked(), asks);
    }
}

#[tokio::test]
async fn a_slow_answer_holds_up_its_own_login_and_refresh_and_no_other() {
    let mut hook = Hook::start();
    let service = hook.service(|_| {}).await;
    service.add_user("bob").await;
    let (alice, bob) = (service.login("alice").await, service.login("bob").await);
    while hook.was_asked() {}
    hook.replies(Reply::Held("alice"));
    let held = async {
        tokio::join!(
            service.login("alice"),
            service.refresh(&alice.refresh_token)
        )
    };
    let others = async {
        for _ in 0..2 {
            assert_eq!(hook.next().await["data"]["username"], "alice");
        }
        // Both of alice are under way, and neither is answered before bob is.
        let login = service.login("bob").await;
        let refreshed = service.refresh(&bob.refresh_token).await;
        assert_eq!(refreshed.status(), StatusCode::OK);
        hook.release.add_permits(2);
        login
    };
    let ((login, refreshed), other) = tokio::join!(held, others);
    assert_eq!(refreshed.status(), StatusCode::OK);
    for login in [login, other] {
        assert_eq!(claims_of(&service, &login.token)["roles"], json!(["held"]));
    }
}
