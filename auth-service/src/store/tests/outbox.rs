//! The outbox, and the links in mails.

use serde_json::Value;
use tokio::task::JoinSet;

use super::{OwnStore, conformance::account};
use crate::{
    credentials::{email::Email, hash::StoredHash},
    store::{
        Added,
        DeliveryOrder::{LongestWaiting, OneOfEachUser},
        Destination, EmailChange, EndReason, Ending, Link, LinkPurpose, NewLink, Store, Verified,
        event::{Event, EventKind},
    },
    vault::Hash,
};

super::on_both!(
    a_message_is_due_until_it_is_taken_or_has_expired_and_one_process_claims_it,
    a_message_that_a_clock_ahead_has_dated_is_due,
    an_address_becomes_the_accounts_when_its_link_is_followed,
    another_address_is_told_to_the_old_one_and_the_newer_link_counts,
    an_address_of_another_account_is_refused_at_the_link_and_not_before,
    of_links_to_one_address_that_are_followed_at_once_one_counts,
    a_link_that_resets_a_password_is_used_once_and_dies_with_the_password,
    a_request_for_an_unknown_address_leaves_nothing_and_another_one_mail,
    what_has_expired_is_removed_and_named,
);

pub(super) const NOW: i64 = 1_000;

pub(super) fn link(id: &str, email: &str) -> NewLink {
    NewLink {
        id: id.to_owned(),
        hash: Hash::of(id),
        email: Email::parse(email).expect("an address"),
        now: NOW,
        expires_at: NOW + 1_800,
    }
}

pub(super) fn ending() -> Ending<'static> {
    Ending {
        reason: EndReason::PasswordChanged,
        now: NOW + 1,
        gateways: &[],
        token_lifetime_secs: 900,
    }
}

/// Adds an account that has this verified address.
pub(super) async fn add(own: &OwnStore, name: &str, email: &str) {
    let mut new = account(name, name, name);
    new.email = Some(Email::parse(email).expect("an address"));
    new.profile.email_verified = Some(true);
    let added = own.insert_account(&new).await;
    assert_eq!(added.expect("a write"), Added::Fine);
}

async fn find(own: &OwnStore, purpose: LinkPurpose, id: &str) -> Option<Link> {
    let found = own.find_link(purpose, &Hash::of(id), NOW).await;
    found.expect("a read")
}

/// The address of alice's profile, and whether it is verified.
async fn email_of_alice(own: &OwnStore) -> Option<(String, bool)> {
    let found = own.find_account_by_id("alice").await.expect("a read");
    let profile = found.expect("alice").profile();
    profile.email.zip(profile.email_verified)
}

fn shown(email: &str) -> Option<(String, bool)> {
    Some((email.to_owned(), true))
}

/// Returns the kinds and receivers of the mails that are due, in order.
pub(super) async fn mails(own: &OwnStore) -> Vec<(String, Option<String>)> {
    let due = own
        .due_messages(Destination::Mail, LongestWaiting, NOW, 600, 100)
        .await;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let read = |payload: &str| {
        let mail: Value = serde_json::from_str(payload).expect("JSON");
        (text(&mail["kind"]).expect("a kind"), text(&mail["to"]))
    };
    let due = due.expect("a list");
    due.iter().map(|message| read(&message.payload)).collect()
}

