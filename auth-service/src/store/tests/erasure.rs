//! Deletion of an account: what is erased, and that the audit chain stays valid and still shows changes.

use serde_json::json;
use shared_claims::authorization::Action;

use tokio::task::JoinSet;

use super::{
    OwnStore,
    sessions::{NOW, ending, start},
};
use crate::{
    credentials::email::Email,
    store::{
        Challenged, Deleted, Edit, EndReason, NewGrant, NewLink, Store, StoreError,
        audit::StoredEvent,
        database::{Pool, on_pool},
    },
    user_claims::UserClaims,
    vault::Hash,
};

super::on_both!(
    nothing_names_a_person_who_was_deleted,
    what_was_erased_without_a_deletion_is_found,
    events_from_before_are_erased_and_sealed,
    an_event_cannot_be_changed_otherwise,
    a_deletion_and_clean_up_at_once_never_deadlock,
    a_second_factor_that_meets_a_deletion_leaves_no_row,
);

/// A text in everything that names alice.
const NAME: &str = "alice";

/// The account `alice`, with a session, a second factor and rights to rooms.
async fn add_alice(own: &OwnStore) -> &'static str {
    start(own, NAME, &Hash::of("token")).await;
    for statement in [
        "update users set name = 'alice', given_name = 'alice', family_name = 'alice', \
                          claims = '{\"claims\":{\"nick\":\"alice\"}}', \
                          email = 'alice@example.org', email_normal = 'alice@example.org'",
        "update sessions set device = 'alice''s phone', address = '192.0.2.1'",
        "insert into mail_links (id, hash, purpose, user_id, email, password_version, expires_at) \
         select 'mail', hash, 'verify_email', 'alice', 'alice@example.org', 0, 2000000 \
         from refresh_tokens",
        "insert into outbox (id, destination, user_id, payload, expires_at, next_attempt_at) \
         values ('mail', 'mail', 'alice', 'alice@example.org', 2000000, 0)",
        "insert into passkeys \
             (id, credential_id, user_id, name, transports, public_key, state, created_at) \
         select 'passkey', hash, 'alice', 'alice''s phone', 0, hash, hash, 0 from refresh_tokens",
    ] {
        own.try_execute(statement).await.expect(statement);
    }
    own.set_totp("alice", b"sealed").await;
    let edited = own.edit_claims("alice", NOW, |current, _| {
        let roles = vec!["home of alice".to_owned()];
        Ok::<_, StoreError>(UserClaims {
            roles,
            ..current.clone()
        })
    });
    assert!(matches!(edited.await.expect("a write"), Edit::Fine(_)));
    let room = NewGrant {
        room: "home:alice".to_owned(),
        actions: vec![Action::Publish],
    };
    let rooms = [room];
    let given = own.replace_grants("alice", &rooms, NOW, |_| Ok::<_, StoreError>(()));
    assert!(matches!(given.await.expect("a write"), Edit::Fine(_)));
    NAME
}

impl OwnStore {
    async fn set_totp(&self, user_id: &str, sealed: &[u8]) {
        let stored = self.store.put_totp_secret(user_id, sealed, NOW).await;
        stored.expect("a write");
        let codes = [Hash::of("code")];
        let confirmed = self
            .store
            .confirm_totp(user_id, (sealed, 1), &codes, NOW)
            .await;
        assert!(confirmed.expect("a write"));
    }

    async fn delete(&self, id: &str) -> Deleted {
        let deleted = self.delete_account(id, ending(EndReason::AccountDeleted, &[]), |_| true);
        deleted.await.expect("a write")
    }

    async fn verified(&self) -> Result<i64, i64> {
        self.check_events().await.expect("an answer")
    }

    async fn events(&self) -> Vec<StoredEvent> {
        let mut events = self.list_events(None, 1_000).await.expect("events");
        events.reverse();
        events
    }

