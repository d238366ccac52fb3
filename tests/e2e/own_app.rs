//! An application that does what it should not: it takes the disconnect handler, is slow, and
//! wants to know what its handlers were called for.

use std::{
    convert::Infallible,
    future::ready,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use harness::{Opening, Options, Stack, eventually};
use realtime_service::{
    App, SessionRef,
    app::AppState,
    axum::{Router, extract::Path, routing::post},
    config::{Config, KeySource},
    guard,
    socketioxide::{extract::SocketRef, handler::ConnectHandler},
};
use reqwest::StatusCode;
use serde_json::json;
use shared_claims::verify::LogoutScope;

/// How long the disconnect handler takes: less than `limits.drain_ms`.
const GOODBYE: Duration = Duration::from_millis(100);

/// What happened in this process: whose socket it was, and what.
static LOG: Mutex<Vec<(String, String)>> = Mutex::new(Vec::new());

fn note(subject: &str, what: impl Into<String>) {
    let mut log = LOG.lock().unwrap_or_else(PoisonError::into_inner);
    log.push((subject.to_owned(), what.into()));
}

/// What happened to the sockets of a subject.
fn noted(subject: &str) -> Vec<String> {
    let log = LOG.lock().unwrap_or_else(PoisonError::into_inner);
    let theirs = log.iter().filter(|(whose, _)| whose == subject);
    theirs.map(|(_, what)| what.clone()).collect()
}

fn app(config: Config, keys: KeySource) -> anyhow::Result<App> {
    let app = App::new(config, keys)?;
    let state = app.state().clone();
    app.io().ns("/", guard(take_over).with(register));
    let kick = post(move |Path(subject): Path<String>| ready(kick(&state, subject)));
    Ok(app.with_routes(Router::new().route("/kick/{subject}", kick)))
}

/// Puts a disconnect handler in the place of ours.
async fn take_over(socket: SocketRef) {
    socket.on_disconnect(|| ready(()));
}

async fn register(socket: SocketRef, session: SessionRef) -> Result<(), Infallible> {
    let subject = session.identity().sender.sub.clone().unwrap_or_default();
    let whose = subject.clone();
    session.on(&socket, "note", move |session, event| {
        note(&whose, event.parse::<String>().unwrap_or_default());
        async move { event.acknowledge(&session, &()).await }
    });
    session.on_disconnect(move |_| async move {
        // It waits for something, as it would for a database.
        tokio::time::sleep(GOODBYE).await;
        note(&subject, "left");
    });
    Ok(())
}

/// Ends every socket of a subject, and tells how many there were.
fn kick(state: &Arc<AppState>, subject: String) -> String {
    let whom = LogoutScope::Subject(subject);
    state.disconnect(state.issuer(), &whom).to_string()
}

async fn start() -> Stack {
    let options = Options::default()
        .app(app)
        .gateway("limits.sockets_per_subject", 1)
        .gateway("limits.unauthenticated_secs", 1);
    Stack::start_with(options).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disconnect_handler_of_the_application_keeps_no_session_alive() {
    let stack = start().await;
    let forge = stack.forge();
    let mut socket = Opening::of(&stack).admitted(&forge.token()).await;
    socket.call("note", json!("here")).await;
    let refused = Opening::of(&stack)
        .session()
        .await
        .connect(&json!({"token": forge.token()}))
        .await;
    let refused = refused.expect_err("one socket for each subject");
    assert_eq!(refused.message(), "too many connections");
    // It leaves its namespace, and nobody is told but the application.
    socket.send("41").await;
    let subject = forge.text_of("sub");
    eventually("the end of the session", async || {
        noted(subject) == ["here", "left"]
    })
    .await;
    Opening::of(&stack).admitted(&forge.token()).await;
    // Its transport has no socket any more.
    assert_eq!(socket.closed().await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_event_reaches_a_handler_before_the_admission_or_after_the_end() {
    let stack = start().await;
    let (early, forge) = (stack.forge(), stack.forge().expires_in(2));
    let event = |what: &str| format!("42{}", json!(["note", what]));
    let mut socket = Opening::of(&stack).session().await;
    let connect = format!("40{}", json!({"token": early.token()}));
    let packets = [event("too early"), connect, event("too early")];
    socket.send_at_once(&packets).await;
    socket.closed().await;

    let mut socket = Opening::of(&stack).admitted(&forge.token()).await;
    socket.send(event("in time")).await;
    let packet = loop {
        let packet = socket.packet().await;
        if !packet.contains("rt:expiring") {
            break packet;
        }
    };
    assert!(packet.starts_with("42[\"unauthorized\""), "{packet}");
    // The transport is there for a moment more, to bring the client the news.
    socket.try_send(event("too late")).await;
    assert_eq!(socket.closed().await, [""; 0]);
    let subject = forge.text_of("sub");
    eventually("the end of the session", async || {
        noted(subject).last().is_some_and(|last| last == "left")
    })
    .await;
    assert_eq!(noted(subject), ["in time", "left"]);
    assert!(!noted(early.text_of("sub")).contains(&"too early".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn disconnect_handlers_have_run_when_the_gateway_has_stopped() {
    let stack = start().await;
    let forges: Vec<_> = (0..5).map(|_| stack.forge()).collect();
    let mut sockets = Vec::new();
    for forge in &forges {
        let mut socket = Opening::of(&stack).admitted(&forge.token()).await;
        socket.call("note", json!("here")).await;
        sockets.push(socket);
    }
    stack.stop().await;
    for forge in &forges {
        let subject = forge.text_of("sub");
        assert_eq!(noted(subject), ["here", "left"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_application_can_end_all_sockets_of_somebody() {
    let stack = start().await;
    let (forge, other) = (stack.forge(), stack.forge());
    let mut socket = Opening::of(&stack).admitted(&forge.token()).await;
    let mut twin = Opening::of(&stack).admitted(&other.token()).await;
    socket.call("note", json!("here")).await;
    let kick = async |subject: &str| {
        let url = format!("{}/kick/{subject}", stack.gateway_url);
        let answer = stack.http().post(url).send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::OK);
        answer.text().await.expect("a number")
    };
    assert_eq!(kick(forge.text_of("sub")).await, "1");
    assert_eq!(socket.closed().await, ["41"]);
    assert_eq!(kick(forge.text_of("sub")).await, "0");
    twin.call("note", json!("still here")).await;
    // The token is as good as before.
    Opening::of(&stack).admitted(&forge.token()).await;
}
