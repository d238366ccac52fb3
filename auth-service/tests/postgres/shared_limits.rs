//! Three issuers on one database count attempts together.

use auth_service::{Settings, store::Store};
use futures_util::future::join_all;
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    outage::{PASSWORD, Service},
    server::Server,
};

/// The attempts of each limit here.
pub(crate) const ATTEMPTS: u32 = 6;

/// Three issuers with the user alice, and the directory with a secret that their settings name.
pub(crate) struct Issuers {
    issuers: Vec<Service>,
    _directory: TempDir,
}

impl std::ops::Deref for Issuers {
    type Target = [Service];

    fn deref(&self) -> &[Service] {
        &self.issuers
    }
}

pub(crate) async fn three(server: &Server, change: impl Fn(&mut Settings)) -> Issuers {
    // The tables are made once, and not by three at a time.
    let url = server.url().parse().expect("a URL");
    Store::open(&url).await.expect("tables").close().await;
    let directory = tempfile::tempdir().expect("a directory");
    let secret = directory.path().join("secret");
    std::fs::write(&secret, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").expect("a file");
    let join = || {
        Service::join(server, |settings| {
            change(settings);
            settings.password.queue_deadline_ms = 60_000;
            settings.limits.waiting_per_address = 100;
            settings.app_url = "https://app.example.org".to_owned();
            settings.mail.from = "noreply@example.org".to_owned();
            // Nobody is there: mails wait.
            settings.mail.webhook = "http://127.0.0.1:1/".parse().expect("a URL");
            settings.mail.webhook_secret_file.clone_from(&secret);
        })
    };
    let mut issuers = Vec::new();
    for _ in 0..3 {
        let issuer: Service = join();
        // One start at a time, on a machine that may be busy.
        issuer.get("/health/ready").await;
        issuers.push(issuer);
    }
    issuers[0].add_user("alice").await;
    Issuers {
        issuers,
        _directory: directory,
    }
}

impl Service {
    async fn post(&self, path: &str, body: &Value) -> Response {
        let request = self.client.post(format!("{}{path}", self.url)).json(body);
        request.send().await.expect("an answer")
    }

    pub(crate) async fn post_login(&self, name: &str, password: &str) -> StatusCode {
        let body = json!({"username": name, "password": password});
        self.post("/login", &body).await.status()
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs postgresql"]
async fn guesses_at_a_password_count_at_all_issuers() {
    let server = Server::start();
    let issuers = three(&server, |settings| {
        settings.limits.logins_per_name = ATTEMPTS
    })
    .await;
    let guess = async |count: usize| {
        for number in 0..count {
            let status = issuers[number % 3].post_login("alice", "wrong").await;
            assert_eq!(status, StatusCode::UNAUTHORIZED);
        }
    };
    // One less than the limit: the right one is not refused, and does not count.
    guess(5).await;
    for issuer in issuers.iter() {
        assert_eq!(issuer.post_login("alice", PASSWORD).await, StatusCode::OK);
    }
    guess(1).await;
    for issuer in issuers.iter() {
        let status = issuer.post_login("alice", PASSWORD).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED);
    }
    // A window later.
    server
        .execute("update attempt_counters set empty_at = 0")
        .await;
    let fresh = Service::join(&server, |_| {});
    assert_eq!(fresh.post_login("alice", PASSWORD).await, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs postgresql"]
async fn attempts_at_once_and_of_one_address_count_at_all_issuers() {
    let server = Server::start();
    let issuers = three(&server, |settings| {
        settings.limits.logins_per_address = ATTEMPTS;
    })
    .await;
    let names: Vec<String> = (0..30).map(|number| format!("name{number}")).collect();
    let guesses = names.iter().enumerate();
    let guesses = guesses.map(|(number, name)| issuers[number % 3].post_login(name, "wrong"));
    let statuses = join_all(guesses).await;
    let answered = |wanted| statuses.iter().filter(|status| **status == wanted).count();
    assert_eq!(answered(StatusCode::UNAUTHORIZED), 6);
    assert_eq!(answered(StatusCode::TOO_MANY_REQUESTS), 24);
    for issuer in issuers.iter() {
        let status = issuer.post_login("alice", PASSWORD).await;
        assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs postgresql"]
async fn codes_mails_links_tokens_and_secrets_of_clients_count_at_all_issuers() {
    let server = Server::start();
    let issuers = three(&server, |settings| {
        let limits = &mut settings.limits;
        limits.codes_per_account = ATTEMPTS;
        limits.mails_per_mailbox = ATTEMPTS;
        limits.tokens_per_address = ATTEMPTS;
        limits.clients_per_address = ATTEMPTS;
    })
    .await;
    let login = json!({"username": "alice", "password": PASSWORD});
    let login: Value = issuers[0]
        .post("/login", &login)
        .await
        .json()
        .await
        .expect("JSON");
    let token = login["token"].as_str().expect("a token");
    let body = json!({"password": PASSWORD});
    let enrolled = issuers[0].client.post(format!("{}/totp", issuers[0].url));
    let enrolled = enrolled.bearer_auth(token).json(&body).send().await;
    assert_eq!(enrolled.expect("an answer").status(), StatusCode::OK);

    let mail = json!({"email": "alice@example.org"});
    let refresh = json!({"refresh_token": "nobody's"});
    for (path, body, status) in [
        (
            "/totp/confirm",
            json!({"code": "000000"}),
            StatusCode::UNAUTHORIZED,
        ),
        ("/password/forgot", mail, StatusCode::ACCEPTED),
        ("/token/refresh", refresh, StatusCode::UNAUTHORIZED),
        ("/oauth/token", Value::Null, StatusCode::UNAUTHORIZED),
    ] {
        let ask = async |number: usize| {
            let issuer = &issuers[number % 3];
            let request = issuer.client.post(format!("{}{path}", issuer.url));
            let request = match &body {
                Value::Null => {
                    let form = "grant_type=client_credentials&client_id=x&client_secret=y";
                    let kind = "application/x-www-form-urlencoded";
                    request.header("content-type", kind).body(form)
                }
                body => request.bearer_auth(token).json(body),
            };
            request.send().await.expect("an answer").status()
        };
        for number in 0..6 {
            assert_eq!(ask(number).await, status, "{path} {number}");
        }
        for number in 0..3 {
            let refused = ask(number).await;
            assert_eq!(refused, StatusCode::TOO_MANY_REQUESTS, "{path} {number}");
        }
    }
    // A token of a session is accepted, whatever others at its address did.
    let body = json!({"refresh_token": login["refresh_token"]});
    let refreshed = issuers[0].post("/token/refresh", &body).await;
    assert_eq!(refreshed.status(), StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs postgresql"]
async fn what_the_database_refuses_is_learned_and_costs_no_further_statement() {
    let server = Server::start();
    let issuers = three(&server, |settings| {
        settings.limits.tokens_per_address = ATTEMPTS;
    })
    .await;
    let body = json!({"refresh_token": "nobody's"});
    let ask = async |number: usize| issuers[number].post("/token/refresh", &body).await.status();
    for _ in 0..ATTEMPTS {
        assert_eq!(ask(0).await, StatusCode::UNAUTHORIZED);
    }
    assert_eq!(ask(1).await, StatusCode::TOO_MANY_REQUESTS);
    // The database has room again, which an issuer that asks it would see.
    server.execute("delete from attempt_counters").await;
    assert_eq!(ask(1).await, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(ask(2).await, StatusCode::UNAUTHORIZED);
}
