//! A Redis that is connected and answers nobody: whoever needs no message of the log enters nonetheless.

use tokio::time::Instant;

use super::{
    two_gateways::{Client, Gateway, Stream},
    *,
};
use crate::cluster::{
    Listener,
    testing::{Harm, SimulatedRedis, simulated},
};

/// The time in which a subscription is answered by a gateway that has to find Redis silent first.
const SOON: Duration = Duration::from_millis(300);

/// The same once it is known.
const AT_ONCE: Duration = Duration::from_millis(5);

async fn start() -> (Arc<SimulatedRedis>, Gateway) {
    let redis = SimulatedRedis::new(0, Harm::default());
    let (cluster, _) = simulated(&redis);
    cluster.connected().await;
    (redis, Gateway::around(cluster))
}

#[tokio::test(start_paused = true)]
async fn who_asks_for_no_message_enters_while_redis_is_silent_and_misses_none() {
    let (redis, gateway) = start().await;
    let stream = Stream::default();
    let mut member = Client::enter(&gateway, &stream, 0).await;
    gateway.publish(&stream, "one").await;
    redis.pause();

    let entered = Instant::now();
    let mut first = Client::enter(&gateway, &stream, 1).await;
    let waited = entered.elapsed();
    assert!(waited > AT_ONCE && waited < SOON, "{waited:?}");
    let entered = Instant::now();
    let mut second = Client::enter(&gateway, &stream, 2).await;
    assert!(entered.elapsed() < AT_ONCE, "{:?}", entered.elapsed());
    let entered = Instant::now();
    member.change(&gateway, &gateway).await;
    assert!(entered.elapsed() > SOON, "messages were asked for");

    redis.resume();
    gateway.publish(&stream, "two").await;
    for client in [&mut member, &mut first, &mut second] {
        client.finish(&gateway).await;
    }
    assert_eq!((first.heard, second.heard, first.epochs), (1, 1, 0));
    let entered = Instant::now();
    let mut late = Client::enter(&gateway, &stream, 3).await;
    late.finish(&gateway).await;
    assert!(entered.elapsed() < AT_ONCE, "an answer ends the silence");
}

#[tokio::test(start_paused = true)]
async fn a_crowd_that_enters_while_redis_is_silent_leaves_it_no_work() {
    let (redis, gateway) = start().await;
    let stream = Stream::default();
    let mut first = Client::enter(&gateway, &stream, 0).await;
    first.finish(&gateway).await;
    redis.pause();
    let before = redis.executed();
    for number in 1..100 {
        Client::enter(&gateway, &stream, number).await;
    }
    redis.resume();
    gateway.publish(&stream, "one").await;
    first.finish(&gateway).await;
    let executed = redis.executed() - before;
    assert!(executed < 10, "{executed}");
}

#[tokio::test(start_paused = true)]
async fn a_room_that_is_entered_in_a_silence_gets_the_messages_of_other_gateways() {
    let redis = SimulatedRedis::new(0, Harm::default());
    let clusters = [simulated(&redis).0, simulated(&redis).0];
    for cluster in &clusters {
        cluster.connected().await;
    }
    let link = clusters[0].link().expect("a connection");
    let [here, elsewhere] = clusters.map(Gateway::around);
    redis.pause();
    // The heartbeat is not answered.
    let silent = link.unless_silent(std::future::pending::<()>()).await;
    silent.expect_err("a silence");
    let stream = Stream::default();
    let mut client = Client::enter(&here, &stream, 0).await;
    redis.resume();
    tokio::time::sleep(Duration::from_secs(5)).await;
    client.read();
    elsewhere.publish(&stream, "one").await;
    client.finish(&here).await;
    assert_eq!(client.heard, 1);
}

#[tokio::test(start_paused = true)]
async fn a_room_that_nobody_was_in_is_entered_while_redis_is_silent() {
    let (redis, gateway) = start().await;
    let stream = Stream::default();
    redis.pause();
    let entered = Instant::now();
    let mut client = Client::enter(&gateway, &stream, 0).await;
    assert!(entered.elapsed() < SOON, "{:?}", entered.elapsed());
    redis.resume();
    gateway.publish(&stream, "one").await;
    client.finish(&gateway).await;
    assert_eq!(client.epochs, 1, "the epoch in Redis is told");
}

#[tokio::test(start_paused = true)]
async fn a_channel_that_is_confirmed_late_is_read_again_though_the_log_was_read() {
    let harm = Harm {
        lost: 100,
        ..Harm::default()
    };
    let redis = SimulatedRedis::new(0, harm);
    let gateways = [simulated(&redis).0, simulated(&redis).0];
    for cluster in &gateways {
        cluster.connected().await;
    }
    let [here, elsewhere] = gateways.map(Gateway::around);
    let stream = Stream::default();
    let mut client = Client::enter(&here, &stream, 0).await;
    let room = here.rooms.get_or_open(&name("lobby"));
    let generation = room.log().redis().expect("Redis").generation_shared();
    // The log is read in this generation.
    Listener::resume(room.clone(), generation);
    tokio::time::sleep(SOON).await;
    elsewhere.publish(&stream, "one").await;
    tokio::time::sleep(SOON).await;
    client.read();
    assert_eq!(client.heard, 0, "the channel has lost it");

    Listener::resume(room, generation);
    client.finish(&here).await;
    assert_eq!(client.heard, 1);
}
