//! Clean-up: which rows go, how many at a time, and how they are found.

use super::{
    OwnStore, lend,
    sessions::{NOW, ending, is_live, is_rotated, reuse, rotate, start},
};
use crate::{
    store::{EndReason, SessionFilter, expired::OLD_SESSIONS, session_ends::END_EXCESS},
    vault::Hash,
};

super::on_both!(
    clean_up_removes_a_bounded_number_of_rows_and_only_old_ones,
    spent_tokens_of_a_live_session_go_when_they_have_expired,
);

/// Rows that have ended are many, and nobody waits for them.
#[tokio::test]
async fn sessions_are_found_by_an_index() {
    let own = OwnStore::sqlite().await;
    for (statement, indexes) in [
        (OLD_SESSIONS, &["ended_sessions", "sessions_by_expiry"][..]),
        (END_EXCESS, &["live_sessions_of_user"]),
    ] {
        let explained = format!("explain query plan {statement}");
        let plan: Vec<(i64, i64, i64, String)> = sqlx::query_as(sqlx::AssertSqlSafe(explained))
            .fetch_all(&mut lend(&own.readers).await.connection)
            .await
            .expect("a plan");
        for index in indexes {
            let is_used = plan.iter().any(|(.., step)| step.contains(index));
            assert!(is_used, "{plan:?}");
        }
        let scans = plan
            .iter()
            .any(|(.., step)| step.starts_with("SCAN sessions"));
        assert!(!scans, "{plan:?}");
    }
}

async fn spent_tokens_of_a_live_session_go_when_they_have_expired(own: OwnStore) {
    let live = start(&own, "alice", &Hash::of("live 0")).await;
    for number in 0..3 {
        let [token, next] = [number, number + 1].map(|n| Hash::of(&format!("live {n}")));
        assert!(is_rotated(&rotate(&own, &token, next, reuse()).await));
    }
    let end: i64 = own
        .count("select max(expires_at) from refresh_tokens where used_at is not null")
        .await;
    let remove = async |now| own.remove_expired(now, NOW, 10).await.expect("a write");
    assert_eq!(remove(NOW).await, 0);
    assert_eq!(remove(end).await, 3);
    let left = own.count("select count(*) from refresh_tokens where used_at is null");
    assert_eq!(left.await, 1);
    assert!(is_live(&own, &live).await);
}

/// A session of many refreshes has more rows than one transaction removes.
async fn clean_up_removes_a_bounded_number_of_rows_and_only_old_ones(own: OwnStore) {
    let gateways = ["http://a".to_owned()];
    let ended = start(&own, "alice", &Hash::of("ended 0")).await;
    for number in 0..25 {
        let [token, next] = [number, number + 1].map(|n| Hash::of(&format!("ended {n}")));
        assert!(is_rotated(&rotate(&own, &token, next, reuse()).await));
    }
    let live = start(&own, "alice", &Hash::of("live")).await;
    let ending = ending(EndReason::LoggedOut, &gateways);
    own.end_sessions("alice", SessionFilter::One(&ended), ending)
        .await
        .expect("a write");
    let remove = async |now, before| own.remove_expired(now, before, 10).await.expect("a write");
    assert_eq!(remove(NOW, NOW).await, 0);
    assert_eq!(own.count_pending().await.expect("numbers").revocations, 1);
    // 26 tokens and the session.
    let mut removed = Vec::new();
    while removed.last() != Some(&0) {
        removed.push(remove(NOW + 900, NOW + 1).await);
    }
    assert_eq!(removed, [10, 10, 7, 0]);
    let removed = own.remove_expired_messages(NOW + 900, 10).await;
    assert_eq!(removed.expect("a write").len(), 1);
    assert_eq!(own.count_pending().await.expect("numbers").revocations, 0);
    for (table, left) in [
        ("select count(*) from sessions", 1),
        ("select count(*) from refresh_tokens", 1),
        ("select count(*) from outbox", 0),
    ] {
        assert_eq!(own.count(table).await, left, "{table}");
    }
    assert!(is_live(&own, &live).await);
}
