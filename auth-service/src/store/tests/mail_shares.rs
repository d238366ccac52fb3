//! The shares of accounts and of notices in the queue of mails.

use super::{
    OwnStore,
    outbox::{NOW, add, ending, link, mails},
};
use crate::{
    credentials::hash::StoredHash,
    store::{
        DeliveryOrder::{EndingSoonest, LongestWaiting},
        Destination, EmailChange, Ending, NewLink, Store,
    },
};

super::on_both!(
    a_mail_whose_link_ends_sooner_is_sent_before_others,
    notices_of_one_account_fill_a_sixteenth_of_the_queue_and_another_account_is_told,
    notices_leave_half_of_the_queue_to_links,
    changes_of_the_address_of_one_account_fill_a_sixteenth_of_the_queue,
);

async fn set_password(store: &Store, name: &str) {
    let hash = StoredHash::from("another hash");
    let ending = Ending {
        now: NOW,
        ..ending()
    };
    let set = store.set_password_hash(name, &hash, ending).await;
    assert!(set.expect("a write"));
}

/// Returns how many mails to the address of an account wait.
async fn count(own: &OwnStore, name: &str) -> usize {
    let address = format!("{name}@example.org");
    let mails = mails(own).await;
    let is_own = |to: &Option<String>| to.as_ref() == Some(&address);
    mails.iter().filter(|(_, to)| is_own(to)).count()
}

async fn notices_of_one_account_fill_a_sixteenth_of_the_queue_and_another_account_is_told(
    own: OwnStore,
) {
    let store = own.sending_mail(Some(64));
    for name in ["alice", "bob"] {
        add(&own, name, &format!("{name}@example.org")).await;
    }
    for _ in 0..6 {
        set_password(&store, "alice").await;
    }
    assert_eq!(count(&own, "alice").await, 4);
    set_password(&store, "bob").await;
    assert_eq!(count(&own, "bob").await, 1);
    // A mail that is sent makes room.
    let due = own
        .due_messages(Destination::Mail, LongestWaiting, NOW, 600, 1)
        .await;
    let sent = own.finish_message(&due.expect("a list")[0], None).await;
    sent.expect("a write");
    for _ in 0..2 {
        set_password(&store, "alice").await;
    }
    assert_eq!(count(&own, "alice").await, 4);
}

async fn notices_leave_half_of_the_queue_to_links(own: OwnStore) {
    for name in ["alice", "bob", "carol"] {
        add(&own, name, &format!("{name}@example.org")).await;
    }
    let store = own.sending_mail(Some(6));
    for name in ["alice", "alice", "bob", "carol"] {
        set_password(&store, name).await;
    }
    assert_eq!(mails(&own).await.len(), 3);
    assert_eq!(count(&own, "carol").await, 0);
    let full = own.is_mail_queue_full(6).await;
    assert!(!full.expect("a read"));
    // The link goes out all the same, and a notice does in a longer queue.
    let asked = own.mail_reset(&link("one", "carol@example.org")).await;
    asked.expect("a write");
    assert_eq!(count(&own, "carol").await, 1);
    set_password(&own.sending_mail(Some(10)), "carol").await;
    assert_eq!(count(&own, "carol").await, 2);
}

async fn changes_of_the_address_of_one_account_fill_a_sixteenth_of_the_queue(own: OwnStore) {
    for name in ["alice", "bob"] {
        add(&own, name, &format!("{name}@example.org")).await;
    }
    let ask = async |queue, name: &str, id: &str| {
        let account = own.find_account_by_id(name).await.expect("a read");
        let account = account.expect("an account");
        let link = link(id, &format!("{id}@example.org"));
        let store = own.sending_mail(Some(queue));
        let notice = format!("{id} notice");
        let asked = store.request_email_change(&account, 0, &link, &notice);
        asked.await.expect("a write")
    };
    // Each of them writes two mails.
    for id in ["one", "two"] {
        assert_eq!(ask(64, "alice", id).await, EmailChange::Asked);
    }
    assert_eq!(ask(64, "alice", "three").await, EmailChange::TooManyMails);
    assert_eq!(mails(&own).await.len(), 4);
    assert_eq!(ask(64, "bob", "four").await, EmailChange::Asked);
    assert_eq!(ask(80, "alice", "five").await, EmailChange::Asked);
}

async fn a_mail_whose_link_ends_sooner_is_sent_before_others(own: OwnStore) {
    add(&own, "alice", "alice@example.org").await;
    for (id, expires_at) in [
        ("late", NOW + 5_000),
        ("soon", NOW + 1_800),
        ("held", NOW + 900),
    ] {
        let link = NewLink {
            expires_at,
            ..link(id, "alice@example.org")
        };
        own.mail_reset(&link).await.expect("a write");
    }
    let due = async || {
        let order = EndingSoonest;
        let due = own.due_messages(Destination::Mail, order, NOW, 600, 10);
        due.await.expect("a list")
    };
    let [held, _, _] = due().await.try_into().expect("three");
    assert_eq!(held.id, "held");
    let claimed = own.claim_message(&held, NOW + 600).await;
    assert!(claimed.expect("a write"));
    let ids: Vec<_> = due().await.into_iter().map(|due| due.id).collect();
    assert_eq!(ids, ["soon", "late"]);
}
