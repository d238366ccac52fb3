//! `POST /logout`, `POST /logout/all`, `GET /sessions` and `DELETE /sessions/{id}`

use reqwest::{Response, StatusCode};
use serde_json::{Value, json};

use crate::fixture::{Service, problem};

async fn list(service: &Service, token: &str) -> Vec<Value> {
    let request = service.client.get(service.url("/sessions"));
    let answer = request.bearer_auth(token).send().await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::OK);
    let body: Value = answer.json().await.expect("JSON");
    body["sessions"].as_array().expect("a list").clone()
}

async fn delete(service: &Service, token: &str, id: &str) -> Response {
    let url = service.url(&format!("/sessions/{id}"));
    let request = service.client.delete(url).bearer_auth(token);
    request.send().await.expect("an answer")
}

async fn is_signed_in(service: &Service, token: &str) -> bool {
    let answer = service.get_me(Some(&format!("Bearer {token}"))).await;
    if answer.status() == StatusCode::OK {
        return true;
    }
    let body = problem(answer, StatusCode::UNAUTHORIZED, "invalid_token").await;
    assert_eq!(body["reason"], "session_ended");
    false
}

#[tokio::test]
async fn a_logout_ends_one_session_and_all_of_them_end_together() {
    let (service, _) = Service::with_alice().await;
    let (first, second, third) = (
        service.login("alice").await.token,
        service.login("alice").await.token,
        service.login("alice").await.token,
    );
    let answer = service.post("/logout", Some(&first), &json!({})).await;
    assert_eq!(answer.status(), StatusCode::NO_CONTENT);
    assert!(!is_signed_in(&service, &first).await);
    assert!(is_signed_in(&service, &second).await);
    let answer = service.post("/logout/all", Some(&second), &json!({})).await;
    assert_eq!(answer.status(), StatusCode::NO_CONTENT);
    assert!(!is_signed_in(&service, &second).await);
    assert!(!is_signed_in(&service, &third).await);
    assert!(is_signed_in(&service, &service.login("alice").await.token).await);
}

#[tokio::test]
async fn one_sees_where_one_is_signed_in() {
    let (service, _) = Service::with_alice().await;
    service.add_user("bob").await;
    let request = service.client.post(service.url("/login"));
    let request = request.header("user-agent", "A phone \u{7}\u{202e}");
    let credentials = json!({"username": "alice", "password": crate::fixture::PASSWORD});
    let answer = request.json(&credentials).send().await;
    assert!(answer.is_err(), "a header cannot hold these characters");
    service.login("bob").await;
    service.login("alice").await;
    let token = service.login("alice").await.token;
    let sessions = list(&service, &token).await;
    assert_eq!(sessions.len(), 2);
    let current: Vec<_> = sessions
        .iter()
        .filter(|one| one["current"] == true)
        .collect();
    assert_eq!(current.len(), 1);
    for session in &sessions {
        assert_eq!(session["address"], "127.0.0.1");
        assert!(session["used_at"].as_i64() >= session["created_at"].as_i64());
        assert!(session["expires_at"].as_i64() > session["used_at"].as_i64());
        assert!(session["device"].is_string());
    }
}

#[tokio::test]
async fn one_ends_ones_own_sessions_and_nobody_elses() {
    let (service, _) = Service::with_alice().await;
    service.add_user("bob").await;
    let (alice, bob) = (
        service.login("alice").await.token,
        service.login("bob").await.token,
    );
    let id = |sessions: Vec<Value>| sessions[0]["id"].as_str().expect("an id").to_owned();
    let id_of_bob = id(list(&service, &bob).await);
    let answer = delete(&service, &alice, &id_of_bob).await;
    problem(answer, StatusCode::NOT_FOUND, "not_found").await;
    assert!(is_signed_in(&service, &bob).await);
    let answer = delete(&service, &alice, "'%20or%201=1--").await;
    problem(answer, StatusCode::NOT_FOUND, "not_found").await;
    let answer = delete(&service, &bob, &id_of_bob).await;
    assert_eq!(answer.status(), StatusCode::NO_CONTENT);
    assert!(!is_signed_in(&service, &bob).await);
    assert!(is_signed_in(&service, &alice).await);
}

#[tokio::test]
async fn the_list_has_live_sessions_with_the_address_and_time_of_their_last_use() {
    let service = Service::start_with(|settings| {
        settings.trusted_proxies = vec!["127.0.0.0/8".parse().expect("a network")];
    })
    .await;
    service.add_user("alice").await;
    let idle = service.login("alice").await;
    service
        .execute("update refresh_tokens set expires_at = expires_at - 1209601")
        .await;
    let own = service.login("alice").await;
    service
        .execute("update sessions set used_at = used_at - 100, created_at = created_at - 100")
        .await;
    let refresh = service.client.post(service.url("/token/refresh"));
    let refresh = refresh.header("x-forwarded-for", "192.0.2.7:443");
    let body = json!({"refresh_token": own.refresh_token});
    let answer = refresh.json(&body).send().await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::OK);
    for token in [&own.token, &idle.token] {
        let list = service.client.get(service.url("/sessions"));
        let list = list.bearer_auth(token).send().await.expect("an answer");
        let list: serde_json::Value = list.json().await.expect("JSON");
        let sessions = list["sessions"].as_array().expect("sessions");
        assert_eq!(sessions.len(), 1, "{list}");
        assert_eq!(sessions[0]["address"], "192.0.2.7");
        let time = |name: &str| sessions[0][name].as_i64().expect("a time");
        assert!(time("used_at") >= time("created_at") + 100, "{list}");
    }
}

/// Of three logins the second is the one beyond a limit of two: the first is refreshed in between.
#[tokio::test]
async fn a_login_beyond_the_limit_ends_the_session_that_was_used_longest_ago() {
    for (limit, ends) in [(2, true), (3, false)] {
        let service = Service::start_with(|settings| {
            settings.limits.sessions_per_account = limit;
        })
        .await;
        service.add_user("alice").await;
        service.add_user("bob").await;
        let bob = service.login("bob").await.token;
        let (first, second) = (service.login("alice").await, service.login("alice").await);
        service
            .execute("update sessions set used_at = used_at - 100")
            .await;
        let refresh = async |token: &str| {
            let body = json!({"refresh_token": token});
            service.post("/token/refresh", None, &body).await.status()
        };
        assert_eq!(refresh(&first.refresh_token).await, StatusCode::OK);
        let third = service.login("alice").await.token;
        assert_eq!(is_signed_in(&service, &second.token).await, !ends);
        let is_refreshed = refresh(&second.refresh_token).await == StatusCode::OK;
        assert_eq!(is_refreshed, !ends);
        for token in [&first.token, &third, &bob] {
            assert!(is_signed_in(&service, token).await);
        }
    }
}
