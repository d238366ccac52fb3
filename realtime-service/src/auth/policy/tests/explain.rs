use super::*;

fn explain(rules: &[RoomRule], holder: &Holder<'_>, action: Action, room: &str) -> Explanation {
    let config = Config {
        rooms: rules.to_vec(),
        ..Config::default()
    };
    let room = RoomName::parse(room).expect("a room name");
    Policy::new(&config)
        .expect("rules that work")
        .explain(holder, action, &room)
}

/// The rules of these tests, by what they want.
fn rules() -> Vec<RoomRule> {
    let with = |rule: RoomRule, issuers: &[&str], scope: Option<&str>, guests| RoomRule {
        issuers: issuers.iter().map(|issuer| (*issuer).to_owned()).collect(),
        scope: scope.map(str::to_owned),
        guests,
        ..rule
    };
    vec![
        with(rule("news"), &[], None, true),
        with(rule("org:{org}:**"), &[], None, false),
        with(rule("chat:*"), &[], Some("chat"), false),
        with(
            rule("tenant:{iss}"),
            &["https://other.example"],
            None,
            false,
        ),
    ]
}

/// Asserts that the decision is "allowed" and names the grant with this `pattern` and `source`.
fn assert_allowed_by(explanation: &Explanation, pattern: &str, source: &Value) {
    let text = explanation.to_string();
    let json = serde_json::to_value(explanation).expect("JSON");
    assert_eq!(json["allowed"], true, "{text}");
    assert_eq!(json["by"]["pattern"], pattern, "{text}");
    assert_eq!(&json["by"]["source"], source, "{text}");
    assert_eq!(json.get("passed_over"), None, "{text}");
    assert!(
        text.starts_with("allowed: ") && text.contains("\n  by "),
        "{text}"
    );
}

#[test]
fn what_is_allowed_says_by_which_grant() {
    let detail =
        |room: &str| json!({"type": "realtime", "actions": ["sub", "pub"], "rooms": [room]});
    let alice = claims(json!({
        "org": "a:b", "scope": "mail chat",
        "authorization_details": [{"type": "payment"}, detail("desk"), detail("chat:1")],
    }));
    let stranger = claims(json!({"iss": "https://other.example"}));
    for (holder, action, room, pattern, source) in [
        (
            ours(&alice),
            Action::Subscribe,
            "org:a%3Ab:x",
            "org:a%3Ab:**",
            json!({"rule": {"index": 1, "text": "org:{org}:**", "whom": "own_issuer", "claims": ["org"]}}),
        ),
        (
            ours(&alice),
            Action::Subscribe,
            "chat:1",
            "chat:*",
            json!({"rule": {"index": 2, "text": "chat:*", "whom": "own_issuer", "scope": "chat"}}),
        ),
        // The rule is about the room, and lets nobody publish.
        (
            ours(&alice),
            Action::Publish,
            "chat:1",
            "chat:1",
            json!({"authorization_details": 2}),
        ),
        (
            others(&stranger),
            Action::Subscribe,
            "tenant:https%3A%2F%2Fother.example",
            "tenant:https%3A%2F%2Fother.example",
            json!({"rule": {"index": 3, "text": "tenant:{iss}", "whom": "named_issuer", "claims": ["iss"]}}),
        ),
        (
            Holder::Guest,
            Action::Subscribe,
            "news",
            "news",
            json!({"rule": {"index": 0, "text": "news", "whom": "guests"}}),
        ),
    ] {
        let explanation = explain(&rules(), &holder, action, room);
        let json = serde_json::to_value(&explanation).expect("JSON");
        assert_eq!(
            (&json["room"], &json["action"]),
            (&json!(room), &json!(action))
        );
        assert_allowed_by(&explanation, pattern, &source);
    }
}

