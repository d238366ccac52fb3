//! The shop of docs/recipes.md in each of its languages, behind a gateway, with stock clients.

use harness::{Options, called::new_secret, recipe::Recipe, stock::run_node_tests};
use reqwest::StatusCode;
use serde_json::json;

/// Runs the shop in `language`, and the stock clients against it.
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
    run_node_tests("shop.test.mjs", vec![("", options)]).await;
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
