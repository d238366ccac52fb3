//! Accounts by the hundred, and what an operator does with one.

use shared_claims::authorization::Action;

use super::{
    OwnStore,
    conformance::account,
    sessions::{NOW, ending, start},
};
use crate::{
    credentials::{email::Email, hash::StoredHash},
    store::{
        AccountPage, Added, Edit, EditedProfile, EndReason, ImportedAccount, Link, LinkPurpose,
        ManagedAccount, NewGrant, NewLink, SessionFilter,
    },
    user_claims::UserClaims,
    vault::Hash,
};

super::on_both!(
    a_batch_goes_in_but_for_what_is_taken,
    pages_have_every_account_once_and_a_search_its_own,
    an_edit_sees_the_account_that_it_changes,
    an_account_is_shut_and_opened_again,
    of_replaced_rights_those_that_differ_are_events,
    a_hash_of_ours_takes_the_place_of_an_imported_one,
);

fn imported(id: &str, name: &str, email: Option<&str>) -> ImportedAccount {
    let mut account = account(id, name, name);
    account.email = email.map(|text| Email::parse(text).expect("an address"));
    ImportedAccount {
        account,
        hash_scheme: Some("bcrypt:12".to_owned()),
        is_disabled: false,
        grants: Vec::new(),
        claims: UserClaims::default(),
    }
}

async fn a_batch_goes_in_but_for_what_is_taken(own: OwnStore) {
    start(&own, "alice", &Hash::of("token")).await;
    let mut batch: Vec<ImportedAccount> = (0..250)
        .map(|number| imported(&format!("id-{number}"), &format!("name-{number}"), None))
        .collect();
    batch.push(imported("id-300", "alice", None));
    batch.push(imported("alice", "other", None));
    batch.push(imported("id-301", "bob", Some("bob@example.org")));
    batch.push(imported("id-302", "carol", Some("BOB@example.org")));
    batch.push(imported("id-303", "name-7", None));
    batch[3].is_disabled = true;
    batch[4].grants.push(NewGrant {
        room: "chat:**".to_owned(),
        actions: vec![Action::Subscribe, Action::Publish],
    });
    let outcomes = own.import_accounts(&batch, NOW).await.expect("a write");
    assert!(
        outcomes[..250]
            .iter()
            .all(|outcome| *outcome == Added::Fine)
    );
    let (taken, id, email) = (Added::NameTaken, Added::IdTaken, Added::EmailTaken);
    assert_eq!(outcomes[250..], [taken, id, Added::Fine, email, taken]);
    assert_eq!(own.count("select count(*) from users").await, 252);
    let events = "select count(*) from audit_events where event = 'account_imported'";
    assert_eq!(own.count(events).await, 251);
    assert!(own.check_events().await.expect("an answer").is_ok());
    let shut = "select count(*) from users where disabled_at is not null and id = 'id-3'";
    assert_eq!(own.count(shut).await, 1);
    let grants = own.list_grants("id-4").await.expect("a read");
    assert_eq!(grants[0].rooms, ["chat:**"]);
    let schemes = own.count_hash_schemes().await.expect("a read");
    assert_eq!(schemes, [("bcrypt:12".to_owned(), 251)]);
    assert_eq!(own.count_accounts().await.expect("a read"), 252);
    // A repetition changes nothing.
    let outcomes = own.import_accounts(&batch, NOW).await.expect("a write");
    assert!(outcomes.iter().all(|outcome| *outcome != Added::Fine));
    assert_eq!(own.count("select count(*) from users").await, 252);
}

async fn names(own: &OwnStore, search: Option<&str>, after: &str, limit: i64) -> Vec<String> {
    let page = AccountPage {
        search: search.map(str::to_owned),
        after: after.to_owned(),
        limit,
    };
    let found = own.list_managed(&page).await.expect("a read");
    found
        .into_iter()
        .map(|found| found.account.username)
        .collect()
}

