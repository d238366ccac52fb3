//! Behaviour of the service when its database is not as it should be.

use reqwest::StatusCode;

use crate::fixture::{PASSWORD, Service, problem};

#[tokio::test]
async fn a_stored_hash_that_cannot_be_used_is_a_wrong_password() {
    let (service, _) = Service::with_alice().await;
    service.add_user("bob").await;
    for hash in [
        "",
        "nonsense",
        "$argon2id$v=19$m=4194304,t=2,p=1$c2FsdHNhbHQ$aGFzaA",
        "$argon2id$v=19$m=19456,t=2,p=1$c2Fs",
        "$2b$12$abcdefghijklmnopqrstuv",
    ] {
        let statement =
            format!("update users set password_hash = '{hash}' where username = 'alice'");
        assert_eq!(service.execute(&statement).await, 1);
        let answer = service.post_login("alice", PASSWORD).await;
        problem(answer, StatusCode::UNAUTHORIZED, "invalid_credentials").await;
    }
    service.token_of("bob").await;
}