    /// Appends an event as versions without the column `personal` did: the detail is hashed whole.
    async fn append_older(
        &self,
        event: &str,
        user_id: Option<&str>,
        detail: &str,
    ) -> Result<i64, StoreError> {
        let last = self.events().await.pop().expect("an event");
        let mut new = StoredEvent {
            number: last.number + 1,
            at: NOW,
            event: event.to_owned(),
            user_id: user_id.map(str::to_owned),
            session_id: None,
            detail: detail.to_owned(),
            previous: last.hash.clone(),
            hash: Vec::new(),
            personal: None,
        };
        new.hash = new.hash_after(&last.hash);
        on_pool!(&self.store.writer, |pool| sqlx::query(
            "insert into audit_events (number, at, event, user_id, detail, previous, hash) \
             values ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(new.number)
        .bind(new.at)
        .bind(&new.event)
        .bind(&new.user_id)
        .bind(&new.detail)
        .bind(&new.previous)
        .bind(&new.hash)
        .execute(pool)
        .await?
        .rows_affected());
        Ok(new.number)
    }

    /// Lets events be changed, as whoever owns the database can.
    async fn remove_guard(&self) {
        let statement = match &self.store.writer {
            Pool::Sqlite(_) => "drop trigger audit_events_are_not_changed",
            Pool::Postgres(_) => "alter table audit_events disable trigger user",
        };
        self.try_execute(statement).await.expect(statement);
    }
}

/// Every text of every table that could name the person, but for ids.
const TEXTS: [&str; 7] = [
    "select count(*) from users where username like '%lice%' and username <> 'deleted:alice' \
     or name is not null or given_name is not null or family_name is not null \
     or email is not null or email_normal is not null or password_hash <> '' \
     or claims is not null",
    "select count(*) from sessions where device <> '' or address <> ''",
    "select count(*) from grants",
    "select (select count(*) from mail_links) \
     + (select count(*) from outbox where payload like '%alice%')",
    "select (select count(*) from totp_secrets) + (select count(*) from recovery_codes)",
    "select count(*) from passkeys",
    "select count(*) from audit_events where personal is not null \
     or detail like '%192.0%' or detail like '%home%'",
];

async fn nothing_names_a_person_who_was_deleted(own: OwnStore) {
    let id = add_alice(&own).await;
    for statement in TEXTS {
        assert!(own.count(statement).await > 0, "{statement}");
    }
    let before = own.verified().await.expect("a chain");
    assert_eq!(own.delete("nobody").await, Deleted::Unknown);
    assert_eq!(own.delete(id).await, Deleted::Now);
    for statement in TEXTS {
        assert_eq!(own.count(statement).await, 0, "{statement}");
    }
    let live = "select count(*) from sessions where ended_at is null";
    assert_eq!(own.count(live).await, 0);
    // The end of the session, and the deletion.
    assert_eq!(own.verified().await, Ok(before + 2));
    assert_eq!(own.delete(id).await, Deleted::Before);
    assert_eq!(own.verified().await, Ok(before + 2));
    let found = own.find_account_by_id(id).await.expect("a read");
    assert!(found.is_none());
    let found = own.find_managed(id).await.expect("a read");
    assert!(found.is_none());
    // The name is free, and its id is not.
    start(&own, "bob", &Hash::of("another")).await;
    assert!(own.verified().await.is_ok());
}

async fn what_was_erased_without_a_deletion_is_found(own: OwnStore) {
    let id = add_alice(&own).await;
    start(&own, "bob", &Hash::of("another")).await;
    let events = own.events().await;
    let of_alice = events.iter().find(|event| event.event == "grant_added");
    let number = of_alice.expect("a grant").number;
    assert!(own.verified().await.is_ok());
    // The guard lets it be erased, as a deletion does.
    let erase = "update audit_events set personal = null where event = 'grant_added'";
    own.try_execute(erase).await.expect("erased");
    assert_eq!(own.verified().await, Err(number));
    assert_eq!(own.delete(id).await, Deleted::Now);
    assert!(own.verified().await.is_ok());
    // Another text in the place of what was hashed.
    own.remove_guard().await;
    let forge = "update audit_events set personal = '{}' where event = 'grant_added'";
    own.try_execute(forge).await.expect("forged");
    assert_eq!(own.verified().await, Err(number));
}

async fn events_from_before_are_erased_and_sealed(own: OwnStore) {
    let id = add_alice(&own).await;
    let detail = json!({"address": "192.0.2.1", "by": "self", "device": "alice's phone"});
    let detail = detail.to_string();
    let login = own.append_older("logged_in", Some(id), &detail);
    let login = login.await.expect("an event");
    let detail = json!({"actions": ["pub"], "by": "command", "room": "home:alice", "subject": id});
    let detail = detail.to_string();
    let grant = own.append_older("grant_added", None, &detail);
    grant.await.expect("an event");
    let other = json!({"actions": ["pub"], "room": "home:bob", "subject": "alice2"});
    let other = other.to_string();
    let other = own.append_older("grant_added", None, &other);
    other.await.expect("an event");
    let before = own.verified().await.expect("a chain");
    assert_eq!(own.delete(id).await, Deleted::Now);
    assert_eq!(own.verified().await, Ok(before + 2));
    let texts = "select count(*) from audit_events \
                 where detail like '%192.0%' or detail like '%home:alice%'";
    assert_eq!(own.count(texts).await, 0);
    let others = "select count(*) from audit_events where detail like '%home:bob%'";
    assert_eq!(own.count(others).await, 1);
    // The rest of them is still guarded by the chain.
    own.remove_guard().await;
    for (change, undo) in [
        (
            "update audit_events set at = at + 1 where detail like '{\"erased\"%' \
             and event = 'logged_in'",
            "update audit_events set at = at - 1 where detail like '{\"erased\"%' \
             and event = 'logged_in'",
        ),
        (
            "update audit_events set event = 'logged_out' where detail like '{\"erased\"%' \
             and event = 'logged_in'",
            "update audit_events set event = 'logged_in' where detail like '{\"erased\"%' \
             and event = 'logged_out'",
        ),
    ] {
        own.try_execute(change).await.expect(change);
        assert_eq!(own.verified().await, Err(login), "{change}");
        own.try_execute(undo).await.expect(undo);
        assert_eq!(own.verified().await, Ok(before + 2), "{undo}");
    }
}

async fn an_event_cannot_be_changed_otherwise(own: OwnStore) {
    add_alice(&own).await;
    for refused in [
        "update audit_events set at = at + 1",
        "update audit_events set event = 'logged_out'",
        "update audit_events set user_id = null",
        "update audit_events set detail = '{}'",
        "update audit_events set detail = '{\"erased\":\"alice\"}' where event = 'account_added'",
        "update audit_events set personal = '{}'",
        "update audit_events set hash = previous",
        "delete from audit_events",
    ] {
        let changed = own.try_execute(refused).await;
        assert!(changed.is_err(), "{refused}");
    }
    assert!(own.verified().await.is_ok());
}

/// Adds an account with rows of every kind that both a deletion and clean-up remove.
async fn add_crowded(own: &OwnStore, name: &str) {
    for number in 0..6 {
        let token = Hash::of(&format!("{name} {number}"));
        start(own, name, &token).await;
        let challenged = Challenged {
            user_id: name.to_owned(),
            password_version: 0,
        };
        let written = own.insert_challenge(&token, &challenged, NOW + 1).await;
        written.expect("a write");
        let addressed = "update users set email = id || '@example.org', email_verified_at = 1, \
                                          email_normal = id || '@example.org' \
                         where deleted_at is null";
        own.try_execute(addressed).await.expect(addressed);
        let link = NewLink {
            id: format!("{name} {number}"),
            hash: token,
            email: Email::parse(&format!("{name}@example.org")).expect("an address"),
            now: NOW,
            expires_at: NOW + 1,
        };
        let asked = own.mail_reset(&link).await;
        asked.expect("a write");
    }
    let stored = own.put_totp_secret(name, b"sealed", NOW).await;
    stored.expect("a write");
}

/// Clean-up here takes all sessions for old ones, so that it meets those of the account.
async fn a_deletion_and_clean_up_at_once_never_deadlock(own: OwnStore) {
    for round in 0..50 {
        let name = format!("user{round}");
        add_crowded(&own, &name).await;
        let mut changing = JoinSet::new();
        for number in 0..3 {
            let store = Store::clone(&own);
            changing.spawn(async move {
                let removed = store.remove_expired(NOW + 1, NOW + 200_000, 100).await;
                removed.map(|_| ())
            });
            let store = Store::clone(&own);
            changing.spawn(async move {
                let removed = store.remove_expired_messages(NOW + 1, 4).await;
                removed.map(|_| ())
            });
            let (store, name) = (Store::clone(&own), name.clone());
            changing.spawn(async move {
                let ending = ending(EndReason::AccountDeleted, &[]);
                match number {
                    1 => store
                        .delete_account(&name, ending, |_| true)
                        .await
                        .map(|_| ()),
                    _ => {
                        let codes = [Hash::of(&format!("{name} {number}"))];
                        let confirmed =
                            store.confirm_totp(&name, (b"sealed", 1), &codes, NOW).await;
                        confirmed.map(|_| ())
                    }
                }
            });
        }
        for outcome in changing.join_all().await {
            outcome.expect("no deadlock");
        }
    }
    assert!(own.verified().await.is_ok());
}

/// A deletion of the account comes before, between or after the writes of a second factor.
async fn a_second_factor_that_meets_a_deletion_leaves_no_row(own: OwnStore) {
    let rows =
        "select (select count(*) from totp_secrets) + (select count(*) from login_challenges)";
    for round in 0..30 {
        let name = format!("user{round}");
        start(&own, &name, &Hash::of(&name)).await;
        let challenged = Challenged {
            user_id: name.clone(),
            password_version: 0,
        };
        let token = Hash::of(&name);
        let (stored, waits, deleted) = tokio::join!(
            own.put_totp_secret(&name, b"sealed", NOW),
            own.insert_challenge(&token, &challenged, NOW + 1),
            own.delete_account(&name, ending(EndReason::AccountDeleted, &[]), |_| true),
        );
        assert_eq!(deleted.expect("a write"), Deleted::Now);
        stored.expect("a write");
        waits.expect("a write");
        assert_eq!(own.count(rows).await, 0, "{round}");
        // Long after.
        let late = own.put_totp_secret(&name, b"sealed", NOW).await;
        assert!(!late.expect("a write"));
        let late = own.insert_challenge(&token, &challenged, NOW + 1).await;
        late.expect("nothing");
        assert_eq!(own.count(rows).await, 0, "{round}");
    }
}
