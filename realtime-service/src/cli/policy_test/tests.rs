use std::path::Path;

use super::*;
use crate::config::IssuerSettings;

const OTHER: &str = "https://other.example/";

const RULES: &str = r#"
[[rooms]]
rooms = ["org:{org}:**"]
actions = ["sub", "pub"]

[[rooms]]
rooms = ["chat:*"]
actions = ["sub"]
issuers = ["https://other.example/"]
scope = "chat"

[[rooms]]
rooms = ["news"]
actions = ["sub"]
guests = true
"#;

/// Settings with a second issuer, which signs with RSA and calls its scopes something else.
fn config() -> Config {
    let issuer: IssuerSettings = serde_json::from_value(json!({
        "issuer": OTHER, "audience": "chat", "algorithms": ["RS256"], "types": [""],
        "maximum_lifetime_secs": 60, "claims": {"scope": "scp"},
    }))
    .expect("an issuer");
    Config {
        issuers: vec![issuer],
        ..Config::default()
    }
}

fn report_of(cases: &str) -> Report {
    report(&config(), &format!("{RULES}{cases}")).expect("cases")
}

/// Why one case failed, if it did.
fn failure(case: &str) -> Option<String> {
    let report = report_of(&format!("[[cases]]\nname = 'a case'\n{case}"));
    let (name, outcome) = report.0.into_iter().next().expect("an outcome");
    assert_eq!(name, "a case");
    outcome.err()
}

#[test]
fn a_case_passes_when_the_rules_say_so_and_its_opposite_fails() {
    for (case, verdict) in [
        (
            "claims = { org = 'acme' }\nroom = 'org:acme:a'\nactions = ['sub', 'pub']",
            "allow",
        ),
        (
            "claims = { org = 'acme' }\nroom = 'org:zoo:a'\nactions = ['sub', 'pub']",
            "deny",
        ),
        (
            "claims = { org = '**' }\nroom = 'org:zoo:a'\naction = 'sub'",
            "deny",
        ),
        (
            "claims = { org = ['a', 'b'] }\nroom = 'org:b:a'\naction = 'sub'",
            "allow",
        ),
        ("claims = {}\nroom = 'org:acme:a'\naction = 'sub'", "deny"),
        (
            "claims = { iss = 'https://other.example/', scp = 'chat' }\nroom = 'chat:1'\naction = 'sub'",
            "allow",
        ),
        (
            "claims = { iss = 'https://other.example/', scope = 'chat' }\nroom = 'chat:1'\naction = 'sub'",
            "deny",
        ),
        (
            "claims = { scope = 'chat' }\nroom = 'chat:1'\naction = 'sub'",
            "deny",
        ),
        ("guest = true\nroom = 'news'\naction = 'sub'", "allow"),
        ("guest = true\nroom = 'news'\naction = 'pub'", "deny"),
        ("guest = true\nroom = 'chat:1'\naction = 'sub'", "deny"),
        (
            "claims = { authorization_details = [{ type = 'realtime', actions = ['prs'], rooms = ['desk'] }] }\nroom = 'desk'\naction = 'prs'",
            "allow",
        ),
        // The rules of the settings do not count when the file has some.
        ("claims = {}\nroom = 'lobby'\naction = 'sub'", "deny"),
    ] {
        let opposite = if verdict == "deny" { "allow" } else { "deny" };
        assert_eq!(
            failure(&format!("{case}\nexpect = '{verdict}'")),
            None,
            "{case}"
        );
        let why = failure(&format!("{case}\nexpect = '{opposite}'")).expect(case);
        let is = if verdict == "deny" {
            "denied: "
        } else {
            "allowed: "
        };
        assert!(why.starts_with(is), "{case}: {why}");
    }
}

#[test]
fn a_case_of_several_actions_passes_when_all_are_as_expected() {
    let case = "guest = true\nroom = 'news'\nactions = ['sub', 'pub']\nexpect =";
    let why = failure(&format!("{case} 'allow'")).expect("one is denied");
    assert!(
        why.starts_with("denied: pub in news\n") && !why.contains("allowed"),
        "{why}"
    );
    let why = failure(&format!("{case} 'deny'")).expect("one is allowed");
    assert!(
        why.starts_with("allowed: sub in news\n") && !why.contains("denied"),
        "{why}"
    );
}

#[test]
fn what_cannot_be_tried_fails_whatever_is_expected() {
    let refused = "claims: the gateway refuses them: ";
    for (case, expected) in [
        (
            "claims = { aud = 'somebody-else' }",
            &*format!("{refused}jwt audience invalid"),
        ),
        ("claims = { exp = 1 }", &format!("{refused}jwt expired")),
        (
            "claims = { sub = 7 }",
            &format!("{refused}jwt claims invalid"),
        ),
        (
            "claims = { iss = 'https://third.example' }",
            "claims: no issuer \"https://third.example\" is in the settings",
        ),
        (
            "claims = {}\nguest = true",
            "it has to say either claims or guest = true",
        ),
        ("", "it has to say either claims or guest = true"),
        (
            "guest = true\nactions = ['sub']",
            "it has to say either action or actions",
        ),
    ] {
        for verdict in ["allow", "deny"] {
            let rest = format!("room = 'news'\naction = 'sub'\nexpect = '{verdict}'");
            assert_eq!(
                failure(&format!("{case}\n{rest}")).as_deref(),
                Some(expected)
            );
        }
    }
    let no_room = "guest = true\nroom = 'news:*'\naction = 'sub'\nexpect = 'deny'";
    assert_eq!(
        failure(no_room).as_deref(),
        Some("room: not the name of a room")
    );
    let no_action = "guest = true\nroom = 'news'\nexpect = 'deny'";
    assert!(
        failure(no_action)
            .expect("no action")
            .contains("either action or actions")
    );
}

