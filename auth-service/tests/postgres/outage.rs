//! A server that goes away while it is used, and comes back.

use std::{
    net::TcpListener,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use auth_service::{
    Config, Settings,
    store::{Store, StoreError},
    users::{self, NewUser},
};
use reqwest::{Client, Response, StatusCode};
use serde_json::{Value, json};
use shared_claims::{
    Verifier,
    claims::REALTIME_AUDIENCE,
    key_set::KeySet,
    secret::{SECRET_VARIABLE, Secrets},
};
use tokio::sync::oneshot;

use crate::server::Server;

pub(crate) const PASSWORD: &str = "open sesame";

/// Time in which a client that cannot be served is told so.
const PATIENCE: Duration = Duration::from_secs(2);

/// Time in which everything works again, which takes no longer than a retry.
const RECOVERY: Duration = Duration::from_secs(5);

#[derive(Clone)]
pub(crate) struct Service {
    pub(crate) url: String,
    config: Config,
    pub(crate) client: Client,
    /// Dropped with the last clone, which ends the service.
    _stop: Arc<oneshot::Sender<()>>,
}

impl Service {
    async fn start(server: &Server) -> Self {
        let service = Self::join(server, |_| {});
        service.add_user("alice").await;
        service
    }

    /// Starts a service on the database that others may use too.
    pub(crate) fn join(server: &Server, change: impl FnOnce(&mut Settings)) -> Self {
        let text = "mZq3vX8pL1rT6wYc9sHd2kFg5jBn7uEa";
        let secrets = Secrets::parse(SECRET_VARIABLE, text, ',').expect("a secret");
        let mut config = Config::for_testing(Path::new("unused"), secrets);
        config.settings.database_url = server.url().parse().expect("a URL");
        config.settings.password.threads = 2;
        change(&mut config.settings);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async move {
            let _ = stopped.await;
        };
        let serving = auth_service::serve(config.clone(), listener, shutdown);
        tokio::spawn(async move {
            if let Err(error) = serving.await {
                let story = error.downcast_ref().map(StoreError::story);
                panic!("{}", story.unwrap_or_else(|| format!("{error:#}")));
            }
        });
        Self {
            url,
            config,
            client: Client::new(),
            _stop: Arc::new(stop),
        }
    }

    pub(crate) async fn add_user(&self, name: &str) {
        let made = Store::open(&self.config.settings.database_url).await;
        made.expect("a database").close().await;
        let user = NewUser::parse(name, PASSWORD).expect("a user");
        users::add_user(&self.config.settings, user)
            .await
            .expect("added");
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        let answer = self.client.get(format!("{}{path}", self.url)).send().await;
        answer.expect("an answer")
    }

    async fn log_in(&self, name: &str) -> Response {
        self.client
            .post(format!("{}/login", self.url))
            .json(&json!({"username": name, "password": PASSWORD}))
            .send()
            .await
            .expect("an answer")
    }

    /// The session that a login has started.
    async fn session_of(&self, answer: Response) -> String {
        assert_eq!(answer.status(), StatusCode::OK);
        let answer: Value = answer.json().await.expect("JSON");
        let keys = KeySet::from_secrets(&self.config.secrets).expect("keys");
        let verifier = Verifier::new(&self.config.settings.public_url, REALTIME_AUDIENCE, keys);
        let token = answer["token"].as_str().expect("a token");
        let claims = verifier.verify(token, SystemTime::now());
        claims.expect("accepted").sid.clone().expect("a session")
    }

    /// Asserts that everything that needs the database is refused in time, and that the process is
    /// well.
    async fn assert_unavailable(&self) {
        for _ in 0..3 {
            for asked in ["login", "ready"] {
                let started = Instant::now();
                let answer = match asked {
                    "login" => self.log_in("alice").await,
                    _ => self.get("/health/ready").await,
                };
                let took = started.elapsed();
                assert!(took < PATIENCE, "{asked} took {took:?}");
                assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE, "{asked}");
                assert!(answer.headers().contains_key("retry-after"));
                let body: Value = answer.json().await.expect("JSON");
                assert_eq!(body["code"], "unavailable");
                assert!(!body.to_string().contains("postgres"), "{body}");
            }
        }
        assert_eq!(self.get("/health/live").await.status(), StatusCode::OK);
    }

    /// Asks until it is ready, which it has to be soon and by itself.
    async fn recover(&self) {
        let end = Instant::now() + RECOVERY;
        while self.get("/health/ready").await.status() != StatusCode::OK {
            assert!(Instant::now() < end, "still not ready");
        }
        // The next connections are served, whatever ones are left over.
        for _ in 0..20 {
            assert_eq!(self.log_in("alice").await.status(), StatusCode::OK);
        }
    }
}

