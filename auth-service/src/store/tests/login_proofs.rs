//! Proofs of logins, which are spent with the session and not without it.

use tokio::task::JoinSet;

use super::{
    OwnStore,
    sessions::{NOW, start, start_by},
};
use crate::{
    store::{Challenged, LoginProof, OneTimeCode, SessionStarted, Store},
    vault::Hash,
};

super::on_both! {
    a_code_is_spent_with_the_session_and_once,
    a_second_factor_that_is_confirmed_during_a_login_is_asked_for,
    a_login_without_a_session_spends_nothing,
    of_logins_at_once_with_one_code_one_starts_a_session,
}

const RECOVERY: &str = "select count(*) from recovery_codes where used_at is not null";
const CHALLENGES: &str = "select count(*) from login_challenges where used_at is not null";
const SESSIONS: &str = "select count(*) from sessions";

/// Gives alice a second factor with the recovery codes `one` and `two`, whose first code was that of step 7.
async fn with_alice(own: &OwnStore) {
    start(own, "alice", &Hash::of("token")).await;
    let stored = own.put_totp_secret("alice", b"sealed", NOW).await;
    assert!(stored.expect("a write"));
    let codes = ["one", "two"].map(Hash::of);
    let confirmed = own.confirm_totp("alice", (b"sealed", 7), &codes, NOW).await;
    assert!(confirmed.expect("a write"));
}

async fn challenge(own: &OwnStore, text: &str) -> Hash {
    let challenged = Challenged {
        user_id: "alice".to_owned(),
        password_version: 0,
    };
    let challenge = Hash::of(text);
    let inserted = own.insert_challenge(&challenge, &challenged, NOW + 300);
    inserted.await.expect("a write");
    challenge
}

async fn log_in(store: &Store, code: OneTimeCode, challenge: &Hash, token: &str) -> SessionStarted {
    let proof = LoginProof::Code { code, challenge };
    start_by(store, "alice", &Hash::of(token), proof).await.0
}

async fn a_second_factor_that_is_confirmed_during_a_login_is_asked_for(own: OwnStore) {
    let log_in = async |token: &str| {
        let hash = Hash::of(token);
        let (outcome, _) = start_by(&own, "alice", &hash, LoginProof::PasswordAlone).await;
        outcome
    };
    start(&own, "alice", &Hash::of("token")).await;
    let stored = own.put_totp_secret("alice", b"sealed", NOW).await;
    assert!(stored.expect("a write"));
    assert_eq!(log_in("one").await, SessionStarted::Fine);
    // A code of the secret that was there before confirms no other.
    for (sealed, is_confirmed) in [(b"before".as_slice(), false), (b"sealed", true)] {
        let confirmed = own.confirm_totp("alice", (sealed, 7), &[], NOW).await;
        assert_eq!(confirmed.expect("a write"), is_confirmed);
    }
    assert_eq!(log_in("two").await, SessionStarted::AccountChanged);
}

async fn a_code_is_spent_with_the_session_and_once(own: OwnStore) {
    with_alice(&own).await;
    for (number, code, outcome) in [
        (1, OneTimeCode::Totp(7), SessionStarted::ProofSpent),
        (2, OneTimeCode::Totp(8), SessionStarted::Fine),
        (3, OneTimeCode::Totp(8), SessionStarted::ProofSpent),
        (
            4,
            OneTimeCode::Recovery(Hash::of("one")),
            SessionStarted::Fine,
        ),
        (
            5,
            OneTimeCode::Recovery(Hash::of("one")),
            SessionStarted::ProofSpent,
        ),
        (
            6,
            OneTimeCode::Recovery(Hash::of("nobody's")),
            SessionStarted::ProofSpent,
        ),
        (
            7,
            OneTimeCode::Recovery(Hash::of("two")),
            SessionStarted::Fine,
        ),
    ] {
        let challenge = challenge(&own, &format!("challenge {number}")).await;
        let is_unused = own.is_code_unused("alice", &code).await.expect("a read");
        assert_eq!(is_unused, outcome == SessionStarted::Fine, "{number}");
        let started = log_in(&own, code, &challenge, &format!("token {number}")).await;
        assert_eq!(started, outcome, "{number}");
    }
    assert_eq!(own.count(SESSIONS).await, 4);
    assert_eq!(
        (own.count(RECOVERY).await, own.count(CHALLENGES).await),
        (2, 3)
    );
    assert!(own.check_events().await.expect("an answer").is_ok());
}

async fn a_login_without_a_session_spends_nothing(own: OwnStore) {
    with_alice(&own).await;
    let (first, second) = (
        challenge(&own, "first").await,
        challenge(&own, "second").await,
    );
    let code = |name: &str| OneTimeCode::Recovery(Hash::of(name));
    assert_eq!(
        log_in(&own, code("one"), &first, "a").await,
        SessionStarted::Fine
    );
    // The challenge was met, so the code is kept.
    assert_eq!(
        log_in(&own, code("two"), &first, "b").await,
        SessionStarted::ProofSpent
    );
    assert_eq!(own.count(RECOVERY).await, 1);
    // The account was shut, so code and challenge are.
    own.try_execute("update users set disabled_at = 1")
        .await
        .expect("a write");
    let shut = log_in(&own, code("two"), &second, "c").await;
    assert_eq!(shut, SessionStarted::AccountChanged);
    own.try_execute("update users set disabled_at = null")
        .await
        .expect("a write");
    assert_eq!(
        (own.count(RECOVERY).await, own.count(CHALLENGES).await),
        (1, 1)
    );
    assert_eq!(
        log_in(&own, code("two"), &second, "d").await,
        SessionStarted::Fine
    );
    assert_eq!(own.count(SESSIONS).await, 3);
}

async fn of_logins_at_once_with_one_code_one_starts_a_session(own: OwnStore) {
    with_alice(&own).await;
    for (round, code) in [OneTimeCode::Totp(9), OneTimeCode::Recovery(Hash::of("one"))]
        .into_iter()
        .enumerate()
    {
        let mut signing_in = JoinSet::new();
        for number in 0..8 {
            let challenge = challenge(&own, &format!("challenge {round} {number}")).await;
            let store = Store::clone(&own);
            signing_in.spawn(async move {
                log_in(&store, code, &challenge, &format!("token {round} {number}")).await
            });
        }
        let outcomes = signing_in.join_all().await;
        let started = outcomes
            .iter()
            .filter(|&&outcome| outcome == SessionStarted::Fine);
        assert_eq!(started.count(), 1);
    }
    assert_eq!(own.count(SESSIONS).await, 3);
}
