//! Issuers that publish their keys, over real HTTP and by a clock that the tests turn.

mod documents;
mod server;
mod signer;

use std::{future::poll_fn, pin::pin, task::Poll, time::Instant as WallClock};

use futures_util::future::join_all;
use serde_json::json;
use shared_claims::secret::SECRET_VARIABLE;
use tokio::time::{advance, pause};

use self::{
    server::{KEYS, Page, Server},
    signer::{AUDIENCE, Signer},
};
use super::*;
use crate::{
    auth::keys::Keys,
    config::{Config, IssuerSettings, KeySource},
};

/// How long anything may take by the clock on the wall.
const PATIENCE: Duration = Duration::from_secs(20);

/// Awaits what a server has a part in. The paused clock leaps to the next timer whenever there is
/// nothing to do, and then every request has timed out: so there is always something to do.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    let (started, mut future) = (WallClock::now(), pin!(future));
    poll_fn(move |context| {
        assert!(started.elapsed() < PATIENCE, "nothing happened");
        context.waker().wake_by_ref();
        future.as_mut().poll(context)
    })
    .await
}

/// Lets every task go on until it waits for a timer.
async fn settle() {
    for _ in 0..100 {
        soon(tokio::task::yield_now()).await;
    }
}

async fn until(is_so: impl Fn() -> bool) {
    soon(poll_fn(|_| match is_so() {
        true => Poll::Ready(()),
        false => Poll::Pending,
    }))
    .await;
}

/// The settings of an issuer whose keys are at `KEYS` of a server.
fn settings(server: &Server, issuer: &str) -> IssuerSettings {
    let settings = json!({
        "issuer": issuer, "audience": AUDIENCE, "jwks_uri": format!("{}{KEYS}", server.url()),
    });
    serde_json::from_value(settings).expect("settings")
}

fn keys(issuers: Vec<IssuerSettings>) -> Keys {
    let config = Config {
        issuers,
        ..Config::default()
    };
    let secret = "mZq3vX8pL1rT6wYc9sHd2kFg5jBn7uEa";
    let secrets = Secrets::parse(SECRET_VARIABLE, secret, ',').expect("a secret");
    Keys::new(&config, KeySource::fixed(secrets), &Arc::default()).expect("keys")
}

/// What becomes of a token.
async fn verdict(keys: &Keys, token: &str) -> Result<(), Unverified> {
    let verified = soon(keys.verify(token, signer::now())).await;
    verified.map(|_| ())
}

/// Lets the first of the other issuers be asked as it is when its keys are too old.
async fn refresh(keys: &Keys) {
    soon(keys.issuers[1].fetch_unless_asked_within(Duration::ZERO)).await;
}

const UNKNOWN: Result<(), Unverified> = Err(Unverified::Rejected(Rejection::KeyUnknown));

const ALICE: &str = "https://a.example/";

#[tokio::test]
async fn known_keys_verify_while_their_issuer_is_unreachable_and_for_a_day_at_most() {
    pause();
    let (server, signer) = (Server::start(), Signer::ec("1"));
    server.publish(KEYS, Page::keys([&signer.public]));
    let keys = keys(vec![settings(&server, ALICE)]);
    let token = signer.token(ALICE);
    assert_eq!(verdict(&keys, &token).await, Ok(()));
    let address = server.address;
    drop(server);
    advance(Duration::from_secs(60 * 60)).await;
    refresh(&keys).await;
    assert_eq!(verdict(&keys, &token).await, Ok(()));
    advance(MAXIMUM_AGE - Duration::from_secs(60 * 60)).await;
    refresh(&keys).await;
    assert_eq!(verdict(&keys, &token).await, Ok(()));
    advance(Duration::from_secs(1)).await;
    refresh(&keys).await;
    assert_eq!(verdict(&keys, &token).await, Err(Unverified::NoKeys));
    assert!(keys.are_known() && !keys.issuers[1].is_known());
    let server = Server::start_at(address);
    server.publish(KEYS, Page::keys([&signer.public]));
    advance(UNKNOWN_KEY_INTERVAL).await;
    assert_eq!(verdict(&keys, &token).await, Ok(()));
}

