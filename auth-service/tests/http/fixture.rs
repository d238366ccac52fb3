//! A running service with a database of its own.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    time::Duration,
};

use auth_service::{
    Config, Settings,
    credentials::Username,
    store::Store,
    users::{self, NewUser},
};
use reqwest::{Client, Response, StatusCode};
use serde_json::{Value, json};
use shared_claims::{
    Verifier,
    claims::REALTIME_AUDIENCE,
    ids,
    key_set::KeySet,
    secret::{SECRET_VARIABLE, Secrets},
};
use tokio::{sync::oneshot, task::JoinHandle};

use crate::database::{HeldWrites, OwnDatabase};

pub(crate) const PASSWORD: &str = "open sesame";

pub(crate) fn secrets(text: &str) -> Secrets {
    Secrets::parse(SECRET_VARIABLE, text, ',').expect("a secret")
}

pub(crate) fn own_secrets() -> Secrets {
    secrets("mZq3vX8pL1rT6wYc9sHd2kFg5jBn7uEa")
}

pub(crate) struct Service {
    pub(crate) address: SocketAddr,
    pub(crate) config: Config,
    pub(crate) client: Client,
    database: OwnDatabase,
    pub(crate) stop: oneshot::Sender<()>,
    pub(crate) serving: JoinHandle<anyhow::Result<()>>,
}

impl Service {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut Settings)) -> Self {
        let database = OwnDatabase::make().await;
        let mut config = Config::for_testing(Path::new("auth.db"), own_secrets());
        config.settings.database_url = database.url();
        config.settings.password.threads = 1;
        // A machine that is busy with other tests is none that is flooded.
        config.settings.password.queue_deadline_ms = 60_000;
        change(&mut config.settings);
        Self::serve(config, database).await
    }

    /// Stops the service, and starts another one on its database with other settings or secrets.
    pub(crate) async fn restart_with(self, change: impl FnOnce(&mut Config)) -> Self {
        let _ = self.stop.send(());
        let ended = self.serving.await.expect("no panic");
        ended.expect("a service that ends well");
        let mut config = self.config;
        change(&mut config);
        Self::serve(config, self.database).await
    }

    async fn serve(config: Config, database: OwnDatabase) -> Self {
        // Commands that a test gives at once find the tables.
        let made = Store::open(&config.settings.database_url).await;
        made.expect("a database").close().await;
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let (stop, stopped) = oneshot::channel();
        let shutdown = async move {
            // A test that ends drops the sender, which is a stop signal too.
            let _ = stopped.await;
        };
        let serving = tokio::spawn(auth_service::serve(config.clone(), listener, shutdown));
        Self {
            address,
            config,
            client: Client::new(),
            database,
            stop,
            serving,
        }
    }

    /// A service with the user alice in it; her id comes with it.
    pub(crate) async fn with_alice() -> (Self, String) {
        let service = Self::start().await;
        let id = service.add_user("alice").await;
        (service, id)
    }

    /// Adds an account whose address nobody has verified.
    pub(crate) async fn add_user(&self, username: &str) -> String {
        self.add(username, None).await
    }

    /// Adds an account whose address the operator vouches for.
    pub(crate) async fn add_verified_user(&self, username: &str) -> String {
        self.add(username, Some(true)).await
    }

    async fn add(&self, username: &str, email_verified: Option<bool>) -> String {
        let mut user = NewUser::parse(username, PASSWORD).expect("a user");
        user.profile.email_verified = email_verified;
        user.profile.name = Some("A Name".to_owned());
        user.profile.email = Some(format!("{username}@example.org"));
        users::add_user(&self.config.settings, user)
            .await
            .expect("added")
    }

    pub(crate) async fn disable_user(&self, username: &str) {
        let username = Username::parse(username).expect("a name");
        users::disable_user(&self.config.settings, &username)
            .await
            .expect("disabled");
    }

    /// Changes rows behind the service's back, to age them or to damage them, with one statement
    /// that both databases understand; says how many rows it changed.
    pub(crate) async fn execute(&self, statement: &str) -> u64 {
        self.database.execute(statement).await
    }

    /// Reads the binary values that a query finds.
    pub(crate) async fn read(&self, query: &'static str) -> Vec<Vec<u8>> {
        self.database.read(query).await
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) async fn post_login(&self, username: &str, password: &str) -> Response {
        self.client
            .post(self.url("/login"))
            .json(&json!({"username": username, "password": password}))
            .send()
            .await
            .expect("an answer")
    }

    pub(crate) async fn post_login_body(&self, content_type: &str, body: &str) -> Response {
        self.client
            .post(self.url("/login"))
            .header("content-type", content_type)
            .body(body.to_owned())
            .send()
            .await
            .expect("an answer")
    }

    pub(crate) async fn token_of(&self, username: &str) -> String {
        let answer = self.post_login(username, PASSWORD).await;
        assert_eq!(answer.status(), StatusCode::OK);
        let answer: Value = answer.json().await.expect("JSON");
        answer["token"].as_str().expect("a token").to_owned()
    }

    /// Signs in, and returns the whole answer.
    pub(crate) async fn login(&self, username: &str) -> Login {
        let answer = self.post_login(username, PASSWORD).await;
        assert_eq!(answer.status(), StatusCode::OK);
        Login::of(&answer.json().await.expect("JSON"))
    }

    /// Posts JSON, as somebody who is signed in or as nobody.
    pub(crate) async fn post(&self, path: &str, token: Option<&str>, body: &Value) -> Response {
        let request = self.client.post(self.url(path)).json(body);
        let request = match token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        request.send().await.expect("an answer")
    }

    /// Posts JSON as somebody who is signed in.
    pub(crate) async fn post_owned(&self, path: &str, token: &str, body: Value) -> Response {
        self.post(path, Some(token), &body).await
    }

    /// Keeps every other connection from writing to the tables of sessions, until it is dropped.
    pub(crate) async fn hold_writes(&self) -> HeldWrites {
        self.database.hold_writes().await
    }

    pub(crate) async fn refresh(&self, refresh_token: &str) -> Response {
        let body = json!({"refresh_token": refresh_token});
        self.post("/token/refresh", None, &body).await
    }

    /// Hashes of the refresh tokens in the database, written as tokens are.
    pub(crate) async fn refresh_token_hashes(&self) -> Vec<String> {
        let hashes = self.database.read("select hash from refresh_tokens").await;
        let text = |hash: Vec<u8>| ids::token_from(&hash.try_into().expect("32 bytes"));
        hashes.into_iter().map(text).collect()
    }

    /// Number of refresh tokens that have not been used.
    pub(crate) async fn unused_refresh_tokens(&self) -> usize {
        let unused = "select hash from refresh_tokens where used_at is null";
        self.database.read(unused).await.len()
    }

    pub(crate) async fn get_me(&self, authorization: Option<&str>) -> Response {
        let request = self.client.get(self.url("/me"));
        let request = match authorization {
            Some(value) => request.header("authorization", value),
            None => request,
        };
        request.send().await.expect("an answer")
    }

    /// Verifier of the gateway.
    pub(crate) fn verifier(&self) -> Verifier {
        let keys = KeySet::from_secrets(&self.config.secrets).expect("keys");
        Verifier::new(&self.config.settings.public_url, REALTIME_AUDIENCE, keys)
    }

    /// Sends bytes as they are, and leaves the connection open.
    pub(crate) fn send_raw(&self, bytes: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).expect("a connection");
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .expect("a deadline");
        stream.write_all(bytes).expect("sent");
        stream
    }
}

