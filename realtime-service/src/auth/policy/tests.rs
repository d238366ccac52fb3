use std::time::SystemTime;

use jsonwebtoken::{EncodingKey, Header};
use serde_json::json;
use shared_claims::{
    Verifier,
    key_set::KeySet,
    secret::{SECRET_VARIABLE, Secrets},
};

use super::*;

mod explain;

const SECRET: &str = "mZq3vX8pL1rT6wYc9sHd2kFg5jBn7uEa";
const ISSUER: &str = "https://issuer.example";

/// Claims that were verified, of `alice` unless `changes` say otherwise.
pub(in crate::auth) fn claims(changes: Value) -> VerifiedClaims {
    let secrets = Secrets::parse(SECRET_VARIABLE, SECRET, ',').expect("a secret");
    let kid = secrets.signing().key_id().expect("an id");
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .expect("a time")
        .as_secs();
    let mut claims = json!({
        "iss": ISSUER, "sub": "alice", "aud": "latchkey-realtime", "exp": now + 900, "iat": now,
        "jti": "t", "sid": "s", "client_id": "c",
    });
    for (name, value) in changes.as_object().expect("claims") {
        claims[name] = value.clone();
    }
    let header = Header {
        typ: Some("at+jwt".to_owned()),
        kid: Some(kid),
        ..Header::default()
    };
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let token = jsonwebtoken::encode(&header, &claims, &key).expect("a token");
    let keys = KeySet::from_secrets(&secrets).expect("keys");
    let issuer = claims["iss"].as_str().expect("an issuer");
    let verifier = Verifier::new(issuer, "latchkey-realtime", keys);
    verifier
        .verify(&token, SystemTime::now())
        .expect("accepted")
}

fn rule(pattern: &str) -> RoomRule {
    RoomRule {
        rooms: vec![pattern.to_owned()],
        actions: vec![Action::Subscribe],
        ..RoomRule::default()
    }
}

pub(in crate::auth) fn ours(claims: &VerifiedClaims) -> Holder<'_> {
    Holder::Bearer {
        claims,
        is_ours: true,
        issuer: &claims.iss,
        trusts_details: true,
        added: &[],
    }
}

fn others(claims: &VerifiedClaims) -> Holder<'_> {
    Holder::Bearer {
        claims,
        is_ours: false,
        issuer: &claims.iss,
        trusts_details: false,
        added: &[],
    }
}

fn grants(rules: &[RoomRule], holder: &Holder<'_>) -> Grants {
    let rules: Vec<_> = rules.iter().cloned().map(Rule::new).collect();
    Grants::of(&rules, holder, "/".into())
}

fn may_hear(rules: &[RoomRule], holder: &Holder<'_>, room: &str) -> bool {
    let room = RoomName::parse(room).expect("a room name");
    grants(rules, holder).allow(Action::Subscribe, &room)
}

fn allows(pattern: &str, sub: &str, room: &str) -> bool {
    may_hear(
        &[rule(pattern)],
        &ours(&claims(json!({ "sub": sub }))),
        room,
    )
}

#[test]
fn a_pattern_matches_whole_segments() {
    for (pattern, room, expected) in [
        ("lobby", "lobby", true),
        ("lobby", "lobby2", false),
        ("lobby", "lobby:a", false),
        ("chat:*", "chat:42", true),
        ("chat:*", "chat", false),
        ("chat:*", "chat:42:a", false),
        ("*:news", "de:news", true),
        ("org:acme:**", "org:acme:a", true),
        ("org:acme:**", "org:acme:a:b", true),
        ("org:acme:**", "org:acme", false),
        ("org:acme:**", "org:acme2:a", false),
    ] {
        assert_eq!(allows(pattern, "alice", room), expected, "{pattern} {room}");
    }
}

#[test]
fn a_claim_is_one_literal_segment_whatever_it_holds() {
    assert!(allows("user:{sub}", "alice", "user:alice"));
    assert!(!allows("user:{sub}", "alice", "user:bob"));
    assert!(allows("user:{sub}", "auth0|1", "user:auth0%7C1"));
    assert!(!allows("user:{sub}", "*", "user:bob"));
    assert!(!allows("user:{sub}", "**", "user:bob"));
    assert!(!allows("user:{sub}", "a:b", "user:a:b"));
    assert!(allows("user:{sub}", "a:b", "user:a%3Ab"));
}

#[test]
fn a_claim_of_any_name_can_be_named_and_a_missing_one_opens_nothing() {
    let rules = [rule("org:{org}:**"), rule("team:{teams}")];
    let claims_of = |changes| claims(changes);
    let acme = claims_of(json!({"org": "acme", "teams": ["red", "a:b", 7]}));
    assert!(may_hear(&rules, &ours(&acme), "org:acme:news"));
    assert!(!may_hear(&rules, &ours(&acme), "org:other:news"));
    assert!(may_hear(&rules, &ours(&acme), "team:red"));
    assert!(may_hear(&rules, &ours(&acme), "team:a%3Ab"));
    assert!(!may_hear(&rules, &ours(&acme), "team:7"));
    for org in [
        json!({}),
        json!({"org": ""}),
        json!({"org": 7}),
        json!({"org": null}),
    ] {
        let nobody = claims_of(org);
        for room in ["org::news", "org:7:news", "org:null:news", "org:acme:news"] {
            let Ok(room) = RoomName::parse(room) else {
                continue;
            };
            let grants = grants(&rules, &ours(&nobody));
            assert!(!grants.allow(Action::Subscribe, &room), "{room}");
        }
    }
}