async fn pages_have_every_account_once_and_a_search_its_own(own: OwnStore) {
    let mut batch: Vec<ImportedAccount> = (0..25)
        .map(|number| imported(&format!("id-{number}"), &format!("name{number:02}"), None))
        .collect();
    batch.push(imported("id-p", "per_cent", Some("Odd@Example.org")));
    batch[5].account.profile.name = Some("Alice \u{c4}rger".to_owned());
    own.import_accounts(&batch, NOW).await.expect("a write");
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let page = names(&own, None, &after, 7).await;
        let Some(last) = page.last() else { break };
        after.clone_from(last);
        seen.extend(page);
    }
    let mut expected: Vec<String> = (0..25).map(|number| format!("name{number:02}")).collect();
    expected.push("per_cent".to_owned());
    assert_eq!(seen, expected);
    for (search, expected) in [
        ("name1", 10),
        ("alice", 1),
        ("\u{c4}rger", 1),
        ("ALICE \u{c4}", 1),
        ("odd@example", 1),
        ("_", 1),
        ("%", 0),
        ("!", 0),
        ("nobody", 0),
    ] {
        assert_eq!(
            names(&own, Some(search), "", 50).await.len(),
            expected,
            "{search}"
        );
    }
    let deleted = own.delete_account("id-p", ending(EndReason::AccountDeleted, &[]), |_| true);
    deleted.await.expect("a write");
    assert_eq!(names(&own, None, "", 50).await.len(), 25);
}

fn named(name: &str, email: Option<&str>) -> EditedProfile {
    EditedProfile {
        name: Some(name.to_owned()),
        given_name: None,
        family_name: None,
        email: Some(email.map(|text| Email::parse(text).expect("an address"))),
        email_verified_at: None,
    }
}

async fn an_edit_sees_the_account_that_it_changes(own: OwnStore) {
    let batch = [
        imported("id-a", "alice", Some("alice@example.org")),
        imported("id-b", "bob", Some("bob@example.org")),
    ];
    own.import_accounts(&batch, NOW).await.expect("a write");
    let fine = |profile| move |_: &ManagedAccount| Ok::<_, ()>(profile);
    let edited = own.edit_profile("id-a", NOW, fine(named("A", Some("new@example.org"))));
    let edited = edited.await.expect("a write");
    assert!(
        matches!(&edited, Edit::Fine(found) if found.account.name.as_deref() == Some("A")),
        "{edited:?}"
    );
    let taken = own.edit_profile("id-a", NOW, fine(named("B", Some("Bob@example.org"))));
    let taken = taken.await.expect("no failure");
    assert!(matches!(taken, Edit::EmailTaken), "{taken:?}");
    let refuse = |found: &ManagedAccount| Err(found.account.name.clone());
    let refused = own.edit_profile("id-a", NOW, refuse).await.expect("a read");
    assert!(
        matches!(&refused, Edit::Refused(seen) if seen.as_deref() == Some("A")),
        "{refused:?}"
    );
    let unknown = own
        .edit_profile("nobody", NOW, fine(named("A", None)))
        .await;
    assert!(matches!(unknown.expect("a read"), Edit::Unknown));
    let found = own
        .find_managed("id-a")
        .await
        .expect("a read")
        .expect("alice");
    assert_eq!(found.account.email.as_deref(), Some("new@example.org"));
    let events = "select count(*) from audit_events where event = 'account_edited'";
    assert_eq!(own.count(events).await, 1);
    // Addresses from before they were checked: no address, and one of another account too.
    for older in [
        "update users set email = 'no address', email_normal = null where id = 'id-a'",
        "update users set email = 'bob@example.org', email_normal = null where id = 'id-a'",
    ] {
        own.try_execute(older).await.expect(older);
        let kept = EditedProfile {
            email: None,
            ..named("C", None)
        };
        let edited = own.edit_profile("id-a", NOW, fine(kept)).await;
        let Ok(Edit::Fine(edited)) = edited else {
            panic!("{older}: {edited:?}");
        };
        let email = edited.account.email.expect("as it was");
        assert!(older.contains(&format!("'{email}'")), "{email}");
    }
}

