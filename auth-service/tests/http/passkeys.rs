//! `/passkeys`, `/login/passkey/options` and `/login/passkey`

use std::time::SystemTime;

use reqwest::{Response, StatusCode};
use serde_json::{Value, json};

use crate::{
    authenticator::Authenticator,
    fixture::{Login, PASSWORD, Service, problem},
    mailbox::Mailbox,
    second_factor::Enrolled,
};

/// Asks for the options of an enrolment.
pub(crate) async fn enrolment(service: &Service, token: &str) -> Value {
    let body = json!({"password": PASSWORD});
    let answer = service.post_owned("/passkeys/options", token, body).await;
    assert_eq!(answer.status(), StatusCode::OK);
    answer.json().await.expect("JSON")
}

/// Sends the answer of an authenticator to an enrolment.
pub(crate) async fn enrol(
    service: &Service,
    token: &str,
    started: &Value,
    credential: &Value,
) -> Response {
    let body = json!({"state": started["state"], "name": "My phone", "credential": credential});
    service.post_owned("/passkeys", token, body).await
}

/// Enrols a passkey, and returns its id.
pub(crate) async fn add(service: &Service, token: &str, device: &mut Authenticator) -> String {
    let started = enrolment(service, token).await;
    let credential = device.create(&started["options"]);
    let answer = enrol(service, token, &started, &credential).await;
    assert_eq!(answer.status(), StatusCode::CREATED);
    let answer: Value = answer.json().await.expect("JSON");
    answer["id"].as_str().expect("an id").to_owned()
}

/// Asks for the options of a login.
pub(crate) async fn login_options(service: &Service) -> Value {
    let answer = service.client.post(service.url("/login/passkey/options"));
    let answer = answer.send().await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::OK);
    answer.json().await.expect("JSON")
}

/// Sends the answer of an authenticator to a login.
pub(crate) async fn present(service: &Service, started: &Value, credential: &Value) -> Response {
    let body = json!({"state": started["state"], "credential": credential});
    service.post("/login/passkey", None, &body).await
}

/// Signs in with a passkey alone.
pub(crate) async fn sign_in(service: &Service, device: &mut Authenticator) -> Response {
    let started = login_options(service).await;
    let credential = device.get(&started["options"]);
    present(service, &started, &credential).await
}

pub(crate) async fn assert_refused(answer: Response) {
    problem(answer, StatusCode::UNAUTHORIZED, "passkey_refused").await;
}

async fn list(service: &Service, token: &str) -> Vec<Value> {
    let answer = service.client.get(service.url("/passkeys"));
    let answer = answer.bearer_auth(token).send().await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::OK);
    let answer: Value = answer.json().await.expect("JSON");
    answer["passkeys"].as_array().expect("passkeys").clone()
}

#[tokio::test]
async fn a_passkey_signs_in_without_a_name_and_a_password() {
    let (service, id) = Service::with_alice().await;
    let token = service.token_of("alice").await;
    let mut device = Authenticator::new();
    add(&service, &token, &mut device).await;
    let answer = sign_in(&service, &mut device).await;
    assert_eq!(answer.status(), StatusCode::OK);
    let login = Login::of(&answer.json().await.expect("JSON"));
    let verified = service.verifier().verify(&login.token, SystemTime::now());
    assert_eq!(verified.expect("accepted").sub, id);
    // A session like any other.
    let refreshed = service.refresh(&login.refresh_token).await;
    assert_eq!(refreshed.status(), StatusCode::OK);
    let used_at = list(&service, &token).await[0]["used_at"].clone();
    assert!(used_at.is_i64(), "{used_at}");
}

