//! Events for a service of the operator's.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use actix_web::{HttpRequest, HttpResponse};
use auth_service::config::Registration;
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::{
    authenticator::Authenticator,
    fixture::{Login, PASSWORD, Service},
    passkeys,
    receiver::Receiver,
};

const NEW: &str = "barley is not sesame";

/// Takes events, after it has refused so many.
struct EventReceiver {
    receiver: Receiver,
    told: mpsc::UnboundedReceiver<(String, Value)>,
    failures: Arc<AtomicUsize>,
}

impl EventReceiver {
    /// `answer` is the status of a refusal; a redirect leads back here.
    fn start(failures: usize, answer: u16) -> Self {
        let (sender, told) = mpsc::unbounded_channel();
        let failures = Arc::new(AtomicUsize::new(failures));
        let left = Arc::clone(&failures);
        let take = move |request: HttpRequest, event: Value| {
            let take_one = |left: usize| left.checked_sub(1);
            let is_failure = left
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, take_one)
                .is_ok();
            let id = request.headers().get("webhook-id").expect("an id");
            let id = id.to_str().expect("text").to_owned();
            let sender = sender.clone();
            async move {
                if is_failure {
                    return Receiver::elsewhere(answer);
                }
                sender.send((id, event)).expect("a test that listens");
                HttpResponse::Ok().finish()
            }
        };
        Self {
            receiver: Receiver::start("", take),
            told,
            failures,
        }
    }

    async fn service(&self) -> Service {
        Service::start_with(|settings| {
            settings.events.url = self.receiver.url().parse().expect("a URL");
            settings.events.secret_file = self.receiver.secret_file();
            settings.registration = Registration::Open;
            settings.limits.registrations_per_address = 1_000;
        })
        .await
    }

    async fn next(&mut self) -> (String, Value) {
        let told = tokio::time::timeout(Duration::from_secs(20), self.told.recv());
        told.await.expect("an event in time").expect("an event")
    }

    async fn next_type(&mut self) -> String {
        let (_, event) = self.next().await;
        event["type"].as_str().expect("a type").to_owned()
    }
}

#[tokio::test]
async fn what_happens_to_an_account_is_told_in_order() {
    let mut receiver = EventReceiver::start(0, 503);
    let service = receiver.service().await;
    // By a command, which is another process.
    let id = service.add_user("alice").await;
    let (_, created) = receiver.next().await;
    assert_eq!(created["type"], "user.created");
    assert_eq!(created["data"], json!({"user_id": id, "by": "command"}));
    assert!(
        created["timestamp"]
            .as_str()
            .is_some_and(|time| time.ends_with('Z'))
    );

    let answer = service.post_login("alice", PASSWORD).await;
    let answer: Value = answer.json().await.expect("JSON");
    let (_, login) = receiver.next().await;
    assert_eq!(login["type"], "login.new_device");
    assert_eq!(login["data"]["address"], "127.0.0.1");
    // The same device is not new.
    let body = json!({"username": "alice", "password": PASSWORD,
                      "device_token": answer["device_token"]});
    let known = service.post("/login", None, &body).await;
    let known = Login::of(&known.json().await.expect("JSON"));
    let body = json!({"current_password": PASSWORD, "new_password": NEW});
    let changed = service.post("/password", Some(&known.token), &body).await;
    assert_eq!(changed.status(), StatusCode::NO_CONTENT);
    assert_eq!(receiver.next_type().await, "password.changed");
    let (_, ended) = receiver.next().await;
    assert_eq!(ended["type"], "session.ended");
    assert_eq!(ended["data"]["reason"], "password_changed");
    assert_eq!(ended["data"]["session_id"], login["data"]["session_id"]);
    service.disable_user("alice").await;
    assert_eq!(receiver.next_type().await, "user.disabled");
    let (_, ended) = receiver.next().await;
    assert_eq!(ended["data"]["reason"], "account_disabled");
}

#[tokio::test]
async fn a_login_with_a_passkey_tells_of_a_new_device_and_not_of_a_known_one() {
    let mut receiver = EventReceiver::start(0, 503);
    let service = receiver.service().await;
    service.add_user("alice").await;
    let token = service.token_of("alice").await;
    let mut device = Authenticator::new();
    passkeys::add(&service, &token, &mut device).await;
    let answer = passkeys::sign_in(&service, &mut device).await;
    let answer: Value = answer.json().await.expect("JSON");
    for expected in [
        "user.created",
        "login.new_device",
        "passkey.added",
        "login.new_device",
    ] {
        assert_eq!(receiver.next_type().await, expected);
    }
    let started = passkeys::login_options(&service).await;
    let body = json!({
        "state": started["state"],
        "credential": device.get(&started["options"]),
        "device_token": answer["device_token"],
    });
    let known = service.post("/login/passkey", None, &body).await;
    assert_eq!(known.status(), StatusCode::OK);
    service.disable_user("alice").await;
    assert_eq!(receiver.next_type().await, "user.disabled");
}

#[tokio::test]
async fn an_event_is_told_again_until_it_is_taken_and_no_later_one_of_its_user_overtakes_it() {
    let mut receiver = EventReceiver::start(3, 503);
    let service = receiver.service().await;
    let mut expected = HashMap::new();
    for name in ["alice", "bob"] {
        let id = service.add_user(name).await;
        for _ in 0..3 {
            service.login(name).await;
        }
        service.disable_user(name).await;
        let mut types = vec!["user.created"];
        types.extend(["login.new_device"; 3]);
        types.push("user.disabled");
        types.extend(["session.ended"; 3]);
        expected.insert(id, types);
    }
    let mut told: HashMap<String, Vec<String>> = HashMap::new();
    let mut ids = std::collections::HashSet::new();
    for _ in 0..16 {
        let (id, event) = receiver.next().await;
        assert!(ids.insert(id), "twice");
        let user = event["data"]["user_id"].as_str().expect("a user");
        let kind = event["type"].as_str().expect("a type");
        told.entry(user.to_owned())
            .or_default()
            .push(kind.to_owned());
    }
    assert_eq!(told.len(), 2);
    for (user, types) in expected {
        assert_eq!(told[&user], types);
    }
    assert_eq!(receiver.failures.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_redirect_is_a_failure_and_is_not_followed() {
    let mut receiver = EventReceiver::start(1, 307);
    let service = receiver.service().await;
    service.add_user("alice").await;
    // The event came again, to the URL of the settings.
    assert_eq!(receiver.next_type().await, "user.created");
    assert_eq!(receiver.failures.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_service_that_nobody_listens_to_keeps_no_events() {
    let service = Service::start().await;
    service.add_user("alice").await;
    service.login("alice").await;
    assert_eq!(service.execute("update outbox set id = id").await, 0);
}
