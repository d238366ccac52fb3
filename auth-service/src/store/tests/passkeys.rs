//! Passkeys, and the challenges that they have answered.

use tokio::task::JoinSet;

use super::{
    OwnStore,
    sessions::{NOW, start, start_by},
};
use crate::{
    ids::random_id,
    store::{
        LoginProof, LoginRequirements, NewPasskey, Passkey, PasskeyAdded, SessionStarted,
        SpentChallenge, Store, UsedPasskey,
    },
    vault::Hash,
};

super::on_both! {
    of_enrolments_at_once_no_more_than_the_most_are_kept,
    of_uses_at_once_one_counts_for_each_challenge_and_each_state,
    a_challenge_is_remembered_until_it_has_expired,
    an_enrolment_ends_when_the_password_or_the_second_factor_changes,
    no_enrolment_with_a_code_survives_a_reset_of_the_second_factor,
}

const MOST: i64 = 3;

fn challenge(text: &str) -> SpentChallenge {
    SpentChallenge {
        hash: Hash::of(text),
        expires_at: NOW + 300,
    }
}

async fn enrol(store: &Store, id: &str, challenge: SpentChallenge) -> PasskeyAdded {
    let requirements = store.find_login_requirements("alice").await;
    enrol_by(store, id, challenge, requirements.expect("a read")).await
}

async fn enrol_by(
    store: &Store,
    id: &str,
    challenge: SpentChallenge,
    requirements: LoginRequirements,
) -> PasskeyAdded {
    let new = NewPasskey {
        requirements,
        id,
        credential_id: id.as_bytes(),
        user_id: "alice",
        name: "Phone",
        transports: 0,
        public_key: b"key",
        state: b"state 0",
    };
    let added = store.insert_passkey(&new, challenge, MOST, NOW).await;
    added.expect("a write")
}

/// Enrols the passkey `phone` of the account `alice`.
async fn with_phone(own: &OwnStore) -> Passkey {
    start(own, "alice", &Hash::of("token")).await;
    let added = enrol(own, "phone", challenge("enrolment")).await;
    assert_eq!(added, PasskeyAdded::Fine);
    let found = own.find_passkey(b"phone").await.expect("a read");
    found.expect("the passkey")
}

/// Signs in with a passkey, and returns whether it was accepted.
async fn use_passkey(
    store: &Store,
    passkey: &Passkey,
    next_state: &[u8],
    challenge: SpentChallenge,
) -> bool {
    let used = UsedPasskey {
        id: &passkey.id,
        state: &passkey.state,
        next_state,
        challenge,
    };
    let proof = LoginProof::Passkey {
        used,
        challenge: None,
    };
    let token = Hash::of(&random_id().expect("randomness"));
    let (outcome, _) = start_by(store, "alice", &token, proof).await;
    assert_ne!(outcome, SessionStarted::AccountChanged);
    outcome == SessionStarted::Fine
}

async fn of_enrolments_at_once_no_more_than_the_most_are_kept(own: OwnStore) {
    start(&own, "alice", &Hash::of("token")).await;
    let mut enrolling = JoinSet::new();
    for number in 0..8 {
        let store = Store::clone(&own);
        enrolling.spawn(async move {
            let id = format!("phone {number}");
            enrol(&store, &id, challenge(&id)).await
        });
    }
    let outcomes = enrolling.join_all().await;
    let count = |wanted| {
        outcomes
            .iter()
            .filter(|&&outcome| outcome == wanted)
            .count()
    };
    assert_eq!(
        (count(PasskeyAdded::Fine), count(PasskeyAdded::TooMany)),
        (3, 5)
    );
    let kept = own.list_passkeys("alice").await.expect("a read");
    assert_eq!(kept.len(), 3);
}

async fn of_uses_at_once_one_counts_for_each_challenge_and_each_state(own: OwnStore) {
    let phone = with_phone(&own).await;
    // Each with the same challenge, and a state that does not change: a synced passkey counts nothing.
    let mut using = JoinSet::new();
    for _ in 0..8 {
        let (store, phone) = (Store::clone(&own), phone.clone());
        using.spawn(
            async move { use_passkey(&store, &phone, b"state 0", challenge("login")).await },
        );
    }
    let used = using.join_all().await;
    assert_eq!(used.iter().filter(|&&used| used).count(), 1);
    // Two challenges, answered with one counter.
    let next = async |text: &str| use_passkey(&own, &phone, b"state 1", challenge(text)).await;
    assert!(next("second").await);
    assert!(!next("third").await);
    assert!(own.check_events().await.expect("an answer").is_ok());
}

async fn a_challenge_is_remembered_until_it_has_expired(own: OwnStore) {
    let phone = with_phone(&own).await;
    let again = async || use_passkey(&own, &phone, &phone.state, challenge("enrolment")).await;
    assert!(!again().await);
    let remove = async |now| own.remove_expired(now, 0, 10).await.expect("a write");
    assert_eq!((remove(NOW + 299).await, again().await), (0, false));
    assert_eq!((remove(NOW + 300).await, again().await), (1, true));
}

/// The change comes between the verification of the answer and the write.
async fn an_enrolment_ends_when_the_password_or_the_second_factor_changes(own: OwnStore) {
    start(&own, "alice", &Hash::of("token")).await;
    for (number, change) in [
        "update users set password_version = password_version + 1",
        "insert into totp_secrets (user_id, sealed, created_at, confirmed_at) \
         select user_id, hash, 1, 1 from sessions, refresh_tokens",
        "delete from totp_secrets",
    ]
    .into_iter()
    .enumerate()
    {
        let seen = own.find_login_requirements("alice").await.expect("a read");
        own.try_execute(change).await.expect(change);
        let id = format!("phone {number}");
        let refused = enrol_by(&own, &id, challenge(&id), seen).await;
        assert_eq!(refused, PasskeyAdded::Refused, "{change}");
        assert_eq!(enrol(&own, &id, challenge(&id)).await, PasskeyAdded::Fine);
    }
}

async fn no_enrolment_with_a_code_survives_a_reset_of_the_second_factor(own: OwnStore) {
    start(&own, "alice", &Hash::of("token")).await;
    for round in 0..30 {
        let factor = "insert into totp_secrets (user_id, sealed, created_at, confirmed_at) \
                      select user_id, hash, 1, 1 from sessions, refresh_tokens";
        own.try_execute(factor).await.expect("a row");
        let seen = own.find_login_requirements("alice").await.expect("a read");
        let id = format!("phone {round}");
        let reset = async {
            own.delete_totp("alice", NOW).await.expect("a write");
            own.delete_passkeys("alice", NOW).await.expect("a write");
        };
        tokio::join!(enrol_by(&own, &id, challenge(&id), seen), reset);
        assert_eq!(
            own.count("select count(*) from passkeys").await,
            0,
            "{round}"
        );
    }
}