#[tokio::test]
async fn passkeys_of_an_account_count_as_its_right_logins() {
    let service = Service::start_with(|settings| {
        settings.limits.right_logins_per_account = 4;
    })
    .await;
    let mut devices = Vec::new();
    for name in ["alice", "bob"] {
        service.add_user(name).await;
        // One for the token, and one for the enrolment.
        let token = service.token_of(name).await;
        let mut device = Authenticator::new();
        add(&service, &token, &mut device).await;
        devices.push(device);
    }
    for _ in 0..2 {
        let answer = sign_in(&service, &mut devices[0]).await;
        assert_eq!(answer.status(), StatusCode::OK);
    }
    let limited = sign_in(&service, &mut devices[0]).await;
    problem(limited, StatusCode::TOO_MANY_REQUESTS, "rate_limited").await;
    let answer = sign_in(&service, &mut devices[1]).await;
    assert_eq!(answer.status(), StatusCode::OK);
}

#[tokio::test]
async fn the_options_ask_for_a_discoverable_credential_and_for_user_verification() {
    let (service, _) = Service::with_alice().await;
    let token = service.token_of("alice").await;
    let started = enrolment(&service, &token).await;
    let options = &started["options"];
    assert_eq!(options["rp"]["id"], "localhost");
    assert_eq!(options["user"]["name"], "alice");
    assert_eq!(options["attestation"], "none");
    let selection = &options["authenticatorSelection"];
    assert_eq!(selection["residentKey"], "required");
    assert_eq!(selection["userVerification"], "required");
    let mut device = Authenticator::new();
    let credential = device.create(options);
    enrol(&service, &token, &started, &credential).await;
    // The second enrolment names the first passkey, so that its device makes no other.
    let second = enrolment(&service, &token).await;
    let excluded = &second["options"]["excludeCredentials"][0];
    assert_eq!(excluded["id"], credential["id"]);
    let login = login_options(&service).await;
    assert_eq!(login["options"]["rpId"], "localhost");
    assert_eq!(login["options"]["userVerification"], "required");
    // A client without an account is shown the same.
    assert!(
        login["options"]["allowCredentials"]
            .as_array()
            .is_none_or(Vec::is_empty)
    );
}

#[tokio::test]
async fn a_passkey_stands_for_the_code_of_a_second_factor() {
    let enrolled = Enrolled::on(Service::start().await).await;
    let service = &enrolled.service;
    let token = enrolled.token.as_str();
    let options = |code: Option<String>| async move {
        let body = json!({"password": PASSWORD, "code": code});
        service.post_owned("/passkeys/options", token, body).await
    };
    // A password alone must not add what signs in without a code.
    let refused = options(None).await;
    problem(refused, StatusCode::UNAUTHORIZED, "code_refused").await;
    let refused = options(Some("000000".to_owned())).await;
    problem(refused, StatusCode::UNAUTHORIZED, "code_refused").await;
    let answer = options(Some(enrolled.code(0))).await;
    assert_eq!(answer.status(), StatusCode::OK);
    let started: Value = answer.json().await.expect("JSON");
    let mut device = Authenticator::new();
    let credential = device.create(&started["options"]);
    let answer = enrol(service, token, &started, &credential).await;
    assert_eq!(answer.status(), StatusCode::CREATED);

    let challenge = enrolled.challenge().await;
    let started = login_options(service).await;
    let mut present = async |challenge: &str, options: &Value| {
        let credential = device.get(&options["options"]);
        let state = &options["state"];
        let body = json!({"challenge": challenge, "state": state, "credential": credential});
        service.post("/login/passkey", None, &body).await
    };
    assert_refused(present("another", &started).await).await;
    let answer = present(&challenge, &started).await;
    assert_eq!(answer.status(), StatusCode::OK);
    // The challenge of the login is used up, for passkeys and for codes.
    let next = login_options(service).await;
    assert_refused(present(&challenge, &next).await).await;
    let code = enrolled.answer(&challenge, &enrolled.code(1)).await;
    problem(code, StatusCode::UNAUTHORIZED, "code_refused").await;
}

