//! Rooms on which a back end decides: who enters them, how often it is asked, and how long its answers
//! hold.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use axum::response::Response;
use futures_util::{StreamExt as _, future::join_all, stream};
use harness::{
    CalledBackEnd, Forge, Mode, Opening, Options, Stack, WebSocket, called::answer, eventually,
};
use serde_json::{Value, json};

use crate::{
    limits::allow_open_files,
    revocation::{logout_of, post},
};

/// Answers yes to everybody but `mallory`, for as long as asked for.
async fn all_but_mallory(event: Value, cache_secs: u64) -> Response {
    match event["subject"] == "mallory" {
        true => answer(json!({ "allow": false, "reason": "this desk is not yours" })),
        false => answer(json!({ "allow": true, "cache_secs": cache_secs })),
    }
}

async fn shop(cache_secs: u64) -> CalledBackEnd {
    CalledBackEnd::start(move |event| all_but_mallory(event, cache_secs)).await
}

fn user(stack: &Stack, subject: &str) -> Forge {
    stack.forge().claim("sub", subject)
}

async fn socket(stack: &Stack, forge: &Forge) -> WebSocket {
    Opening::of(stack).admitted(&forge.token()).await
}

async fn enter(socket: &mut WebSocket, room: &str) -> Value {
    socket.call("rt:subscribe", json!({ "room": room })).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_back_end_is_asked_with_the_claims_and_its_answer_decides() {
    let shop = shop(0).await;
    let stack = Stack::start_with(shop.decides_on(&["sub", "pub", "prs"])).await;
    let alice = user(&stack, "alice").claim("plan", "gold");
    let token = alice.token();
    let mut entering = Opening::of(&stack).admitted(&token).await;
    let answer = enter(&mut entering, "desk:7").await;
    assert_eq!(answer["ok"], true, "{answer}");
    assert!(!shop.requests()[0].has_token(&token));
    // The other actions are decided when they are used.
    assert_eq!(
        (&answer["can"], &answer["asks"]),
        (&json!(["sub"]), &json!(["pub", "prs"]))
    );
    let event = &shop.requests()[0].event;
    for (attribute, expected) in [
        ("type", json!("latchkey.room.authorize")),
        ("namespace", json!("/")),
        ("issuer", json!(stack.issuer_url)),
        ("subject", json!("alice")),
        ("session", json!(alice.text_of("sid"))),
    ] {
        assert_eq!(event[attribute], expected, "{attribute}");
    }
    let data = &event["data"];
    assert_eq!(
        (&data["action"], &data["room"], &data["claims"]["plan"]),
        (&json!("sub"), &json!("desk:7"), &json!("gold"))
    );
    let mut mallory = socket(&stack, &user(&stack, "mallory").claim("plan", "gold")).await;
    let error = &enter(&mut mallory, "desk:7").await["error"];
    assert_eq!(
        error,
        &json!({
            "code": "forbidden", "message": "this desk is not yours", "retryable": false,
            "room": "desk:7",
        })
    );
    // A room of another rule, and one of none, are none of its business.
    assert_eq!(enter(&mut mallory, "lobby").await["ok"], true);
    let error = &enter(&mut mallory, "cellar").await["error"];
    assert_eq!(error["code"], "forbidden");
    assert_eq!(shop.requests().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_action_that_a_subscription_needs_is_decided() {
    let shop = CalledBackEnd::start(async |event: Value| {
        let is_allowed = event["data"]["action"] != "prs" || event["subject"] == "alice";
        answer(json!({ "allow": is_allowed }))
    })
    .await;
    let stack = Stack::start_with(shop.decides_on(&["sub", "hst", "prs"])).await;
    let mut alice = socket(&stack, &user(&stack, "alice")).await;
    let mut bob = socket(&stack, &user(&stack, "bob")).await;
    let wants = json!({ "room": "desk:7", "history": 1, "presence": "full" });
    let seen = alice.call("rt:subscribe", wants.clone()).await;
    assert_eq!(seen["can"], json!(["sub", "hst", "prs"]), "{seen}");
    assert_eq!(seen["presence"]["users"][0]["sub"], "alice");
    let refused = bob.call("rt:subscribe", wants).await;
    assert_eq!(refused["error"]["code"], "forbidden");
    // Alice, who may see presence, is told of bob, and bob is told of nobody.
    assert_eq!(enter(&mut bob, "desk:7").await["ok"], true);
    assert_eq!(alice.event().await[0], "rt:join");
    let answer = bob.call("rt:presence", json!({ "room": "desk:7" })).await;
    assert_eq!(answer["error"]["code"], "forbidden");
    let answer = alice.call("rt:history", json!({ "room": "desk:7" })).await;
    assert_eq!(answer["ok"], true);
    let actions = shop.requests();
    let actions: Vec<&Value> = actions
        .iter()
        .map(|request| &request.event["data"]["action"])
        .collect();
    assert_eq!(
        actions,
        [
            "sub", "hst", "prs", "sub", "hst", "prs", "sub", "prs", "hst"
        ]
    );
}

/// Has a crowd of so many sockets enter a room at once.
async fn crowd_enters(options: impl Fn(Options) -> Options, sockets: usize) {
    const USERS: usize = 8;
    const CONNECTING_AT_ONCE: usize = 100;
    let shop = shop(60).await;
    let stack = Stack::start_with(options(shop.decides_on(&["sub"]))).await;
    let stack = &stack;
    let crowd = stream::iter(0..sockets).map(async |number| {
        // Sockets are of sessions of their own.
        let forge = user(stack, &format!("user-{}", number % USERS));
        socket(stack, &forge).await
    });
    let mut crowd: Vec<_> = crowd.buffer_unordered(CONNECTING_AT_ONCE).collect().await;
    let entered = join_all(crowd.iter_mut().map(|socket| enter(socket, "desk:7"))).await;
    assert!(entered.iter().all(|answer| answer["ok"] == true));
    assert_eq!(shop.requests().len(), USERS);
    // The answers are kept, and hold for this room alone.
    enter(&mut crowd[0], "desk:7").await;
    assert_eq!(shop.requests().len(), USERS);
    enter(&mut crowd[0], "desk:8").await;
    assert_eq!(shop.requests().len(), USERS + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_that_enters_at_once_causes_one_question_for_each_user() {
    crowd_enters(|options| options, 160).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the built binaries"]
async fn ten_thousand_sockets_that_enter_at_once_cause_one_question_for_each_user() {
    const SOCKETS: usize = 10_000;
    allow_open_files(SOCKETS as u64 + 500);
    let options = |options: Options| {
        let limits = [
            "limits.connections_per_address",
            "limits.sessions_per_address",
            "limits.sockets_per_subject",
        ];
        let options = options.mode(Mode::Binaries).log("warn");
        let raise = |options: Options, limit| options.gateway(limit, SOCKETS + 100);
        limits.into_iter().fold(options, raise)
    };
    crowd_enters(options, SOCKETS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_yes_ends_at_once_with_a_revocation() {
    for is_revoked in [true, false] {
        let shop = shop(3600).await;
        let stack = Stack::start_with(shop.decides_on(&["sub"])).await;
        let first = user(&stack, "alice");
        let mut early = socket(&stack, &first).await;
        enter(&mut early, "desk:7").await;
        if is_revoked {
            let logout = logout_of(&first).token();
            let (posted, closed) = tokio::join!(post(&stack, &logout), early.closed());
            assert_eq!((posted.status().as_u16(), closed), (200, vec!["41".into()]));
        }
        // The same user in another session.
        let mut late = socket(&stack, &user(&stack, "alice")).await;
        assert_eq!(enter(&mut late, "desk:7").await["ok"], true);
        let questions = shop.requests().len();
        assert_eq!(questions, 1 + usize::from(is_revoked));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_token_is_asked_about_again() {
    for is_allowed in [true, false] {
        let is_open = Arc::new(AtomicBool::new(true));
        let opened = is_open.clone();
        let shop = CalledBackEnd::start(move |_| {
            let allow = opened.load(Ordering::SeqCst);
            async move { answer(json!({ "allow": allow, "cache_secs": 3600 })) }
        })
        .await;
        let stack = Stack::start_with(shop.decides_on(&["sub"])).await;
        let forge = user(&stack, "alice");
        let mut alice = socket(&stack, &forge).await;
        enter(&mut alice, "desk:7").await;
        alice.subscribe("lobby").await;
        is_open.store(is_allowed, Ordering::SeqCst);
        let token = forge.claim("jti", "next").token();
        let renewed = alice.call("authenticate", json!({ "token": token })).await;
        assert_eq!(renewed["ok"], true, "{renewed}");
        assert_eq!(shop.requests().len(), 2);
        if !is_allowed {
            let told = alice.event().await;
            let expected = json!(["rt:unsubscribed", { "room": "desk:7", "code": "forbidden" }]);
            assert_eq!(told, expected);
        }
        // The other room is left alone.
        let mut bob = socket(&stack, &user(&stack, "bob")).await;
        let api = json!({ "room": "lobby", "event": "news", "data": 1 });
        bob.call("rt:publish", api).await;
        assert_eq!(alice.event().await[2]["room"], "lobby");
        let again = enter(&mut alice, "desk:7").await;
        assert_eq!(again["ok"], is_allowed);
        assert_eq!(shop.requests().len(), 2, "the later answer is kept");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_holds_up_its_own_socket_alone_and_ends_with_its_session() {
    let (shop, open) = CalledBackEnd::start_gated(json!({ "allow": true })).await;
    let stack = Stack::start_with(shop.decides_on(&["sub", "pub"])).await;
    let (forge, other) = (user(&stack, "alice"), user(&stack, "bob"));
    let mut alice = socket(&stack, &forge).await;
    let mut bob = socket(&stack, &other).await;
    alice.send(r#"421["rt:subscribe",{"room":"desk:7"}]"#).await;
    alice.send(r#"422["rt:unsubscribe",{"room":"x"}]"#).await;
    eventually("a question", async || shop.requests().len() == 1).await;
    bob.subscribe("lobby").await;
    open.add_permits(1);
    assert_eq!(alice.acknowledgement(1).await["ok"], true);
    assert_eq!(alice.acknowledgement(2).await["ok"], true);
    // An event is not carried out after its session has ended, whatever the answer is.
    bob.send(r#"421["rt:publish",{"room":"desk:7","event":"late"}]"#)
        .await;
    eventually("a question", async || shop.requests().len() == 2).await;
    let logout = logout_of(&other).token();
    let (posted, _) = tokio::join!(post(&stack, &logout), bob.closed());
    assert_eq!(posted.status().as_u16(), 200);
    open.add_permits(2);
    let payload = json!({ "room": "desk:7", "event": "timely" });
    let published = alice.call("rt:publish", payload).await;
    assert_eq!(published["offset"], 1, "{published}");
    assert_eq!(alice.event().await[0], "timely");
}