#[test]
fn an_address_or_a_number_opens_a_room_once_its_issuer_has_verified_it() {
    for (claim, flag, value, segment) in [
        ("email", "email_verified", "a@x.example", "a%40x.example"),
        ("phone_number", "phone_number_verified", "+49", "%2B49"),
    ] {
        for (verification, expected) in [
            (json!(true), true),
            (json!(false), false),
            (json!("true"), false),
            (json!(1), false),
            (json!(null), false),
        ] {
            let holder = claims(json!({ claim: value, flag: verification }));
            let rules = [rule(&format!("of:{{{claim}}}"))];
            let room = format!("of:{segment}");
            let is_heard = may_hear(&rules, &ours(&holder), &room);
            assert_eq!(is_heard, expected, "{verification}");
        }
    }
}

#[test]
fn a_claim_that_is_named_by_a_url_can_be_named() {
    const ROLES: &str = "https://app.example:8443/roles";
    let theirs = |pattern: String| RoomRule {
        issuers: vec!["*".to_owned()],
        ..rule(&pattern)
    };
    let rules = [theirs(format!("{{iss}}:role:{{{ROLES}}}:**"))];
    assert_eq!(rules[0].problem(), None);
    assert!(theirs(format!("role:{{{ROLES}}}")).problem().is_some());
    let alice = claims(json!({ ROLES: ["editor", "a:b"] }));
    let room = |rest: &str| format!("{}:role:{rest}", percent_encode(ISSUER));
    for (rest, expected) in [
        ("editor:1", true),
        ("a%3Ab:1", true),
        ("reader:1", false),
        ("editor", false),
    ] {
        assert_eq!(
            may_hear(&rules, &others(&alice), &room(rest)),
            expected,
            "{rest}"
        );
    }
    let nobody = claims(json!({}));
    assert!(!may_hear(&rules, &others(&nobody), &room("editor:1")));
}

#[test]
fn what_no_grant_names_is_denied() {
    let alice = claims(json!({}));
    assert!(!may_hear(&[], &ours(&alice), "lobby"));
    let room = RoomName::parse("lobby").expect("a room name");
    let grants = grants(&[rule("lobby")], &ours(&alice));
    assert!(grants.allow(Action::Subscribe, &room));
    assert!(!grants.allow(Action::Publish, &room));
    assert_eq!(grants.actions_in(&room).0, [Action::Subscribe]);
}

#[test]
fn a_token_grants_what_its_details_say_where_they_count() {
    let detail =
        json!({"type": "realtime", "actions": ["sub"], "rooms": ["chat:**", "{sub}", "a**"]});
    let other = json!({"type": "payment", "actions": "none", "rooms": 7});
    let alice = claims(json!({ "authorization_details": [detail, other] }));
    assert!(may_hear(&[], &ours(&alice), "chat:42"));
    assert!(!may_hear(&[], &ours(&alice), "chat"));
    assert!(!may_hear(&[], &ours(&alice), "alice"));
    assert!(!may_hear(&[], &others(&alice), "chat:42"));
}

#[test]
fn a_rule_is_for_the_issuers_that_it_names_and_else_for_ours() {
    let stranger = claims(json!({"iss": "https://other.example"}));
    let alice = claims(json!({}));
    let mine = rule("user:{sub}");
    assert!(may_hear(
        std::slice::from_ref(&mine),
        &ours(&alice),
        "user:alice"
    ));
    assert!(!may_hear(&[mine], &others(&stranger), "user:alice"));
    let theirs = RoomRule {
        issuers: vec!["https://other.example".to_owned()],
        ..rule("tenant:{iss}:{sub}")
    };
    let room = "tenant:https%3A%2F%2Fother.example:alice";
    assert!(may_hear(
        std::slice::from_ref(&theirs),
        &others(&stranger),
        room
    ));
    assert!(!may_hear(&[theirs], &ours(&alice), room));
    let lobby = RoomRule::defaults();
    assert!(may_hear(&lobby, &others(&stranger), "lobby"));
    assert!(!may_hear(&lobby, &others(&stranger), "user:alice"));
}

#[test]
fn a_rule_with_a_scope_is_for_tokens_that_have_it() {
    let rules = [RoomRule {
        scope: Some("chat".to_owned()),
        ..rule("chat:**")
    }];
    for (scope, expected) in [
        (json!({"scope": "mail chat"}), true),
        (json!({"scope": "chatter"}), false),
        (json!({"scope": "mail\tchat"}), false),
        (json!({"scopes": "chat"}), false),
        (json!({}), false),
    ] {
        let claims = claims(scope.clone());
        assert_eq!(
            may_hear(&rules, &ours(&claims), "chat:1"),
            expected,
            "{scope}"
        );
    }
}

