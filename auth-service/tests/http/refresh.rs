//! `POST /token/refresh`

use std::time::SystemTime;

use auth_service::Settings;
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::fixture::{Login, PASSWORD, Service, problem, secrets};

async fn refreshed(service: &Service, refresh_token: &str) -> Login {
    let answer = service.refresh(refresh_token).await;
    assert_eq!(answer.status(), StatusCode::OK);
    Login::of(&answer.json().await.expect("JSON"))
}

async fn assert_refused(service: &Service, refresh_token: &str) {
    let answer = service.refresh(refresh_token).await;
    problem(answer, StatusCode::UNAUTHORIZED, "invalid_grant").await;
}

#[tokio::test]
async fn a_refresh_token_is_exchanged_for_a_new_pair_of_the_same_session() {
    let (service, id) = Service::with_alice().await;
    let first = service.login("alice").await;
    let second = refreshed(&service, &first.refresh_token).await;
    let third = refreshed(&service, &second.refresh_token).await;
    assert_ne!(first.refresh_token, second.refresh_token);
    assert_ne!(second.refresh_token, third.refresh_token);
    let now = SystemTime::now();
    let claims = |token: &str| service.verifier().verify(token, now).expect("accepted");
    assert_eq!(claims(&third.token).sub, id);
    assert_eq!(claims(&third.token).sid, claims(&first.token).sid);
    assert_ne!(claims(&third.token).jti, claims(&first.token).jti);
}

#[tokio::test]
async fn who_lost_the_answer_gets_the_same_successor_by_asking_again() {
    let (service, _) = Service::with_alice().await;
    let first = service.login("alice").await;
    let second = refreshed(&service, &first.refresh_token).await;
    let again = refreshed(&service, &first.refresh_token).await;
    assert_eq!(again.refresh_token, second.refresh_token);
    refreshed(&service, &second.refresh_token).await;
}

#[tokio::test]
async fn a_spent_token_whose_successor_was_used_ends_the_session() {
    let (service, _) = Service::with_alice().await;
    let first = service.login("alice").await;
    let bystander = service.login("alice").await;
    let second = refreshed(&service, &first.refresh_token).await;
    let third = refreshed(&service, &second.refresh_token).await;
    assert_refused(&service, &first.refresh_token).await;
    assert_refused(&service, &third.refresh_token).await;
    let me = service
        .get_me(Some(&format!("Bearer {}", third.token)))
        .await;
    problem(me, StatusCode::UNAUTHORIZED, "invalid_token").await;
    refreshed(&service, &bystander.refresh_token).await;
}

#[tokio::test]
async fn a_spent_token_gets_the_same_successor_for_the_time_of_the_setting_and_then_another() {
    let service = Service::start_with(|settings| settings.session.retry_secs = 30).await;
    service.add_user("alice").await;
    for (age, is_late) in [
        ("update refresh_tokens set used_at = used_at - 29", false),
        ("update refresh_tokens set used_at = used_at - 32", true),
    ] {
        let first = service.login("alice").await;
        let second = refreshed(&service, &first.refresh_token).await;
        service.execute(age).await;
        let again = refreshed(&service, &first.refresh_token).await;
        assert_eq!(again.refresh_token != second.refresh_token, is_late);
        // The session goes on, and a retry gets the replacement.
        let retried = refreshed(&service, &first.refresh_token).await;
        assert_eq!(retried.refresh_token, again.refresh_token);
        refreshed(&service, &again.refresh_token).await;
    }
}

#[tokio::test]
async fn a_copy_that_is_used_before_its_owner_goes_on_ends_the_session() {
    let (service, _) = Service::with_alice().await;
    let first = service.login("alice").await;
    let owners = refreshed(&service, &first.refresh_token).await;
    service
        .execute("update refresh_tokens set used_at = used_at - 3600")
        .await;
    let thiefs = refreshed(&service, &first.refresh_token).await;
    assert_refused(&service, &owners.refresh_token).await;
    assert_refused(&service, &thiefs.refresh_token).await;
    for token in [owners.token, thiefs.token] {
        let me = service.get_me(Some(&format!("Bearer {token}"))).await;
        problem(me, StatusCode::UNAUTHORIZED, "invalid_token").await;
    }
}

