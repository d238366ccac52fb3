//! Limits of logins.

use reqwest::{RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};

use crate::fixture::{Login, PASSWORD, Service, problem};

async fn service_with(logins_per_name: u32, logins_per_address: u32) -> Service {
    let service = Service::start_with(|settings| {
        settings.limits.logins_per_name = logins_per_name;
        settings.limits.logins_per_address = logins_per_address;
        settings.limits.logins_per_device = 3;
        settings.trusted_proxies = vec!["127.0.0.0/8".parse().expect("a network")];
    })
    .await;
    service.add_user("alice").await;
    service
}

/// A login that the trusted proxy says comes from `address`.
fn login_from(service: &Service, address: &str, username: &str, password: &str) -> RequestBuilder {
    service
        .client
        .post(service.url("/login"))
        .header("x-forwarded-for", address)
        .json(&json!({"username": username, "password": password}))
}

async fn send(request: RequestBuilder) -> Response {
    request.send().await.expect("an answer")
}

/// Everything of an answer that a visitor can compare, but for the time.
async fn visible(answer: Response) -> (StatusCode, String, String) {
    let mut headers = answer.headers().clone();
    headers.remove("date");
    let status = answer.status();
    let body = answer.text().await.expect("text");
    (status, format!("{headers:?}"), body)
}

