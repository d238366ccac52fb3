//! Leases in a real server, which are aged instead of waited for.

use redis::cmd;
use tokio::sync::mpsc;

use crate::cluster::{Listener, testing};

use super::*;

/// Hands on the messages of a channel.
struct Ear(mpsc::UnboundedSender<String>);

impl Listener for Ear {
    fn receive(self: Arc<Self>, payload: &[u8], _: u64) {
        let _ = self.0.send(String::from_utf8_lossy(payload).into_owned());
    }

    fn resume(self: Arc<Self>, _: u64) {}
}

async fn run<T: redis::FromRedisValue>(cluster: &Cluster, words: &[&str]) -> T {
    let mut command = cmd(words[0]);
    command.arg(&words[1..]);
    let link = cluster.link().expect("a connection");
    link.query(&command).await.expect("an answer")
}

/// A gateway with a lease that nothing renews.
async fn leased(settings: &crate::config::ClusterSettings) -> (Arc<Cluster>, Arc<str>) {
    let cluster = testing::connected(settings).await;
    assert_eq!(cluster.tend().await, Ok(true));
    let id = cluster.leases().borrow().clone();
    (cluster, id.expect("a lease"))
}

/// Lets the lease of `id` run out.
async fn age(cluster: &Cluster, id: &str) {
    let added: i64 = run(cluster, &["ZADD", &cluster.register(), "CH", "1000", id]).await;
    assert_eq!(added, 1);
}

