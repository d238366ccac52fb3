//! The back end that is asked about each client that connects.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::{
    body::Body,
    response::{IntoResponse as _, Response},
};
use futures_util::{
    StreamExt as _,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use harness::{
    CalledBackEnd, Forge, Opening, Stack, WebSocket,
    called::{answer, with},
    eventually,
};
use http::StatusCode;
use serde_json::{Value, json};

use crate::revocation::{logout_of, post};

/// A way in which a back end responds.
type Respond = fn(Value) -> BoxFuture<'static, Response>;

fn user(stack: &Stack, subject: &str) -> Forge {
    stack.forge().claim("sub", subject)
}

async fn socket(stack: &Stack, forge: &Forge) -> WebSocket {
    Opening::of(stack).admitted(&forge.token()).await
}

/// Admits everybody but `mallory`.
async fn all_but_mallory(event: Value) -> Response {
    match event["subject"] == "mallory" {
        true => answer(json!({ "allow": false, "reason": "your account is closed" })),
        false => answer(json!({ "allow": true })),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_refused_is_told_the_reason_and_its_twin_is_admitted() {
    let shop = CalledBackEnd::start(all_but_mallory).await;
    let options = shop.admits().gateway("carrier", "engine");
    let stack = Stack::start_with(options).await;
    let mallory = user(&stack, "mallory");
    let payload = json!({ "token": mallory.token() });
    let refused = Opening::of(&stack).session().await.connect(&payload).await;
    let data = json!({
        "message": "refused by the back end", "code": "forbidden", "type": "UnauthorizedError",
        "reason": "refused_by_back_end", "detail": "your account is closed",
    });
    assert_eq!(
        refused.expect_err("a refusal").0,
        json!({ "message": "refused by the back end", "data": data })
    );
    let token = user(&stack, "alice").token();
    let mut alice = Opening::of(&stack).admitted(&token).await;
    alice.subscribe("lobby").await;
    let requests = shop.requests();
    assert!(!requests[1].has_token(&token));
    let event = &requests[0].event;
    assert_eq!(
        (&event["type"], &event["data"]["stage"], &event["session"]),
        (
            &json!("latchkey.client.connect"),
            &json!("connect"),
            &json!(mallory.text_of("sid"))
        )
    );
    assert_eq!(event["data"]["claims"]["sub"], "mallory");
    assert!(event["connection"].as_str().is_some_and(|id| id.len() > 20));
    // A token that is refused by itself is no question.
    let expired = json!({ "token": mallory.expires_in(0).token() });
    let refused = Opening::of(&stack).session().await.connect(&expired).await;
    assert_eq!(refused.expect_err("a refusal").message(), "jwt expired");
    assert_eq!(shop.requests().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_has_its_message_on_the_other_carrier_too() {
    let shop = CalledBackEnd::start(all_but_mallory).await;
    let options = shop.admits().gateway("carrier", "socketioxide");
    let stack = Stack::start_with(options).await;
    let payload = json!({ "token": user(&stack, "mallory").token() });
    let refused = Opening::of(&stack).session().await.connect(&payload).await;
    let refused = refused.expect_err("a refusal");
    assert_eq!(refused.message(), "refused by the back end");
    assert_eq!(refused.0["data"]["reason"], "refused_by_back_end");
    socket(&stack, &user(&stack, "alice")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admission_adds_grants_rooms_and_data_for_presence() {
    for carrier in ["engine", "socketioxide"] {
        let shop = CalledBackEnd::start(async |event: Value| match event["subject"] == "alice" {
            true => answer(json!({
                "allow": true, "grants": [{ "actions": ["sub", "pub", "prs"], "rooms": ["desk:*"] }],
                "rooms": ["staff", "desk:7"], "presence": { "mood": "busy" },
            })),
            false => answer(json!({ "allow": true })),
        })
        .await;
        let stack = Stack::start_with(shop.admits().gateway("carrier", carrier)).await;
        let mut alice = socket(&stack, &user(&stack, "alice")).await;
        let mut bob = socket(&stack, &user(&stack, "bob")).await;
        let publish = json!({ "room": "desk:7", "event": "say", "data": 1 });
        // The room is joined before the first event is handled.
        let answer = alice.call("rt:publish", publish.clone()).await;
        assert_eq!(answer["ok"], true, "{answer}");
        assert_eq!(alice.event().await[0], "say");
        let answer = alice.call("rt:presence", json!({ "room": "desk:7" })).await;
        let data = &answer["users"][0]["data"];
        assert_eq!(data, &json!({ "mood": "busy" }), "{answer}");
        // The grants are not for the room beside, and not for bob.
        let answer = alice.call("rt:subscribe", json!({ "room": "staff" })).await;
        assert_eq!(answer["error"]["code"], "forbidden");
        let answer = bob.call("rt:publish", publish).await;
        assert_eq!(answer["error"]["code"], "forbidden");
    }
}

/// The beginning of a refusal. Then the connection fails, or nothing more comes.
fn beginning_of_refusal(is_hanging: bool) -> Response {
    let beginning = stream::iter([Ok(r#"{"allow": f"#)]);
    let rest: BoxStream<_> = match is_hanging {
        true => stream::pending().boxed(),
        false => stream::once(async {
            // The server sends what there is when there is nothing more at once.
            tokio::task::yield_now().await;
            Err("the connection fails")
        })
        .boxed(),
    };
    Body::from_stream(beginning.chain(rest)).into_response()
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_answer_the_transport_is_closed_unless_the_settings_admit_the_client() {
    let answers: [(bool, Respond); 8] = [
        (true, |_| Box::pin(pending())),
        (true, |_| {
            Box::pin(async { StatusCode::INTERNAL_SERVER_ERROR.into_response() })
        }),
        // An answer that cannot be used may be a refusal.
        (false, |_| {
            Box::pin(async { StatusCode::FORBIDDEN.into_response() })
        }),
        (false, |_| Box::pin(async { "no".into_response() })),
        (false, |_| {
            Box::pin(async { answer(json!({ "allow": false, "reason": "" })) })
        }),
        (false, |_| {
            Box::pin(async { answer(json!({ "allow": false, "code": 7 })) })
        }),
        // So may one of which a part is missing, or late.
        (false, |_| Box::pin(async { beginning_of_refusal(false) })),
        (false, |_| Box::pin(async { beginning_of_refusal(true) })),
    ];
    for (may_admit, respond) in answers {
        let shop = CalledBackEnd::start(respond).await;
        let settings = with(shop.settings("shop"), json!({ "timeout_ms": 300 }));
        let options = || {
            let options = shop.admits().gateway("carrier", "engine");
            options.gateway("backends", json!([settings.clone()]))
        };
        for on_failure in ["refuse", "admit"] {
            let options = options().gateway("connect.on_failure", on_failure);
            let stack = Stack::start_with(options).await;
            if may_admit && on_failure == "admit" {
                let mut admitted = socket(&stack, &stack.forge()).await;
                admitted.subscribe("lobby").await;
            } else {
                let mut refused = Opening::of(&stack).session().await;
                let payload = json!({ "token": stack.forge().token() });
                refused.send(format!("40{payload}")).await;
                assert_eq!(refused.close_code().await, 1011);
            }
        }
    }
}

/// A back end that admits as long as the flag is set.
async fn switched() -> (CalledBackEnd, Arc<AtomicBool>) {
    let is_open = Arc::new(AtomicBool::new(true));
    let opened = is_open.clone();
    let shop = CalledBackEnd::start(move |event: Value| {
        let (allow, stage) = (opened.load(Ordering::SeqCst), event["data"]["stage"].clone());
        async move {
            let grants = json!([{ "actions": ["sub"], "rooms": [format!("at:{}", stage.as_str().unwrap_or_default())] }]);
            answer(match allow {
                true => json!({ "allow": true, "grants": grants }),
                false => json!({ "allow": false, "reason": "closed" }),
            })
        }
    })
    .await;
    (shop, is_open)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_is_asked_about_and_one_that_is_refused_changes_nothing() {
    let (shop, is_open) = switched().await;
    let stack = Stack::start_with(shop.admits()).await;
    let forge = user(&stack, "alice");
    let mut alice = socket(&stack, &forge).await;
    alice.subscribe("at:connect").await;
    is_open.store(false, Ordering::SeqCst);
    let payload = json!({ "token": forge.clone().claim("jti", "next").token() });
    let answer = alice.call("authenticate", payload.clone()).await;
    assert_eq!(
        answer["error"],
        json!({
            "code": "forbidden", "message": "refused by the back end",
            "reason": "refused_by_back_end", "detail": "closed", "retryable": false,
        })
    );
    alice.subscribe("at:connect").await;
    is_open.store(true, Ordering::SeqCst);
    let answer = alice.call("authenticate", payload).await;
    assert_eq!(
        (&answer["added"], &answer["dropped"]),
        (&json!(["at:renew"]), &json!(["at:connect"])),
        "{answer}"
    );
    let told = alice.event().await;
    assert_eq!(
        told[1],
        json!({ "room": "at:connect", "code": "forbidden" })
    );
    alice.subscribe("at:renew").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guests_are_no_question_until_they_present_a_token() {
    let (shop, is_open) = switched().await;
    let stack = Stack::start_with(shop.admits().gateway("auth.deferred", true)).await;
    let token = json!({ "token": stack.forge().token() });
    for is_allowed in [false, true] {
        is_open.store(is_allowed, Ordering::SeqCst);
        let questions = shop.requests().len();
        let mut guest = Opening::of(&stack).session().await;
        guest.connect(&json!({})).await.expect("a guest");
        let answer = guest.call("authenticate", token.clone()).await;
        assert_eq!(answer["ok"], is_allowed, "{answer}");
        assert_eq!(shop.requests().len(), questions + 1);
    }
    assert_eq!(shop.requests()[1].event["data"]["stage"], "connect");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_without_an_answer_about_its_token_is_told_or_its_transport_is_closed() {
    let shop =
        CalledBackEnd::start(async |_| StatusCode::INTERNAL_SERVER_ERROR.into_response()).await;
    let options = shop.admits().gateway("auth.deferred", true);
    let stack = Stack::start_with(options.gateway("carrier", "engine")).await;
    let token = json!({ "token": stack.forge().token() });
    let mut told = Opening::of(&stack).session().await;
    told.connect(&json!({})).await.expect("a guest");
    let answer = told.call("authenticate", token.clone()).await;
    assert_eq!(answer["error"]["code"], "unavailable", "{answer}");
    let mut closed = Opening::of(&stack).session().await;
    closed.connect(&json!({})).await.expect("a guest");
    let event = json!(["authenticate", token]);
    closed.send(format!("42{event}")).await;
    assert_eq!(closed.close_code().await, 1011);
    // Its twin is connected.
    let answer = told.call("authenticate", token).await;
    assert_eq!(answer["error"]["code"], "unavailable", "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_revoked_while_the_back_end_is_asked_is_refused() {
    for is_revoked in [true, false] {
        let (shop, open) = CalledBackEnd::start_gated(json!({ "allow": true })).await;
        let stack = Stack::start_with(shop.admits()).await;
        let forge = user(&stack, "alice");
        let mut alice = Opening::of(&stack).session().await;
        alice
            .send(format!("40{}", json!({ "token": forge.token() })))
            .await;
        eventually("a question", async || shop.requests().len() == 1).await;
        if is_revoked {
            let posted = post(&stack, &logout_of(&forge).token()).await;
            assert_eq!(posted.status().as_u16(), 200);
        }
        open.add_permits(1);
        let packet = alice.packet().await;
        let is_refused = packet.starts_with("44") && packet.contains("jwt revoked");
        assert_eq!(is_refused, is_revoked, "{packet}");
    }
}

/// The settings of a gateway that asks `shop`, as a file.
fn file(toml: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), toml).expect("a written file");
    file
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the built binaries"]
async fn check_config_names_a_back_end_that_does_not_exist() {
    let shop = CalledBackEnd::start(all_but_mallory).await;
    let backend = format!(
        "[[backends]]\nname = 'shop'\nurl = '{}'\nsecret_file = '{}'\n",
        shop.url,
        shop.secret_file().display()
    );
    let rule = "[[rooms]]\nrooms = ['desk:*']\nactions = ['sub']\n";
    let authorize = "authorize = 'backend'\n";
    let slow = "timeout_ms = 10000\n";
    for (toml, problem) in [
        (format!("{backend}[connect]\nbackend = 'shop'\n"), None),
        (
            format!("{backend}[connect]\nbackend = 'shp'\n"),
            Some("connect.backend: no [[backends]] entry has this name"),
        ),
        (
            format!("{backend}{slow}[connect]\nbackend = 'shop'\n"),
            Some("connect.backend: its timeout_ms must be less than limits.unauthenticated_secs"),
        ),
        (
            format!("{backend}{rule}{authorize}backend = 'shop'\n"),
            None,
        ),
        (
            format!("{backend}{rule}{authorize}backend = 'shp'\n"),
            Some("rooms[0].backend: no [[backends]] entry has this name"),
        ),
        (
            format!("{backend}{rule}{authorize}"),
            Some("rooms: a rule with authorize = \"backend\" must name its backend"),
        ),
        (
            format!("{backend}{rule}backend = 'shop'\n"),
            Some("rooms: a rule that names a backend must have authorize = \"backend\""),
        ),
        (
            format!("{backend}{rule}authorize = 'shop'\n"),
            Some("authorize: must be backend"),
        ),
        (
            "[decisions]\nentries = 0\n".to_owned(),
            Some("decisions.entries: must be 1 to 1073741824"),
        ),
    ] {
        let config = file(&toml);
        let path = config.path().to_str().expect("a path in UTF-8");
        let arguments = ["check-config", "--config", path];
        let secret = harness::random_text(36);
        let variables = [("LATCHKEY_SECRET".to_owned(), secret)];
        let ended = harness::stack::run("realtime-service", &arguments, &variables, None).await;
        let code = if problem.is_some() { 2 } else { 0 };
        assert_eq!(ended.status.code(), Some(code), "{toml}{}", ended.output);
        let problem = problem.unwrap_or_default();
        assert!(ended.output.contains(problem), "{toml}{}", ended.output);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs node"]
async fn stock_clients_learn_why_they_are_refused_and_are_in_the_rooms_of_the_answer() {
    let shop = CalledBackEnd::start(async |event: Value| {
        let name = event["data"]["claims"]["preferred_username"].clone();
        let (action, room) = (&event["data"]["action"], &event["data"]["room"]);
        answer(if event["type"] == "latchkey.client.connect" {
            match name == "bob" {
                true => json!({ "allow": false, "reason": "bob is on holiday" }),
                false => json!({ "allow": true, "rooms": ["staff"] }),
            }
        } else if action == "pub" {
            json!({ "allow": true, "message": { "data": "reviewed" } })
        } else {
            json!({ "allow": room == "desk:7", "reason": null })
        })
    })
    .await;
    let rule = json!({
        "rooms": ["desk:*"], "actions": ["sub", "pub"], "authorize": "backend", "backend": "shop",
    });
    let options = shop.admits().gateway("rooms", json!([rule]));
    let options = options.gateway("carrier", "engine");
    harness::stock::run_node_tests("decisions.test.mjs", vec![("", options)]).await;
}