/// Each successor was derived from a secret that has been removed since.
#[tokio::test]
async fn a_lost_answer_is_told_from_a_copy_after_the_secret_was_replaced() {
    let (service, _) = Service::with_alice().await;
    let lost = service.login("alice").await;
    refreshed(&service, &lost.refresh_token).await;
    let logged_out = service.login("alice").await;
    refreshed(&service, &logged_out.refresh_token).await;
    let copied = service.login("alice").await;
    let second = refreshed(&service, &copied.refresh_token).await;
    let owners = refreshed(&service, &second.refresh_token).await;
    let next = secrets("Qe7Rt2Yu9Io4Pa1Sd6Fg3Hj8Kl5Zx0Cv");
    let service = service.restart_with(|config| config.secrets = next).await;

    let found = refreshed(&service, &lost.refresh_token).await;
    refreshed(&service, &found.refresh_token).await;
    assert_refused(&service, &copied.refresh_token).await;
    assert_refused(&service, &owners.refresh_token).await;
    let form = [
        ("token", logged_out.refresh_token.as_str()),
        ("client_id", "latchkey-login"),
    ];
    let request = service
        .client
        .post(service.url("/oauth/revoke"))
        .form(&form);
    let answer = request.send().await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::OK);
    for reason in ["refresh_token_reused", "logged_out"] {
        let touch = format!("update sessions set device = '' where end_reason = '{reason}'");
        assert_eq!(service.execute(&touch).await, 1, "{reason}");
    }
}

#[tokio::test]
async fn idle_and_absolute_lifetimes_end_a_session() {
    for age in [
        "update refresh_tokens set expires_at = expires_at - 1209601",
        "update sessions set expires_at = expires_at - 7776001",
    ] {
        let (service, _) = Service::with_alice().await;
        let login = service.login("alice").await;
        let login = refreshed(&service, &login.refresh_token).await;
        service.execute(age).await;
        assert_refused(&service, &login.refresh_token).await;
    }
}

#[tokio::test]
async fn an_access_token_does_not_outlive_its_session() {
    let service = Service::start_with(|settings| settings.session.absolute_secs = 60).await;
    service.add_user("alice").await;
    let login = service.login("alice").await;
    let claims = service
        .verifier()
        .verify(&login.token, SystemTime::now())
        .expect("accepted");
    assert_eq!(claims.exp - claims.iat, 60);
}

#[tokio::test]
async fn nothing_is_refreshed_after_the_session_has_ended() {
    let (service, _) = Service::with_alice().await;
    let other = json!({"current_password": PASSWORD, "new_password": "another open sesame"});
    for path in ["/logout", "/logout/all", "/password", "disable"] {
        let kept = service.login("alice").await;
        let login = service.login("alice").await;
        refreshed(&service, &login.refresh_token).await;
        let login = service.login("alice").await;
        match path {
            "disable" => service.disable_user("alice").await,
            "/password" => {
                let answer = service.post(path, Some(&kept.token), &other).await;
                assert_eq!(answer.status(), StatusCode::NO_CONTENT);
                refreshed(&service, &kept.refresh_token).await;
                let back = json!({
                    "current_password": "another open sesame", "new_password": PASSWORD,
                });
                let answer = service.post(path, Some(&kept.token), &back).await;
                assert_eq!(answer.status(), StatusCode::NO_CONTENT);
            }
            _ => {
                let answer = service.post(path, Some(&login.token), &json!({})).await;
                assert_eq!(answer.status(), StatusCode::NO_CONTENT);
            }
        }
        assert_refused(&service, &login.refresh_token).await;
    }
}

#[tokio::test]
async fn an_access_token_is_no_refresh_token_and_the_other_way_round() {
    let (service, _) = Service::with_alice().await;
    let login = service.login("alice").await;
    assert_refused(&service, &login.token).await;
    let bearer = format!("Bearer {}", login.refresh_token);
    let me = service.get_me(Some(&bearer)).await;
    problem(me, StatusCode::UNAUTHORIZED, "invalid_token").await;
    refreshed(&service, &login.refresh_token).await;
}

