//! Issuers that are not ours: whom their logout tokens end, and whom they do not.

use harness::{Forge, Mode, Opening, Options, OtherIssuer, Stack, forge::now_secs, soon};
use reqwest::StatusCode;
use serde_json::json;

async fn stack_for(issuer: &OtherIssuer) -> Stack {
    let options = Options::default().gateway("issuers", json!([issuer.settings()]));
    Stack::start_with(options.mode(Mode::InProcess)).await
}

async fn post(stack: &Stack, logout: &Forge) {
    let url = format!("{}/oidc/backchannel-logout", stack.gateway_url);
    let token = logout.token();
    let request = stack.http().post(url).form(&[("logout_token", &token)]);
    let answer = soon("an answer", request.send()).await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::OK);
}

/// What a handshake with the token is told; nothing when it is admitted.
async fn refusal_of(stack: &Stack, forge: &Forge) -> Option<String> {
    let mut socket = Opening::of(stack).session().await;
    let refused = socket.connect(&json!({ "token": forge.token() })).await;
    Some(refused.err()?.message().to_owned())
}

fn revoked() -> Option<String> {
    Some("jwt revoked".to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_logout_of_a_session_ends_what_could_be_that_session_and_nothing_else() {
    let issuer = OtherIssuer::start().await;
    let mut stack = stack_for(&issuer).await;
    let unnamed = issuer.forge().claim("sub", "alice");
    let [same, another] = ["1", "2"].map(|sid| unnamed.clone().claim("sid", sid));
    let younger = unnamed.clone().claim("iat", now_secs() + 20);
    let bob = issuer.forge().claim("sub", "bob");
    let ours = stack.forge().claim("sub", "alice");
    let (mut ended, mut others) = (Vec::new(), Vec::new());
    for forge in [&unnamed, &same] {
        ended.push(Opening::of(&stack).admitted(&forge.token()).await);
    }
    for forge in [&another, &younger, &bob, &ours] {
        others.push(Opening::of(&stack).admitted(&forge.token()).await);
    }
    let logout = issuer.logout(&same, &["sid", "sub"]);
    let logout = logout.claim("iat", now_secs() + 10);
    post(&stack, &logout).await;
    for mut socket in ended {
        assert_eq!(socket.closed().await, ["41"]);
    }
    for mut socket in others {
        socket.subscribe("lobby").await;
    }
    // Every handshake after it goes the same way, also after a restart.
    for _ in 0..2 {
        for (forge, expected) in [
            (&unnamed, revoked()),
            (&unnamed.clone().claim("iat", now_secs() + 5), revoked()),
            (&same, revoked()),
            (&another, None),
            (&younger, None),
            (&bob, None),
            (&ours, None),
        ] {
            assert_eq!(refusal_of(&stack, forge).await, expected);
        }
        stack.restart_gateway().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_logout_that_names_no_subject_ends_its_session_and_no_unnamed_one() {
    let issuer = OtherIssuer::start().await;
    let stack = stack_for(&issuer).await;
    let unnamed = issuer.forge();
    let named = unnamed.clone().claim("sid", "1");
    let mut stays = Opening::of(&stack).admitted(&unnamed.token()).await;
    let mut goes = Opening::of(&stack).admitted(&named.token()).await;
    post(&stack, &issuer.logout(&named, &["sid"])).await;
    assert_eq!(goes.closed().await, ["41"]);
    stays.subscribe("lobby").await;
    assert_eq!(refusal_of(&stack, &unnamed).await, None);
    assert_eq!(refusal_of(&stack, &named).await, revoked());
    post(&stack, &issuer.logout(&named, &["sub"])).await;
    assert_eq!(stays.closed().await, ["41"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_ends_no_session_of_another() {
    let issuer = OtherIssuer::start().await;
    let stack = stack_for(&issuer).await;
    let ours = stack.forge();
    let theirs = ["sid", "sub"]
        .into_iter()
        .fold(issuer.forge(), |forge, name| {
            forge.claim(name, ours.text_of(name))
        });
    let mut stays = Opening::of(&stack).admitted(&ours.token()).await;
    let mut goes = Opening::of(&stack).admitted(&theirs.token()).await;
    for claims in [&["sid", "sub"][..], &["sid"], &["sub"]] {
        post(&stack, &issuer.logout(&theirs, claims)).await;
    }
    assert_eq!(goes.closed().await, ["41"]);
    stays.subscribe("lobby").await;
    assert_eq!(refusal_of(&stack, &ours).await, None);
    post(&stack, &ours.clone().logout(&["sid"])).await;
    assert_eq!(stays.closed().await, ["41"]);
}