#[tokio::test]
#[ignore = "needs postgresql"]
async fn a_server_that_is_stopped_is_missed_and_found_again() {
    let server = Server::start();
    let service = Service::start(&server).await;
    for _ in 0..2 {
        let session = service.session_of(service.log_in("alice").await).await;
        server.stop();
        service.assert_unavailable().await;
        server.start_again();
        service.recover().await;
        let kept = server.texts("select id from sessions").await;
        assert!(kept.contains(&session));
    }
}

#[tokio::test]
#[ignore = "needs postgresql"]
async fn a_server_that_hangs_keeps_nobody_waiting() {
    let server = Server::start();
    let service = Service::start(&server).await;
    service.recover().await;
    server.freeze();
    service.assert_unavailable().await;
    server.thaw();
    service.recover().await;
}

#[tokio::test]
#[ignore = "needs postgresql"]
async fn what_was_acknowledged_survives_the_death_of_the_server_in_the_middle_of_writes() {
    let server = Server::start();
    let service = Service::start(&server).await;
    let is_over = Arc::new(AtomicBool::new(false));
    let answered = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (service, is_over, answered) =
                (service.clone(), Arc::clone(&is_over), Arc::clone(&answered));
            tokio::spawn(async move {
                let mut sessions = Vec::new();
                while !is_over.load(Ordering::Relaxed) {
                    let answer = service.log_in("alice").await;
                    if answer.status() == StatusCode::OK {
                        sessions.push(service.session_of(answer).await);
                        answered.fetch_add(1, Ordering::Relaxed);
                    } else {
                        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
                    }
                }
                sessions
            })
        })
        .collect();
    for round in 1..=3 {
        while answered.load(Ordering::Relaxed) < round * 20 {
            tokio::task::yield_now().await;
        }
        server.kill();
        assert_eq!(service.get("/health/live").await.status(), StatusCode::OK);
        server.start_again();
    }
    service.recover().await;
    is_over.store(true, Ordering::Relaxed);
    let mut acknowledged = Vec::new();
    for client in clients {
        acknowledged.extend(client.await.expect("no panic"));
    }
    assert!(acknowledged.len() >= 60, "{}", acknowledged.len());
    let kept = server.texts("select id from sessions").await;
    for session in acknowledged {
        assert!(kept.contains(&session), "{session} was lost");
    }
}

#[tokio::test]
#[ignore = "needs postgresql"]
async fn a_server_for_reading_is_not_ready_until_it_can_be_written() {
    let server = Server::start();
    let service = Service::start(&server).await;
    service.recover().await;
    server
        .execute("alter system set default_transaction_read_only = on")
        .await;
    server.execute("select pg_reload_conf()").await;
    // The signal takes a moment to reach every session.
    let end = Instant::now() + RECOVERY;
    while service.log_in("alice").await.status() == StatusCode::OK {
        assert!(Instant::now() < end, "still written");
    }
    // A wrong guess is answered when it is counted, and not before. Until then it looks as a right one does.
    while service.log_in("nobody").await.status() != StatusCode::SERVICE_UNAVAILABLE {
        assert!(Instant::now() < end, "still counted");
    }
    service.assert_unavailable().await;

    let back = "alter system reset default_transaction_read_only";
    server.execute(back).await;
    server.execute("select pg_reload_conf()").await;
    service.recover().await;
}
