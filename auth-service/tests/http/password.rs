//! `POST /password`

use auth_service::users::{self, ChangeError, NewUser};
use reqwest::StatusCode;
use serde_json::json;

use crate::fixture::{PASSWORD, Service, problem};

const NEW: &str = "barley is not sesame";

#[tokio::test]
async fn who_knows_the_password_changes_it_and_stays_signed_in_here_alone() {
    let (service, _) = Service::with_alice().await;
    let (here, elsewhere) = (service.login("alice").await, service.login("alice").await);
    let body = json!({"current_password": PASSWORD, "new_password": NEW});
    let answer = service.post("/password", Some(&here.token), &body).await;
    assert_eq!(answer.status(), StatusCode::NO_CONTENT);
    let status = |token: String| {
        let service = &service;
        async move {
            service
                .get_me(Some(&format!("Bearer {token}")))
                .await
                .status()
        }
    };
    assert_eq!(status(here.token).await, StatusCode::OK);
    assert_eq!(status(elsewhere.token).await, StatusCode::UNAUTHORIZED);
    let old = service.post_login("alice", PASSWORD).await;
    problem(old, StatusCode::UNAUTHORIZED, "invalid_credentials").await;
    assert_eq!(
        service.post_login("alice", NEW).await.status(),
        StatusCode::OK
    );
}

#[tokio::test]
async fn a_wrong_current_password_or_a_weak_new_one_changes_nothing() {
    let (service, _) = Service::with_alice().await;
    let token = service.login("alice").await.token;
    for (current, new, status, code) in [
        (
            "open barley",
            NEW,
            StatusCode::UNAUTHORIZED,
            "invalid_credentials",
        ),
        (
            PASSWORD,
            "short",
            StatusCode::UNPROCESSABLE_ENTITY,
            "password_refused",
        ),
        (PASSWORD, "", StatusCode::BAD_REQUEST, "invalid_request"),
    ] {
        let body = json!({"current_password": current, "new_password": new});
        let answer = service.post("/password", Some(&token), &body).await;
        problem(answer, status, code).await;
    }
    let answer = service.post_login("alice", PASSWORD).await;
    assert_eq!(answer.status(), StatusCode::OK);
    let body = json!({"current_password": PASSWORD, "new_password": NEW});
    let answer = service.post("/password", None, &body).await;
    problem(answer, StatusCode::UNAUTHORIZED, "credentials_required").await;
}

#[tokio::test]
async fn a_password_is_judged_when_it_is_set_and_not_when_it_is_used() {
    let weak = "password1";
    let mut service = Service::start().await;
    let policy = std::mem::take(&mut service.config.settings.password.minimum_score);
    let user = || NewUser::parse("alice", weak).expect("a user");
    users::add_user(&service.config.settings, user())
        .await
        .expect("no policy, no refusal");
    service.config.settings.password.minimum_score = policy;
    let refused = users::add_user(&service.config.settings, user()).await;
    assert!(matches!(refused, Err(ChangeError::Credential(_))));
    let answer = service.post_login("alice", weak).await;
    assert_eq!(answer.status(), StatusCode::OK);
}