async fn an_account_is_shut_and_opened_again(own: OwnStore) {
    start(&own, "alice", &Hash::of("token")).await;
    let disabled = async || {
        let found = own.find_managed("alice").await.expect("a read");
        found.expect("alice").account.disabled_at
    };
    for _ in 0..2 {
        let shut = own.disable_account("alice", ending(EndReason::AccountDisabled, &[]));
        assert!(shut.await.expect("a write"));
        assert_eq!(disabled().await, Some(NOW));
    }
    for _ in 0..2 {
        assert!(own.enable_account("alice", NOW).await.expect("a write"));
        assert_eq!(disabled().await, None);
    }
    for events in [
        "select count(*) from audit_events where event = 'account_disabled'",
        "select count(*) from audit_events where event = 'account_enabled'",
    ] {
        assert_eq!(own.count(events).await, 1, "{events}");
    }
    assert!(!own.enable_account("nobody", NOW).await.expect("a read"));
    let ending = ending(EndReason::AccountDisabled, &[]);
    assert!(!own.disable_account("nobody", ending).await.expect("a read"));
}

async fn of_replaced_rights_those_that_differ_are_events(own: OwnStore) {
    start(&own, "alice", &Hash::of("token")).await;
    let grant = |room: &str, actions: &[Action]| NewGrant {
        room: room.to_owned(),
        actions: actions.to_vec(),
    };
    let (one, two) = ([Action::Publish], [Action::Publish, Action::Subscribe]);
    for (grants, counts) in [
        (vec![grant("a", &one), grant("b", &one)], (2, 0)),
        (vec![grant("b", &one), grant("a", &one)], (2, 0)),
        (vec![grant("a", &two), grant("b", &one)], (3, 0)),
        (vec![grant("a", &two)], (3, 1)),
        (vec![], (3, 2)),
    ] {
        let written = own.replace_grants("alice", &grants, NOW, |_| Ok::<(), ()>(()));
        assert!(matches!(written.await.expect("a write"), Edit::Fine(_)));
        let stored = own.list_grants("alice").await.expect("a read");
        assert_eq!(stored.len(), grants.len());
        let added = "select count(*) from audit_events where event = 'grant_added'";
        let removed = "select count(*) from audit_events where event = 'grant_removed'";
        assert_eq!((own.count(added).await, own.count(removed).await), counts);
    }
}

/// Asks for a link that resets a password.
async fn reset_link(own: &OwnStore, email: &str) -> (Link, Hash) {
    let hash = Hash::of(email);
    let asked = NewLink {
        id: email.to_owned(),
        hash,
        email: Email::parse(email).expect("an address"),
        now: NOW,
        expires_at: NOW + 1_800,
    };
    let written = own.mail_reset(&asked).await;
    written.expect("a write");
    let found = own.find_link(LinkPurpose::ResetPassword, &hash, NOW).await;
    (found.expect("a read").expect("a link"), hash)
}

async fn a_hash_of_ours_takes_the_place_of_an_imported_one(own: OwnStore) {
    for name in ["anew", "set", "changed", "reset"] {
        let email = format!("{name}@example.org");
        let mut batch = [imported(name, name, Some(&email))];
        batch[0].account.profile.email_verified = Some(true);
        own.import_accounts(&batch, NOW).await.expect("a write");
        let (old, new) = (StoredHash::from("a hash"), StoredHash::from("ours"));
        let ending = ending(EndReason::PasswordChanged, &[]);
        let replaced = match name {
            "anew" => own.replace_hash(name, &old, &new).await,
            "set" => own.set_password_hash(name, &new, ending).await,
            "changed" => {
                let change = own.change_password(name, 0, &new, SessionFilter::All, ending);
                change.await
            }
            _ => {
                let (link, hash) = reset_link(&own, &email).await;
                own.reset_password(&link, &hash, &new, ending).await
            }
        };
        assert!(replaced.expect("a write"));
        assert_eq!(own.count_hash_schemes().await.expect("a read"), []);
    }
}