#[test]
fn guests_may_do_what_is_opened_to_them_and_nothing_else() {
    let open = RoomRule {
        guests: true,
        ..rule("news")
    };
    let rules = [open, rule("lobby")];
    assert!(may_hear(&rules, &Holder::Guest, "news"));
    assert!(!may_hear(&rules, &Holder::Guest, "lobby"));
    let alice = claims(json!({}));
    assert!(may_hear(&rules, &ours(&alice), "news"));
}

#[test]
fn a_rule_that_cannot_work_says_why() {
    for bad in [
        "a**", "**", "", "a::b", "a:**:b", "{a", "{a:b", "a{sub}", "{}}", "a}:b", "{a{b:c}",
    ] {
        assert!(rule(bad).problem().is_some(), "{bad}");
    }
    for good in ["a", "a:*", "a:**", "user:{sub}", "{org}:**"] {
        assert_eq!(rule(good).problem(), None, "{good}");
    }
    let for_all = |pattern: &str| RoomRule {
        issuers: vec!["*".to_owned()],
        ..rule(pattern)
    };
    assert!(for_all("user:{sub}").problem().is_some());
    assert_eq!(for_all("user:{iss}:{sub}").problem(), None);
    let for_guests = |pattern: &str| RoomRule {
        guests: true,
        ..rule(pattern)
    };
    assert!(for_guests("user:{sub}").problem().is_some());
    assert_eq!(for_guests("news").problem(), None);
    let mut defaults = RoomRule::defaults().into_iter();
    assert!(defaults.all(|rule| rule.problem().is_none()));
}

#[test]
fn the_difference_of_two_tokens_names_the_patterns_that_changed() {
    let detail = |actions: Value, room: &str| json!({"type": "realtime", "actions": actions, "rooms": [room]});
    let before = claims(json!({"authorization_details": [
        detail(json!(["sub", "pub"]), "a"), detail(json!(["sub"]), "b"), detail(json!(["sub"]), "c"),
    ]}));
    let after = claims(json!({"authorization_details": [
        detail(json!(["sub"]), "a"), detail(json!(["sub"]), "b"), detail(json!(["sub"]), "d"),
    ]}));
    let (before, after) = (
        Grants::of_token(&ours(&before)),
        Grants::of_token(&ours(&after)),
    );
    let texts = |texts: &[&str]| {
        texts
            .iter()
            .map(|text| (*text).to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        after.difference(&before),
        (texts(&["d"]), texts(&["a", "c"]))
    );
}

#[test]
fn a_rule_that_cannot_work_is_named_and_its_text_is_not_repeated() {
    for (room, is_fine) in [("hunter2**", false), ("hunter2:**", true)] {
        let rule = RoomRule {
            rooms: vec![room.to_owned()],
            ..RoomRule::defaults().remove(0)
        };
        let config = Config {
            rooms: vec![rule],
            ..Config::default()
        };
        let problem = Policy::new(&config).err().map(|error| error.to_string());
        assert_eq!(problem.is_none(), is_fine, "{problem:?}");
        if let Some(problem) = problem {
            assert!(problem.starts_with("rooms: "), "{problem}");
            assert!(!problem.contains("hunter2"), "{problem}");
        }
    }
}

#[test]
fn a_rule_for_a_template_is_for_each_of_its_tenants_and_their_rooms_are_apart() {
    const TEMPLATE: &str = "https://login.example/{tenant}/v2.0";
    let config = Config {
        issuers: serde_json::from_value(json!([{
            "issuer": TEMPLATE, "tenants": ["a", "b"], "audience": "api",
            "jwks_uri": "https://login.example/keys", "grants_rooms": true,
        }]))
        .expect("settings"),
        rooms: vec![RoomRule {
            issuers: vec![TEMPLATE.to_owned()],
            ..rule("user:{iss}:{sub}")
        }],
        ..Config::default()
    };
    config.check().expect("settings that work");
    let policy = Policy::new(&config).expect("a policy");
    let room = |tenant: &str| {
        let iss = percent_encode(&TEMPLATE.replace("{tenant}", tenant));
        RoomName::parse(format!("user:{iss}:alice")).expect("a room name")
    };
    for (tenant, is_listed) in [("a", true), ("b", true), ("c", false)] {
        let claims = claims(json!({"iss": TEMPLATE.replace("{tenant}", tenant)}));
        let holder = policy.bearer(&claims);
        let grants = policy.grants(&holder);
        let own = grants.allow(Action::Subscribe, &room(tenant));
        assert_eq!(own, is_listed, "{tenant}");
        assert!(!grants.allow(Action::Subscribe, &room("d")), "{tenant}");
        assert!(!grants.allow(
            Action::Subscribe,
            &room(if tenant == "a" { "b" } else { "a" })
        ));
        let trusts = matches!(
            holder,
            Holder::Bearer {
                trusts_details: true,
                ..
            }
        );
        assert_eq!(trusts, is_listed, "{tenant}");
    }
}
