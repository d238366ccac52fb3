//! A logout that one gateway acknowledges holds on every gateway, whatever happens to Redis.

use harness::{Forge, Gateway, Opening, Redis, Stack, eventually, soon};
use reqwest::StatusCode;
use serde_json::json;

use super::{away::degraded, options, pair, ready};

/// Posts the logout token of the session of `forge`.
async fn log_out(stack: &Stack, url: &str, forge: &Forge) -> StatusCode {
    let token = forge.clone().logout(&["sid"]).token();
    let url = format!("{url}/oidc/backchannel-logout");
    let request = stack.http().post(url).form(&[("logout_token", token)]);
    let answer = soon("an answer", request.send()).await;
    answer.expect("an answer").status()
}

/// Whether a token is refused by a gateway, and as revoked.
async fn is_refused(stack: &Stack, gateway: &Gateway, forge: &Forge) -> bool {
    let mut socket = Opening::of(stack).at(gateway.address).session().await;
    match socket.connect(&json!({ "token": forge.token() })).await {
        Ok(_) => false,
        Err(refused) => {
            assert_eq!(refused.message(), "jwt revoked");
            true
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn a_logout_on_one_gateway_ends_the_session_on_every_other() {
    let redis = Redis::start().await;
    let (stack, other) = pair(options(&redis)).await;
    let (forge, bystander) = (stack.forge(), stack.forge());
    let opening = Opening::of(&stack).at(other.address);
    let mut socket = opening.clone().admitted(&forge.token()).await;
    let mut stays = opening.admitted(&bystander.token()).await;
    let status = log_out(&stack, &stack.gateway_url, &forge).await;
    assert_eq!(status, StatusCode::OK);
    // After the answer, and not a moment later.
    assert!(is_refused(&stack, &other, &forge).await);
    assert_eq!(socket.closed().await, ["41"]);
    assert!(!is_refused(&stack, &other, &bystander).await);
    stays.subscribe("lobby").await;

    // A gateway that starts later knows it before it accepts anybody.
    let third = stack.start_gateway().await;
    assert!(is_refused(&stack, &third, &forge).await);
    assert!(!is_refused(&stack, &third, &bystander).await);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn a_logout_while_redis_is_away_holds_everywhere_once_it_is_back() {
    let redis = Redis::start().await;
    let (stack, other) = pair(options(&redis)).await;
    let (forge, bystander) = (stack.forge(), stack.forge());
    let opening = Opening::of(&stack).at(other.address);
    let mut socket = opening.clone().admitted(&forge.token()).await;
    let mut stays = opening.admitted(&bystander.token()).await;
    redis.pause();
    degraded(&stack.gateway_url).await;
    degraded(&other.url).await;
    let status = log_out(&stack, &stack.gateway_url, &forge).await;
    assert_eq!(status, StatusCode::OK);
    // Its own sockets are refused at once, and the other gateway cannot know.
    let opening = Opening::of(&stack);
    let mut here = opening.session().await;
    let refused = here.connect(&json!({ "token": forge.token() })).await;
    assert!(refused.is_err_and(|refused| refused.message() == "jwt revoked"));
    assert!(!is_refused(&stack, &other, &forge).await);

    redis.go_on();
    assert_eq!(socket.closed().await, ["41"]);
    assert!(is_refused(&stack, &other, &forge).await);
    assert!(!is_refused(&stack, &other, &bystander).await);
    ready(&other.url).await;
    stays.subscribe("lobby").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn a_logout_that_the_channel_has_lost_holds_within_seconds() {
    let redis = Redis::start().await;
    let (stack, other) = pair(options(&redis)).await;
    let (later, bystander) = (stack.forge(), stack.forge());
    let forge = stack.forge().claim("sid", "lost");
    let opening = Opening::of(&stack).at(other.address);
    let mut socket = opening.clone().admitted(&forge.token()).await;
    let mut stays = opening.admitted(&bystander.token()).await;
    // The stream has it, and nobody hears of it. The one after it is heard of.
    let issuer = stack.issuer_url.as_str();
    let record = json!({ "iss": issuer, "sid": "lost", "iat": 1, "until": u32::MAX });
    let record = record.to_string().replace('"', "\\\"");
    let added = format!("XADD latchkey:revocations * record \"{record}\"");
    redis.command(&added).await;
    let status = log_out(&stack, &stack.gateway_url, &later).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(socket.closed().await, ["41"]);
    assert!(is_refused(&stack, &other, &forge).await);
    assert!(!is_refused(&stack, &other, &bystander).await);
    stays.subscribe("lobby").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn a_stream_that_was_lost_is_filled_again() {
    let mut redis = Redis::start().await;
    let (stack, other) = pair(options(&redis)).await;
    let (forge, bystander) = (stack.forge(), stack.forge());
    let status = log_out(&stack, &other.url, &forge).await;
    assert_eq!(status, StatusCode::OK);
    // The gateway that has acknowledged it is not there any more.
    other.stop().await;
    redis.kill().await;
    degraded(&stack.gateway_url).await;
    redis.restart().await;
    eventually("a stream with the revocation", async || {
        redis.command("XLEN latchkey:revocations").await == ":1"
    })
    .await;
    let third = stack.start_gateway().await;
    assert!(is_refused(&stack, &third, &forge).await);
    assert!(!is_refused(&stack, &third, &bystander).await);
}