#[tokio::test]
async fn an_issuer_that_cannot_be_reached_at_first_is_nobody_elses_trouble() {
    pause();
    let (down, server, signer) = (Server::start(), Server::start(), Signer::ec("1"));
    let settings = vec![
        settings(&down, ALICE),
        settings(&server, "https://b.example"),
    ];
    drop(down);
    server.publish(KEYS, Page::keys([&signer.public]));
    let keys = keys(settings);
    let of_the_other = signer.token("https://b.example");
    assert_eq!(
        verdict(&keys, &signer.token(ALICE)).await,
        Err(Unverified::NoKeys)
    );
    assert_eq!(verdict(&keys, &of_the_other).await, Ok(()));
}

#[tokio::test]
async fn ten_thousand_unknown_keys_cost_one_request_in_thirty_seconds() {
    pause();
    let (server, signer) = (Server::start(), Signer::ec("1"));
    server.publish(KEYS, Page::keys([&signer.public]));
    let keys = keys(vec![settings(&server, ALICE)]);
    let token = signer.token(ALICE);
    assert_eq!(verdict(&keys, &token).await, Ok(()));
    assert_eq!(server.requests(), 1);
    let strangers: Vec<String> = (0..10_000)
        .map(|id| signer.token_under(&format!("stranger-{id}"), ALICE))
        .collect();
    advance(UNKNOWN_KEY_INTERVAL).await;
    let verdicts = strangers
        .iter()
        .map(|token| keys.verify(token, signer::now()));
    let verdicts = soon(join_all(verdicts)).await;
    let is_unknown = |verdict: &Result<_, Unverified>| {
        matches!(verdict, Err(Unverified::Rejected(Rejection::KeyUnknown)))
    };
    assert!(verdicts.iter().all(is_unknown));
    assert_eq!(server.requests(), 2);
    advance(UNKNOWN_KEY_INTERVAL - Duration::from_millis(1)).await;
    for token in &strangers[..100] {
        assert_eq!(verdict(&keys, token).await, UNKNOWN);
    }
    assert_eq!(server.requests(), 2);
    advance(Duration::from_millis(1)).await;
    assert_eq!(verdict(&keys, &strangers[0]).await, UNKNOWN);
    assert_eq!(server.requests(), 3);
    assert_eq!(verdict(&keys, &token).await, Ok(()));
}

#[tokio::test]
async fn what_no_published_key_could_verify_makes_us_ask_nobody() {
    pause();
    let (server, signer) = (Server::start(), Signer::ec("1"));
    server.publish(KEYS, Page::keys([&signer.public]));
    let keys = keys(vec![settings(&server, ALICE)]);
    assert_eq!(verdict(&keys, &signer.token(ALICE)).await, Ok(()));
    advance(UNKNOWN_KEY_INTERVAL).await;
    for token in [
        signer.token_with(ALICE, json!({"alg": "none", "kid": "2"})),
        signer.token_with(ALICE, json!({"alg": "HS256", "kid": "2"})),
        signer.token_with(ALICE, json!({"alg": "ES256"})),
        signer.token_with(ALICE, json!({"alg": "ES256", "kid": 2})),
        signer.token("https://unlisted.example"),
        signer.token(&server.url()),
    ] {
        assert!(verdict(&keys, &token).await.is_err(), "{token}");
        assert_eq!(server.requests(), 1, "{token}");
    }
    let unknown = signer.token_with(ALICE, json!({"alg": "ES256", "kid": "2"}));
    assert_eq!(verdict(&keys, &unknown).await, UNKNOWN);
    assert_eq!(server.requests(), 2);
}

#[tokio::test]
async fn a_key_in_place_of_another_of_the_same_id_is_found_after_a_bounded_refetch() {
    pause();
    let (server, old, new) = (Server::start(), Signer::ec("1"), Signer::ec("1"));
    server.publish(KEYS, Page::keys([&old.public]));
    let keys = keys(vec![settings(&server, ALICE)]);
    assert_eq!(verdict(&keys, &old.token(ALICE)).await, Ok(()));
    server.publish(KEYS, Page::keys([&new.public]));
    let invalid = Err(Unverified::Rejected(Rejection::SignatureInvalid));
    // Asked a moment ago: forgeries do not decide how often the issuer is asked.
    for _ in 0..100 {
        assert_eq!(verdict(&keys, &new.token(ALICE)).await, invalid);
    }
    assert_eq!(server.requests(), 1);
    advance(UNKNOWN_KEY_INTERVAL).await;
    assert_eq!(verdict(&keys, &new.token(ALICE)).await, Ok(()));
    assert_eq!(server.requests(), 2);
    for _ in 0..100 {
        assert_eq!(verdict(&keys, &old.token(ALICE)).await, invalid);
    }
    assert_eq!(server.requests(), 2);
}

