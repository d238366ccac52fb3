//! The commands that explain a decision and test rules: exit codes, and what they print.

use harness::{Forge, Mode, Options, Stack, random_text, stack::Ended};
use serde_json::{Value, json};

const ISSUER: &str = "http://localhost:8080";

/// Runs the gateway's binary.
async fn run(arguments: &[&str], variables: &[(&str, &str)], input: Option<&str>) -> Ended {
    let variables: Vec<_> = variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    harness::stack::run("realtime-service", arguments, &variables, input).await
}

/// A file that holds `text`.
fn file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), text).expect("a written file");
    file
}

fn path(file: &tempfile::NamedTempFile) -> &str {
    file.path().to_str().expect("a path in UTF-8")
}

fn explain<'a>(token_file: &'a str, room: &'a str, action: &'a str) -> Vec<&'a str> {
    vec![
        "explain",
        "--token-file",
        token_file,
        "--room",
        room,
        "--action",
        action,
    ]
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the built binaries"]
async fn a_decision_is_explained_for_people_and_for_programs() {
    let secret = random_text(36);
    let variables = [("LATCHKEY_SECRET", secret.as_str())];
    let detail = json!([{"type": "realtime", "actions": ["sub"], "rooms": ["desk:*"]}]);
    let forge = Forge::new(ISSUER, &secret).claim("sub", "alice");
    let token = forge.claim("authorization_details", detail).token();
    let token_file = file(&format!("{token}\n"));
    let token_file = path(&token_file);
    let config = file("[[rooms]]\nrooms = ['user:{sub}']\nactions = ['sub']\n");
    let config = ["--config", path(&config)];

    for (room, action, code, expected) in [
        (
            "user:alice",
            "sub",
            0,
            "allowed: sub in user:alice\n  by user:alice (sub) of rooms[0] ",
        ),
        (
            "user:alice",
            "pub",
            1,
            "denied: pub in user:alice\n  not by user:alice (sub) of rooms[0] ",
        ),
        ("user:bob", "sub", 1, "denied: sub in user:bob\n  not by "),
        (
            "desk:7",
            "sub",
            0,
            "  by desk:* (sub) of the token's authorization_details[0]",
        ),
        // The configuration has replaced the default rules.
        ("lobby", "sub", 1, "denied: sub in lobby\n"),
    ] {
        let mut arguments = explain(token_file, room, action);
        arguments.extend(config);
        let ended = run(&arguments, &variables, None).await;
        assert_eq!(ended.status.code(), Some(code), "{room}: {}", ended.output);
        assert!(ended.output.contains(expected), "{room}: {}", ended.output);
    }

    let mut arguments = explain("-", "desk:7", "sub");
    arguments.push("--json");
    let ended = run(&arguments, &variables, Some(&token)).await;
    assert_eq!(ended.status.code(), Some(0), "{}", ended.output);
    let answer: Value = serde_json::from_str(&ended.output).expect("JSON");
    assert_eq!(
        (&answer["allowed"], &answer["room"]),
        (&json!(true), &json!("desk:7"))
    );
    assert_eq!(answer["by"]["source"], json!({"authorization_details": 0}));
}

