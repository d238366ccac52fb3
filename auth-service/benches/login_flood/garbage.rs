//! Logins beside refresh tokens that nobody has.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use futures_util::future::try_join_all;

use crate::{
    http::{Connection, post},
    service::{PASSWORD, USERS, username},
};

/// Garbage refreshes per second.
const RATE: u32 = 2_000;

/// The connections that they come on, from one address.
const CONNECTIONS: u32 = 40;

/// Time between two logins.
const LOGIN_INTERVAL: Duration = Duration::from_millis(100);

/// The time for which logins are measured, once without garbage and once beside it.
const PART: Duration = Duration::from_secs(15);

/// The times of the logins, and the number of garbage refreshes beside the second half of them.
pub(crate) struct Measured {
    pub(crate) alone: Vec<Duration>,
    pub(crate) beside: Vec<Duration>,
    pub(crate) garbage: u64,
    pub(crate) due: u64,
}

/// Measures logins alone, and then beside garbage, which one thread sends and another measures.
pub(crate) fn measure(to: SocketAddr) -> anyhow::Result<Measured> {
    let alone = runtime()?.block_on(logins(to, Instant::now() + PART))?;
    let until = Instant::now() + PART;
    let (garbage, beside) = std::thread::scope(|scope| {
        let sending = scope.spawn(move || runtime()?.block_on(send_garbage(to, until)));
        let beside = runtime()?.block_on(logins(to, until))?;
        let garbage = sending.join().map_err(|_| anyhow::anyhow!("a panic"))??;
        anyhow::Ok((garbage, beside))
    })?;
    Ok(Measured {
        alone,
        beside,
        garbage,
        due: u64::from(RATE) * PART.as_secs(),
    })
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    Ok(builder.enable_all().build()?)
}

async fn logins(to: SocketAddr, until: Instant) -> anyhow::Result<Vec<Duration>> {
    let from = IpAddr::V4(Ipv4Addr::new(127, 3, 0, 1));
    let mut connection = Connection::open(from, to).await?;
    let (mut latencies, mut due) = (Vec::new(), Instant::now());
    while due < until {
        tokio::time::sleep_until(due.into()).await;
        let user = username(u32::try_from(latencies.len())? % USERS);
        let password = PASSWORD.replace(' ', "+");
        let request = post("/login", &format!("username={user}&password={password}"));
        let answer = connection.ask(&request).await?;
        anyhow::ensure!(
            answer.status == 200,
            "a login is answered {}",
            answer.status
        );
        latencies.push(due.elapsed());
        due += LOGIN_INTERVAL;
    }
    Ok(latencies)
}

async fn send_garbage(to: SocketAddr, until: Instant) -> anyhow::Result<u64> {
    let sending = (0..CONNECTIONS).map(|number| async move {
        let from = IpAddr::V4(Ipv4Addr::new(127, 3, 0, 2));
        let mut connection = Connection::open(from, to).await?;
        let interval = Duration::from_secs(1) * CONNECTIONS / RATE;
        let mut due = Instant::now() + interval * number / CONNECTIONS;
        let mut count: u64 = 0;
        while due < until {
            tokio::time::sleep_until(due.into()).await;
            let token = format!("{:043}", u64::from(number) << 32 | count);
            let request = post("/token/refresh", &format!("refresh_token={token}"));
            let answer = connection.ask(&request).await?;
            anyhow::ensure!([401, 429].contains(&answer.status));
            count += 1;
            due += interval;
        }
        anyhow::Ok(count)
    });
    Ok(try_join_all(sending).await?.into_iter().sum())
}
