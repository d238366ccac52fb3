//! The clients that people have, as they come from npm, PyPI and Maven Central, and the page in a browser.

use harness::{
    Mode, Options,
    api::{ALL_SCOPES, WithApi},
    mail_server::{Access, MailServer},
    stock::{
        run_java_tests, run_node_tests, run_node_tests_at, run_node_tests_with, run_python_tests,
        usual_stacks,
    },
};
use serde_json::json;

use crate::namespaces::with_admin;

/// A stack whose gateway carries all clients by its engine: socketioxide encodes binary data of version 2
/// wrongly over polling, and takes no base64 over WebSocket.
fn on_the_engine() -> Vec<(&'static str, Options)> {
    vec![("", Options::default().gateway("carrier", "engine"))]
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs node"]
async fn stock_clients_of_three_generations_connect() {
    run_node_tests("stock.test.mjs", usual_stacks()).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs python"]
async fn the_stock_client_for_python_connects_and_comes_back() {
    let mut stacks = usual_stacks();
    let listed = Options::default().gateway("origins", json!(["https://app.example.org"]));
    stacks.push(("LISTED", listed));
    run_python_tests("stock_test.py", stacks).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs java"]
async fn the_stock_client_for_java_connects_and_comes_back() {
    // socketioxide takes no base64 in lines, as the client writes it.
    let on_the_engine =
        |(name, options): (_, Options)| (name, options.gateway("carrier", "engine"));
    run_java_tests(usual_stacks().into_iter().map(on_the_engine).collect()).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium and firefox"]
async fn stock_clients_of_three_generations_connect_from_browsers() {
    run_node_tests("browsers.test.mjs", on_the_engine()).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs node"]
async fn stock_clients_exchange_binary_data_and_stay_away_when_they_are_refused() {
    run_node_tests("engine.test.mjs", on_the_engine()).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs node"]
async fn a_client_that_sends_again_publishes_once_with_an_id() {
    run_node_tests("retries.test.mjs", vec![("", Options::default())]).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs node"]
async fn a_stock_client_is_in_two_namespaces_over_one_connection() {
    run_node_tests("namespaces.test.mjs", vec![("", with_admin())]).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs node"]
async fn stock_clients_come_back_after_a_drain_and_miss_nothing() {
    let api = WithApi::start().await;
    let (user, back_end) = (api.stack.forge().token(), api.back_end(ALL_SCOPES).token());
    let variables = [
        ("GATEWAY_URL", &*api.stack.gateway_url),
        ("API_URL", &api.url),
        ("API_TOKEN", &back_end),
        ("TOKEN", &user),
    ];
    run_node_tests_at("drain.test.mjs", &variables).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium"]
async fn the_page_comes_back_after_a_drain() {
    let api = WithApi::start().await;
    let back_end = api.back_end(ALL_SCOPES).token();
    let variables = [
        ("GATEWAY_URL", &*api.stack.gateway_url),
        ("ALICE_PASSWORD", api.stack.passwords().of("alice")),
        ("API_URL", &api.url),
        ("API_TOKEN", &back_end),
    ];
    run_node_tests_at("page-drain.test.mjs", &variables).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium"]
async fn the_page_works_in_a_browser() {
    run_node_tests("page.test.mjs", usual_stacks()).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium"]
async fn the_page_keeps_its_user_signed_in() {
    run_node_tests("page-session.test.mjs", usual_stacks()).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium"]
async fn the_page_orders_logins_and_logouts_of_its_tabs() {
    run_node_tests("page-tabs.test.mjs", vec![("", Options::default())]).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium"]
async fn the_page_shows_rooms_and_loses_no_message() {
    // Little is kept, and who leaves is told of at once.
    let small = Options::default()
        .gateway("history.messages", 3)
        .gateway("presence.leave_delay_secs", 0);
    let demo = json!([{"rooms": ["demo:*"], "actions": ["sub", "pub"]}]);
    let crowd = Options::default()
        .mode(Mode::InProcess)
        .auth("grants", demo)
        .gateway("presence.users", 1);
    let mut stacks = usual_stacks();
    stacks.extend([("SMALL", small), ("CROWD", crowd)]);
    run_node_tests("page-rooms.test.mjs", stacks).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium"]
async fn the_page_has_what_guards_the_account() {
    let account = Options::default()
        .auth("registration", "open")
        .auth("limits.logins_per_name", 3);
    run_node_tests("page-account.test.mjs", vec![("ACCOUNT", account)]).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium"]
async fn the_page_signs_in_with_passkeys() {
    let passkeys = Options::default()
        .auth("registration", "open")
        .auth("passkeys.rp_id", "localhost");
    run_node_tests("page-passkeys.test.mjs", vec![("PASSKEYS", passkeys)]).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium and python"]
async fn the_page_follows_the_links_of_mails() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("mails");
    let access = Access::open();
    let server = MailServer::start_into(&access, &file).await;
    let mail = Options::default()
        .auth("registration", "open")
        .auth("mail.url", access.url(server.port))
        .auth("mail.starttls", "off")
        .auth("mail.from", "noreply@example.org");
    let variables = [("MAIL_FILE", file.to_str().expect("a path in UTF-8"))];
    run_node_tests_with("page-mail.test.mjs", vec![("MAIL", mail)], &variables).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs node"]
async fn the_guide_from_express_holds() {
    run_node_tests("from-express.test.mjs", vec![("", Options::default())]).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs node"]
async fn the_documented_code_stays_connected() {
    run_node_tests("documented.test.mjs", usual_stacks()).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium"]
async fn the_documented_tabs_refresh_once_for_all() {
    run_node_tests("tabs.test.mjs", vec![("", Options::default())]).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs node"]
async fn every_case_of_the_two_older_suites_has_its_answer() {
    let header = Options::default().gateway("credentials", json!(["header"]));
    let deferred = Options::default()
        .gateway("auth.deferred", true)
        .gateway("auth.deferred_secs", 1);
    // The hall is for everybody, the room of the administrators for those who have signed in.
    let guests = Options::default()
        .mode(Mode::InProcess)
        .gateway("auth.anonymous", true)
        .gateway(
            "rooms",
            json!([
                {"rooms": ["hall"], "actions": ["sub", "pub"], "guests": true},
                {"rooms": ["admin"], "actions": ["sub", "pub"]},
            ]),
        );
    let published = Options::default()
        .auth("keys.mode", "asymmetric")
        .gateway("keys.mode", "asymmetric");
    let published_deferred = published.clone().gateway("auth.deferred", true);
    let stacks = vec![
        ("", Options::default()),
        ("HEADER", header),
        ("DEFERRED", deferred),
        ("GUESTS", guests),
        ("PUBLISHED", published),
        ("PUBLISHED_DEFERRED", published_deferred),
    ];
    run_node_tests("conformance.test.mjs", stacks).await;
}
