//! The shop of docs/recipes.md in each of its languages, behind a gateway, with stock clients in JavaScript, Python and
//! Rust.

use harness::{
    Options, SocketClient, Stack,
    called::new_secret,
    client::Credential,
    recipe::{Recipe, program_in},
    stock::{run_node_tests, run_python_tests},
};
use reqwest::StatusCode;
use serde_json::{Value, json};

/// Lines that every shop stays below, blank lines and comments included.
const LINES: usize = 60;
/// Languages of the shops, as their blocks are marked.
const LANGUAGES: [&str; 5] = ["python", "js", "go", "php", "ruby"];

/// Runs the shop in `language`, and the stock clients against it, one after another: each behind a gateway of its own.
async fn run_shop(language: &str) {
    let secret = new_secret();
    let shop = Recipe::start("recipes.md", language, &[("WEBHOOK_SECRET", &secret)]).await;
    let url = format!("{}/latchkey", shop.url);
    assert_refuses_forgeries(&url).await;
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), secret).expect("a written file");
    let backend = json!({ "name": "shop", "url": url, "secret_file": file.path() });
    let rule = json!({ "events": ["shop:*"], "backend": "shop", "mode": "call" });
    let lifecycle = json!({
        "backend": "shop", "types": ["connection.closed", "room.vacated"], "rooms": ["order:*"],
    });
    let options = Options::default()
        .gateway("backends", json!([backend]))
        .gateway("lifecycle", json!([lifecycle]))
        .gateway("events", json!([rule]));
    run_node_tests("shop.test.mjs", vec![("", options.clone())]).await;
    run_python_tests("shop_test.py", vec![("", options.clone())]).await;
    serves_rust_socketio(&Stack::start_with(options).await).await;
}

/// Places and enters an order over rust_socketio, as `shop.test.mjs` and `shop_test.py` do over their clients.
async fn serves_rust_socketio(stack: &Stack) {
    let client = async || {
        let token = json!(stack.forge().token());
        let connected = SocketClient::connect(&stack.gateway_url, Credential::Auth(token)).await;
        connected.expect("an admission")
    };
    let (mut buyer, mut other) = (client().await, client().await);
    other.call("rt:subscribe", json!({ "room": "lobby" })).await;
    let placed = buyer.acknowledged("shop:order", json!("tea")).await;
    let [Value::String(word), answer] = &placed[..] else {
        panic!("two arguments: {placed:?}");
    };
    assert_eq!(word, "placed");
    let order = &answer["order"];
    let (name, arguments) = other.event().await;
    assert_eq!(name, "ordered");
    assert_eq!(arguments[0], json!({ "order": order, "item": "tea" }));
    assert_eq!(arguments[1]["from"], json!({ "sub": "backend:shop" }));
    buyer.emit_binary("shop:label", &[0, 1, 254, 255]).await;
    let printed = buyer.event().await;
    assert_eq!(
        printed,
        ("printed".to_owned(), vec![json!([0, 1, 254, 255])])
    );
    let refused = json!({ "ok": false, "error": "this is not your order" });
    assert_eq!(other.call("shop:enter", order.clone()).await, refused);
    let entered = buyer.call("shop:enter", order.clone()).await;
    assert_eq!(entered, json!({ "ok": true }));
    let told = other.call("shop:ready", order.clone()).await;
    assert_eq!(told, json!({ "ok": true }));
    let (name, arguments) = buyer.event().await;
    assert_eq!(
        (name.as_str(), &arguments[0]),
        ("ready", &json!({ "order": order }))
    );
}

async fn assert_refuses_forgeries(url: &str) {
    let now = harness::forge::now_secs().to_string();
    let event = json!({ "event": "shop:ready", "subject": "x", "data": { "args": [1] } });
    let forged = reqwest::Client::new().post(url);
    let forged = forged
        .header("webhook-id", "a")
        .header("webhook-timestamp", now);
    let signature = "v1,AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    let forged = forged.header("webhook-signature", signature);
    let answer = forged.body(event.to_string()).send().await;
    assert_eq!(
        answer.expect("an answer").status(),
        StatusCode::UNAUTHORIZED
    );
}

#[test]
fn each_shop_has_fewer_than_sixty_lines() {
    for language in LANGUAGES {
        let lines = program_in("recipes.md", language).lines().count();
        assert!(lines < LINES, "{language}: {lines} lines");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs python and node"]
async fn the_shop_in_python_serves_stock_clients() {
    run_shop("python").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs node"]
async fn the_shop_in_node_serves_stock_clients() {
    run_shop("js").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs go and node"]
async fn the_shop_in_go_serves_stock_clients() {
    run_shop("go").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs php and node"]
async fn the_shop_in_php_serves_stock_clients() {
    run_shop("php").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs ruby and node"]
async fn the_shop_in_ruby_serves_stock_clients() {
    run_shop("ruby").await;
}