/// Answer of a login or a refresh.
#[derive(Clone, Debug)]
pub(crate) struct Login {
    pub(crate) token: String,
    pub(crate) refresh_token: String,
}

impl Login {
    pub(crate) fn of(answer: &Value) -> Self {
        let text = |name: &str| answer[name].as_str().expect(name).to_owned();
        Self {
            token: text("token"),
            refresh_token: text("refresh_token"),
        }
    }
}

/// Reads what comes until the connection is closed.
pub(crate) async fn read_raw(mut stream: TcpStream) -> String {
    let reading = tokio::task::spawn_blocking(move || {
        let mut answer = Vec::new();
        // A reset after the answer takes nothing away from it.
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8(answer).expect("text")
    });
    reading.await.expect("no panic")
}

/// Asserts that an answer is a problem document, and returns it.
pub(crate) async fn problem(answer: Response, status: StatusCode, code: &str) -> Value {
    assert_eq!(answer.status(), status);
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
    assert_eq!(answer.headers()["cache-control"], "no-store");
    let body: Value = answer.json().await.expect("JSON");
    assert_eq!(body["code"], code);
    assert_eq!(body["status"], status.as_u16());
    assert_eq!(body["type"], "about:blank");
    assert_eq!(body["title"], status.canonical_reason().unwrap_or_default());
    assert!(body["detail"].is_string());
    body
}
