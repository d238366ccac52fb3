//! Questions to a real server: their number, and the time for which answers hold.

use std::sync::atomic::{AtomicUsize, Ordering};

use axum::{Json, Router, extract::State, routing::post};
use futures_util::future::join_all;
use serde_json::json;
use tokio::{net::TcpListener, sync::Notify};

use super::*;
use crate::{backends::BackEnds, metrics::Metrics};

/// A server that counts its requests, and answers each after the test has opened it.
struct Server {
    requests: Arc<AtomicUsize>,
    open: Arc<Notify>,
    back_ends: Arc<BackEnds>,
}

impl Server {
    /// Starts a server that gives each question this answer, and the decisions that ask it about every
    /// room. Up to `entries` of them are kept.
    async fn start(answer: Value, entries: usize) -> Self {
        let requests = Arc::new(AtomicUsize::new(0));
        let open = Arc::new(Notify::new());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/", listener.local_addr().expect("an address"));
        let state = (requests.clone(), open.clone(), answer);
        let respond = async |State((requests, open, answer)): State<(
            Arc<AtomicUsize>,
            Arc<Notify>,
            Value,
        )>| {
            requests.fetch_add(1, Ordering::SeqCst);
            open.notified().await;
            Json(answer)
        };
        let router = Router::new().route("/", post(respond)).with_state(state);
        tokio::spawn(async move { axum::serve(listener, router).await });
        let directory = tempfile::tempdir().expect("a directory");
        let secret = directory.path().join("secret");
        std::fs::write(&secret, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("written");
        let backend = json!({ "name": "shop", "url": url, "secret_file": secret });
        let rule = json!({ "rooms": ["**"], "actions": ["sub"], "authorize": "backend", "backend": "shop" });
        let mut config = Config {
            backends: vec![serde_json::from_value(backend).expect("settings")],
            rooms: vec![serde_json::from_value(rule).expect("a rule")],
            ..Config::default()
        };
        config.decisions.entries = entries;
        let back_ends = BackEnds::new(&config, &Metrics::new()).expect("back ends");
        Self {
            requests,
            open,
            back_ends: Arc::new(back_ends),
        }
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    /// Starts a question of `subject` about `room`, in `session`.
    fn ask(
        &self,
        subject: &str,
        session: &str,
        room: &str,
    ) -> impl Future<Output = Result<Decision, CallError>> + Send + 'static {
        let back_ends = self.back_ends.clone();
        let claims = json!({ "sub": subject, "sid": session });
        let (subject, session) = (subject.to_owned(), session.to_owned());
        let room = RoomName::parse(room).expect("a room name");
        async move {
            let asker = Asker {
                issuer: Some("https://issuer.example"),
                subject: Some(&subject),
                session: Some(&session),
                claims: claims.as_object().expect("claims"),
                key: &subject,
                namespace: "/",
            };
            let matter = Matter {
                rule: 0,
                action: Action::Subscribe,
                room: &room,
            };
            back_ends.decisions().decide(&asker, matter).await
        }
    }

    /// Answers one question, and returns the decision of `question`.
    async fn answered(
        &self,
        question: impl Future<Output = Result<Decision, CallError>>,
    ) -> Result<Decision, CallError> {
        self.open.notify_one();
        question.await
    }

    fn forget(&self, scope: &LogoutScope) {
        self.back_ends
            .decisions()
            .forget("https://issuer.example", scope);
    }
}

fn allow(cache_secs: u64) -> Value {
    json!({ "allow": true, "cache_secs": cache_secs })
}

#[tokio::test]
async fn ten_thousand_who_ask_at_once_cause_one_question_for_each_user() {
    const USERS: usize = 10;
    for answer in [allow(60), allow(0), json!("no answer that can be used")] {
        let is_allowed = answer.is_object();
        let server = Server::start(answer, 100).await;
        let crowd = (0..10_000).map(|number| {
            let user = number % USERS;
            tokio::spawn(server.ask(
                &format!("user-{user}"),
                &format!("session-{number}"),
                "hall",
            ))
        });
        let crowd: Vec<_> = crowd.collect();
        while server.requests() < USERS {
            tokio::task::yield_now().await;
        }
        // All askers wait before the first answer is sent.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        for _ in 0..USERS {
            server.open.notify_one();
            tokio::task::yield_now().await;
        }
        server.open.notify_waiters();
        for decision in join_all(crowd).await {
            let decision = decision.expect("no panic");
            assert_eq!(
                decision == Ok(Decision::Allowed),
                is_allowed,
                "{decision:?}"
            );
        }
        assert_eq!(server.requests(), USERS);
    }
}

