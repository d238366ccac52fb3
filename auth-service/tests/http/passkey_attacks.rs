//! Attacks on sign-in and enrolment, each beside a request that differs in one thing and is accepted.

use std::time::SystemTime;

use auth_service::vault::{Purpose, Vault};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::{
    authenticator::Authenticator,
    fixture::{Service, problem},
    passkeys::{add, assert_refused, enrol, enrolment, login_options, present, sign_in},
};

/// A service on which alice has a passkey, and her token.
async fn with_passkey() -> (Service, String, Authenticator) {
    let (service, _) = Service::with_alice().await;
    let token = service.token_of("alice").await;
    let mut device = Authenticator::new();
    add(&service, &token, &mut device).await;
    (service, token, device)
}

/// Spoils the authenticator for one login, which is refused; the logins before and after are admitted.
async fn refuses_login(spoil: fn(&mut Authenticator), mend: fn(&mut Authenticator)) {
    let (service, _, mut device) = with_passkey().await;
    assert_eq!(
        sign_in(&service, &mut device).await.status(),
        StatusCode::OK
    );
    spoil(&mut device);
    assert_refused(sign_in(&service, &mut device).await).await;
    mend(&mut device);
    assert_eq!(
        sign_in(&service, &mut device).await.status(),
        StatusCode::OK
    );
}

/// Spoils the authenticator for one enrolment, which is refused; the next one is admitted.
async fn refuses_enrolment(
    spoil: fn(&mut Authenticator),
    mend: fn(&mut Authenticator),
    expected: (StatusCode, &str),
) {
    let (service, _) = Service::with_alice().await;
    let token = service.token_of("alice").await;
    let mut device = Authenticator::new();
    spoil(&mut device);
    let started = enrolment(&service, &token).await;
    let credential = device.create(&started["options"]);
    let refused = enrol(&service, &token, &started, &credential).await;
    problem(refused, expected.0, expected.1).await;
    mend(&mut device);
    let credential = device.create(&started["options"]);
    let answer = enrol(&service, &token, &started, &credential).await;
    assert_eq!(answer.status(), StatusCode::CREATED);
}

const REFUSED: (StatusCode, &str) = (StatusCode::UNAUTHORIZED, "passkey_refused");

fn to_other_page(device: &mut Authenticator) {
    device.origin = "http://localhost:9666".to_owned();
}

fn to_own_page(device: &mut Authenticator) {
    device.origin = "http://localhost:9000".to_owned();
}

#[tokio::test]
async fn a_page_that_is_not_listed() {
    refuses_login(to_other_page, to_own_page).await;
    refuses_enrolment(to_other_page, to_own_page, REFUSED).await;
}

#[tokio::test]
async fn a_listed_page_that_is_not_of_the_domain() {
    // Listed by default, and no page of localhost.
    let other = |device: &mut Authenticator| device.origin = "http://127.0.0.1:9000".to_owned();
    refuses_login(other, to_own_page).await;
}

#[tokio::test]
async fn a_page_in_a_frame_of_another_site() {
    let framed = |device: &mut Authenticator| device.in_frame = true;
    let alone = |device: &mut Authenticator| device.in_frame = false;
    refuses_login(framed, alone).await;
    refuses_enrolment(framed, alone, REFUSED).await;
}

#[tokio::test]
async fn a_signature_for_another_domain() {
    let other = |device: &mut Authenticator| device.rp_id = Some("example.org".to_owned());
    let own = |device: &mut Authenticator| device.rp_id = None;
    refuses_login(other, own).await;
    refuses_enrolment(other, own, REFUSED).await;
}

#[tokio::test]
async fn a_user_who_was_not_verified() {
    let unverified = |device: &mut Authenticator| device.verifies_user = false;
    let verified = |device: &mut Authenticator| device.verifies_user = true;
    refuses_login(unverified, verified).await;
    refuses_enrolment(unverified, verified, REFUSED).await;
}

#[tokio::test]
async fn a_counter_that_goes_back_or_stands_still() {
    // The enrolment has shown 1, and the login before the spoiled one has shown 2.
    let higher = |device: &mut Authenticator| device.counter = 3;
    refuses_login(|device| device.counter = 1, higher).await;
    refuses_login(|device| device.counter = 2, higher).await;
}

#[tokio::test]
async fn an_algorithm_that_was_not_offered() {
    // -15 in CBOR, which is no algorithm, for -7, ES256.
    let strange = |device: &mut Authenticator| device.claimed_algorithm = Some(0x2e);
    let own = |device: &mut Authenticator| device.claimed_algorithm = None;
    let expected = (StatusCode::BAD_REQUEST, "invalid_request");
    refuses_enrolment(strange, own, expected).await;
    // An offered one besides.
    let (service, _) = Service::with_alice().await;
    let token = service.token_of("alice").await;
    let mut device = Authenticator::with_ed25519();
    add(&service, &token, &mut device).await;
    assert_eq!(
        sign_in(&service, &mut device).await.status(),
        StatusCode::OK
    );
}

