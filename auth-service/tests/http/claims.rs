//! Roles and custom claims: an operator sets them, and tokens have them.

use auth_service::{
    credentials::Username,
    users::grants::{self, Subject},
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use shared_claims::authorization::Action;

use crate::{
    admin::with_admin_and,
    admin_api::Operated,
    fixture::{Login, Service, problem},
};

/// The verified claims of a token, as the gateway sees them.
fn claims_of(service: &Service, token: &str) -> Value {
    let now = std::time::SystemTime::now();
    let verified = service.verifier().verify(token, now).expect("a token");
    Value::Object(verified.all().clone())
}

impl Operated {
    async fn set_claims(&self, id: &str, body: &Value) -> StatusCode {
        let path = format!("/v1/users/{id}/claims");
        self.change(Method::PUT, &path, body).await.status()
    }
}

#[tokio::test]
async fn roles_and_claims_are_in_the_next_token_of_a_login_and_of_a_refresh_and_in_me() {
    let operated = Operated::start().await;
    let service = &operated.service;
    let id = service.add_user("alice").await;
    let path = format!("/v1/users/{id}/claims");
    let nothing = json!({"roles": [], "claims": {}});
    assert_eq!(operated.read(&path).await, nothing);
    let before = service.login("alice").await;
    let claims = claims_of(service, &before.token);
    assert!(claims.get("roles").is_none() && claims.get("org").is_none());

    let given = json!({"roles": ["editor", "billing"], "claims": {"org": "acme", "teams": [1, 2]}});
    for _ in 0..2 {
        assert_eq!(
            operated.set_claims(&id, &given).await,
            StatusCode::NO_CONTENT
        );
    }
    assert_eq!(operated.read(&path).await, given);
    let refreshed = service.refresh(&before.refresh_token).await;
    let refreshed = Login::of(&refreshed.json().await.expect("JSON"));
    for token in [refreshed.token, service.login("alice").await.token] {
        let claims = claims_of(service, &token);
        assert_eq!(claims["roles"], given["roles"]);
        assert_eq!(claims["org"], "acme");
        assert_eq!(claims["teams"], json!([1, 2]));
        assert_eq!(
            (&claims["sub"], &claims["preferred_username"]),
            (&json!(id), &json!("alice"))
        );
    }
    let me = service
        .get_me(Some(&format!("Bearer {}", before.token)))
        .await;
    let me: Value = me.json().await.expect("JSON");
    assert_eq!(
        (&me["roles"], &me["claims"]),
        (&given["roles"], &given["claims"])
    );

    assert_eq!(
        operated.set_claims(&id, &nothing).await,
        StatusCode::NO_CONTENT
    );
    let claims = claims_of(service, &service.login("alice").await.token);
    assert!(claims.get("roles").is_none() && claims.get("org").is_none());
    let events = "update users set id = id where (select count(*) from audit_events \
                  where event = 'claims_changed') = 2";
    assert_eq!(service.execute(events).await, 1);
}

#[tokio::test]
async fn names_and_a_prefix_of_the_settings_are_those_of_the_token() {
    let (service, admin) = with_admin_and(|settings| {
        settings.token.roles_claim = "https://app.example/roles".to_owned();
        settings.token.claims_prefix = "https://app.example/".to_owned();
    })
    .await;
    let operated = Operated::of(service, admin).await;
    let service = &operated.service;
    let id = service.add_user("alice").await;
    let given = json!({"roles": ["editor"], "claims": {"org": "acme"}});
    assert_eq!(
        operated.set_claims(&id, &given).await,
        StatusCode::NO_CONTENT
    );
    let claims = claims_of(service, &service.login("alice").await.token);
    assert_eq!(claims["https://app.example/roles"], json!(["editor"]));
    assert_eq!(claims["https://app.example/org"], "acme");
    assert!(claims.get("roles").is_none() && claims.get("org").is_none());
}

#[tokio::test]
async fn a_claim_that_is_reserved_twice_or_too_long_is_refused() {
    let operated = Operated::start().await;
    let service = &operated.service;
    let id = service.add_user("alice").await;
    let path = format!("/v1/users/{id}/claims");
    let put = async |body: String| {
        let request = operated.request(Method::PUT, &path);
        let request = request.bearer_auth(&operated.write);
        let request = request.header("content-type", "application/json");
        request.body(body).send().await.expect("an answer")
    };
    let long =
        |length: usize| json!({"roles": [], "claims": {"a": "x".repeat(length)}}).to_string();
    for (refused, fine) in [
        (
            r#"{"roles": [], "claims": {"sub": "bob"}}"#,
            r#"{"roles": [], "claims": {"sup": "bob"}}"#,
        ),
        (
            r#"{"roles": [], "claims": {"a": 1, "a": 2}}"#,
            r#"{"roles": [], "claims": {"a": 1, "b": 2}}"#,
        ),
        (
            r#"{"roles": [], "claims": {"a": {"b": 1, "\u0062": 2}}}"#,
            r#"{"roles": [], "claims": {"a": {"b": 1, "\u0063": 2}}}"#,
        ),
        (
            r#"{"roles": [], "claims": {}, "claims": {}}"#,
            r#"{"roles": [], "claims": {}}"#,
        ),
        (
            r#"{"roles": ["a", "a"], "claims": {}}"#,
            r#"{"roles": ["a", "b"], "claims": {}}"#,
        ),
        (
            r#"{"roles": [], "claims": []}"#,
            r#"{"roles": [], "claims": {}}"#,
        ),
        (r#"{"roles": []}"#, r#"{"roles": [], "claims": {}}"#),
        (&long(1006), &long(1005)),
    ] {
        let answer = put(refused.to_owned()).await;
        problem(answer, StatusCode::BAD_REQUEST, "invalid_request").await;
        assert_eq!(
            put(fine.to_owned()).await.status(),
            StatusCode::NO_CONTENT,
            "{fine}"
        );
    }
    let other = json!({"roles": [], "claims": {}});
    assert_eq!(
        operated.set_claims("nobody", &other).await,
        StatusCode::NOT_FOUND
    );
    // A right of a person to read is none to write.
    let request = operated
        .request(Method::PUT, &path)
        .bearer_auth(&operated.read);
    let refused = request.json(&other).send().await.expect("an answer");
    problem(refused, StatusCode::FORBIDDEN, "insufficient_scope").await;
}

#[tokio::test]
async fn claims_and_grants_together_leave_a_token_that_verifiers_read() {
    let operated = Operated::start().await;
    let service = &operated.service;
    let id = service.add_user("alice").await;
    let alice = Subject::User(Username::parse("alice").expect("a name"));
    let full = json!({"roles": [], "claims": {"a": "x".repeat(1005)}});
    assert_eq!(
        operated.set_claims(&id, &full).await,
        StatusCode::NO_CONTENT
    );
    let mut given = 0;
    for number in 0..32 {
        let room = format!("{number:02}:{}", "a".repeat(97));
        let settings = &service.config.settings;
        let added = grants::add_grant(settings, &alice, &room, &[Action::Subscribe]).await;
        given += usize::from(added.is_ok());
    }
    // 2,048 bytes are left.
    assert_eq!(given, 20);
    let token = service.login("alice").await.token;
    assert_eq!(claims_of(service, &token)["a"], full["claims"]["a"]);
    let room = |number: usize| json!({"room": format!("{number:02}:{}", "a".repeat(97)), "actions": ["sub"]});
    let rooms = |count: usize| json!({"grants": (0..count).map(room).collect::<Vec<_>>()});
    let path = format!("/v1/users/{id}/grants");
    let refused = operated.change(Method::PUT, &path, &rooms(21)).await;
    problem(refused, StatusCode::BAD_REQUEST, "invalid_request").await;
    let none = json!({"roles": [], "claims": {}});
    assert_eq!(
        operated.set_claims(&id, &none).await,
        StatusCode::NO_CONTENT
    );
    let more = operated.change(Method::PUT, &path, &rooms(21)).await;
    assert_eq!(more.status(), StatusCode::NO_CONTENT);
    assert_eq!(
        operated.set_claims(&id, &full).await,
        StatusCode::BAD_REQUEST
    );
}