#[tokio::test]
async fn a_wish_of_the_operator_fetches_the_keys_of_every_issuer_until_it_is_fulfilled() {
    pause();
    let servers = [(); 2].map(|()| Server::start());
    let (old, new) = (Signer::ec("old"), Signer::ec("new"));
    let issuers = [ALICE, "https://b.example"];
    for server in &servers {
        let document = json!({"keys": [old.public]}).to_string().into_bytes();
        server.publish(KEYS, Page::Document(document, "max-age=3600"));
    }
    let settings = servers
        .iter()
        .zip(issuers)
        .map(|(server, iss)| settings(server, iss));
    let keys = Arc::new(keys(settings.collect()));
    let tending = tokio::spawn({
        let keys = keys.clone();
        async move { keys.tend().await }
    });
    until(|| keys.issuers.iter().all(|issuer| issuer.is_known())).await;
    for server in &servers {
        server.publish(KEYS, Page::Status(500));
    }
    keys.reload();
    until(|| servers.iter().all(|server| server.requests() == 2)).await;
    for iss in issuers {
        assert_eq!(verdict(&keys, &old.token(iss)).await, Ok(()));
    }
    for server in &servers {
        server.publish(KEYS, Page::keys([&new.public]));
    }
    // A fetch that failed is tried again, and not when the keys would have been too old.
    for issuer in &keys.issuers[1..] {
        until(|| issuer.fetched.try_lock().is_ok()).await;
    }
    settle().await;
    // Timers are of whole milliseconds, rounded up.
    advance(RETRY_INTERVAL + Duration::from_millis(1)).await;
    until(|| servers.iter().all(|server| server.requests() == 3)).await;
    for iss in issuers {
        until(|| {
            keys.issuer_of(iss)
                .is_some_and(|issuer| issuer.fetched.try_lock().is_ok())
        })
        .await;
        assert!(verdict(&keys, &old.token(iss)).await.is_err());
        assert_eq!(verdict(&keys, &new.token(iss)).await, Ok(()));
    }
    tending.abort();
}

#[tokio::test]
async fn a_place_in_the_header_is_never_asked() {
    pause();
    let [server, elsewhere] = [(); 2].map(|()| Server::start());
    let (signer, stranger) = (Signer::ec("1"), Signer::ec("2"));
    server.publish(KEYS, Page::keys([&signer.public]));
    elsewhere.publish(KEYS, Page::keys([&stranger.public]));
    let keys = keys(vec![settings(&server, ALICE)]);
    let place = format!("{}{KEYS}", elsewhere.url());
    for name in ["jku", "x5u"] {
        let header = |kid: &str| json!({"alg": "ES256", "kid": kid, (name): place});
        let known = signer.token_with(ALICE, header("1"));
        assert_eq!(verdict(&keys, &known).await, Ok(()), "{name}");
        let unknown = stranger.token_with(ALICE, header("2"));
        assert_eq!(verdict(&keys, &unknown).await, UNKNOWN, "{name}");
    }
    assert_eq!(elsewhere.requests(), 0);
    // Where it is published, it is accepted.
    server.publish(KEYS, Page::keys([&stranger.public]));
    advance(UNKNOWN_KEY_INTERVAL).await;
    assert_eq!(verdict(&keys, &stranger.token(ALICE)).await, Ok(()));
}

