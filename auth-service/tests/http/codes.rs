//! Codes of the second factor in several requests: at once, from known devices and from strangers.

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::{
    fixture::problem,
    second_factor::{Enrolled, assert_refused},
};

#[tokio::test]
async fn white_space_around_a_code_is_removed_and_inside_it_is_refused() {
    let enrolled = Enrolled::start().await;
    let code = enrolled.code(0);
    for (text, expected) in [
        (format!("{} {}", &code[..3], &code[3..]), 401),
        (format!(" {code}\n"), 200),
        (format!("\t{}\u{3000}", enrolled.recovery_codes[0]), 200),
    ] {
        let challenge = enrolled.challenge().await;
        let answer = enrolled.answer(&challenge, &text).await;
        assert_eq!(answer.status().as_u16(), expected, "{text:?}");
    }
}

#[tokio::test]
async fn who_knows_the_password_alone_does_not_shut_the_codes_of_a_known_device() {
    let enrolled = Enrolled::start().await;
    let challenge = enrolled.challenge().await;
    let answer = enrolled.answer(&challenge, &enrolled.code(-1)).await;
    let answer: Value = answer.json().await.expect("JSON");
    let device = answer["device_token"]
        .as_str()
        .expect("a device")
        .to_owned();
    let answer_on = async |device: Option<&str>, code: &str| {
        let challenge = enrolled.challenge().await;
        let body = json!({"challenge": challenge, "code": code, "device_token": device});
        enrolled.service.post("/login/totp", None, &body).await
    };
    let own = Some(device.as_str());
    let most = enrolled.service.config.settings.limits.codes_per_account;
    for _ in 0..most {
        assert_refused(answer_on(None, "AAAAAA").await).await;
    }
    let shut = answer_on(None, &enrolled.code(0)).await;
    problem(shut, StatusCode::TOO_MANY_REQUESTS, "rate_limited").await;
    let answer = answer_on(own, &enrolled.code(0)).await;
    assert_eq!(answer.status(), StatusCode::OK);
    // Another device token is of the same lane.
    let answer: Value = answer.json().await.expect("JSON");
    let other = answer["device_token"].as_str().expect("a device");
    for number in 0..most {
        let device = if number % 2 == 0 { own } else { Some(other) };
        assert_refused(answer_on(device, "AAAAAA").await).await;
    }
    for device in [own, Some(other)] {
        let shut = answer_on(device, &enrolled.recovery_codes[0]).await;
        problem(shut, StatusCode::TOO_MANY_REQUESTS, "rate_limited").await;
    }
}

#[tokio::test]
async fn of_four_recovery_codes_at_once_on_one_challenge_one_is_spent() {
    let enrolled = Enrolled::start().await;
    let url = enrolled.service.url("/login/totp");
    let challenge = enrolled.challenge().await;
    let codes = &enrolled.recovery_codes[..4];
    let mut using = tokio::task::JoinSet::new();
    for code in codes {
        let body = json!({"challenge": challenge, "code": code});
        let request = enrolled.service.client.post(&url).json(&body);
        using.spawn(async move { request.send().await.expect("an answer").status() });
    }
    let statuses = using.join_all().await;
    let signed_in = statuses.iter().filter(|status| **status == StatusCode::OK);
    assert_eq!(signed_in.count(), 1, "{statuses:?}");
    let mut unused = 0;
    for code in codes {
        let challenge = enrolled.challenge().await;
        let answer = enrolled.answer(&challenge, code).await;
        unused += usize::from(answer.status() == StatusCode::OK);
    }
    assert_eq!(unused, 3);
}

#[tokio::test]
async fn of_many_uses_of_one_recovery_code_at_once_one_signs_in() {
    let enrolled = Enrolled::start().await;
    let url = enrolled.service.url("/login/totp");
    let code = &enrolled.recovery_codes[0];
    let mut using = tokio::task::JoinSet::new();
    // Fewer than the wrong codes that an account may have.
    for _ in 0..8 {
        let body = json!({"challenge": enrolled.challenge().await, "code": code});
        let request = enrolled.service.client.post(&url).json(&body);
        using.spawn(async move { request.send().await.expect("an answer").status() });
    }
    let statuses = using.join_all().await;
    let count = |status| statuses.iter().filter(|one| **one == status).count();
    assert_eq!(count(StatusCode::OK), 1, "{statuses:?}");
    assert_eq!(count(StatusCode::UNAUTHORIZED), 7, "{statuses:?}");
    // Another code is another one.
    let challenge = enrolled.challenge().await;
    let answer = enrolled.answer(&challenge, &enrolled.recovery_codes[1]);
    assert_eq!(answer.await.status(), StatusCode::OK);
}