/// Writes a share of `thing` as a gateway does.
async fn write_share(cluster: &Cluster, thing: &str, id: &str) {
    let _: i64 = run(cluster, &["HSET", &format!("{thing}:{id}"), "a", "b"]).await;
    let _: i64 = run(cluster, &["SADD", thing, id]).await;
    let shares = cluster.name(&format!("shares:{id}"));
    let _: i64 = run(cluster, &["SADD", &shares, thing]).await;
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn gateways_know_one_another_by_names_that_are_theirs_alone() {
    let settings = testing::settings();
    let ((one, _), (two, _)) = (leased(&settings).await, leased(&settings).await);
    assert_eq!(two.other_gateways(), [one.gateway().to_owned()]);
    assert!(one.other_gateways().is_empty(), "it was alone");
    assert_eq!(one.tend().await, Ok(true));
    assert_eq!(one.other_gateways(), [two.gateway().to_owned()]);
    assert_ne!(one.gateway(), two.gateway());
    assert!(one.gateway().starts_with("gateway-"), "{}", one.gateway());
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn what_a_dead_gateway_left_is_removed_once_and_that_of_a_living_one_stays() {
    let settings = testing::settings();
    let ((dead, dead_id), (living, living_id)) = (leased(&settings).await, leased(&settings).await);
    let thing = living.name("thing");
    let (heard, mut hearing) = mpsc::unbounded_channel();
    let ear = Arc::new(Ear(heard));
    let weak: std::sync::Weak<Ear> = Arc::downgrade(&ear);
    living.listen(&thing, weak).await.expect("a channel");
    write_share(&dead, &thing, &dead_id).await;
    write_share(&dead, &thing, &living_id).await;
    assert_eq!(living.tend().await, Ok(true));
    let ids: Vec<String> = run(&living, &["SMEMBERS", &thing]).await;
    assert_eq!(ids.len(), 2, "both are alive");

    age(&living, &dead_id).await;
    let sweeper = testing::connected(&settings).await;
    let (one, two) = tokio::join!(living.tend(), sweeper.tend());
    assert_eq!((one, two), (Ok(true), Ok(true)));
    let ids: Vec<String> = run(&living, &["SMEMBERS", &thing]).await;
    assert_eq!(ids, [living_id.to_string()]);
    let share = |id: &str| format!("{thing}:{id}");
    let left: i64 = run(&living, &["EXISTS", &share(&dead_id), &share(&living_id)]).await;
    assert_eq!(left, 1);
    let limit = Duration::from_secs(10);
    let told = timeout(limit, hearing.recv()).await;
    assert_eq!(told, Ok(Some(format!("D {dead_id}"))));
    assert!(hearing.try_recv().is_err(), "two have removed it once");
    let others = living.other_gateways();
    assert!(
        others.contains(&dead.gateway().to_owned()),
        "it may be alive"
    );
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_gateway_whose_lease_has_run_out_begins_another_under_another_id() {
    let settings = testing::settings();
    let (cluster, first) = leased(&settings).await;
    assert_eq!(cluster.tend().await, Ok(true));
    assert_eq!(cluster.leases().borrow().as_ref(), Some(&first));
    age(&cluster, &first).await;
    assert_eq!(cluster.tend().await, Ok(false));
    assert_eq!(cluster.leases().borrow().as_ref(), None);
    assert_eq!(cluster.tend().await, Ok(true));
    let second = cluster.leases().borrow().clone().expect("a lease");
    assert_ne!(first, second);
    assert_eq!(name_of(&first), name_of(&second));
    assert_eq!(name_of(&second), cluster.gateway());
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_gateway_that_ends_is_not_counted_and_leaves_its_shares_for_a_while() {
    let settings = testing::settings();
    let ((ending, id), (other, _)) = (leased(&settings).await, leased(&settings).await);
    let thing = other.name("thing");
    write_share(&ending, &thing, &id).await;
    ending.end_lease(Duration::from_secs(60)).await;
    assert_eq!(other.tend().await, Ok(true));
    assert!(other.other_gateways().is_empty());
    let ids: Vec<String> = run(&other, &["SMEMBERS", &thing]).await;
    assert_eq!(ids, [id.to_string()], "its clients may be on their way");
    let _: i64 = run(&other, &["ZADD", &other.ended(), "1000", &id]).await;
    assert_eq!(other.tend().await, Ok(true));
    let ids: Vec<String> = run(&other, &["SMEMBERS", &thing]).await;
    assert!(ids.is_empty(), "{ids:?}");
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_share_is_removed_the_next_time_when_its_removal_was_cut_short() {
    let settings = testing::settings();
    let ((dead, dead_id), (living, _)) = (leased(&settings).await, leased(&settings).await);
    let thing = living.name("thing");
    write_share(&dead, &thing, &dead_id).await;
    age(&living, &dead_id).await;
    // A call of the script raises an error, as while a slot moves.
    let aside = living.name("aside");
    let _: String = run(&living, &["RENAME", &thing, &aside]).await;
    let _: String = run(&living, &["SET", &thing, "no set"]).await;
    assert_eq!(living.tend().await, Err(Away));
    let _: String = run(&living, &["RENAME", &aside, &thing]).await;
    assert_eq!(living.tend().await, Ok(true));
    let left: i64 = run(&living, &["EXISTS", &thing, &format!("{thing}:{dead_id}")]).await;
    assert_eq!(left, 0);
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_full_redis_renews_leases_and_takes_new_connections() {
    let server = testing::OwnServer::start().await;
    let settings = server.settings();
    let (cluster, id) = leased(&settings).await;
    let _: String = run(&cluster, &["CONFIG", "SET", "maxmemory", "1"]).await;
    let link = cluster.link().expect("a connection");
    let mut set = cmd("SET");
    set.arg("key").arg("value");
    assert_eq!(link.query::<String>(&set).await, Err(Away), "it is full");
    let ends = async || run::<f64>(&cluster, &["ZSCORE", &cluster.register(), &id]).await;
    let before = ends().await;
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert_eq!(cluster.tend().await, Ok(true));
    assert!(ends().await > before);
    let connecting = timeout(Duration::from_secs(10), leased(&settings)).await;
    let (second, _) = connecting.expect("a connection");
    assert_eq!(second.other_gateways(), [cluster.gateway().to_owned()]);
}

#[test]
fn a_gateway_is_remembered_for_a_minute_in_which_redis_was_connected() {
    let (mut others, start) = (Others::default(), Instant::now());
    let after = |secs| start + Duration::from_secs(secs);
    let names = |others: &Others| {
        let mut names: Vec<_> = others.seen.keys().cloned().collect();
        names.sort_unstable();
        names
    };
    others.learn(1, &["a", "b", "c"], &[], start);
    others.learn(1, &["a"], &["c"], after(59));
    assert_eq!(names(&others), ["a", "b"], "c has ended");
    // In another connection nobody was seen yet.
    others.learn(3, &[], &[], after(100));
    others.learn(3, &["a"], &[], after(159));
    assert_eq!(names(&others), ["a", "b"]);
    others.learn(3, &[], &[], after(160));
    assert_eq!(names(&others), ["a"]);
}
