//! Accounts, as an operator manages them over HTTP.

use std::{collections::BTreeSet, time::SystemTime};

use auth_service::store::{Opener, Store, audit::StoredEvent};
use reqwest::{Method, StatusCode, header::HeaderValue};
use serde_json::{Value, json};

use crate::{
    admin::with_admin,
    admin_api::Operated,
    authenticator::Authenticator,
    fixture::{PASSWORD, problem},
    passkeys,
    second_factor::Enrolled,
};

#[tokio::test]
async fn an_account_is_made_and_its_owner_signs_in() {
    let operated = Operated::start().await;
    let new = json!({"username": "Alice", "password": PASSWORD, "name": "Alice L",
                     "email": "alice@example.org", "email_verified": true});
    let made = operated.change(Method::POST, "/v1/users", &new).await;
    assert_eq!(made.status(), StatusCode::CREATED);
    let location = made.headers()["location"]
        .to_str()
        .expect("text")
        .to_owned();
    let account: Value = made.json().await.expect("JSON");
    assert_eq!(account["username"], "alice");
    assert_eq!(account["email_verified"], true);
    assert_eq!(
        location,
        format!("/v1/users/{}", account["id"].as_str().expect("an id"))
    );
    assert_eq!(
        operated
            .service
            .post_login("alice", PASSWORD)
            .await
            .status(),
        StatusCode::OK
    );
    let taken = operated.change(Method::POST, "/v1/users", &new).await;
    problem(taken, StatusCode::CONFLICT, "username_taken").await;
}

