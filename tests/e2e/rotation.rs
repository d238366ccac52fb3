//! Secrets and keys are replaced while people log in, refresh and connect, and nobody notices.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use harness::{
    Mode, Options, SocketClient, Stack, client::Credential, eventually, random_text, soon,
};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::task::JoinSet;

/// How many do it at the same time, each of them over and over.
const PEOPLE: usize = 3;

/// Rounds of login, refresh and connection between two rotations.
const ROUNDS: u64 = 4;

/// A machine that is busy with other tests is no reason to refuse a login here.
fn patient() -> Options {
    Options::default().auth("password.queue_deadline_ms", 30_000)
}

/// People who log in, refresh and connect until they are told to stop.
struct Traffic {
    tasks: JoinSet<()>,
    is_over: Arc<AtomicBool>,
    rounds: Arc<AtomicU64>,
}

impl Traffic {
    fn start(stack: &Arc<Stack>) -> Self {
        let (is_over, rounds) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let mut tasks = JoinSet::new();
        for _ in 0..PEOPLE {
            let (stack, is_over, rounds) = (stack.clone(), is_over.clone(), rounds.clone());
            tasks.spawn(async move {
                while !is_over.load(Ordering::Relaxed) {
                    round(&stack).await;
                    rounds.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        Self {
            tasks,
            is_over,
            rounds,
        }
    }

    /// Waits for some rounds more.
    async fn go_on(&mut self) {
        let goal = self.rounds.load(Ordering::Relaxed) + ROUNDS;
        while self.rounds.load(Ordering::Relaxed) < goal {
            if let Some(ended) = self.tasks.try_join_next() {
                ended.expect("no failed request");
            }
            tokio::task::yield_now().await;
        }
    }

    async fn stop(mut self) -> u64 {
        self.is_over.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended.expect("no failed request");
        }
        self.rounds.load(Ordering::Relaxed)
    }
}

async fn round(stack: &Stack) {
    let credentials = json!({"username": "alice", "password": stack.passwords().of("alice")});
    let login = post(stack, "/login", &credentials).await;
    let refresh = json!({"refresh_token": login["refresh_token"]});
    let refreshed = post(stack, "/token/refresh", &refresh).await;
    for answer in [&login, &refreshed] {
        let token = answer["token"].as_str().expect("a token").to_owned();
        let connecting = SocketClient::connect(&stack.gateway_url, Credential::Auth(token.into()));
        let client = connecting.await.expect("admitted");
        client.disconnect().await;
    }
}

async fn post(stack: &Stack, path: &str, body: &Value) -> Value {
    let url = format!("{}{path}", stack.issuer_url);
    let answer = soon(path, stack.http().post(url).json(body).send()).await;
    let answer = answer.expect("an answer");
    assert_eq!(answer.status(), StatusCode::OK, "{path}");
    soon(path, answer.json()).await.expect("JSON")
}

fn kid_of(token: &str) -> String {
    let header = jsonwebtoken::decode_header(token).expect("a header");
    header.kid.expect("a kid")
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the built binaries"]
async fn a_secret_is_replaced_three_times_and_no_request_fails() {
    let stack = Arc::new(Stack::start_with(patient().mode(Mode::Binaries)).await);
    round(&stack).await;
    let mut traffic = Traffic::start(&stack);
    let mut current = stack.secret.clone();
    let mut signed_by = kid_of(&stack.login("bob").await);
    for _ in 0..3 {
        let next = random_text(36);
        // First everybody can verify with the next one, and then it signs.
        stack.replace_secrets(&format!("{current}\n{next}\n")).await;
        traffic.go_on().await;
        stack.replace_secrets(&format!("{next}\n{current}\n")).await;
        traffic.go_on().await;
        let signs_now = kid_of(&stack.login("bob").await);
        assert_ne!(signs_now, signed_by);
        (current, signed_by) = (next, signs_now);
    }
    assert!(traffic.stop().await >= 6 * ROUNDS);
    let old = stack.login("bob").await;
    stack
        .replace_secrets(&format!("{}\n", random_text(36)))
        .await;
    let refused = SocketClient::connect(&stack.gateway_url, Credential::Auth(old.into())).await;
    assert!(refused.is_err_and(|text| text.contains("jwt key unknown")));
    round(&stack).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the built binaries"]
async fn a_broken_file_of_secrets_changes_nothing() {
    let stack = Stack::start_with(patient().mode(Mode::Binaries)).await;
    // Both are up when this is done.
    round(&stack).await;
    stack.replace_broken_secrets("short").await;
    round(&stack).await;
    stack
        .replace_secrets(&format!("{}\n", random_text(36)))
        .await;
    round(&stack).await;
}

fn asymmetric() -> Options {
    patient()
        .auth("keys.mode", "asymmetric")
        .auth("keys.max_age_secs", 1)
        .gateway("keys.mode", "asymmetric")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_without_secrets_admits_by_what_is_published() {
    let stack = Stack::start_with(asymmetric()).await;
    round(&stack).await;
    // The issuer's secret signs nothing any more.
    let forged = stack.forge().token();
    let refused = SocketClient::connect(&stack.gateway_url, Credential::Auth(forged.into())).await;
    assert!(refused.is_err_and(|text| text.contains("invalid algorithm")));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the built binaries"]
async fn a_key_is_replaced_three_times_and_no_request_fails() {
    let stack = Arc::new(Stack::start_with(asymmetric().mode(Mode::Binaries)).await);
    let mut traffic = Traffic::start(&stack);
    let old = stack.login("bob").await;
    let mut signed_by = kid_of(&old);
    for _ in 0..3 {
        loop {
            let ended = stack.run_auth(&["keys", "rotate"]).await;
            if ended.status.success() {
                break;
            }
            let is_early = ended.output.contains("has yet to be published");
            assert!(is_early, "{}", ended.output);
        }
        let signs_now = loop {
            let kid = kid_of(&stack.login("bob").await);
            if kid != signed_by {
                break kid;
            }
        };
        traffic.go_on().await;
        signed_by = signs_now;
    }
    assert!(traffic.stop().await >= 3 * ROUNDS);
    // What the first of them signed is still accepted.
    let client = SocketClient::connect(&stack.gateway_url, Credential::Auth(old.into())).await;
    client.expect("admitted").disconnect().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the built binaries"]
async fn a_key_that_was_thrown_away_is_refused_after_sighup_however_long_keys_may_be_kept() {
    let options = asymmetric().auth("keys.max_age_secs", 3600);
    let stack = Stack::start_with(options.mode(Mode::Binaries)).await;
    let connect = async |token: &str| {
        let connecting = SocketClient::connect(&stack.gateway_url, Credential::Auth(token.into()));
        connecting.await
    };
    let old = stack.login("alice").await;
    connect(&old).await.expect("admitted").disconnect().await;
    let rotated = stack.run_auth(&["keys", "rotate", "--emergency"]).await;
    assert!(rotated.status.success(), "{}", rotated.output);
    let jwks = format!("{}/.well-known/jwks.json", stack.issuer_url);
    let is_gone = async || {
        let answer = stack.http().get(&jwks).send().await.expect("an answer");
        !answer.text().await.expect("text").contains(&kid_of(&old))
    };
    eventually("the key to be gone", is_gone).await;
    // Until the gateway asks again it knows the key.
    connect(&old).await.expect("admitted").disconnect().await;
    stack
        .reload_gateway("the issuer's keys were fetched again")
        .await;
    let refused = connect(&old).await;
    assert!(refused.is_err_and(|text| text.contains("jwt key unknown")));
    let new = stack.login("alice").await;
    connect(&new).await.expect("admitted").disconnect().await;
    let (_, log) = stack.output();
    let change = log.lines().find(|line| line.contains("keys have changed"));
    assert!(
        change.is_some_and(|line| line.contains(&kid_of(&old))),
        "{log}"
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the built binaries"]
async fn a_gateway_that_verifies_published_keys_refuses_to_have_a_secret() {
    let variables = [
        ("REALTIME__LISTEN", "127.0.0.1:0"),
        ("REALTIME__KEYS__MODE", "asymmetric"),
        ("LATCHKEY_SECRET", &random_text(36)),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let ended = harness::stack::run("realtime-service", &[], &variables, None).await;
    assert_eq!(ended.status.code(), Some(2), "{}", ended.output);
    assert!(
        ended.output.contains("LATCHKEY_SECRET: is set, but"),
        "{}",
        ended.output
    );
    assert_eq!(ended.output.lines().count(), 1, "{}", ended.output);
}
