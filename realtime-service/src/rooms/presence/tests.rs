use super::*;

fn user(sub: &str) -> User {
    User {
        iss: None,
        sub: sub.into(),
    }
}

/// The users that are named, by subject, each with the number of its connections.
fn named(people: &People) -> Vec<(Arc<str>, usize)> {
    let presence = people.describe(PresenceMode::Full, 0, usize::MAX, None);
    let users = presence.users.expect("users").into_iter();
    let mut users: Vec<_> = users.map(|one| (one.user.sub, one.connections)).collect();
    users.sort();
    users
}

#[test]
fn only_the_first_connection_comes_and_only_the_last_one_goes() {
    let (mut people, alice) = (People::default(), user("alice"));
    assert!(people.enter(&alice, None));
    assert!(!people.enter(&alice, None));
    assert_eq!(named(&people), [("alice".into(), 2)]);
    assert!(!people.leave(&alice));
    assert!(!people.remove(&alice), "one of them is still there");
    assert!(people.leave(&alice));
    assert_eq!(named(&people), [("alice".into(), 0)]);
    assert!(people.remove(&alice));
    assert_eq!((people.count(), people.remove(&alice)), (0, false));
}

#[test]
fn who_comes_back_in_time_has_not_left() {
    let (mut people, alice) = (People::default(), user("alice"));
    people.enter(&alice, None);
    assert!(people.leave(&alice));
    assert!(!people.enter(&alice, None), "nobody was told of a leave");
    assert!(!people.remove(&alice));
    assert_eq!(named(&people), [("alice".into(), 1)]);
}

#[test]
fn a_subject_of_another_issuer_is_somebody_else() {
    let mut people = People::default();
    let theirs = User {
        iss: Some("https://other.example".into()),
        ..user("alice")
    };
    assert!(people.enter(&user("alice"), None) && people.enter(&theirs, None));
    assert_eq!(people.count(), 2);
    assert!(people.leave(&theirs) && people.remove(&theirs));
    assert_eq!(named(&people), [("alice".into(), 1)]);
}

#[test]
fn who_was_never_there_does_not_leave() {
    let mut people = People::default();
    assert!(!people.leave(&user("alice")));
    assert!(!people.remove(&user("alice")));
}

#[test]
fn each_mode_tells_so_much_and_names_so_many() {
    let mut people = People::default();
    for sub in ["a", "b", "c"] {
        people.enter(&user(sub), Some(&"A Name".into()));
    }
    let json =
        |mode, most| serde_json::to_value(people.describe(mode, 5, most, None)).expect("JSON");
    let counted = serde_json::json!({"count": 3, "connections": 5});
    assert_eq!(json(PresenceMode::Off, 10), counted);
    assert_eq!(json(PresenceMode::Count, 1), counted);
    let whole = json(PresenceMode::Full, 3);
    assert_eq!(whole.get("truncated"), None);
    let users = whole["users"].as_array().expect("users");
    assert_eq!((users.len(), &users[0]["name"]), (3, &"A Name".into()));
    let part = json(PresenceMode::Full, 2);
    assert_eq!(
        (&part["truncated"], &part["count"]),
        (&true.into(), &3.into())
    );
    assert_eq!(part["users"].as_array().map(Vec::len), Some(2));
}

#[test]
fn who_asks_is_named_first() {
    let (mut people, bob) = (People::default(), user("bob"));
    for sub in ["alice", "bob", "carol"] {
        people.enter(&user(sub), None);
    }
    let presence = people.describe(PresenceMode::Full, 3, 1, Some(&bob));
    let users = presence.users.expect("users").into_iter();
    assert_eq!(users.map(|one| one.user).collect::<Vec<_>>(), [bob]);
    assert_eq!((presence.count, presence.truncated), (3, true));
}
