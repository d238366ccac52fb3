//! `user add`, `list`, `passwd` and `disable`, none of which needs the secret.

use crate::fixture::Workbench;

const PASSWORD: &str = "open sesame\n";

#[test]
fn an_account_is_made_listed_changed_and_shut() {
    let bench = Workbench::with_database();
    let add = [
        "user",
        "add",
        "Alice",
        "--name",
        "Alice L",
        "--password-stdin",
    ];
    assert_eq!(bench.run_with(PASSWORD, &add).printed(), "added alice\n");
    let listed = bench.run(&["user", "list"]).printed();
    let row = listed.lines().nth(1).expect("a row");
    let columns: Vec<_> = row.split_whitespace().collect();
    assert_eq!(
        (columns[0], columns[1].len(), columns[2]),
        ("alice", 22, "active")
    );

    let changed = bench.run_with("open barley\r\n", &["user", "passwd", "alice"]);
    assert_eq!(changed.printed(), "changed the password of alice\n");
    assert_eq!(
        bench.run(&["user", "disable", "alice"]).printed(),
        "disabled alice\n"
    );
    let listed = bench.run(&["user", "list"]).printed();
    assert!(listed.contains("disabled"), "{listed}");
}

#[test]
fn a_taken_name_is_refused() {
    let bench = Workbench::with_database();
    bench
        .run_with(PASSWORD, &["user", "add", "alice"])
        .printed();
    let line = bench
        .run_with(PASSWORD, &["user", "add", "ALICE"])
        .refused(1);
    assert_eq!(line, "auth-service: the name alice is taken\n");
}

#[test]
fn a_password_that_is_too_short_or_the_name_is_refused() {
    let bench = Workbench::with_database();
    for (password, name) in [
        ("seven77\n", "alice"),
        ("alice.liddell\n", "Alice.Liddell"),
        ("", "alice"),
    ] {
        let line = bench.run_with(password, &["user", "add", name]).refused(1);
        assert!(line.contains("password"), "{line}");
        assert!(
            password.is_empty() || !line.contains(password.trim()),
            "{line}"
        );
    }
    let long = format!("{}\n", "a".repeat(1025));
    bench.run_with(&long, &["user", "add", "alice"]).refused(1);
    assert_eq!(bench.run(&["user", "list"]).printed().lines().count(), 1);
}

#[test]
fn an_email_is_an_address_and_of_one_account() {
    let bench = Workbench::with_database();
    let add = |name: &str, email: &str| {
        let arguments = ["user", "add", name, "--email", email, "--email-verified"];
        bench.run_with(PASSWORD, &arguments)
    };
    let line = add("alice", "alice").refused(1);
    assert!(line.contains("alice@example.org"), "{line}");
    add("alice", "Alice@Example.org").printed();
    let line = add("bob", "alice@example.ORG").refused(1);
    assert_eq!(line, "auth-service: another account has this email\n");
    add("bob", "bob@example.org").printed();
}

#[test]
fn a_name_that_nobody_has_is_refused() {
    let bench = Workbench::with_database();
    let line = bench.run(&["user", "disable", "nobody"]).refused(1);
    assert_eq!(line, "auth-service: there is no user nobody\n");
    let line = bench
        .run_with(PASSWORD, &["user", "passwd", "nobody"])
        .refused(1);
    assert_eq!(line, "auth-service: there is no user nobody\n");
}

#[test]
fn a_command_makes_no_database_that_nobody_asked_for() {
    for command in [
        &["user", "list"][..],
        &["user", "add", "alice"],
        &["client", "list"],
        &["keys", "list"],
        &["audit", "list"],
    ] {
        let bench = Workbench::new();
        let path = bench.path().join("latchkey.db");
        let refuse = || {
            let line = bench.run_with("open-sesame\n", command).refused(2);
            let expected = format!("no database at {}: ", path.display());
            assert!(line.contains(&expected), "{line}");
            assert!(line.contains("auth-service migrate"), "{line}");
        };
        refuse();
        assert!(!path.exists(), "{command:?}");
        std::fs::write(&path, "").expect("an empty file");
        refuse();
        assert_eq!(std::fs::read(&path).expect("the file"), b"", "{command:?}");
        bench.run(&["migrate"]).printed();
        let outcome = bench.run_with("open-sesame\n", command);
        assert!(!outcome.stderr.contains("no database"), "{outcome:?}");
    }
}
