//! Tokens of people in the hands of clients: `POST /oauth/token` with a refresh token,
//! `/oauth/introspect` and `/oauth/revoke`.

use auth_service::clients;
use reqwest::StatusCode;
use serde_json::json;

use crate::{
    fixture::Login,
    oauth::{CLIENT_CREDENTIALS, assert_error, basic, granted, post, service_with_client},
};

#[tokio::test]
async fn a_refresh_token_is_exchanged_by_the_client_that_it_was_given_to() {
    let (service, secret) = service_with_client().await;
    let login = service.login("alice").await;
    let form = |client: &'static str, token: &str| {
        let mut form = vec![
            ("grant_type", "refresh_token".to_owned()),
            ("refresh_token", token.to_owned()),
        ];
        form.extend(
            [("client_id", client.to_owned())]
                .into_iter()
                .filter(|_| !client.is_empty()),
        );
        form
    };
    let ask = |form: Vec<(&'static str, String)>, header: Option<String>| {
        let request = service.client.post(service.url("/oauth/token")).form(&form);
        let request = match header {
            Some(header) => request.header("authorization", header),
            None => request,
        };
        async move { request.send().await.expect("an answer") }
    };
    let token = &login.refresh_token;
    let bad = StatusCode::BAD_REQUEST;
    let header = Some(basic("billing", &secret));
    for (client, header, code) in [
        ("", None, "invalid_request"),
        ("", header, "invalid_grant"),
        ("another", None, "invalid_grant"),
    ] {
        assert_error(ask(form(client, token), header).await, bad, code).await;
    }
    let access = form("latchkey-login", &login.token);
    assert_error(ask(access, None).await, bad, "invalid_grant").await;

    let answer = granted(ask(form("latchkey-login", token), None).await).await;
    let next = answer["refresh_token"].as_str().expect("a token");
    assert_ne!(next, token);
    let access = answer["access_token"].as_str().expect("a token");
    assert_eq!(
        service
            .get_me(Some(&format!("Bearer {access}")))
            .await
            .status(),
        StatusCode::OK
    );
}

#[tokio::test]
async fn a_refresh_has_no_scope_and_the_audiences_of_its_session() {
    let (service, _) = service_with_client().await;
    let login = service.login("alice").await;
    let ask = async |name: &'static str, value: &'static str| {
        let form = [
            ("grant_type", "refresh_token"),
            ("refresh_token", &login.refresh_token),
            ("client_id", "latchkey-login"),
            (name, value),
        ];
        let request = service.client.post(service.url("/oauth/token"));
        request.form(&form).send().await.expect("an answer")
    };
    for (name, value, code) in [
        ("scope", "admin", "invalid_scope"),
        ("resource", "latchkey-admin", "invalid_target"),
        ("audience", "latchkey-admin", "invalid_target"),
    ] {
        assert_error(ask(name, value).await, StatusCode::BAD_REQUEST, code).await;
    }
    granted(ask("resource", "latchkey-realtime").await).await;
}

#[tokio::test]
async fn introspection_tells_a_client_that_may_ask_what_a_token_is_worth_now() {
    let (service, secret) = service_with_client().await;
    let other = clients::add_client(&service.config.settings, "other", "rt.read").await;
    let other = basic("other", &other.expect("a client"));
    let header = basic("billing", &secret);
    let ask = |token: String, header: String| {
        let service = &service;
        async move {
            post(
                service,
                "/oauth/introspect",
                Some(&header),
                &[("token", &token)],
            )
            .await
        }
    };
    let login = service.login("alice").await;
    let (access, refresh) = (login.token.clone(), login.refresh_token.clone());
    let answer = ask(access.clone(), other).await;
    assert_error(answer, StatusCode::BAD_REQUEST, "unauthorized_client").await;
    let answer = post(&service, "/oauth/introspect", None, &[("token", &access)]).await;
    assert_error(answer, StatusCode::UNAUTHORIZED, "invalid_client").await;

    let told = granted(ask(access.clone(), header.clone()).await).await;
    assert_eq!(
        (&told["active"], &told["username"]),
        (&json!(true), &json!("alice"))
    );
    assert_eq!(told["client_id"], "latchkey-login");
    let told = granted(ask(refresh.clone(), header.clone()).await).await;
    assert_eq!(
        (&told["active"], &told["token_type"]),
        (&json!(true), &json!("refresh_token"))
    );
    let own =
        granted(post(&service, "/oauth/token", Some(&header), &CLIENT_CREDENTIALS).await).await;
    let own = own["access_token"].as_str().expect("a token").to_owned();
    assert_eq!(
        granted(ask(own, header.clone()).await).await["sub"],
        "client:billing"
    );

    service.post("/logout", Some(&access), &json!({})).await;
    for token in [
        access,
        refresh,
        "rubbish".to_owned(),
        "' or 1=1--".to_owned(),
    ] {
        let told = granted(ask(token, header.clone()).await).await;
        assert_eq!(told, json!({"active": false}));
    }
}