#[tokio::test]
async fn an_answer_holds_for_the_time_that_it_names_and_no_longer() {
    let server = Server::start(allow(60), 100).await;
    let first = server.ask("alice", "s", "hall");
    assert_eq!(server.answered(first).await, Ok(Decision::Allowed));
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(59)).await;
    let second = server.ask("alice", "s", "hall").await;
    assert_eq!((second, server.requests()), (Ok(Decision::Allowed), 1));
    tokio::time::advance(Duration::from_secs(1)).await;
    tokio::time::resume();
    let third = server.ask("alice", "s", "hall");
    assert_eq!(server.answered(third).await, Ok(Decision::Allowed));
    assert_eq!(server.requests(), 2);
}

#[tokio::test]
async fn another_user_room_or_token_is_another_question() {
    let server = Server::start(allow(60), 100).await;
    for (number, (subject, session, room)) in [
        ("alice", "s", "hall"),
        ("bob", "s", "hall"),
        ("alice", "s", "cellar"),
    ]
    .into_iter()
    .enumerate()
    {
        let asked = server.ask(subject, session, room);
        assert_eq!(server.answered(asked).await, Ok(Decision::Allowed));
        assert_eq!(server.requests(), number + 1);
    }
    // Another session of the same user shares the answer.
    let shared = server.ask("alice", "t", "hall").await;
    assert_eq!((shared, server.requests()), (Ok(Decision::Allowed), 3));
}

#[tokio::test]
async fn a_revocation_voids_what_it_names_at_once_and_nothing_else() {
    let session = |sid: &str| LogoutScope::Session(sid.to_owned());
    for (scope, requests) in [
        (session("s"), 2),
        (LogoutScope::Subject("alice".to_owned()), 2),
        (session("another"), 1),
        (LogoutScope::Subject("bob".to_owned()), 1),
    ] {
        let server = Server::start(allow(60), 100).await;
        let first = server.ask("alice", "s", "hall");
        assert_eq!(server.answered(first).await, Ok(Decision::Allowed));
        server.forget(&scope);
        let again = server.ask("alice", "t", "hall");
        assert_eq!(server.answered(again).await, Ok(Decision::Allowed));
        assert_eq!(server.requests(), requests, "{scope:?}");
    }
}

#[tokio::test]
async fn an_answer_that_is_under_way_at_a_revocation_is_not_used_by_later_questions() {
    let server = Server::start(allow(60), 100).await;
    let early = tokio::spawn(server.ask("alice", "s", "hall"));
    while server.requests() == 0 {
        tokio::task::yield_now().await;
    }
    server.forget(&LogoutScope::Subject("alice".to_owned()));
    let late = tokio::spawn(server.ask("alice", "t", "hall"));
    tokio::task::yield_now().await;
    server.open.notify_one();
    assert_eq!(early.await.expect("no panic"), Ok(Decision::Allowed));
    server.open.notify_one();
    assert_eq!(late.await.expect("no panic"), Ok(Decision::Allowed));
    assert_eq!(server.requests(), 2);
}

#[tokio::test]
async fn no_more_answers_are_kept_than_may_be() {
    let server = Server::start(allow(60), 4).await;
    for number in 0..32 {
        let asked = server.ask("alice", "s", &format!("room-{number}"));
        assert_eq!(server.answered(asked).await, Ok(Decision::Allowed));
    }
    let kept = &server.back_ends.decisions().kept;
    assert!(kept.len() <= 4, "{}", kept.len());
}

#[tokio::test]
async fn a_question_whose_asker_is_gone_is_asked_by_the_next_one() {
    let server = Server::start(allow(0), 100).await;
    let first = tokio::spawn(server.ask("alice", "s", "hall"));
    while server.requests() == 0 {
        tokio::task::yield_now().await;
    }
    let next = tokio::spawn(server.ask("alice", "s", "hall"));
    tokio::task::yield_now().await;
    first.abort();
    while server.requests() == 1 {
        tokio::task::yield_now().await;
    }
    // The server may still hold the request of the first.
    server.open.notify_one();
    server.open.notify_one();
    assert_eq!(next.await.expect("no panic"), Ok(Decision::Allowed));
}