/// Asserts that the command printed one line, which contains `problem`, and exited with 2.
fn assert_one_line_and_exit_code_2(ended: &Ended, problem: &str) {
    let output = &ended.output;
    assert_eq!(ended.status.code(), Some(2), "{problem}: {output}");
    assert!(output.contains(problem), "{problem}: {output}");
    assert_eq!(output.lines().count(), 1, "{output}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the built binaries"]
async fn what_cannot_be_explained_is_said_in_one_line_and_exits_with_2() {
    let secret = random_text(36);
    let good = Forge::new(ISSUER, &secret);
    let [token, expired, foreign] = [
        good.clone(),
        good.clone().claim("exp", 1),
        good.claim("iss", "https://other.example"),
    ]
    .map(|forge| file(&forge.token()));
    let variables = [("LATCHKEY_SECRET", secret.as_str())];
    let broken = [
        ("LATCHKEY_SECRET", secret.as_str()),
        ("REALTIME__LISTNE", "x"),
    ];
    let other = random_text(36);
    for (token_file, room, variables, problem) in [
        (
            path(&expired),
            "lobby",
            &variables[..],
            "the token is refused: jwt expired",
        ),
        (
            path(&foreign),
            "lobby",
            &variables,
            "the token is refused: jwt issuer invalid",
        ),
        (
            path(&token),
            "lobby",
            &[("LATCHKEY_SECRET", other.as_str())],
            "jwt key unknown",
        ),
        (
            path(&token),
            "lobby:**",
            &variables,
            "--room: not the name of a room",
        ),
        (path(&token), "lobby", &[], "LATCHKEY_SECRET: not set"),
        (path(&token), "lobby", &broken, "listne"),
        (
            "/nonexistent/token",
            "lobby",
            &variables,
            "--token-file: cannot be read",
        ),
    ] {
        let ended = run(&explain(token_file, room, "sub"), variables, None).await;
        assert_one_line_and_exit_code_2(&ended, problem);
    }
    let ended = run(&explain(path(&token), "lobby", "say"), &variables, None).await;
    assert_eq!(ended.status.code(), Some(2), "{}", ended.output);
    // The twin of them all.
    let ended = run(&explain(path(&token), "lobby", "sub"), &variables, None).await;
    assert_eq!(ended.status.code(), Some(0), "{}", ended.output);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the built binaries"]
async fn a_token_is_verified_by_published_keys_too() {
    let options = Options::default().mode(Mode::InProcess);
    let options = options.auth("keys.mode", "asymmetric");
    let stack = Stack::start_with(options.gateway("keys.mode", "asymmetric")).await;
    let token = stack.login("alice").await;
    let variables = [
        ("REALTIME__ISSUER", stack.issuer_url.as_str()),
        ("REALTIME__KEYS__MODE", "asymmetric"),
    ];
    let arguments = explain("-", "lobby", "sub");
    let ended = run(&arguments, &variables, Some(&token)).await;
    assert_eq!(ended.status.code(), Some(0), "{}", ended.output);
    let forged = stack.forge().token();
    let ended = run(&arguments, &variables, Some(&forged)).await;
    assert_eq!(ended.status.code(), Some(2), "{}", ended.output);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the built binaries"]
async fn rules_are_tested_and_the_exit_code_tells_how_it_went() {
    let case = |name: &str, room: &str, expect: &str| {
        format!(
            "[[cases]]\nname = '{name}'\nclaims = {{ sub = 'alice' }}\nroom = '{room}'\n\
             action = 'sub'\nexpect = '{expect}'\n"
        )
    };
    let (good, bad) = (
        case("her own", "user:alice", "allow"),
        case("his", "user:bob", "allow"),
    );
    for (text, code, expected) in [
        (good.clone(), 0, "ok      her own\n1 passed, 0 failed"),
        (
            format!("{good}{bad}"),
            1,
            "ok      her own\nFAILED  his\n        denied: sub in user:bob\n",
        ),
        (good.replace("room", "rom"), 2, "unknown field `rom`"),
    ] {
        let cases = file(&text);
        // Rules are tested where there is no secret.
        let ended = run(&["policy", "test", path(&cases)], &[], None).await;
        assert_eq!(ended.status.code(), Some(code), "{}", ended.output);
        assert!(ended.output.contains(expected), "{}", ended.output);
    }
    let both = file(&format!("{good}{bad}"));
    let ended = run(&["policy", "test", path(&both)], &[], None).await;
    assert_eq!(ended.output.lines().last(), Some("1 passed, 1 failed"));
    // The rules of --config count when the file has none.
    let config = file("[[rooms]]\nrooms = ['user:*']\nactions = ['sub']\n");
    let arguments = ["policy", "test", path(&both), "--config", path(&config)];
    let ended = run(&arguments, &[], None).await;
    assert_eq!(ended.status.code(), Some(0), "{}", ended.output);
    let ended = run(&["policy", "test", "/nonexistent"], &[], None).await;
    assert_eq!(ended.status.code(), Some(2), "{}", ended.output);
}

/// Settings with a namespace.
const ADMIN: &str = "[[namespaces]]\nname = '/admin'\nscope = 'staff'\n\
                     [[namespaces.rooms]]\nrooms = ['desk:*']\nactions = ['sub']\n";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the built binaries"]
async fn a_namespace_is_checked_and_printed() {
    let secret = random_text(36);
    let variables = [("LATCHKEY_SECRET", secret.as_str())];
    let config = file(ADMIN);
    let ended = run(
        &["check-config", "--config", path(&config)],
        &variables,
        None,
    )
    .await;
    assert_eq!(ended.status.code(), Some(0), "{}", ended.output);
    let shown: Value = serde_json::from_str(&ended.output).expect("JSON");
    assert_eq!(shown["namespaces"][0]["name"], "/admin");
    for (text, expected) in [
        (format!("{ADMIN}{ADMIN}"), "namespaces[1].name: another"),
        (ADMIN.replace("/admin", "admin"), "namespaces[0].name: must"),
        (
            ADMIN.replace("desk:*", "desk:"),
            "namespaces[0].rooms: a pattern",
        ),
    ] {
        let broken = file(&text);
        let ended = run(
            &["check-config", "--config", path(&broken)],
            &variables,
            None,
        )
        .await;
        assert_eq!(ended.status.code(), Some(2), "{}", ended.output);
        assert!(ended.output.contains(expected), "{}", ended.output);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the built binaries"]
async fn a_decision_is_explained_by_the_rules_of_the_namespace() {
    let secret = random_text(36);
    let variables = [("LATCHKEY_SECRET", secret.as_str())];
    let config = file(ADMIN);
    let forge = Forge::new(ISSUER, &secret).claim("scope", "staff");
    let token = file(&forge.token());
    for (namespace, code, expected) in [
        (
            "/admin",
            0,
            "allowed: sub in desk:7 of /admin\n  by desk:* (sub) of rooms[0]",
        ),
        ("/", 1, "denied: sub in desk:7\n"),
        (
            "/other",
            2,
            "--namespace: no [[namespaces]] entry has this name",
        ),
    ] {
        let mut arguments = explain(path(&token), "desk:7", "sub");
        arguments.extend(["--namespace", namespace, "--config", path(&config)]);
        let ended = run(&arguments, &variables, None).await;
        assert_eq!(
            ended.status.code(),
            Some(code),
            "{namespace}: {}",
            ended.output
        );
        assert!(
            ended.output.contains(expected),
            "{namespace}: {}",
            ended.output
        );
    }
}
