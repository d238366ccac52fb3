//! A provider that we did not write signs people in, and the gateway takes its word: for as long as
//! it stands, and in no other matter.

use harness::{
    Mode, OidcProvider, Opening, Options, SocketClient, Stack, WebSocket,
    client::Credential,
    eventually,
    oidc_provider::{APP, Browser},
};
use serde_json::{Value, json};

const RS256: &str = "https://realtime.example/RS256";
const ES256: &str = "https://realtime.example/ES256";
const EDDSA: &str = "https://realtime.example/EdDSA";
const ES256_WITH_SID: &str = "https://realtime.example/ES256/sid";
const ANOTHER: &str = "https://another.example/ES256";

/// A gateway that knows the provider by these settings.
async fn stack_with(settings: Value) -> Stack {
    let options = Options::default().gateway("issuers", json!([settings]));
    Stack::start_with(options.mode(Mode::InProcess)).await
}

async fn start() -> (OidcProvider, Stack) {
    let mut provider = OidcProvider::start().await;
    let stack = stack_with(provider.settings()).await;
    provider.tell(&stack.gateway_url).await;
    (provider, stack)
}

async fn connect(stack: &Stack, token: &str) -> Result<SocketClient, String> {
    SocketClient::connect(&stack.gateway_url, Credential::Auth(token.into())).await
}

/// The text with which a token is refused.
async fn refusal_of(stack: &Stack, token: &str) -> Option<String> {
    let mut socket = Opening::of(stack).session().await;
    let refused = socket.connect(&json!({ "token": token })).await.err()?;
    Some(refused.message().to_owned())
}

fn refused(text: &str) -> Option<String> {
    Some(text.to_owned())
}

async fn admitted(stack: &Stack, token: &str) -> WebSocket {
    Opening::of(stack).admitted(token).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs node"]
async fn its_tokens_connect_in_each_algorithm_and_nothing_else_of_it_does() {
    let (provider, stack) = start().await;
    let alice = Browser::of(&provider, "alice");
    for resource in [RS256, ES256, EDDSA] {
        let tokens = alice.sign_in(resource).await;
        let algorithm = jsonwebtoken::decode_header(&tokens.access).expect("a header");
        let algorithm = format!("{:?}", algorithm.alg);
        assert!(resource.ends_with(&algorithm), "{algorithm}");
        let mut client = connect(&stack, &tokens.access).await.expect("admitted");
        let joined = client.call("rt:subscribe", json!({"room": "lobby"})).await;
        assert_eq!(joined["ok"], true, "{joined}");
        client.disconnect().await;
        let job = provider.token_of_a_back_end(resource).await;
        assert_eq!(refusal_of(&stack, &job).await, None);

        // Another payload under the same signature, and another signature for the same payload.
        let other = Browser::of(&provider, "bob").sign_in(resource).await.access;
        let parts: Vec<&str> = tokens.access.split('.').collect();
        let of_other: Vec<&str> = other.split('.').collect();
        for tampered in [
            [parts[0], of_other[1], parts[2]],
            [parts[0], parts[1], of_other[2]],
        ] {
            let refusal = refusal_of(&stack, &tampered.join(".")).await;
            assert_eq!(refusal, refused("invalid signature"));
        }
        assert_eq!(refusal_of(&stack, &other).await, None);
        let id = refusal_of(&stack, &tokens.id).await;
        assert_eq!(id, refused("jwt type invalid"));
    }
    let elsewhere = alice.sign_in(ANOTHER).await.access;
    let refusal = refusal_of(&stack, &elsewhere).await;
    assert_eq!(refusal, refused("jwt audience invalid"));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs node"]
async fn its_id_tokens_connect_nobody_though_the_settings_ask_for_their_audience_and_type() {
    let provider = OidcProvider::start().await;
    let mut settings = provider.settings();
    settings["audience"] = json!(APP);
    settings["types"] = json!(["at+jwt", "JWT", ""]);
    let stack = stack_with(settings).await;
    let tokens = Browser::of(&provider, "alice").sign_in(ES256).await;
    let refusal = refusal_of(&stack, &tokens.id).await;
    assert_eq!(refusal, refused("jwt claims invalid"));
    // An access token is refused for its audience alone.
    let refusal = refusal_of(&stack, &tokens.access).await;
    assert_eq!(refusal, refused("jwt audience invalid"));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs node"]
async fn who_signs_out_there_has_no_socket_left_and_everybody_else_has() {
    let (provider, stack) = start().await;
    let [alice, bob] = ["alice", "bob"].map(|person| Browser::of(&provider, person));
    let token = alice.sign_in(ES256).await.access;
    let mut gone = admitted(&stack, &token).await;
    let mut bob = admitted(&stack, &bob.sign_in(ES256).await.access).await;
    // The same name at our own issuer is somebody else.
    let ours = stack.forge().claim("sub", "alice");
    let mut our_alice = admitted(&stack, &ours.token()).await;
    let theirs = gone
        .call("rt:subscribe", json!({"room": "user:alice"}))
        .await;
    assert_eq!(theirs["error"]["code"], "forbidden", "{theirs}");
    our_alice.subscribe("user:alice").await;

    alice.sign_out().await;
    assert_eq!(gone.closed().await, ["41"]);
    assert_eq!(refusal_of(&stack, &token).await, refused("jwt revoked"));
    bob.subscribe("lobby").await;
    our_alice.subscribe("lobby").await;
    assert_eq!(refusal_of(&stack, &ours.token()).await, None);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs node"]
async fn where_its_tokens_name_the_session_another_session_of_the_same_person_stays() {
    let (provider, stack) = start().await;
    let [here, there] = [(); 2].map(|()| Browser::of(&provider, "alice"));
    let mut gone = admitted(&stack, &here.sign_in(ES256_WITH_SID).await.access).await;
    let mut stays = admitted(&stack, &there.sign_in(ES256_WITH_SID).await.access).await;
    // It could be of either session, and goes with the first.
    let mut unnamed = admitted(&stack, &there.sign_in(ES256).await.access).await;
    here.sign_out().await;
    assert_eq!(gone.closed().await, ["41"]);
    assert_eq!(unnamed.closed().await, ["41"]);
    stays.subscribe("lobby").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs node"]
async fn its_next_keys_are_followed_and_its_last_ones_are_kept_while_it_is_away() {
    let (mut provider, stack) = start().await;
    let alice = Browser::of(&provider, "alice");
    let old = alice.sign_in(ES256).await.access;
    assert_eq!(refusal_of(&stack, &old).await, None);
    provider.rotate().await;
    let new = alice.sign_in(ES256).await.access;
    let is_admitted = || async { refusal_of(&stack, &new).await.is_none() };
    eventually("the new key to be known", is_admitted).await;
    // The old key is not published any more.
    assert_eq!(refusal_of(&stack, &old).await, refused("jwt key unknown"));
    provider.stop().await;
    assert_eq!(refusal_of(&stack, &new).await, None);
    let mut client = connect(&stack, &new).await.expect("admitted");
    let joined = client.call("rt:subscribe", json!({"room": "lobby"})).await;
    assert_eq!(joined["ok"], true, "{joined}");
}