#[tokio::test]
async fn a_name_is_shut_for_strangers_and_that_looks_like_a_wrong_password() {
    let service = service_with(3, 1_000).await;
    service.add_user("bob").await;
    let wrong = visible(send(login_from(&service, "192.0.2.1", "bob", "wrong")).await).await;
    assert_eq!(wrong.0, StatusCode::UNAUTHORIZED);
    for number in 0..3 {
        let address = format!("198.51.100.{number}");
        send(login_from(&service, &address, "alice", "wrong")).await;
        send(login_from(&service, &address, "nobody", "wrong")).await;
    }
    for (name, password) in [
        ("alice", PASSWORD),
        ("ALICE", PASSWORD),
        ("nobody", PASSWORD),
    ] {
        let shut = visible(send(login_from(&service, "203.0.113.1", name, password)).await).await;
        assert_eq!(shut, wrong, "{name}");
    }
    let open = send(login_from(&service, "203.0.113.1", "bob", PASSWORD)).await;
    assert_eq!(open.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_known_device_keeps_its_lane_while_strangers_try() {
    let service = service_with(3, 1_000).await;
    service.add_user("bob").await;
    let token_of = |name: &'static str| {
        let service = &service;
        async move {
            let answer = send(login_from(service, "192.0.2.1", name, PASSWORD)).await;
            assert_eq!(answer.status(), StatusCode::OK);
            let answer: Value = answer.json().await.expect("JSON");
            answer["device_token"].as_str().expect("a proof").to_owned()
        }
    };
    let (own, foreign) = (token_of("alice").await, token_of("bob").await);
    for number in 0..5 {
        let address = format!("198.51.100.{number}");
        send(login_from(&service, &address, "alice", "wrong")).await;
    }
    let login = |proof: String, password: &'static str| {
        let body = json!({"username": "alice", "password": password, "device_token": proof});
        let request = service.client.post(service.url("/login")).json(&body);
        async move { send(request).await.status() }
    };
    assert_eq!(login(foreign, PASSWORD).await, StatusCode::UNAUTHORIZED);
    assert_eq!(
        login("rubbish".to_owned(), PASSWORD).await,
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(login(own.clone(), PASSWORD).await, StatusCode::OK);
    // The device has as many attempts as anybody, and then it is a stranger too.
    for _ in 0..3 {
        assert_eq!(login(own.clone(), "wrong").await, StatusCode::UNAUTHORIZED);
    }
    assert_eq!(login(own, PASSWORD).await, StatusCode::UNAUTHORIZED);
}

/// Whoever knew the password for a minute may have made any number of proofs.
#[tokio::test]
async fn a_proof_of_a_device_ends_with_the_password_that_it_was_made_with() {
    let service = service_with(2, 1_000).await;
    let answer = send(login_from(&service, "192.0.2.1", "alice", PASSWORD)).await;
    let early: Value = answer.json().await.expect("JSON");
    let new = "barley is not sesame";
    let change = json!({"current_password": PASSWORD, "new_password": new});
    let own = Login::of(&early);
    let changed = service.post_owned("/password", &own.token, change).await;
    assert_eq!(changed.status(), StatusCode::NO_CONTENT);
    let answer = send(login_from(&service, "192.0.2.1", "alice", new)).await;
    let late: Value = answer.json().await.expect("JSON");
    for number in 0..2 {
        let address = format!("198.51.100.{number}");
        send(login_from(&service, &address, "alice", "wrong")).await;
    }
    for (proof, expected) in [(&early, StatusCode::UNAUTHORIZED), (&late, StatusCode::OK)] {
        let mut body = json!({"username": "alice", "password": new});
        body["device_token"] = proof["device_token"].clone();
        let request = service.client.post(service.url("/login")).json(&body);
        assert_eq!(send(request).await.status(), expected);
    }
}

#[tokio::test]
async fn right_logins_of_an_account_are_counted_for_it_alone() {
    let service = Service::start_with(|settings| {
        settings.limits.right_logins_per_account = 3;
        settings.limits.logins_per_name = 2;
    })
    .await;
    service.add_user("alice").await;
    service.add_user("bob").await;
    let status = async |name, password| service.post_login(name, password).await.status();
    // Wrong passwords are no matter of this limit.
    assert_eq!(status("alice", "wrong").await, StatusCode::UNAUTHORIZED);
    for _ in 0..2 {
        assert_eq!(status("alice", PASSWORD).await, StatusCode::OK);
    }
    // Wherever a password is right.
    let token = service.login("alice").await.token;
    let again = json!({"password": PASSWORD});
    let limited = service.post("/totp", Some(&token), &again).await;
    assert!(limited.headers().contains_key("retry-after"));
    problem(limited, StatusCode::TOO_MANY_REQUESTS, "rate_limited").await;
    for password in [PASSWORD, "wrong"] {
        assert_eq!(
            status("alice", password).await,
            StatusCode::TOO_MANY_REQUESTS
        );
    }
    assert_eq!(status("bob", PASSWORD).await, StatusCode::OK);
}

/// Somebody at the same address has failed too often.
#[tokio::test]
async fn a_known_device_answers_for_itself_at_an_address_that_others_have_used_up() {
    let service = service_with(1_000, 4).await;
    service.add_user("bob").await;
    let proof = async |name| {
        let answer = send(login_from(&service, "192.0.2.1", name, PASSWORD)).await;
        answer.json::<Value>().await.expect("JSON")
    };
    let (alice, bob) = (proof("alice").await, proof("bob").await);
    for number in 0..4 {
        let name = format!("nobody-{number}");
        send(login_from(&service, "192.0.2.1", &name, "wrong")).await;
    }
    let login = async |proof: &Value, password: &str| {
        let mut body = json!({"username": "alice", "password": password});
        body["device_token"] = proof["device_token"].clone();
        let request = service.client.post(service.url("/login"));
        let request = request.header("x-forwarded-for", "192.0.2.1").json(&body);
        send(request).await.status()
    };
    let limited = StatusCode::TOO_MANY_REQUESTS;
    let stranger = send(login_from(&service, "192.0.2.1", "alice", PASSWORD)).await;
    assert_eq!(stranger.status(), limited);
    assert_eq!(login(&bob, PASSWORD).await, limited);
    assert_eq!(login(&alice, PASSWORD).await, StatusCode::OK);
    // A session is a device that has signed in.
    let own = Login::of(&alice);
    let body = json!({"password": PASSWORD});
    let request = service.client.post(service.url("/totp")).json(&body);
    let request = request.header("x-forwarded-for", "192.0.2.1");
    let answer = send(request.bearer_auth(&own.token)).await;
    assert_eq!(answer.status(), StatusCode::OK);
    // Its failures are its own, and no more than those of its lane.
    for _ in 0..3 {
        assert_eq!(login(&alice, "wrong").await, StatusCode::UNAUTHORIZED);
    }
    assert_eq!(login(&alice, PASSWORD).await, limited);
}

#[tokio::test]
async fn an_address_is_told_when_to_come_back_and_its_own_success_resets_nothing() {
    let service = service_with(1_000, 4).await;
    let from = |address, password| send(login_from(&service, address, "alice", password));
    for _ in 0..2 {
        assert_eq!(
            from("192.0.2.1", "wrong").await.status(),
            StatusCode::UNAUTHORIZED
        );
    }
    assert_eq!(from("192.0.2.1", PASSWORD).await.status(), StatusCode::OK);
    for _ in 0..2 {
        assert_eq!(
            from("192.0.2.1", "wrong").await.status(),
            StatusCode::UNAUTHORIZED
        );
    }
    let answer = from("192.0.2.1", PASSWORD).await;
    let wait = answer.headers()["retry-after"]
        .to_str()
        .expect("text")
        .to_owned();
    let wait: u64 = wait.parse().expect("seconds");
    assert!((1..=225).contains(&wait), "{wait}");
    problem(answer, StatusCode::TOO_MANY_REQUESTS, "rate_limited").await;
    assert_eq!(from("192.0.2.2", PASSWORD).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn an_address_of_ipv6_counts_with_its_64_bits() {
    let service = service_with(1_000, 2).await;
    for host in ["2001:db8:0:1::1", "2001:db8:0:1::2"] {
        send(login_from(&service, host, "alice", "wrong")).await;
    }
    let from = |address| send(login_from(&service, address, "alice", PASSWORD));
    let limited = from("2001:db8:0:1:ffff::3").await;
    problem(limited, StatusCode::TOO_MANY_REQUESTS, "rate_limited").await;
    assert_eq!(from("2001:db8:0:2::1").await.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_header_of_a_stranger_moves_nobodys_counter() {
    let service = Service::start_with(|settings| settings.limits.logins_per_address = 3).await;
    service.add_user("alice").await;
    for (header, number) in ["x-forwarded-for", "forwarded", "x-real-ip"]
        .iter()
        .zip(1..)
    {
        let request = service.client.post(service.url("/login"));
        let request = request.header(*header, format!("192.0.2.{number}"));
        let body = json!({"username": "alice", "password": "wrong"});
        assert_eq!(
            send(request.json(&body)).await.status(),
            StatusCode::UNAUTHORIZED
        );
    }
    let limited = service.post_login("alice", PASSWORD).await;
    problem(limited, StatusCode::TOO_MANY_REQUESTS, "rate_limited").await;
}

/// Strangers have shut the name of somebody who is signed in.
#[tokio::test]
async fn a_device_that_is_signed_in_changes_what_guards_the_account_while_strangers_try() {
    let service = service_with(3, 1_000).await;
    let login = |address: &'static str| send(login_from(&service, address, "alice", PASSWORD));
    let answer: Value = login("192.0.2.1").await.json().await.expect("JSON");
    let (own, proof) = (Login::of(&answer), answer["device_token"].clone());
    let post = |path: &'static str, body: Value| service.post_owned(path, &own.token, body);
    for number in 0..5 {
        let address = format!("198.51.100.{number}");
        send(login_from(&service, &address, "alice", "wrong")).await;
    }
    let stranger = login("203.0.113.1").await;
    problem(stranger, StatusCode::UNAUTHORIZED, "invalid_credentials").await;

    let wrong = post("/totp", json!({"password": "wrong"})).await;
    problem(wrong, StatusCode::UNAUTHORIZED, "invalid_credentials").await;
    let answer = post("/totp", json!({"password": PASSWORD})).await;
    assert_eq!(answer.status(), StatusCode::OK);
    let new = "barley is not sesame";
    for (current, new, proof) in [(PASSWORD, new, json!(null)), (new, PASSWORD, proof)] {
        let mut body = json!({"current_password": current, "new_password": new});
        if proof.is_string() {
            body["device_token"] = proof;
        }
        let answer = post("/password", body).await;
        assert_eq!(answer.status(), StatusCode::NO_CONTENT);
    }
    // The device has as many attempts as at a login, and then counts for the name.
    for _ in 0..3 {
        post("/totp", json!({"password": "wrong"})).await;
    }
    let shut = post("/totp", json!({"password": PASSWORD})).await;
    problem(shut, StatusCode::UNAUTHORIZED, "invalid_credentials").await;
}

#[tokio::test]
async fn refused_refresh_tokens_and_challenges_count_for_their_address() {
    let service = Service::start_with(|settings| {
        settings.limits.tokens_per_address = 3;
        settings.limits.logins_per_address = 3;
        settings.trusted_proxies = vec!["127.0.0.0/8".parse().expect("a network")];
    })
    .await;
    service.add_user("alice").await;
    let login = service.login("alice").await;
    let refresh = |address: &'static str, token: &str| {
        let request = service.client.post(service.url("/token/refresh"));
        let request = request.header("x-forwarded-for", address);
        send(request.json(&json!({"refresh_token": token})))
    };
    let revoke = |address: &'static str| {
        let form = [("token", "rubbish"), ("client_id", "latchkey-login")];
        let request = service.client.post(service.url("/oauth/revoke"));
        send(request.header("x-forwarded-for", address).form(&form))
    };
    for _ in 0..2 {
        let refused = refresh("192.0.2.1", "rubbish").await;
        problem(refused, StatusCode::UNAUTHORIZED, "invalid_grant").await;
    }
    assert_eq!(revoke("192.0.2.1").await.status(), StatusCode::OK);
    let limited = refresh("192.0.2.1", "rubbish").await;
    assert!(limited.headers().contains_key("retry-after"));
    problem(limited, StatusCode::TOO_MANY_REQUESTS, "rate_limited").await;
    let limited = revoke("192.0.2.1").await;
    assert_eq!(limited.status(), StatusCode::TOO_MANY_REQUESTS);
    // Failures of others refuse no right token, and no other address.
    let answer = refresh("192.0.2.1", &login.refresh_token).await;
    assert_eq!(answer.status(), StatusCode::OK);
    let refused = refresh("192.0.2.2", "rubbish").await;
    problem(refused, StatusCode::UNAUTHORIZED, "invalid_grant").await;

    let code = |address: &'static str| {
        let request = service.client.post(service.url("/login/totp"));
        let request = request.header("x-forwarded-for", address);
        send(request.json(&json!({"challenge": "rubbish", "code": "000000"})))
    };
    for _ in 0..3 {
        let refused = code("192.0.2.3").await;
        problem(refused, StatusCode::UNAUTHORIZED, "code_refused").await;
    }
    let limited = code("192.0.2.3").await;
    problem(limited, StatusCode::TOO_MANY_REQUESTS, "rate_limited").await;
    let refused = code("192.0.2.4").await;
    problem(refused, StatusCode::UNAUTHORIZED, "code_refused").await;
}