#[tokio::test]
async fn an_account_is_deleted_as_it_was_read() {
    let operated = Operated::start().await;
    let id = operated.service.add_user("alice").await;
    let location = format!("/v1/users/{id}");
    let read_tag = async || operated.get(&location).await.headers()["etag"].clone();
    let stale = read_tag().await;
    let edit = json!({"name": "Alice L"});
    operated.change(Method::PATCH, &location, &edit).await;
    let current = read_tag().await;
    let delete = async |tag: &_| {
        let request = operated.request(Method::DELETE, &location);
        let request = request.bearer_auth(&operated.write);
        let answer = request.header("if-match", tag).send().await;
        answer.expect("an answer")
    };
    let refused = delete(&stale).await;
    problem(
        refused,
        StatusCode::PRECONDITION_FAILED,
        "precondition_failed",
    )
    .await;
    assert_eq!(read_tag().await, current);
    let list = format!("\"another\", {}", current.to_str().expect("text"));
    let list = HeaderValue::from_str(&list).expect("a header");
    let deleted = delete(&list).await;
    assert_eq!(deleted.status(), StatusCode::NO_CONTENT);
    // A repetition of what was done.
    let again = delete(&current).await;
    assert_eq!(again.status(), StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn a_profile_is_edited_as_it_was_read() {
    let operated = Operated::start().await;
    let id = operated.service.add_user("alice").await;
    let location = format!("/v1/users/{id}");
    let vouch = json!({"email_verified": true});
    operated.change(Method::PATCH, &location, &vouch).await;
    let found = operated.get(&location).await;
    let tag = found.headers()["etag"].clone();
    let edit = async |body: Value, tag: Option<&_>| {
        let request = operated.request(Method::PATCH, &location).json(&body);
        let request = request.bearer_auth(&operated.write);
        let request = match tag {
            Some(tag) => request.header("if-match", tag),
            None => request,
        };
        request.send().await.expect("an answer")
    };
    let edited = edit(json!({"name": null, "given_name": "Alice"}), Some(&tag)).await;
    assert_eq!(edited.status(), StatusCode::OK);
    let next = edited.headers()["etag"].clone();
    assert_ne!(next, tag);
    let edited: Value = edited.json().await.expect("JSON");
    let parts = (
        edited.get("name"),
        &edited["given_name"],
        &edited["email_verified"],
    );
    assert_eq!(parts, (None, &json!("Alice"), &json!(true)));
    let late = edit(json!({"name": "Bob"}), Some(&tag)).await;
    problem(late, StatusCode::PRECONDITION_FAILED, "precondition_failed").await;
    let timely = edit(json!({"email": "other@example.org"}), Some(&next)).await;
    let timely: Value = timely.json().await.expect("JSON");
    assert_eq!(timely["email_verified"], false);
    let last = edit(json!({"name": "Last"}), None).await;
    assert_eq!(last.status(), StatusCode::OK);
    for bad in [
        json!({"username": "bob"}),
        json!({"name": 7}),
        json!([]),
        json!({"email": "x"}),
        json!({"email": null, "email_verified": true}),
    ] {
        problem(
            edit(bad, None).await,
            StatusCode::BAD_REQUEST,
            "invalid_request",
        )
        .await;
    }
}

#[tokio::test]
async fn an_account_without_an_email_has_none_that_is_verified() {
    let operated = Operated::start().await;
    let with = |name: &str, email: Value, email_verified: bool| {
        json!({"username": name, "password": "barley is not sesame", "email": email,
               "email_verified": email_verified})
    };
    let refused = with("alice", Value::Null, true);
    let refused = operated.change(Method::POST, "/v1/users", &refused).await;
    problem(refused, StatusCode::BAD_REQUEST, "invalid_request").await;
    for (name, body) in [
        ("alice", with("alice", json!("alice@example.org"), true)),
        ("bob", with("bob", Value::Null, false)),
    ] {
        let made = operated.change(Method::POST, "/v1/users", &body).await;
        assert_eq!(made.status(), StatusCode::CREATED, "{name}");
    }
    let found = operated.read("/v1/users?search=bob").await;
    let id = found["users"][0]["id"].as_str().expect("an id");
    let path = format!("/v1/users/{id}");
    let vouch = json!({"email_verified": true});
    let refused = operated.change(Method::PATCH, &path, &vouch).await;
    problem(refused, StatusCode::BAD_REQUEST, "invalid_request").await;
    let both = json!({"email": "bob@example.org", "email_verified": true});
    let edited = operated.change(Method::PATCH, &path, &both).await;
    assert_eq!(edited.status(), StatusCode::OK);
    let edited: Value = edited.json().await.expect("JSON");
    assert_eq!(edited["email_verified"], true);
}

#[tokio::test]
async fn accounts_are_listed_in_pages_and_searched() {
    let operated = Operated::start().await;
    let alice = operated.service.add_user("alice").await;
    let named = json!({"name": "The Last"});
    let path = format!("/v1/users/{alice}");
    operated.change(Method::PATCH, &path, &named).await;
    operated.service.add_user("bob").await;
    operated.service.add_user("carol").await;
    let first = operated.read("/v1/users?limit=2").await;
    let names = |page: &Value| -> Vec<String> {
        let users = page["users"].as_array().expect("a list").iter();
        users
            .map(|user| user["username"].as_str().expect("a name").to_owned())
            .collect()
    };
    assert_eq!(names(&first), ["alice", "bob"]);
    let cursor = first["next_cursor"].as_str().expect("a cursor");
    let second = operated
        .read(&format!("/v1/users?limit=2&cursor={cursor}"))
        .await;
    assert_eq!(
        (names(&second), second.get("next_cursor")),
        (vec!["carol".to_owned()], None)
    );
    assert_eq!(
        names(&operated.read("/v1/users?search=LAST").await),
        ["alice"]
    );
    for bad in [
        "limit=0",
        "limit=501",
        "limit=x",
        "cursor=!",
        "search=",
        "search=a%00",
        "x=1",
    ] {
        let refused = operated.get(&format!("/v1/users?{bad}")).await;
        problem(refused, StatusCode::BAD_REQUEST, "invalid_request").await;
    }
}

#[tokio::test]
async fn rights_to_rooms_are_replaced_and_stand_in_the_next_token() {
    let operated = Operated::start().await;
    let id = operated.service.add_user("alice").await;
    let path = format!("/v1/users/{id}/grants");
    let grants = json!({"grants": [{"room": "chat:**", "actions": ["sub", "pub"]},
                                   {"room": "news", "actions": ["sub"]}]});
    for _ in 0..2 {
        let put = operated.change(Method::PUT, &path, &grants).await;
        assert_eq!(put.status(), StatusCode::NO_CONTENT);
        assert_eq!(operated.read(&path).await, grants);
    }
    let token = operated.service.token_of("alice").await;
    let claims = operated
        .service
        .verifier()
        .verify(&token, SystemTime::now());
    assert_eq!(claims.expect("accepted").authorization_details.len(), 2);
    let fewer = json!({"grants": [{"room": "news", "actions": ["sub"]}]});
    operated.change(Method::PUT, &path, &fewer).await;
    assert_eq!(operated.read(&path).await, fewer);
    let many: Vec<Value> = (0..33)
        .map(|room| json!({"room": format!("room{room}"), "actions": ["sub"]}))
        .collect();
    for bad in [
        json!({"grants": [{"room": "a::b", "actions": ["sub"]}]}),
        json!({"grants": [{"room": "a", "actions": []}]}),
        json!({"grants": [{"room": "a", "actions": ["all"]}]}),
        json!({"grants": [{"room": "a", "actions": ["sub"]}, {"room": "a", "actions": ["pub"]}]}),
        json!({"grants": many}),
        json!({}),
    ] {
        let refused = operated.change(Method::PUT, &path, &bad).await;
        problem(refused, StatusCode::BAD_REQUEST, "invalid_request").await;
    }
    assert_eq!(operated.read(&path).await, fewer);
}

#[tokio::test]
async fn an_account_is_shut_opened_signed_out_and_deleted() {
    let operated = Operated::start().await;
    let service = &operated.service;
    let id = service.add_user("alice").await;
    let path = format!("/v1/users/{id}");
    let status = async || service.post_login("alice", PASSWORD).await.status();
    let call = async |method: Method, what: &str| {
        for _ in 0..2 {
            let answer = operated
                .call(method.clone(), &format!("{path}{what}"))
                .await;
            assert_eq!(answer.status(), StatusCode::NO_CONTENT, "{method} {what}");
        }
    };
    call(Method::POST, "/disable").await;
    assert_eq!(status().await, StatusCode::UNAUTHORIZED);
    assert!(operated.read(&path).await["disabled_at"].is_i64());
    call(Method::POST, "/enable").await;
    assert_eq!(operated.read(&path).await.get("disabled_at"), None);

    let token = service.token_of("alice").await;
    let me = async || {
        service
            .get_me(Some(&format!("Bearer {token}")))
            .await
            .status()
    };
    assert_eq!(me().await, StatusCode::OK);
    call(Method::DELETE, "/sessions").await;
    assert_eq!(me().await, StatusCode::UNAUTHORIZED);
    call(Method::DELETE, "/second-factor").await;

    call(Method::DELETE, "").await;
    assert_eq!(status().await, StatusCode::UNAUTHORIZED);
    problem(
        operated.get(&path).await,
        StatusCode::NOT_FOUND,
        "user_not_found",
    )
    .await;
    let users = operated.read("/v1/users").await;
    assert_eq!(users["users"], json!([]));
    assert_ne!(service.add_user("alice").await, id);
    assert_eq!(
        actors_of(&operated, &id).await,
        BTreeSet::from(["client:manager", "command", "self"].map(str::to_owned))
    );
    for (method, what) in [
        (Method::POST, "/v1/users/nobody/disable"),
        (Method::POST, "/v1/users/a%00b/enable"),
        (Method::DELETE, "/v1/users/a%00b"),
        (Method::DELETE, "/v1/users/nobody/sessions"),
        (Method::DELETE, "/v1/users/nobody/second-factor"),
    ] {
        let unknown = operated.call(method, what).await;
        problem(unknown, StatusCode::NOT_FOUND, "user_not_found").await;
    }
}

/// Actors of the events about an account, each once.
async fn actors_of(operated: &Operated, id: &str) -> BTreeSet<String> {
    let url = &operated.service.config.settings.database_url;
    let store = Store::open_by(url, Opener::Command).await.expect("a store");
    let events = store.list_events(Some(id), 100).await.expect("events");
    let verified = store.check_events().await.expect("an answer");
    assert!(verified.is_ok(), "{verified:?}");
    store.close().await;
    let by = |event: &StoredEvent| event.full_detail()["by"].as_str().map(str::to_owned);
    events
        .iter()
        .map(|event| by(event).expect("an actor"))
        .collect()
}

#[tokio::test]
async fn a_second_factor_is_reset_and_the_next_login_asks_for_no_code() {
    let (service, admin) = with_admin().await;
    let enrolled = Enrolled::on(service).await;
    enrolled.challenge().await;
    let operated = Operated::of(enrolled.service, admin).await;
    let users = operated.read("/v1/users").await;
    let user = &users["users"][0];
    assert_eq!(user["second_factor"], true);
    let id = user["id"].as_str().expect("an id");
    let path = format!("/v1/users/{id}/second-factor");
    let reset = operated.call(Method::DELETE, &path).await;
    assert_eq!(reset.status(), StatusCode::NO_CONTENT);
    let name = user["username"].as_str().expect("a name");
    let answer = operated.service.post_login(name, PASSWORD).await;
    assert_eq!(answer.status(), StatusCode::OK);
}

#[tokio::test]
async fn passkeys_are_reset_with_the_second_factor_and_erased_with_the_account() {
    let (service, admin) = with_admin().await;
    let mut devices = [Authenticator::new(), Authenticator::new()];
    let mut paths = Vec::new();
    for (name, device) in ["alice", "bob"].into_iter().zip(&mut devices) {
        let id = service.add_user(name).await;
        let token = service.token_of(name).await;
        passkeys::add(&service, &token, device).await;
        paths.push(format!("/v1/users/{id}"));
    }
    let operated = Operated::of(service, admin).await;
    let service = &operated.service;
    let user = operated.read(&paths[0]).await;
    assert_eq!(
        (&user["passkeys"], &user["second_factor"]),
        (&json!(1), &json!(false))
    );
    let [alice, bob] = &mut devices;
    assert_eq!(
        passkeys::sign_in(service, alice).await.status(),
        StatusCode::OK
    );
    let reset = format!("{}/second-factor", paths[0]);
    let reset = operated.call(Method::DELETE, &reset).await;
    assert_eq!(reset.status(), StatusCode::NO_CONTENT);
    assert_eq!(operated.read(&paths[0]).await["passkeys"], 0);
    passkeys::assert_refused(passkeys::sign_in(service, alice).await).await;
    assert_eq!(
        passkeys::sign_in(service, bob).await.status(),
        StatusCode::OK
    );
    operated.call(Method::DELETE, &paths[1]).await;
    passkeys::assert_refused(passkeys::sign_in(service, bob).await).await;
    let left = service.read("select credential_id from passkeys").await;
    assert!(left.is_empty());
}