#[test]
fn what_is_denied_says_what_was_considered_and_what_was_not_meant() {
    let alice = claims(json!({"org": ["acme", "zoo"], "scope": "mail"}));
    let explanation = explain(&rules(), &ours(&alice), Action::Publish, "org:acme:x");
    let json = serde_json::to_value(&explanation).expect("JSON");
    assert_eq!((&json["allowed"], json.get("by")), (&json!(false), None));
    let considered = json["considered"].as_array().expect("grants");
    let considered: Vec<_> = considered
        .iter()
        .map(|one| (&one["pattern"], &one["why"]))
        .collect();
    assert_eq!(
        considered,
        [
            (&json!("news"), &json!("other_room")),
            (&json!("org:acme:**"), &json!("other_action")),
            (&json!("org:zoo:**"), &json!("other_room")),
        ]
    );
    assert_eq!(
        json["passed_over"],
        json!([
            {"rule": 2, "text": "chat:*", "wants": "scope", "value": "chat"},
            {"rule": 3, "text": "tenant:{iss}", "wants": "issuer", "value": ["https://other.example"]},
        ])
    );
    assert_eq!(
        explanation.to_string(),
        "denied: pub in org:acme:x\n  \
         not by news (sub) of rooms[0] \"news\", for the own issuer: another room\n  \
         not by org:acme:** (sub) of rooms[1] \"org:{org}:**\", for the own issuer: other actions\n  \
         not by org:zoo:** (sub) of rooms[1] \"org:{org}:**\", for the own issuer: another room\n  \
         not by rooms[2] \"chat:*\", which wants the scope chat\n  \
         not by rooms[3] \"tenant:{iss}\", which wants a token of https://other.example"
    );
}

#[test]
fn a_rule_says_what_it_wants_of_whom_it_gives_nothing() {
    let stranger = claims(json!({"iss": "https://third.example"}));
    let alice = claims(json!({"org": 7, "a": ["x"], "b": ["y"]}));
    let wants = |rule: RoomRule, holder: &Holder<'_>| {
        let explanation = explain(&[rule], holder, Action::Subscribe, "elsewhere");
        explanation
            .passed_over
            .into_iter()
            .map(|one| one.wants)
            .next()
    };
    let claim = |name: &str| Some(Want::Claim(name.to_owned()));
    assert_eq!(wants(rule("a"), &Holder::Guest), Some(Want::Token));
    assert_eq!(wants(rule("a"), &others(&stranger)), Some(Want::OwnIssuer));
    assert_eq!(wants(rule("a"), &ours(&alice)), None);
    assert_eq!(wants(rule("user:{sub}"), &ours(&alice)), None);
    assert_eq!(wants(rule("org:{org}"), &ours(&alice)), claim("org"));
    assert_eq!(wants(rule("{sub}:{team}"), &ours(&alice)), claim("team"));
    // Only one claim of a pattern can stand for several rooms.
    assert_eq!(wants(rule("{a}:{b}"), &ours(&alice)), claim("b"));
    assert_eq!(wants(rule("{a}:{sub}"), &ours(&alice)), None);
    let unverified = claims(json!({"email": "a@x.example"}));
    let verification = Some(Want::True("email_verified"));
    assert_eq!(wants(rule("{email}"), &ours(&unverified)), verification);
    assert_eq!(wants(rule("{email}"), &ours(&alice)), claim("email"));
}

#[test]
fn an_explanation_and_the_decision_are_the_same() {
    let alice = claims(json!({"org": "acme", "scope": "chat"}));
    let rules = rules();
    let grants = super::grants(&rules, &ours(&alice));
    for room in [
        "news",
        "org:acme",
        "org:acme:a:b",
        "org:zoo:a",
        "chat:1",
        "chat:1:2",
        "x",
    ] {
        let name = RoomName::parse(room).expect("a room name");
        for action in Action::ALL {
            let explanation = explain(&rules, &ours(&alice), action, room);
            assert_eq!(explanation.allowed, grants.allow(action, &name), "{room}");
            assert_eq!(explanation.allowed, explanation.by.is_some(), "{room}");
        }
    }
}
