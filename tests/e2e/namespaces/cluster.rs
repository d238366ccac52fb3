//! Namespaces of several gateways with one Redis.

use harness::{
    Opening, Redis, WebSocket,
    api::{ALL_SCOPES, WithApi},
};
use http::Method;
use serde_json::json;

use super::{in_both, with_admin};
use crate::cluster::ready;

async fn enter(socket: &mut WebSocket, namespace: &str, presence: &str) {
    let entering = json!({ "room": "lobby", "presence": presence });
    let answer = socket.call_in(namespace, "rt:subscribe", entering).await;
    assert_eq!(answer["ok"], true, "{answer}");
}

/// Requests reach all gateways in the namespace that they name: two sockets are in `/admin`, and one in `/`.
async fn assert_requests_are_scoped(api: &WithApi) {
    let token = api.back_end(ALL_SCOPES).token();
    for (namespace, sockets) in [("/admin", 2), ("/", 1)] {
        let message = json!({ "namespace": namespace, "event": "news" });
        let sent = api
            .call(Method::POST, "/v1/broadcast", &token, Some(message))
            .await
            .ok();
        assert_eq!(sent["sockets"], sockets, "{sent}");
        assert!(sent["partial"].is_null(), "{sent}");
        let path = format!("/v1/rooms?namespace={namespace}");
        let rooms = api.call(Method::GET, &path, &token, None).await.ok();
        assert_eq!(
            rooms["rooms"],
            json!([{ "room": "lobby", "connections": sockets }])
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn rooms_of_the_same_name_are_apart_on_all_gateways_and_old_names_stay() {
    let redis = Redis::start().await;
    let options = with_admin()
        .gateway("cluster.url", redis.url())
        .gateway("presence.leave_delay_secs", 0);
    let api = WithApi::start_with(options).await;
    let stack = &api.stack;
    let other = stack.start_gateway().await;
    ready(&stack.gateway_url).await;
    ready(&other.url).await;
    let forge = |name: &str| stack.forge().claim("sub", name);
    // Alice is in both namespaces on the first gateway, and Bob in `/admin` alone on the other.
    let mut alice = in_both(stack, &forge("alice").token()).await;
    for namespace in ["/", "/admin"] {
        enter(&mut alice, namespace, "full").await;
    }
    let mut bob = Opening::of(stack).at(other.address).session().await;
    bob.connect_to("/admin", &forge("bob").token())
        .await
        .expect("admitted");
    // He is not told of those who are known to his gateway a moment later.
    enter(&mut bob, "/admin", "off").await;
    let joined = alice.event_in("/admin").await;
    assert_eq!(
        (&joined[0], &joined[1]["user"]["sub"]),
        (&json!("rt:join"), &json!("bob"))
    );
    let said = bob
        .call_in("/admin", "rt:publish", super::say("secret"))
        .await;
    assert_eq!(said["offset"], 1);
    assert_eq!(alice.event_in("/admin").await[1], "secret");
    assert_eq!(bob.event_in("/admin").await[1], "secret");
    let said = alice.call("rt:publish", super::say("hello")).await;
    assert_eq!(
        (&said["offset"], &said["duplicate"]),
        (&json!(1), &json!(null))
    );
    assert_eq!(alice.event().await[1], "hello");
    for (namespace, connections) in [("/admin", 2), ("/", 1)] {
        let asking = json!({ "room": "lobby" });
        let shown = alice.call_in(namespace, "rt:presence", asking).await;
        assert_eq!(shown["connections"], connections, "{shown}");
    }
    // Keys of the main namespace have the names that earlier versions know.
    let keys = redis.text("KEYS *").await;
    for name in [
        "{lobby}:log",
        "{lobby}:messages",
        "{/admin::lobby}:log",
        "{/admin::lobby}:messages",
    ] {
        assert!(keys.contains(name), "{name}: {keys}");
    }
    assert_requests_are_scoped(&api).await;
    assert_eq!(bob.event_in("/admin").await[0], "news");
}