/// Points of Ed25519 with small order, as RFC 8032 encodes them, and the two that have another encoding.
const SMALL_ORDER: [&str; 10] = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
];

#[tokio::test]
async fn a_key_for_which_anybody_can_sign() {
    let more = SMALL_ORDER.len() as u32 + 1;
    let service = Service::start_with(|settings| settings.limits.codes_per_account = more).await;
    service.add_user("alice").await;
    let token = service.token_of("alice").await;
    let started = enrolment(&service, &token).await;
    let mut device = Authenticator::with_ed25519();
    for point in SMALL_ORDER {
        let mut bytes = [0; 32];
        for (byte, digits) in bytes.iter_mut().zip(point.as_bytes().chunks(2)) {
            let digits = std::str::from_utf8(digits).expect("digits");
            *byte = u8::from_str_radix(digits, 16).expect("hexadecimal");
        }
        device.claimed_point = Some(bytes);
        let credential = device.create(&started["options"]);
        assert_refused(enrol(&service, &token, &started, &credential).await).await;
    }
    device.claimed_point = None;
    let credential = device.create(&started["options"]);
    let answer = enrol(&service, &token, &started, &credential).await;
    assert_eq!(answer.status(), StatusCode::CREATED);
}

#[tokio::test]
async fn a_challenge_that_was_answered() {
    let (service, token, mut device) = with_passkey().await;
    let started = login_options(&service).await;
    let credential = device.get(&started["options"]);
    let answer = present(&service, &started, &credential).await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_refused(present(&service, &started, &credential).await).await;
    // Another signature with a higher counter to the same challenge.
    let again = device.get(&started["options"]);
    assert_refused(present(&service, &started, &again).await).await;
    assert_eq!(
        sign_in(&service, &mut device).await.status(),
        StatusCode::OK
    );

    let started = enrolment(&service, &token).await;
    let answer = async |device: &mut Authenticator| {
        let credential = device.create(&started["options"]);
        enrol(&service, &token, &started, &credential).await
    };
    let first = answer(&mut Authenticator::new()).await;
    assert_eq!(first.status(), StatusCode::CREATED);
    assert_refused(answer(&mut Authenticator::new()).await).await;
}

#[tokio::test]
async fn one_answer_at_the_same_time_signs_in_once() {
    let (service, _, mut device) = with_passkey().await;
    let started = login_options(&service).await;
    let credential = device.get(&started["options"]);
    let tries = (0..8).map(|_| present(&service, &started, &credential));
    let answers = futures_util::future::join_all(tries).await;
    let admitted = answers
        .iter()
        .filter(|answer| answer.status() == StatusCode::OK);
    assert_eq!(admitted.count(), 1);
}

#[tokio::test]
async fn a_state_of_another_challenge_or_another_ceremony() {
    let (service, token, mut device) = with_passkey().await;
    let (one, other) = (login_options(&service).await, login_options(&service).await);
    let credential = device.get(&one["options"]);
    let mixed = json!({"state": other["state"]});
    assert_refused(present(&service, &mixed, &credential).await).await;
    let enrolment = enrolment(&service, &token).await;
    let mixed = json!({"state": enrolment["state"]});
    assert_refused(present(&service, &mixed, &credential).await).await;
    for bad in ["", "AAAA", "not base64!"] {
        let mixed = json!({"state": bad});
        assert_refused(present(&service, &mixed, &credential).await).await;
    }
    let answer = present(&service, &one, &credential).await;
    assert_eq!(answer.status(), StatusCode::OK);
}

#[tokio::test]
async fn an_enrolment_that_another_user_started() {
    let (service, _) = Service::with_alice().await;
    let alice = service.token_of("alice").await;
    service.add_user("bob").await;
    let bob = service.token_of("bob").await;
    let started = enrolment(&service, &alice).await;
    let mut device = Authenticator::new();
    let credential = device.create(&started["options"]);
    assert_refused(enrol(&service, &bob, &started, &credential).await).await;
    let answer = enrol(&service, &alice, &started, &credential).await;
    assert_eq!(answer.status(), StatusCode::CREATED);
}

#[tokio::test]
async fn a_credential_of_another_account() {
    let (service, _, mut device) = with_passkey().await;
    service.add_user("bob").await;
    let bob = service.token_of("bob").await;
    let mut strange = Authenticator::new();
    add(&service, &bob, &mut strange).await;
    let (own_id, own_handle) = (strange.credential_id.clone(), strange.user_handle.clone());
    // Bob's key under the identifier of alice's credential, and under her handle.
    strange.credential_id.clone_from(&device.credential_id);
    assert_refused(sign_in(&service, &mut strange).await).await;
    strange.user_handle.clone_from(&device.user_handle);
    assert_refused(sign_in(&service, &mut strange).await).await;
    strange.credential_id = own_id;
    assert_refused(sign_in(&service, &mut strange).await).await;
    strange.user_handle = own_handle;
    assert_eq!(
        sign_in(&service, &mut strange).await.status(),
        StatusCode::OK
    );
    assert_eq!(
        sign_in(&service, &mut device).await.status(),
        StatusCode::OK
    );
}