async fn a_message_is_due_until_it_is_taken_or_has_expired_and_one_process_claims_it(
    own: OwnStore,
) {
    add(&own, "alice", "alice@example.org").await;
    for id in ["one", "two"] {
        let asked = own.mail_reset(&link(id, "alice@example.org")).await;
        asked.expect("a write");
    }
    let due = async |now| {
        let due = own
            .due_messages(Destination::Mail, LongestWaiting, now, 600, 10)
            .await;
        due.expect("a list")
    };
    let [one, two] = due(NOW).await.try_into().expect("two");
    assert_eq!((one.id.as_str(), two.id.as_str()), ("one", "two"));
    assert!(own.claim_message(&one, NOW + 60).await.expect("a write"));
    // Another process has read the table at the same time.
    assert!(!own.claim_message(&one, NOW + 60).await.expect("a write"));
    assert_eq!(due(NOW).await.len(), 1);
    // The process that had it has ended.
    assert_eq!(due(NOW + 60).await.len(), 2);
    own.postpone_message(&two, NOW + 5).await.expect("a write");
    assert!(due(NOW).await.is_empty());
    let again = due(NOW + 5).await;
    assert_eq!((again[0].id.as_str(), again[0].attempts), ("two", 1));
    let full = async |count| own.is_mail_queue_full(count).await;
    assert!(full(2).await.expect("a read") && !full(3).await.expect("a read"));
    assert_eq!(own.count_pending().await.expect("a read").mails, 2);
    let sent = Event {
        kind: EventKind::PasswordResetSent,
        at: NOW,
        user_id: Some("alice"),
        session_id: None,
        detail: serde_json::json!({}),
    };
    own.finish_message(&two, Some(sent)).await.expect("a write");
    assert!(due(NOW + 1_799).await.len() == 1 && due(NOW + 1_800).await.is_empty());
    let events = own.list_events(Some("alice"), 1).await.expect("a list");
    assert_eq!(events[0].event, "password_reset_sent");
    assert!(events[0].detail.contains(r#""by":"service""#));
}

async fn a_message_that_a_clock_ahead_has_dated_is_due(own: OwnStore) {
    add(&own, "alice", "alice@example.org").await;
    for id in ["one", "two", "three"] {
        let asked = own.mail_reset(&link(id, "alice@example.org")).await;
        asked.expect("a write");
    }
    let due = async |order| {
        let due = own.due_messages(Destination::Mail, order, NOW, 600, 10);
        due.await.expect("a list")
    };
    let [one, two, three] = due(LongestWaiting).await.try_into().expect("three");
    let claimed = async |message, until| own.claim_message(message, until).await;
    // As far off as a wait or a lease can be.
    assert!(claimed(&one, NOW + 600).await.expect("a write"));
    assert!(claimed(&three, NOW + 601).await.expect("a write"));
    let ids: Vec<_> = due(LongestWaiting)
        .await
        .into_iter()
        .map(|due| due.id)
        .collect();
    assert_eq!(ids, ["three", "two"]);
    assert!(due(OneOfEachUser).await.is_empty());
    own.finish_message(&one, None).await.expect("a write");
    assert!(claimed(&two, NOW + 1_000).await.expect("a write"));
    assert_eq!(due(OneOfEachUser).await[0].id, "two");
}

async fn an_address_becomes_the_accounts_when_its_link_is_followed(own: OwnStore) {
    let alice = account("alice", "alice", "alice");
    let first = link("first", "Alice@Example.org");
    let added = own.register_account(&alice, &first).await;
    assert_eq!(added.expect("a write"), Added::Fine);
    let namesake = account("namesake", "alice", "alice");
    let again = own
        .register_account(&namesake, &link("again", "alice@example.org"))
        .await;
    assert_eq!(again.expect("a write"), Added::NameTaken);
    assert_eq!(email_of_alice(&own).await, None);
    let told = |kind: &str, to: &str| (kind.to_owned(), Some(to.to_owned()));
    assert_eq!(
        mails(&own).await,
        [told("verify_email", "Alice@example.org")]
    );
    // A link for one purpose is none for the other.
    assert!(
        find(&own, LinkPurpose::ResetPassword, "first")
            .await
            .is_none()
    );
    let found = find(&own, LinkPurpose::VerifyEmail, "first")
        .await
        .expect("a link");
    let verify = async || {
        own.verify_email(&found, &first.hash, NOW)
            .await
            .expect("a write")
    };
    assert_eq!(verify().await, Verified::Fine);
    assert_eq!(email_of_alice(&own).await, shown("Alice@Example.org"));
    assert_eq!(verify().await, Verified::Refused);
}

async fn another_address_is_told_to_the_old_one_and_the_newer_link_counts(own: OwnStore) {
    add(&own, "alice", "Alice@Example.org").await;
    let told = |kind: &str, to: &str| (kind.to_owned(), Some(to.to_owned()));
    let account = own
        .find_account_by_id("alice")
        .await
        .expect("a read")
        .expect("alice");
    for id in ["older", "newer"] {
        let link = link(id, &format!("{id}@example.org"));
        let asked = own
            .request_email_change(&account, 0, &link, &format!("{id} notice"))
            .await;
        assert_eq!(asked.expect("a write"), EmailChange::Asked);
    }
    let notice = told("email_change_requested", "Alice@example.org");
    let expected = [told("verify_email", "newer@example.org"), notice];
    assert_eq!(mails(&own).await[2..], expected);
    assert!(
        find(&own, LinkPurpose::VerifyEmail, "older")
            .await
            .is_none()
    );
    let hash = own.find_link_hash("older", NOW).await.expect("a read");
    assert_eq!(hash, None);
    let wrong = own
        .request_email_change(&account, 1, &link("x", "x@example.org"), "y")
        .await;
    assert_eq!(wrong.expect("a write"), EmailChange::AccountChanged);
    let found = find(&own, LinkPurpose::VerifyEmail, "newer")
        .await
        .expect("a link");
    let verified = own.verify_email(&found, &Hash::of("newer"), NOW).await;
    assert_eq!(verified.expect("a write"), Verified::Fine);
    assert_eq!(email_of_alice(&own).await, shown("newer@example.org"));
    // The own address once more concerns nobody else.
    let account = own
        .find_account_by_id("alice")
        .await
        .expect("a read")
        .expect("alice");
    let asked = own
        .request_email_change(&account, 0, &link("same", "Newer@example.org"), "z")
        .await;
    assert_eq!(asked.expect("a write"), EmailChange::Asked);
    assert_eq!(
        mails(&own).await.last(),
        Some(&told("verify_email", "Newer@example.org"))
    );
}

async fn an_address_of_another_account_is_refused_at_the_link_and_not_before(own: OwnStore) {
    add(&own, "bob", "bob@example.org").await;
    let alice = account("alice", "alice", "alice");
    let taken = link("taken", "BOB@example.org");
    let added = own.register_account(&alice, &taken).await;
    assert_eq!(added.expect("a write"), Added::Fine);
    let found = find(&own, LinkPurpose::VerifyEmail, "taken")
        .await
        .expect("a link");
    let verify = async || {
        own.verify_email(&found, &taken.hash, NOW)
            .await
            .expect("a write")
    };
    assert_eq!(verify().await, Verified::EmailTaken);
    let freed = "update users set email = null, email_normal = null where id = 'bob'";
    own.try_execute(freed).await.expect(freed);
    assert_eq!(verify().await, Verified::Fine);
}

async fn of_links_to_one_address_that_are_followed_at_once_one_counts(own: OwnStore) {
    for round in 0..20 {
        let address = format!("address{round}@example.org");
        let mut following = JoinSet::new();
        for number in 0..4 {
            let name = format!("name{round}x{number}");
            let asked = link(&name, &address);
            let new = account(&name, &name, &name);
            let added = own.register_account(&new, &asked).await;
            assert_eq!(added.expect("a write"), Added::Fine);
            let found = find(&own, LinkPurpose::VerifyEmail, &name).await;
            let (store, found) = (Store::clone(&own), found.expect("a link"));
            following.spawn(async move { store.verify_email(&found, &asked.hash, NOW).await });
        }
        let outcomes = following.join_all().await;
        let outcomes = outcomes
            .into_iter()
            .map(|outcome| outcome.expect("no failure"));
        let (fine, taken): (Vec<_>, Vec<_>) = outcomes.partition(|one| *one == Verified::Fine);
        assert_eq!((fine.len(), taken), (1, vec![Verified::EmailTaken; 3]));
    }
}

async fn a_link_that_resets_a_password_is_used_once_and_dies_with_the_password(own: OwnStore) {
    add(&own, "alice", "alice@example.org").await;
    for id in ["one", "two", "moved"] {
        let asked = own.mail_reset(&link(id, "ALICE@example.org")).await;
        asked.expect("a write");
    }
    assert_eq!(mails(&own).await[0].1.as_deref(), Some("alice@example.org"));
    let [one, two] = ["one", "two"].map(|id| find(&own, LinkPurpose::ResetPassword, id));
    let (one, two) = (one.await.expect("a link"), two.await.expect("a link"));
    let new = StoredHash::from("another hash");
    let reset = async |link: &Link, id| {
        let changed = own
            .reset_password(link, &Hash::of(id), &new, ending())
            .await;
        changed.expect("a write")
    };
    let late = own
        .find_link(LinkPurpose::ResetPassword, &Hash::of("one"), NOW + 1_800)
        .await;
    assert!(late.expect("a read").is_none());
    // The address is another by now: whoever reads the old one sets no password.
    let moved = Link {
        email_normal: "old@example.org".to_owned(),
        ..one.clone()
    };
    assert!(!reset(&moved, "moved").await);
    // Nobody vouches for the address any more.
    let (doubted, vouched) = (
        "update users set email_verified_at = null",
        "update users set email_verified_at = 1",
    );
    own.try_execute(doubted).await.expect(doubted);
    assert!(!reset(&one, "one").await);
    own.try_execute(vouched).await.expect(vouched);
    assert!(reset(&one, "one").await);
    assert!(!reset(&one, "one").await);
    assert!(!reset(&two, "two").await);
    assert!(
        find(&own, LinkPurpose::ResetPassword, "two")
            .await
            .is_none()
    );
    let events = own.list_events(Some("alice"), 1).await.expect("a list");
    assert_eq!(events[0].event, "password_changed");
    assert!(events[0].detail.contains(r#""way":"reset""#));
}

async fn a_request_for_an_unknown_address_leaves_nothing_and_another_one_mail(own: OwnStore) {
    add(&own, "alice", "alice@example.org").await;
    for (name, change) in [
        ("gone", "update users set disabled_at = 1 where id = 'gone'"),
        (
            "unverified",
            "update users set email_verified_at = null where id = 'unverified'",
        ),
    ] {
        add(&own, name, &format!("{name}@example.org")).await;
        own.try_execute(change).await.expect(change);
    }
    for email in [
        "alice@example.org",
        "nobody@example.org",
        "gone@example.org",
        "unverified@example.org",
    ] {
        let asked = own.mail_reset(&link(email, email)).await;
        asked.expect("a write");
        // Another process has read the request at the same time.
        let again = own.mail_password_reset(&link(email, email)).await;
        again.expect("nothing to be done");
    }
    for table in [
        "select count(*) from mail_links",
        "select count(*) from outbox",
    ] {
        assert_eq!(own.count(table).await, 1);
    }
    let kind = || "reset_password".to_owned();
    let alice = (kind(), Some("alice@example.org".to_owned()));
    assert_eq!(mails(&own).await, [alice]);
    let kept = "select count(*) from mail_links where email is not null";
    assert_eq!(own.count(kept).await, 1);
    for id in [
        "nobody@example.org",
        "gone@example.org",
        "unverified@example.org",
    ] {
        assert!(
            find(&own, LinkPurpose::ResetPassword, id).await.is_none(),
            "{id}"
        );
    }
}

async fn what_has_expired_is_removed_and_named(own: OwnStore) {
    add(&own, "alice", "alice@example.org").await;
    for id in ["one", "two", "three"] {
        let asked = own.mail_reset(&link(id, "alice@example.org")).await;
        asked.expect("a write");
    }
    let remove = async |now| own.remove_expired_messages(now, 2).await.expect("a write");
    assert!(remove(NOW + 1_799).await.is_empty());
    let removed = [remove(NOW + 1_800).await, remove(NOW + 1_800).await].concat();
    assert_eq!(removed.len(), 3);
    for (destination, payload) in &removed {
        assert_eq!(destination, "mail");
        assert!(payload.contains("reset_password"), "{payload}");
    }
    let expired = async |now| own.remove_expired(now, 0, 10).await.expect("a write");
    assert_eq!((expired(NOW).await, expired(NOW + 1_800).await), (0, 3));
}
