//! The primary that the sentinels name.

use std::time::Duration;

use anyhow::Context;
use redis::{AsyncConnectionConfig, aio::MultiplexedConnection, cmd};
use tokio::time::{sleep, timeout};

use super::{connection::greeting_error, terms::Terms};

/// Interval at which a sentinel is asked whether the primary is still the one that is connected.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Returns the address of the primary `name`, by the first sentinel that knows it.
pub(super) async fn primary(terms: &Terms, name: &str) -> anyhow::Result<String> {
    let mut problem = anyhow::anyhow!("no sentinel");
    for address in &terms.servers.addresses {
        match ask_once(terms, address, name).await {
            Ok(primary) => return Ok(primary),
            Err(error) => problem = error,
        }
    }
    Err(problem.context("no sentinel names the primary"))
}

/// Asks the sentinels again and again, and returns when one names another primary than `address`. A
/// sentinel that is away says nothing about the primary.
pub(super) async fn until_replaced(terms: &Terms, name: &str, address: &str) {
    let mut sentinels = terms.servers.addresses.iter().cycle();
    loop {
        sleep(CHECK_INTERVAL).await;
        let Some(Ok(mut connection)) = (match sentinels.next() {
            Some(sentinel) => Some(connect(terms, sentinel).await),
            None => None,
        }) else {
            continue;
        };
        while let Ok(primary) = ask(&mut connection, name).await {
            if primary != address {
                return;
            }
            sleep(CHECK_INTERVAL).await;
        }
    }
}

async fn ask_once(terms: &Terms, sentinel: &str, name: &str) -> anyhow::Result<String> {
    let mut connection = connect(terms, sentinel).await?;
    ask(&mut connection, name).await
}

async fn connect(terms: &Terms, sentinel: &str) -> anyhow::Result<MultiplexedConnection> {
    let limit = terms.settings.timeout();
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(limit))
        .set_response_timeout(Some(limit));
    let client = terms.client_of_sentinel(sentinel)?;
    let connecting = client.get_multiplexed_async_connection_with_config(&config);
    let connected = timeout(limit, connecting).await;
    let connected = connected.context("no answer of a sentinel in time")?;
    connected.map_err(greeting_error)
}

async fn ask(connection: &mut MultiplexedConnection, name: &str) -> anyhow::Result<String> {
    let mut ask = cmd("SENTINEL");
    ask.arg("GET-MASTER-ADDR-BY-NAME").arg(name);
    let answer: Option<(String, u16)> = ask.query_async(connection).await?;
    let (host, port) = answer.context("the sentinel does not know the primary")?;
    Ok(join(&host, port))
}

/// Returns `HOST:PORT`, with braces around an IPv6 address.
pub(super) fn join(host: &str, port: u16) -> String {
    match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    }
}