#[test]
fn a_file_that_cannot_be_used_says_where() {
    let good =
        "[[cases]]\nname = 'n'\nguest = true\nroom = 'news'\naction = 'sub'\nexpect = 'allow'\n";
    assert!(report(&config(), good).is_ok());
    for (text, expected) in [
        (
            good.replace("expect", "expects"),
            "line 6: unknown field `expects`",
        ),
        (
            good.replace("allow", "perhaps"),
            "line 6: unknown variant `perhaps`",
        ),
        (good.replace("sub", "say"), "unknown variant `say`"),
        (format!("cases = 1\n{good}"), "line 2"),
        (
            format!("{good}[[rooms]]\nrooms = ['a**']\nactions = []\n"),
            "rooms: a pattern has",
        ),
        (
            format!("{good}[[rooms]]\nroom = ['a']\nactions = []\n"),
            "unknown field `room`",
        ),
        ("cases = []".to_owned(), "there are no cases"),
        (String::new(), "missing field `cases`"),
    ] {
        let error = report(&config(), &text).map(|_| ()).expect_err(&text);
        assert!(error.to_string().contains(expected), "{text}: {error}");
        assert!(!error.to_string().contains('\n'), "{text}: {error}");
    }
}

#[test]
fn the_report_has_a_line_for_each_case_and_the_sum() {
    let cases = "[[cases]]\nname = 'good'\nguest = true\nroom = 'news'\naction = 'sub'\nexpect = 'allow'\n\
                 [[cases]]\nname = 'bad'\nguest = true\nroom = 'news'\naction = 'pub'\nexpect = 'allow'\n";
    assert_eq!(
        report_of(cases).to_string(),
        "ok      good\n\
         FAILED  bad\n        \
         denied: pub in news\n          \
         not by news (sub) of rooms[2] \"news\", for guests: other actions\n          \
         not by rooms[0] \"org:{org}:**\", which wants a token\n          \
         not by rooms[1] \"chat:*\", which wants a token\n\
         1 passed, 1 failed"
    );
}

#[test]
fn the_example_in_the_documents_passes() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/policy-example.toml");
    let text = std::fs::read_to_string(file).expect("docs/policy-example.toml");
    let report = report(&Config::default(), &text).expect("cases");
    assert!(report.failed() == 0 && report.0.len() > 5, "{report}");
}

#[test]
fn a_decision_of_a_back_end_is_an_outcome_of_its_own() {
    let backend = json!({ "name": "shop", "url": "https://shop/", "secret_file": "s" });
    let config = Config {
        backends: vec![serde_json::from_value(backend).expect("settings")],
        ..config()
    };
    for (room, expect, is_expected) in [
        ("desk:7", "ask", true),
        ("desk:7", "deny", false),
        ("desk:7", "allow", false),
        ("news", "ask", false),
        ("news", "allow", true),
        ("cellar", "ask", false),
    ] {
        let cases = format!(
            "{RULES}[[rooms]]\nrooms = ['desk:*']\nactions = ['sub']\nauthorize = 'backend'\n\
             backend = 'shop'\n[[cases]]\nname = 'a case'\nclaims = {{}}\nroom = '{room}'\n\
             action = 'sub'\nexpect = '{expect}'\n"
        );
        let report = report(&config, &cases).expect("cases");
        assert_eq!(
            report.failed() == 0,
            is_expected,
            "{room} {expect}: {report}"
        );
    }
}

#[test]
fn a_case_is_tried_on_the_rules_of_its_namespace() {
    let admin = json!({
        "name": "/admin", "scope": "staff",
        "rooms": [{ "rooms": ["desk:*"], "actions": ["sub"] }],
    });
    let config = Config {
        namespaces: vec![serde_json::from_value(admin).expect("a namespace")],
        ..config()
    };
    let failure = |scope: &str, namespace: &str| {
        let cases = format!(
            "[[cases]]\nname = 'a case'\nclaims = {{ scope = '{scope}' }}\nroom = 'desk:7'\n\
             action = 'sub'\nexpect = 'allow'\n{namespace}"
        );
        let report = report(&config, &format!("{RULES}{cases}")).expect("cases");
        let (_, outcome) = report.0.into_iter().next().expect("an outcome");
        outcome.err()
    };
    assert_eq!(failure("staff", "namespace = '/admin'"), None);
    for (scope, namespace, expected) in [
        ("staff", "", "denied: sub in desk:7\n"),
        (
            "clerk",
            "namespace = '/admin'",
            "denied: sub in desk:7 of /admin\n  the holder may not enter the namespace",
        ),
        ("staff", "namespace = '/other'", "no [[namespaces]] entry"),
    ] {
        let problem = failure(scope, namespace).expect(expected);
        assert!(problem.contains(expected), "{problem}");
    }
}