#[tokio::test]
async fn what_stands_in_the_database_is_no_token() {
    let (service, _) = Service::with_alice().await;
    let login = service.login("alice").await;
    let hashes = service.refresh_token_hashes().await;
    assert_eq!(hashes.len(), 1);
    for hash in hashes {
        assert_refused(&service, &hash).await;
    }
    refreshed(&service, &login.refresh_token).await;
}

/// Behaviour of the store is tested on both databases in `store::tests::sessions`; the
/// layers above make no second branch either.
#[tokio::test]
async fn of_50_at_once_200_times_over_all_get_the_same_successor_and_one_branch_lives() {
    let many = |settings: &mut Settings| settings.limits.refreshes_per_account = 1_000_000;
    let service = Service::start_with(many).await;
    service.add_user("alice").await;
    let mut token = service.login("alice").await.refresh_token;
    for round in 0..200 {
        let mut asking = JoinSet::new();
        for _ in 0..50 {
            let request = service.client.post(service.url("/token/refresh"));
            let request = request.json(&json!({"refresh_token": token}));
            asking.spawn(async move {
                let answer = request.send().await.expect("an answer");
                // A request that waits too long for the one writer of a slow disk may come again, and has
                // changed nothing.
                if answer.status() == StatusCode::SERVICE_UNAVAILABLE {
                    return None;
                }
                assert_eq!(answer.status(), StatusCode::OK);
                let answer = answer.json().await.expect("JSON");
                Some(Login::of(&answer).refresh_token)
            });
        }
        let answers = asking.join_all().await;
        let mut successors: Vec<String> = answers.into_iter().flatten().collect();
        successors.dedup();
        assert_eq!(successors.len(), 1, "round {round}");
        assert_eq!(service.unused_refresh_tokens().await, 1, "round {round}");
        token = successors.remove(0);
    }
    refreshed(&service, &token).await;
}

#[tokio::test]
async fn a_body_without_a_refresh_token_is_told_so() {
    let service = Service::start().await;
    for body in [
        json!({}),
        json!({"refresh_token": 1}),
        json!({"refresh_token": "x", "y": 1}),
    ] {
        let answer = service.post("/token/refresh", None, &body).await;
        problem(answer, StatusCode::BAD_REQUEST, "invalid_request").await;
    }
    assert_refused(&service, "' or 1=1 --").await;
}

#[tokio::test]
async fn a_refresh_without_any_token_is_told_so() {
    let (service, _) = Service::with_alice().await;
    let login = service.login("alice").await;
    let bare = service.client.post(service.url("/token/refresh"));
    let answer = bare.send().await.expect("an answer");
    problem(answer, StatusCode::BAD_REQUEST, "invalid_request").await;
    refreshed(&service, &login.refresh_token).await;
}

#[tokio::test]
async fn a_token_ends_with_its_session_also_when_nobody_refreshes_it() {
    for (idle_secs, expires_in) in [(300, 300), (901, 900)] {
        let service = Service::start_with(|settings| settings.session.idle_secs = idle_secs).await;
        service.add_user("alice").await;
        let answer = service.post_login("alice", PASSWORD).await;
        let answer: Value = answer.json().await.expect("JSON");
        assert_eq!(answer["expires_in"], expires_in);
    }
}

#[tokio::test]
async fn an_account_that_refreshes_too_often_waits_and_loses_nothing() {
    let service = Service::start_with(|settings| settings.limits.refreshes_per_account = 2).await;
    service.add_user("alice").await;
    service.add_user("bob").await;
    let mut login = service.login("alice").await;
    for _ in 0..2 {
        login = refreshed(&service, &login.refresh_token).await;
    }
    for _ in 0..2 {
        let limited = service.refresh(&login.refresh_token).await;
        assert!(limited.headers().contains_key("retry-after"));
        problem(limited, StatusCode::TOO_MANY_REQUESTS, "rate_limited").await;
    }
    let bob = service.login("bob").await;
    refreshed(&service, &bob.refresh_token).await;
    // A service that has just started has counted nothing.
    let service = service.restart_with(|_| {}).await;
    refreshed(&service, &login.refresh_token).await;
}
