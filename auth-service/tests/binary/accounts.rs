//! `user add`, `list`, `passwd` and `disable`, none of which needs the secret.

use crate::fixture::Workbench;

const PASSWORD: &str = "open sesame\n";

#[test]
fn client_add_refuses_the_id_of_logins_and_warns_of_a_scope_that_no_service_knows() {
    let bench = Workbench::with_database();
    let refused = bench.run(&["client", "add", "latchkey-login"]);
    assert!(refused.refused(1).contains("people's logins"));
    let added = bench.run(&["client", "add", "a", "--scope", "users.read rt.publish"]);
    assert_eq!(added.stderr, "");
    let mistyped = bench.run(&["client", "add", "b", "--scope", "users.read user.write"]);
    let warning = &mistyped.stderr;
    assert_eq!(warning.lines().count(), 1, "{warning}");
    assert!(warning.contains(" user.write;") && warning.contains("users.write"));
    for secret in [added.printed(), mistyped.printed()] {
        assert_eq!(secret.trim().len(), 43, "one secret, and nothing else");
    }
}

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

#[test]
fn an_account_is_edited_opened_signed_out_and_deleted() {
    let bench = Workbench::with_database();
    bench
        .run_with(PASSWORD, &["user", "add", "alice", "--name", "Alice L"])
        .printed();
    let edit = [
        "user",
        "edit",
        "alice",
        "--name",
        "",
        "--given-name",
        "Alice",
    ];
    assert_eq!(bench.run(&edit).printed(), "edited alice\n");
    let dump = bench.run(&["user", "export"]).printed();
    assert!(dump.contains(r#""given_name":"Alice""#), "{dump}");
    assert!(!dump.contains("Alice L") && !dump.contains('$'), "{dump}");
    for (command, printed) in [
        ("disable", "disabled alice\n"),
        ("enable", "enabled alice\n"),
        ("logout", "ended 0 sessions of alice\n"),
    ] {
        assert_eq!(bench.run(&["user", command, "alice"]).printed(), printed);
        let line = bench.run(&["user", command, "nobody"]).refused(1);
        assert_eq!(line, "auth-service: there is no user nobody\n");
    }
    let listed = bench.run(&["user", "list"]).printed();
    assert!(listed.contains("active"), "{listed}");
    // Without a terminal and without --yes nobody is deleted.
    let line = bench.run(&["user", "delete", "alice"]).refused(1);
    assert!(line.contains("--yes"), "{line}");
    let deleted = bench.run(&["user", "delete", "alice", "--yes"]).printed();
    assert_eq!(deleted, "deleted alice\n");
    assert_eq!(bench.run(&["user", "list"]).printed().lines().count(), 1);
    let verified = bench.run(&["audit", "verify"]).printed();
    assert!(verified.starts_with("5 events"), "{verified}");
    let events = bench.run(&["audit", "list"]).printed();
    assert!(
        events.contains(r#""by":"command""#) && !events.contains("alice"),
        "{events}"
    );
}

#[test]
fn a_dump_comes_in_and_goes_out() {
    let bench = Workbench::with_database();
    let hash = "$2b$10$hZs.cLLrPDXoINvwvKqZr.BgAqaxlvTkcueZjtSkATCsbJ/sFmO7q";
    let good = format!(r#"{{"username":"alice","password_hash":"{hash}"}}"#);
    let dump = format!("{good}\nnot JSON\n");
    let import = bench.run_with(&dump, &["user", "import", "-"]);
    assert_eq!(import.code, Some(1));
    assert_eq!(
        import.stdout,
        "line 2: not a JSON object with the members of an account\n\
         imported 1 accounts, refused 1 lines\n"
    );
    assert_eq!(
        import.stderr,
        "auth-service: some lines were not imported\n"
    );
    let exported = bench.run(&["user", "export", "--with-hashes"]).printed();
    assert!(exported.contains(hash), "{exported}");

    let elsewhere = Workbench::with_database();
    std::fs::write(elsewhere.path().join("dump.jsonl"), exported).expect("a file");
    let printed = elsewhere.run(&["user", "import", "dump.jsonl"]).printed();
    assert_eq!(printed, "imported 1 accounts, refused 0 lines\n");

    let firebase = r#"{"username":"bob","firebase":{"hash":"lSrfV15cpx95/sZS2W9c9Kp6i/LVgQNDNC/qzrCnh1SAyZvqmZqAjTdn3aoItz+VHjoZilo78198JAdRuid5lQ==","salt":"42xEC+ixf3L2lw=="}}"#;
    let config = r#"{"algorithm": "SCRYPT",
        "base64_signer_key": "jxspr8Ki0RYycVU8zykbdLGjFQ3McFUH0uiiTvC8pVMXAn210wjLNmdZJzxUECKbm0QsEmYUSDzZvpjeJ9WmXA==",
        "base64_salt_separator": "Bw==", "rounds": 8, "mem_cost": 14}"#;
    std::fs::write(bench.path().join("config.json"), config).expect("a file");
    let import = bench.run_with(firebase, &["user", "import", "-"]);
    assert!(
        import.stdout.contains("no hash_config before it"),
        "{import:?}"
    );
    let import = ["user", "import", "-", "--firebase-config", "config.json"];
    let printed = bench.run_with(firebase, &import).printed();
    assert_eq!(printed, "imported 1 accounts, refused 0 lines\n");
}

#[test]
fn roles_and_claims_are_set_shown_and_left_as_they_were() {
    let bench = Workbench::with_database();
    bench
        .run_with(PASSWORD, &["user", "add", "alice"])
        .printed();
    let shown = || bench.run(&["user", "claims", "alice"]).printed();
    assert_eq!(shown(), "{\"claims\":{},\"roles\":[]}\n");
    let set = |arguments: &[&str]| {
        let command = ["user", "set-claims", "alice"];
        bench.run(&[&command[..], arguments].concat())
    };
    set(&["--roles", "editor, billing"]).printed();
    set(&["--claims", r#"{"org": "acme"}"#]).printed();
    assert_eq!(
        shown(),
        "{\"claims\":{\"org\":\"acme\"},\"roles\":[\"editor\",\"billing\"]}\n"
    );
    for (refused, reason) in [
        (r#"{"sub": "bob"}"#, "the claim sub is reserved"),
        (r#"{"a": 1, "a": 2}"#, "no member stands twice"),
        ("[]", "must be a JSON object"),
    ] {
        let line = set(&["--claims", refused]).refused(1);
        assert!(line.contains(reason), "{line}");
    }
    set(&["--roles", "", "--claims", "{}"]).printed();
    assert_eq!(shown(), "{\"claims\":{},\"roles\":[]}\n");
    let line = bench.run(&["user", "claims", "nobody"]).refused(1);
    assert_eq!(line, "auth-service: there is no user nobody\n");
}