#[tokio::test]
async fn handshakes_at_the_same_time_wait_for_one_request() {
    pause();
    let (server, signer) = (Server::start(), Signer::ec("1"));
    server.publish(KEYS, Page::keys([&signer.public]));
    server.hold(true);
    let keys = keys(vec![settings(&server, ALICE)]);
    let token = signer.token(ALICE);
    let handshakes = join_all((0..100).map(|_| keys.verify(&token, signer::now())));
    let release = async {
        until(|| server.requests() == 1).await;
        server.hold(false);
    };
    let (verdicts, ()) = soon(async { tokio::join!(handshakes, release) }).await;
    assert!(verdicts.iter().all(Result::is_ok));
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn who_hangs_up_while_keys_are_fetched_takes_them_from_nobody() {
    pause();
    let (server, signer) = (Server::start(), Signer::ec("1"));
    server.publish(KEYS, Page::keys([&signer.public]));
    server.hold(true);
    let keys = keys(vec![settings(&server, ALICE)]);
    let token = signer.token(ALICE);
    soon(async {
        tokio::select! {
            _ = keys.verify(&token, signer::now()) => panic!("nothing was answered"),
            () = until(|| server.requests() == 1) => {}
        }
    })
    .await;
    server.hold(false);
    assert_eq!(verdict(&keys, &token).await, Ok(()));
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn a_new_key_is_found_by_the_first_token_that_names_it() {
    pause();
    let (server, first) = (Server::start(), Signer::ec("1"));
    server.publish(KEYS, Page::keys([&first.public]));
    let keys = keys(vec![settings(&server, ALICE)]);
    assert_eq!(verdict(&keys, &first.token(ALICE)).await, Ok(()));
    let mut retired = first;
    // The second is of another algorithm than the one before it.
    for next in [Signer::ec("2"), Signer::ed("3"), Signer::ec("4")] {
        let token = next.token(ALICE);
        server.publish(KEYS, Page::keys([&retired.public, &next.public]));
        let asked = server.requests();
        assert!(verdict(&keys, &token).await.is_err(), "asked a moment ago");
        assert_eq!(server.requests(), asked);
        advance(UNKNOWN_KEY_INTERVAL).await;
        assert_eq!(verdict(&keys, &token).await, Ok(()));
        assert_eq!(verdict(&keys, &retired.token(ALICE)).await, Ok(()));
        server.publish(KEYS, Page::keys([&next.public]));
        refresh(&keys).await;
        assert_eq!(verdict(&keys, &token).await, Ok(()));
        assert!(verdict(&keys, &retired.token(ALICE)).await.is_err());
        retired = next;
    }
}

#[tokio::test]
async fn what_is_published_is_fetched_again_when_it_is_too_old() {
    pause();
    let (server, signer) = (Server::start(), Signer::ec("1"));
    for (control, secs) in [
        ("public, Max-Age=\"60\"", 60),
        ("no-store", 5 * 60),
        ("max-age=0", 1),
        ("max-age=100000", 60 * 60),
    ] {
        let document = json!({"keys": [signer.public]}).to_string().into_bytes();
        server.publish(KEYS, Page::Document(document, control));
        let keys = keys(vec![settings(&server, ALICE)]);
        let before = server.requests();
        let tending = tokio::spawn({
            let issuer = keys.issuers[1].clone();
            async move { issuer.tend().await }
        });
        until(|| keys.issuers[1].is_known()).await;
        // The answer has come, and now it is waited for the next time.
        until(|| keys.issuers[1].fetched.try_lock().is_ok()).await;
        soon(tokio::task::yield_now()).await;
        advance(Duration::from_secs(secs) - Duration::from_millis(5)).await;
        settle().await;
        assert_eq!(server.requests(), before + 1, "{control}");
        advance(Duration::from_millis(10)).await;
        until(|| server.requests() == before + 2).await;
        tending.abort();
    }
}

#[tokio::test]
async fn a_key_of_one_issuer_signs_for_no_other() {
    pause();
    let (a, b) = (Server::start(), Server::start());
    let (of_a, of_b) = (Signer::ec("same"), Signer::ec("same"));
    a.publish(KEYS, Page::keys([&of_a.public]));
    b.publish(KEYS, Page::keys([&of_b.public]));
    let bob = "https://b.example";
    let keys = keys(vec![settings(&a, ALICE), settings(&b, bob)]);
    assert_eq!(verdict(&keys, &of_a.token(ALICE)).await, Ok(()));
    assert_eq!(verdict(&keys, &of_b.token(bob)).await, Ok(()));
    let refused = Err(Unverified::Rejected(Rejection::SignatureInvalid));
    assert_eq!(verdict(&keys, &of_b.token(ALICE)).await, refused);
    assert_eq!(verdict(&keys, &of_a.token(bob)).await, refused);
    // Nor for our own, which shares a secret with us and has no public keys.
    let ours = &Config::default().issuer;
    let refused = Err(Unverified::Rejected(Rejection::AlgorithmInvalid));
    assert_eq!(verdict(&keys, &of_b.token(ours)).await, refused);
}
