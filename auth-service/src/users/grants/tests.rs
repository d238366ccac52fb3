//! Grants and claims that a token has room for.

use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Map, Value};
use shared_claims::{
    claims::{LOGIN_CLIENT_ID, Profile, REALTIME_AUDIENCE},
    ids::MAXIMUM_IDENTIFIER_BYTES,
};
use tempfile::TempDir;

use super::*;
use crate::{
    config::{DatabaseUrl, GrantRule},
    credentials::hash::StoredHash,
    store::{NewAccount, event::Actor},
    tokens::{NewToken, Signer},
    users::Administration,
};

async fn store() -> (Store, TempDir) {
    let directory = tempfile::tempdir().expect("a directory");
    let url = DatabaseUrl::sqlite(&directory.path().join("grants.db"));
    (Store::open(&url).await.expect("a store"), directory)
}

async fn add_account(store: &Store, id: &str) {
    let account = NewAccount {
        id: id.to_owned(),
        username: id.to_owned(),
        skeleton: id.to_owned(),
        password_hash: StoredHash::from("a hash"),
        profile: Profile::default(),
        email: None,
        created_at: 1_000,
    };
    store.insert_account(&account).await.expect("a write");
}

/// Returns grants for so many patterns of so many bytes.
fn grants(count: usize, bytes: usize) -> Vec<NewGrant> {
    let grant = |number| NewGrant {
        room: format!("{number:0>bytes$}"),
        actions: vec![Action::Publish],
    };
    (0..count).map(grant).collect()
}

/// Returns so many claims with values of so many bytes.
fn claims(count: usize, bytes: usize) -> Map<String, Value> {
    let claim = |number| (format!("c{number}"), "x".repeat(bytes).into());
    (0..count).map(claim).collect()
}

#[tokio::test]
async fn grants_and_claims_that_are_written_at_once_have_room_in_a_token_together() {
    let (store, _directory) = store().await;
    let settings = Settings::default();
    let manager = Administration::new(&store, Actor::Command, &settings);
    for round in 0..10 {
        let id = format!("user-{round}");
        add_account(&store, &id).await;
        let (grants, claims) = (grants(13, 200), claims(1, 900));
        let set = tokio::join!(
            manager.set_grants(&id, &grants),
            manager.set_claims(&id, None, Some(claims)),
        );
        assert!(set.0.is_ok() != set.1.is_ok(), "round {round}: {set:?}");
    }
}

/// Signs the token of a subject with the longest profile.
fn sign(settings: &Settings, own: Vec<AuthorizationDetail>, claims: &UserClaims) {
    let key = EncodingKey::from_secret(&[7; 32]);
    let signer = Signer::new(settings, Algorithm::HS256, "x".repeat(43), key);
    // Each quotation mark takes two bytes in JSON.
    let name = Some("\"".repeat(MAXIMUM_IDENTIFIER_BYTES));
    let profile = Profile {
        preferred_username: Some("u".repeat(64)),
        name: name.clone(),
        given_name: name.clone(),
        family_name: name,
        email: Some("e".repeat(254)),
        email_verified: Some(false),
    };
    let everybody = settings.grants.iter().map(AuthorizationDetail::from);
    let token = NewToken {
        subject: "a-subject",
        audience: REALTIME_AUDIENCE,
        client_id: LOGIN_CLIENT_ID,
        session_id: "a-session",
        scope: None,
        authorization_details: merge(everybody.collect(), own),
        profile: Some(profile),
        further: claims.in_token(&settings.token),
        expires_by: None,
    };
    signer.sign(token, SystemTime::now()).expect("a token");
}

#[tokio::test]
async fn grants_and_claims_that_are_accepted_have_room_in_a_token_with_all_settings() {
    let (store, _directory) = store().await;
    let with = |change: fn(&mut Settings)| {
        let mut settings = Settings::default();
        change(&mut settings);
        settings
    };
    let all = [
        with(|_| {}),
        with(|settings| settings.token.claims_prefix = "p".repeat(30)),
        with(|settings| settings.token.roles_claim = "r".repeat(128)),
        with(|settings| settings.token.audiences = vec!["a".repeat(255), "b".repeat(255)]),
        with(|settings| {
            settings.grants = vec![GrantRule {
                rooms: grants(16, 64).into_iter().map(|grant| grant.room).collect(),
                actions: vec![Action::Subscribe],
            }];
        }),
    ];
    for (number, settings) in all.iter().enumerate() {
        let id = format!("user-{number}");
        add_account(&store, &id).await;
        let manager = Administration::new(&store, Actor::Command, settings);
        let roles = Some(vec!["admin".to_owned()]);
        let set = manager.set_claims(&id, roles, Some(claims(32, 18))).await;
        let account = set.expect("claims of 1,024 bytes").account;
        // As many as are accepted.
        for bytes in (16..=70).rev() {
            if manager.set_grants(&id, &grants(32, bytes)).await.is_ok() {
                break;
            }
        }
        let own = store.list_grants(&id).await.expect("a read");
        assert_eq!(own.len(), 32);
        sign(settings, own, &account.claims);
    }
}
