//! Admission to a namespace, its bounds, and the ways to leave.

use harness::{
    Opening, Stack,
    api::{ALL_SCOPES, WithApi},
};
use http::{Method, StatusCode};
use serde_json::json;

use super::{in_both, open_rooms, options, with_admin};
use crate::revocation::{logout_of, post};

#[tokio::test(flavor = "multi_thread")]
async fn a_token_without_the_scope_the_claims_or_the_issuer_is_refused_there_alone() {
    let namespaces = json!([
        { "name": "/staff", "scope": "staff", "rooms": open_rooms() },
        { "name": "/boss", "claims": { "role": ["boss", "owner"] }, "rooms": open_rooms() },
        { "name": "/others", "issuers": ["https://other.example"], "rooms": open_rooms() },
    ]);
    let stack = Stack::start_with(options(namespaces)).await;
    let forge = || stack.forge();
    for (namespace, refused, admitted) in [
        (
            "/staff",
            forge().claim("scope", "staffing"),
            Some(forge().claim("scope", "x staff")),
        ),
        (
            "/boss",
            forge().claim("role", "clerk"),
            Some(forge().claim("role", "owner")),
        ),
        ("/others", forge(), None),
    ] {
        let token = refused.token();
        let mut socket = Opening::of(&stack).admitted(&token).await;
        let refusal = socket
            .connect_to(namespace, &token)
            .await
            .expect_err(namespace);
        let data = json!({
            "message": "namespace forbidden", "code": "forbidden", "type": "UnauthorizedError",
            "reason": "namespace_forbidden",
        });
        assert_eq!(
            refusal.0,
            json!({ "message": "namespace forbidden", "data": data })
        );
        if let Some(twin) = admitted {
            // The same connection, with another token of its own for the namespace.
            socket
                .connect_to(namespace, &twin.token())
                .await
                .expect("the twin");
        }
        socket.subscribe("lobby").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_namespace_has_its_own_token_and_an_unknown_one_has_no_data() {
    let stack = Stack::start_with(with_admin()).await;
    let mut socket = Opening::of(&stack).session().await;
    let refusal = socket
        .connect_to("/admin", "no.to.ken")
        .await
        .expect_err("no token");
    assert_eq!(refusal.0["data"]["code"], "invalid_token");
    let refusal = socket.connect_to("/other", &stack.forge().token()).await;
    assert_eq!(
        refusal.expect_err("unknown").0,
        json!({ "message": "Invalid namespace" })
    );
    let forge = stack.forge();
    socket
        .connect_to("/admin", &forge.token())
        .await
        .expect("admitted");
    let said = socket
        .call_in("/admin", "rt:subscribe", json!({ "room": "lobby" }))
        .await;
    assert_eq!(said["ok"], true);
    // An event of a namespace that the client is not in ends its connection, as in Node's server.
    socket
        .send("42[\"rt:subscribe\",{\"room\":\"lobby\"}]")
        .await;
    socket.closed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_of_the_first_request_is_good_for_each_namespace() {
    let stack = Stack::start_with(with_admin()).await;
    let opening = Opening::of(&stack).query("token", &stack.forge().token());
    let mut socket = opening.session().await;
    socket.send("40").await;
    assert!(socket.packet().await.starts_with("40{"));
    socket.send("40/admin,").await;
    let packet = socket.packet().await;
    assert!(packet.starts_with("40/admin,{"), "{packet}");
}

#[tokio::test(flavor = "multi_thread")]
async fn guests_are_admitted_where_the_settings_say_so() {
    let namespaces = json!([
        { "name": "/open", "guests": true, "rooms": [{ "rooms": ["lobby"], "actions": ["sub"], "guests": true }] },
        { "name": "/closed", "rooms": [{ "rooms": ["lobby"], "actions": ["sub"], "guests": true }] },
    ]);
    let stack = Stack::start_with(options(namespaces).gateway("auth.anonymous", true)).await;
    let mut socket = Opening::of(&stack).session().await;
    socket.send("40/closed,").await;
    let packet = socket.packet().await;
    assert!(
        packet.starts_with(r#"44/closed,{"data":{"code":"credentials_required""#),
        "{packet}"
    );
    socket.send("40/open,").await;
    assert!(socket.packet().await.starts_with("40/open,{"));
    let answer = socket
        .call_in("/open", "rt:subscribe", json!({ "room": "lobby" }))
        .await;
    assert_eq!(answer["ok"], true, "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_may_not_be_in_the_namespace_does_not_renew_a_session_there() {
    let namespaces = json!([{ "name": "/staff", "scope": "staff", "rooms": open_rooms() }]);
    let stack = Stack::start_with(options(namespaces)).await;
    let forge = stack.forge().claim("scope", "staff");
    let mut socket = Opening::of(&stack).admitted(&forge.token()).await;
    socket
        .connect_to("/staff", &forge.token())
        .await
        .expect("staff");
    let weaker = json!({ "token": forge.clone().claim("scope", "x").token() });
    let answer = socket
        .call_in("/staff", "authenticate", weaker.clone())
        .await;
    assert_eq!(answer["error"]["reason"], "namespace_forbidden", "{answer}");
    let answer = socket.call("authenticate", weaker).await;
    assert_eq!(answer["ok"], true, "{answer}");
    let answer = socket
        .call_in("/staff", "authenticate", json!({ "token": forge.token() }))
        .await;
    assert_eq!(answer["ok"], true, "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_is_in_so_many_namespaces_and_counts_once() {
    let names = ["/a", "/b", "/c"];
    let namespaces = names.map(|name| json!({ "name": name, "rooms": open_rooms() }));
    let options = options(json!(namespaces))
        .gateway("limits.namespaces_per_connection", 3)
        .gateway("limits.sockets_per_subject", 1)
        .gateway("limits.rooms_per_socket", 2);
    let stack = Stack::start_with(options).await;
    let token = stack.forge().token();
    let mut socket = Opening::of(&stack).admitted(&token).await;
    for namespace in ["/a", "/b"] {
        socket.connect_to(namespace, &token).await.expect(namespace);
    }
    let refusal = socket
        .connect_to("/c", &token)
        .await
        .expect_err("one too many");
    assert_eq!(refusal.0["data"]["reason"], "too_many_namespaces");
    socket.send("41/b,").await;
    socket.connect_to("/c", &token).await.expect("a free place");
    // The rooms of all namespaces count together.
    for namespace in ["/a", "/c"] {
        let answer = socket
            .call_in(namespace, "rt:subscribe", json!({ "room": "lobby" }))
            .await;
        assert_eq!(answer["ok"], true, "{answer}");
    }
    let entering = json!({ "room": "lobby" });
    let answer = socket.call("rt:subscribe", entering.clone()).await;
    assert_eq!(answer["error"]["code"], "too_many_rooms", "{answer}");
    socket
        .call_in("/c", "rt:unsubscribe", entering.clone())
        .await;
    assert_eq!(socket.call("rt:subscribe", entering).await["ok"], true);
    // A second connection of the subject is one too many, whatever its namespace.
    let mut other = Opening::of(&stack).session().await;
    let refusal = other
        .connect_to("/a", &token)
        .await
        .expect_err("a second connection");
    assert_eq!(refusal.0["data"]["reason"], "too_many_sockets");
    let twin = stack.forge().claim("sub", "somebody else").token();
    other
        .connect_to("/a", &twin)
        .await
        .expect("another subject");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_the_gateway_decides_ends_all_namespaces_of_a_connection() {
    let api = WithApi::start_with(with_admin()).await;
    let stack = &api.stack;
    let forge = || stack.forge();
    // The token of `/admin` ends.
    let mut expired = Opening::of(stack).admitted(&forge().token()).await;
    // In whole seconds: good for more than one.
    let brief = forge().expires_in(2);
    expired
        .connect_to("/admin", &brief.token())
        .await
        .expect("a token that has not expired");
    let packets = expired.closed().await;
    assert!(
        packets
            .iter()
            .any(|one| one.starts_with("42/admin,[\"unauthorized\"")),
        "{packets:?}"
    );
    // The session is revoked: the client is told in both namespaces.
    let revoked_one = forge();
    let mut revoked = in_both(stack, &revoked_one.token()).await;
    let answer = post(stack, &logout_of(&revoked_one).token()).await;
    assert_eq!(answer.status(), StatusCode::OK);
    let mut packets = revoked.closed().await;
    packets.sort_unstable();
    assert_eq!(packets, ["41", "41/admin,"]);
    // The user is kicked.
    let kicked_one = forge();
    let mut kicked = in_both(stack, &kicked_one.token()).await;
    let body = json!({ "sub": kicked_one.text_of("sub") });
    let token = api.back_end(ALL_SCOPES).token();
    let answer = api
        .call(Method::POST, "/v1/disconnect", &token, Some(body))
        .await
        .ok();
    assert!(answer["disconnected"].as_u64() >= Some(2), "{answer}");
    let mut packets = kicked.closed().await;
    packets.sort_unstable();
    assert_eq!(packets, ["41", "41/admin,"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kick_of_one_connection_leaves_the_token_of_a_client_that_reads_good() {
    let api = WithApi::start_with(with_admin()).await;
    let stack = &api.stack;
    let own = stack.forge().token();
    let mut socket = in_both(stack, &own).await;
    let token = api.back_end(ALL_SCOPES).token();
    let listed = api.call(Method::GET, "/v1/connections", &token, None).await;
    let listed = listed.ok();
    let listed = listed["connections"].as_array().expect("connections");
    let in_admin = listed.iter().find(|one| one["namespace"] == "/admin");
    let body = json!({ "connection": in_admin.expect("one")["connection"] });
    let answer = api
        .call(Method::POST, "/v1/disconnect", &token, Some(body))
        .await
        .ok();
    assert_eq!(answer["disconnected"], 1, "{answer}");
    assert_eq!(socket.closed().await, ["41/admin,"]);
    Opening::of(stack).admitted(&own).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_of_a_namespace_leave_an_admitted_client_in_the_others() {
    let namespaces = json!([{ "name": "/staff", "scope": "staff", "rooms": open_rooms() }]);
    let options = options(namespaces)
        .gateway("limits.refusals", 2)
        .gateway("limits.namespaces_per_connection", 1);
    let stack = Stack::start_with(options).await;
    let (plain, staff) = (stack.forge(), stack.forge().claim("scope", "staff"));
    let mut socket = Opening::of(&stack).session().await;
    let admitted = socket.connect(&json!({ "token": plain.token() })).await;
    admitted.expect("a good token");
    for token in [&plain, &staff, &plain] {
        let refused = socket.connect_to("/staff", &token.token()).await;
        let reason = refused.expect_err("no place").0["data"]["reason"].clone();
        assert_eq!(reason, "too_many_namespaces");
    }
    socket.subscribe("lobby").await;
    // Outside of all namespaces the same refusals end the connection.
    let mut outside = Opening::of(&stack).session().await;
    for _ in 0..2 {
        let refused = outside.connect_to("/staff", &plain.token()).await;
        let reason = refused.expect_err("no scope").0["data"]["reason"].clone();
        assert_eq!(reason, "namespace_forbidden");
    }
    outside.closed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_is_told_in_each_namespace_before_the_connection_ends() {
    // Over this time clients are told one after the other, each in all of its namespaces at once.
    let stack = Stack::start_with(with_admin().gateway("drain.window_secs", 4)).await;
    let mut sockets = Vec::new();
    for _ in 0..3 {
        sockets.push(in_both(&stack, &stack.forge().token()).await);
    }
    stack.stop().await;
    for socket in &mut sockets {
        let packets = socket.closed().await;
        for header in ["42[\"rt:drain\"", "42/admin,[\"rt:drain\""] {
            let is_told = packets.iter().any(|one| one.starts_with(header));
            assert!(is_told, "{packets:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_events_of_all_namespaces_of_a_connection_have_one_pace() {
    let options = with_admin()
        .gateway("limits.events_per_sec", 1)
        .gateway("limits.events_burst", 6);
    let stack = Stack::start_with(options).await;
    let token = stack.forge().token();
    let asking = || json!({ "room": "lobby" });
    let mut both = in_both(&stack, &token).await;
    let mut codes = Vec::new();
    for namespace in ["/", "/admin"].repeat(5) {
        let answer = both.call_in(namespace, "rt:presence", asking()).await;
        codes.push(answer["error"]["code"].clone());
    }
    // A few more than six if the test takes seconds, and not six in each.
    let passed = codes.iter().filter(|code| code.is_null()).count();
    assert!((6..10).contains(&passed), "{codes:?}");
    assert!(codes.contains(&json!("rate_limited")), "{codes:?}");
    let mut twin = in_both(&stack, &token).await;
    for namespace in ["/", "/admin"].repeat(3) {
        let answer = twin.call_in(namespace, "rt:presence", asking()).await;
        assert_eq!(answer["ok"], true, "{answer}");
    }
}