#[tokio::test]
async fn the_second_half_of_a_login_takes_no_passkey_of_another_account() {
    let enrolled = Enrolled::on(Service::start().await).await;
    let service = &enrolled.service;
    service.add_user("bob").await;
    let bob = service.token_of("bob").await;
    let mut device = Authenticator::new();
    add(service, &bob, &mut device).await;
    let challenge = enrolled.challenge().await;
    let started = login_options(service).await;
    let credential = device.get(&started["options"]);
    let mut body = json!({"state": started["state"], "credential": credential});
    body["challenge"] = challenge.into();
    assert_refused(service.post("/login/passkey", None, &body).await).await;
    // The same answer without alice's challenge signs bob in.
    body.as_object_mut().expect("an object").remove("challenge");
    let answer = service.post("/login/passkey", None, &body).await;
    assert_eq!(answer.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_passkey_is_listed_renamed_and_removed_by_its_owner_alone() {
    let (service, _) = Service::with_alice().await;
    let token = service.token_of("alice").await;
    service.add_user("bob").await;
    let bob = service.token_of("bob").await;
    let mut device = Authenticator::new();
    let id = add(&service, &token, &mut device).await;
    let listed = list(&service, &token).await;
    assert_eq!(listed.len(), 1);
    assert_eq!(
        (&listed[0]["id"], &listed[0]["name"]),
        (&json!(id), &json!("My phone"))
    );
    assert!(listed[0]["used_at"].is_null());
    assert!(list(&service, &bob).await.is_empty());

    let path = format!("/passkeys/{id}");
    let name = json!({"name": " Work laptop "});
    let other = service.post_owned(&path, &bob, name.clone()).await;
    problem(other, StatusCode::NOT_FOUND, "passkey_not_found").await;
    let renamed = service.post_owned(&path, &token, name).await;
    assert_eq!(renamed.status(), StatusCode::NO_CONTENT);
    assert_eq!(list(&service, &token).await[0]["name"], "Work laptop");
    let empty = service
        .post_owned(&path, &token, json!({"name": " "}))
        .await;
    problem(empty, StatusCode::BAD_REQUEST, "invalid_request").await;

    // An id that can be none.
    for path in ["/passkeys/a%00b", "/passkeys/%20"] {
        let none = service.post_owned(path, &token, json!({"name": "Phone"}));
        problem(none.await, StatusCode::NOT_FOUND, "passkey_not_found").await;
    }

    let path = format!("/passkeys/{id}/remove");
    let password = |password: &str| json!({"password": password});
    let other = service.post_owned(&path, &bob, password(PASSWORD)).await;
    problem(other, StatusCode::NOT_FOUND, "passkey_not_found").await;
    let stolen = service.post_owned(&path, &token, password("wrong")).await;
    problem(stolen, StatusCode::UNAUTHORIZED, "invalid_credentials").await;
    let login = sign_in(&service, &mut device).await;
    assert_eq!(login.status(), StatusCode::OK);
    let removed = service.post_owned(&path, &token, password(PASSWORD)).await;
    assert_eq!(removed.status(), StatusCode::NO_CONTENT);
    assert!(list(&service, &token).await.is_empty());
    assert_refused(sign_in(&service, &mut device).await).await;
}

#[tokio::test]
async fn an_enrolment_asks_for_the_password_again() {
    let (service, _) = Service::with_alice().await;
    let token = service.token_of("alice").await;
    let post = async |password: &str| {
        let body = json!({"password": password});
        service.post_owned("/passkeys/options", &token, body).await
    };
    let stolen = post("wrong").await;
    problem(stolen, StatusCode::UNAUTHORIZED, "invalid_credentials").await;
    assert_eq!(post(PASSWORD).await.status(), StatusCode::OK);
    let body = json!({"password": PASSWORD});
    let nobody = service.post("/passkeys/options", None, &body).await;
    assert_eq!(nobody.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_disabled_account_and_one_without_a_passkey_are_refused_alike() {
    let (service, _) = Service::with_alice().await;
    let token = service.token_of("alice").await;
    let (mut device, mut strange) = (Authenticator::new(), Authenticator::new());
    add(&service, &token, &mut device).await;
    strange.user_handle.clone_from(&device.user_handle);
    assert_eq!(
        sign_in(&service, &mut device).await.status(),
        StatusCode::OK
    );
    service.disable_user("alice").await;
    let disabled = sign_in(&service, &mut device).await;
    let unknown = sign_in(&service, &mut strange).await;
    assert_eq!(disabled.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(disabled.status(), unknown.status());
    let (disabled, unknown) = (disabled.text().await, unknown.text().await);
    assert_eq!(disabled.expect("text"), unknown.expect("text"));
}

#[tokio::test]
async fn a_ceremony_goes_on_after_a_restart_and_its_answer_counts_once() {
    let (service, _) = Service::with_alice().await;
    let token = service.token_of("alice").await;
    let started = enrolment(&service, &token).await;
    let service = service.restart_with(|_| {}).await;
    let mut device = Authenticator::new();
    let credential = device.create(&started["options"]);
    let answer = enrol(&service, &token, &started, &credential).await;
    assert_eq!(answer.status(), StatusCode::CREATED);
    let started = login_options(&service).await;
    let credential = device.get(&started["options"]);
    let service = service.restart_with(|_| {}).await;
    let answer = present(&service, &started, &credential).await;
    assert_eq!(answer.status(), StatusCode::OK);
    let service = service.restart_with(|_| {}).await;
    assert_refused(present(&service, &started, &credential).await).await;
}

#[tokio::test]
async fn where_no_page_can_use_them_passkeys_are_off() {
    let service = Service::start_with(|settings| {
        settings.origins = vec!["https://elsewhere.example".to_owned()];
    })
    .await;
    service.add_user("alice").await;
    let token = service.token_of("alice").await;
    let body = json!({"password": PASSWORD});
    let answer = service.post_owned("/passkeys/options", &token, body).await;
    problem(answer, StatusCode::NOT_FOUND, "passkeys_off").await;
    let answer = service.client.post(service.url("/login/passkey/options"));
    let answer = answer.send().await.expect("an answer");
    problem(answer, StatusCode::NOT_FOUND, "passkeys_off").await;
    assert!(rp_id(&service).await.is_null());
    assert_eq!(rp_id(&Service::start().await).await, "localhost");
}

/// Returns the domain of passkeys in the metadata, by which pages know whether to offer them.
async fn rp_id(service: &Service) -> Value {
    let url = service.url("/.well-known/oauth-authorization-server");
    let answer = service.client.get(url).send().await.expect("an answer");
    let metadata: Value = answer.json().await.expect("JSON");
    metadata["passkeys_rp_id"].clone()
}

#[tokio::test]
async fn an_account_has_20_passkeys_at_most_and_no_credential_twice() {
    let (service, _) = Service::with_alice().await;
    let token = service.token_of("alice").await;
    let mut device = Authenticator::new();
    for _ in 0..19 {
        add(&service, &token, &mut Authenticator::new()).await;
    }
    add(&service, &token, &mut device).await;
    let mut next = Authenticator::new();
    let started = enrolment(&service, &token).await;
    let credential = next.create(&started["options"]);
    let full = enrol(&service, &token, &started, &credential).await;
    problem(full, StatusCode::CONFLICT, "passkey_conflict").await;
    service.add_user("bob").await;
    let bob = service.token_of("bob").await;
    let started = enrolment(&service, &bob).await;
    let credential = device.create(&started["options"]);
    let taken = enrol(&service, &bob, &started, &credential).await;
    problem(taken, StatusCode::CONFLICT, "passkey_conflict").await;
    let credential = next.create(&started["options"]);
    let added = enrol(&service, &bob, &started, &credential).await;
    assert_eq!(added.status(), StatusCode::CREATED);
}

#[tokio::test]
async fn a_mail_tells_the_owner_of_a_verified_address_of_a_new_passkey() {
    let mut mailbox = Mailbox::start();
    let service = Service::start_with(|settings| mailbox.configure(settings)).await;
    service.add_user("bob").await;
    service.add_verified_user("alice").await;
    // Nobody has verified that the address is bob's.
    for name in ["bob", "alice"] {
        let token = service.token_of(name).await;
        add(&service, &token, &mut Authenticator::new()).await;
    }
    let mail = mailbox.next().await;
    assert_eq!(mail.text("type"), "mail.passkey_added");
    assert_eq!(mail.text("to"), "alice@example.org");
}