#[tokio::test]
async fn what_is_no_credential_is_a_bad_request() {
    let (service, _, mut device) = with_passkey().await;
    let started = login_options(&service).await;
    let credential = device.get(&started["options"]);
    let without = |member: &str| {
        let mut credential = credential.clone();
        let response = credential["response"].as_object_mut().expect("an object");
        response.remove(member).expect("a member");
        credential
    };
    let with_handle = |handle: Value| {
        let mut credential = credential.clone();
        credential["response"]["userHandle"] = handle;
        credential
    };
    let handles = [Value::Null, json!(7), json!([])].map(with_handle);
    let text = Value::from("text");
    let parts = [
        "clientDataJSON",
        "authenticatorData",
        "signature",
        "userHandle",
    ];
    for bad in parts.map(without).iter().chain(&handles).chain([
        &json!({}),
        &json!([]),
        &text,
        &Value::Null,
    ]) {
        // Alone, and as a second factor.
        for challenge in [Value::Null, json!("rubbish")] {
            let body =
                json!({"state": started["state"], "credential": bad, "challenge": challenge});
            let answer = service.post("/login/passkey", None, &body).await;
            problem(answer, StatusCode::BAD_REQUEST, "invalid_request").await;
        }
    }
    let answer = present(&service, &started, &credential).await;
    assert_eq!(answer.status(), StatusCode::OK);
}

#[tokio::test]
async fn ten_wrong_answers_shut_a_passkey_and_no_other_one() {
    let (service, token, mut device) = with_passkey().await;
    let mut other = Authenticator::new();
    add(&service, &token, &mut other).await;
    to_other_page(&mut device);
    let most = service.config.settings.limits.codes_per_account;
    for _ in 0..most {
        assert_refused(sign_in(&service, &mut device).await).await;
    }
    to_own_page(&mut device);
    let shut = sign_in(&service, &mut device).await;
    problem(shut, StatusCode::TOO_MANY_REQUESTS, "rate_limited").await;
    assert_eq!(sign_in(&service, &mut other).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn an_answered_challenge_is_kept_until_it_has_expired() {
    let (service, _, mut device) = with_passkey().await;
    assert_eq!(
        sign_in(&service, &mut device).await.status(),
        StatusCode::OK
    );
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let soon = now.expect("a time").as_secs() + 290;
    let kept = format!("update passkey_challenges set hash = hash where expires_at > {soon}");
    // One of the enrolment, one of the login.
    assert_eq!(service.execute(&kept).await, 2);
}

/// Returns a state of a ceremony as if it had been made so many seconds earlier. The end of the ceremony
/// is `behind` bytes before the end of the state: seconds and nanoseconds, 12 bytes.
fn aged(service: &Service, owner: &str, started: &Value, behind: usize, secs: u64) -> Value {
    let vault = Vault::new(&service.config.secrets).expect("a vault");
    let state = started["state"].as_str().expect("a text");
    let sealed = URL_SAFE_NO_PAD.decode(state).expect("base64");
    let mut state = vault
        .open(Purpose::PasskeyState, owner, &sealed)
        .expect("our own");
    let at = state.len() - behind - 12;
    let place: &mut [u8; 8] = (&mut state[at..at + 8]).try_into().expect("8 bytes");
    let end = u64::from_le_bytes(*place);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let left = end - now.expect("a time").as_secs();
    assert!((290..=300).contains(&left), "{left}");
    *place = (end - secs).to_le_bytes();
    let sealed = vault.seal(Purpose::PasskeyState, owner, &state);
    let state = URL_SAFE_NO_PAD.encode(sealed.expect("sealed"));
    json!({"state": state})
}

#[tokio::test]
async fn an_answer_after_five_minutes() {
    let (service, id) = Service::with_alice().await;
    let token = service.token_of("alice").await;
    let started = enrolment(&service, &token).await;
    let mut device = Authenticator::new();
    let credential = device.create(&started["options"]);
    let owner = format!("enrolment {id} 0 0");
    let late = aged(&service, &owner, &started, 32, 301);
    assert_refused(enrol(&service, &token, &late, &credential).await).await;
    let in_time = aged(&service, &owner, &started, 32, 200);
    let answer = enrol(&service, &token, &in_time, &credential).await;
    assert_eq!(answer.status(), StatusCode::CREATED);

    let started = login_options(&service).await;
    let credential = device.get(&started["options"]);
    let late = aged(&service, "login", &started, 0, 301);
    assert_refused(present(&service, &late, &credential).await).await;
    let in_time = aged(&service, "login", &started, 0, 200);
    let answer = present(&service, &in_time, &credential).await;
    assert_eq!(answer.status(), StatusCode::OK);
}
