//! The clients that people have, as they come from npm, and the page in a browser.

use harness::stock::run_node_tests;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs node"]
async fn stock_clients_of_three_generations_connect() {
    run_node_tests("stock.test.mjs").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium"]
async fn the_page_works_in_a_browser() {
    run_node_tests("page.test.mjs").await;
}
