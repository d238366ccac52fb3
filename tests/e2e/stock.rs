//! The clients that people have, as they come from npm and PyPI, and the page in a browser.

use harness::stock::{run_node_tests, run_python_tests};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs node"]
async fn stock_clients_of_three_generations_connect() {
    run_node_tests("stock.test.mjs").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs python"]
async fn the_stock_client_for_python_connects_and_comes_back() {
    run_python_tests("stock_test.py").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs chromium"]
async fn the_page_works_in_a_browser() {
    run_node_tests("page.test.mjs").await;
}