#[tokio::test]
async fn a_revoked_token_ends_its_session() {
    let (service, secret) = service_with_client().await;
    let revoke = |token: String, client: &'static str| {
        let service = &service;
        async move {
            let form = [("token", token.as_str()), ("client_id", client)];
            post(service, "/oauth/revoke", None, &form).await
        }
    };
    let is_signed_in = |login: Login| {
        let service = &service;
        async move {
            let answer = service
                .get_me(Some(&format!("Bearer {}", login.token)))
                .await;
            answer.status() == StatusCode::OK
        }
    };
    let bystander = service.login("alice").await;
    for by_refresh_token in [true, false] {
        let login = service.login("alice").await;
        let token = if by_refresh_token {
            &login.refresh_token
        } else {
            &login.token
        };
        let answer = post(&service, "/oauth/revoke", None, &[("token", token)]).await;
        assert_error(answer, StatusCode::BAD_REQUEST, "invalid_request").await;
        let header = basic("billing", &secret);
        let answer = post(
            &service,
            "/oauth/revoke",
            Some(&header),
            &[("token", token)],
        )
        .await;
        assert_error(answer, StatusCode::BAD_REQUEST, "unauthorized_client").await;
        assert!(is_signed_in(login.clone()).await);
        let answer = revoke(token.clone(), "latchkey-login").await;
        assert_eq!(answer.status(), StatusCode::OK);
        assert!(!is_signed_in(login).await);
    }
    let answer = revoke("rubbish".to_owned(), "latchkey-login").await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert!(is_signed_in(bystander).await);
}

#[tokio::test]
async fn a_refresh_token_that_was_rotated_is_revoked_with_its_session() {
    let (service, _) = service_with_client().await;
    let spent = service.login("alice").await;
    let bystander = service.login("alice").await;
    let answer = service.refresh(&spent.refresh_token).await;
    let current = Login::of(&answer.json().await.expect("JSON"));
    let me = async |token: &str| {
        let answer = service.get_me(Some(&format!("Bearer {token}"))).await;
        answer.status()
    };
    assert_eq!(me(&current.token).await, StatusCode::OK);
    let form = [
        ("token", spent.refresh_token.as_str()),
        ("client_id", "latchkey-login"),
    ];
    let answer = post(&service, "/oauth/revoke", None, &form).await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(me(&current.token).await, StatusCode::UNAUTHORIZED);
    let refused = service.refresh(&current.refresh_token).await;
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(me(&bystander.token).await, StatusCode::OK);
}

/// A copy is told from a token whose owner was away for too long, or has lost an answer.
#[tokio::test]
async fn a_revocation_is_a_theft_only_where_a_refresh_would_be_one() {
    let (service, _) = service_with_client().await;
    let refresh = async |token: &str| {
        let answer = service.refresh(token).await;
        Login::of(&answer.json().await.expect("JSON")).refresh_token
    };
    let revoke = async |login: &Login| {
        let form = [
            ("token", login.refresh_token.as_str()),
            ("client_id", "latchkey-login"),
        ];
        let answer = post(&service, "/oauth/revoke", None, &form).await;
        assert_eq!(answer.status(), StatusCode::OK);
    };
    // How many sessions have ended in which way.
    let ended = async || {
        let mut counts = [0; 2];
        for (count, reason) in counts
            .iter_mut()
            .zip(["logged_out", "refresh_token_reused"])
        {
            let touch = format!("update sessions set device = '' where end_reason = '{reason}'");
            *count = service.execute(&touch).await;
        }
        counts
    };
    revoke(&service.login("alice").await).await;
    assert_eq!(ended().await, [1, 0]);

    let away = service.login("alice").await;
    let age = "update refresh_tokens set expires_at = 1 where used_at is null";
    assert!(service.execute(age).await > 0);
    revoke(&away).await;
    assert_eq!(ended().await, [2, 0]);

    let lost = service.login("alice").await;
    refresh(&lost.refresh_token).await;
    revoke(&lost).await;
    assert_eq!(ended().await, [3, 0]);

    let copied = service.login("alice").await;
    refresh(&refresh(&copied.refresh_token).await).await;
    revoke(&copied).await;
    assert_eq!(ended().await, [3, 1]);
}
