//! The driver and a real server.

use std::{
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use futures_util::FutureExt as _;
use redis::{Script, cmd};
use tokio::sync::mpsc;

use super::{testing, *};
use crate::{config::Limits, limits::Quotas};

/// Hands on what it hears.
struct Ear {
    heard: mpsc::UnboundedSender<(Vec<u8>, u64)>,
    resumed: Mutex<Vec<u64>>,
}

impl Listener for Ear {
    fn receive(self: Arc<Self>, payload: &[u8], generation: u64) {
        let _ = self.heard.send((payload.to_vec(), generation));
    }

    fn resume(self: Arc<Self>, generation: u64) {
        self.resumed.lock().expect("no panic").push(generation);
    }
}

fn ear() -> (Arc<Ear>, mpsc::UnboundedReceiver<(Vec<u8>, u64)>) {
    let (heard, hearing) = mpsc::unbounded_channel();
    let resumed = Mutex::default();
    (Arc::new(Ear { heard, resumed }), hearing)
}

fn weak(ear: &Arc<Ear>) -> Weak<dyn Listener> {
    let ear: Weak<Ear> = Arc::downgrade(ear);
    ear
}

async fn publish(cluster: &Cluster, channel: &str, payload: &str) -> i64 {
    let mut publish = cmd("PUBLISH");
    publish.arg(channel).arg(payload);
    let link = cluster.link().expect("a connection");
    link.query(&publish).await.expect("an answer")
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    let limit = Duration::from_secs(15);
    let output = tokio::time::timeout(limit, future).await;
    output.unwrap_or_else(|_| panic!("{what} took too long"))
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_lost_connection_comes_back_with_its_channels_in_the_next_generation() {
    let settings = testing::settings();
    let cluster = testing::connected(&settings).await;
    let (ear, mut hearing) = ear();
    let channel = cluster.name("channel");
    cluster
        .listen(&channel, weak(&ear))
        .await
        .expect("a channel");
    assert_eq!(publish(&cluster, &channel, "one").await, 1);
    let heard = within("a message", hearing.recv()).await;
    assert_eq!(heard, Some((b"one".to_vec(), 1)));
    assert!(ear.resumed.lock().expect("no panic").is_empty());

    let link = cluster.link().expect("a connection");
    let id: i64 = link.query(cmd("CLIENT").arg("ID")).await.expect("an id");
    let observer = testing::connected(&settings).await;
    let killer = observer.link().expect("a connection");
    let mut kill = cmd("CLIENT");
    kill.arg("KILL").arg("ID").arg(id);
    let _: i64 = killer.query(&kill).await.expect("a killed client");
    within("the loss", link.lost.cancelled()).await;
    within("another connection", async {
        while cluster.link().map(|link| link.generation()) != Ok(3) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(publish(&cluster, &channel, "two").await, 1);
    let heard = within("a message", hearing.recv()).await;
    assert_eq!(heard, Some((b"two".to_vec(), 3)));
    assert_eq!(*ear.resumed.lock().expect("no panic"), [3]);
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_server_that_is_primary_again_begins_a_tenure_that_all_gateways_have() {
    let settings = testing::settings();
    let tenure = async || {
        let cluster = testing::connected(&settings).await;
        let link = cluster.link().expect("a connection");
        link.tenure().to_owned()
    };
    let first = tenure().await;
    assert_eq!(tenure().await, first);
    // Another server was the primary meanwhile, and left this in the data.
    let cluster = testing::connected(&settings).await;
    let mut set = cmd("SET");
    set.arg(cluster.name("tenure"))
        .arg(format!("{first}0 text"));
    let link = cluster.link().expect("a connection");
    let () = link.query(&set).await.expect("set");
    let second = tenure().await;
    assert!(second.starts_with(&format!("{first} ")), "{second}");
    assert_eq!(tenure().await, second);
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_server_that_was_a_replica_begins_a_tenure_though_nobody_has_seen_another_primary() {
    let [server, other] = [
        testing::OwnServer::start().await,
        testing::OwnServer::start().await,
    ];
    let cluster = testing::connected(&server.settings()).await;
    let link = cluster.link().expect("a connection");
    // The other one has the data and the tenure of this moment, and keeps them.
    other.take_data_of(&server).await;
    server.take_data_of(&other).await;
    within("another tenure", async {
        while cluster
            .link()
            .is_ok_and(|now| now.tenure() == link.tenure())
        {
            tokio::task::yield_now().await;
        }
        cluster.connected().await;
    })
    .await;
    let next = cluster.link().expect("a connection");
    assert_ne!(next.tenure(), link.tenure());
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_channel_is_its_last_listeners_until_that_one_ends() {
    let cluster = testing::connected(&testing::settings()).await;
    let ((first, mut to_first), (second, mut to_second)) = (ear(), ear());
    let channel = cluster.name("channel");
    for ear in [&first, &second] {
        cluster
            .listen(&channel, weak(ear))
            .await
            .expect("a channel");
    }
    // It is not the first one's any more.
    cluster.ignore(&channel, &weak(&first));
    assert_eq!(publish(&cluster, &channel, "one").await, 1);
    let heard = within("a message", to_second.recv()).await;
    assert_eq!(heard.map(|heard| heard.0), Some(b"one".to_vec()));
    assert!(to_first.try_recv().is_err());
    cluster.ignore(&channel, &weak(&second));
    within("the end of the subscription", async {
        while publish(&cluster, &channel, "two").await > 0 {}
    })
    .await;
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_script_is_loaded_when_the_server_does_not_have_it() {
    let cluster = testing::connected(&testing::settings()).await;
    let link = cluster.link().expect("a connection");
    let script = Script::new(&format!("return '{}'", random_text()));
    for _ in 0..2 {
        let answer: String = link
            .invoke(&script.prepare_invoke(), 0)
            .await
            .expect("an answer");
        assert_eq!(answer.len(), random_text().len());
    }
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn what_waits_for_redis_is_bounded() {
    let settings = ClusterSettings {
        pending_bytes: 1 << 20,
        ..testing::settings()
    };
    let cluster = testing::connected(&settings).await;
    let link = cluster.link().expect("a connection");
    let large = "x".repeat(700_000);
    let mut echo = cmd("ECHO");
    echo.arg(&large);
    let script = Script::new("return 1");
    let script = script.prepare_invoke();
    let (one, other, few) = tokio::join!(
        link.query::<String>(&echo),
        link.invoke::<i64>(&script, 700_000),
        link.invoke_beyond_bound::<i64>(&script, 700_000),
    );
    assert_eq!(
        (one.map(|it| it.len()), other, few),
        (Ok(700_000), Err(Away), Ok(1))
    );
    assert_eq!(
        link.query::<String>(&echo).await.map(|it| it.len()),
        Ok(700_000)
    );
}

/// A cluster whose Redis is not there.
fn unreachable() -> Arc<Cluster> {
    let settings = ClusterSettings {
        // Nothing listens on the port of discard.
        url: "redis://127.0.0.1:9".to_owned(),
        ..ClusterSettings::default()
    };
    let cluster = Cluster::new(&settings, &Arc::new(Metrics::new()));
    cluster.expect("settings").expect("a cluster")
}

#[tokio::test]
async fn no_two_attempts_to_connect_have_the_same_generation() {
    let cluster = unreachable();
    for generation in [0, 2, 4] {
        assert_eq!(cluster.generation_alone("x"), generation);
        assert!(cluster.home().connect().await.is_err());
    }
}

#[tokio::test]
async fn reads_wait_when_their_answers_exceed_what_redis_may_buffer() {
    let server = unreachable().home();
    let mebibyte = 1 << 20;
    let mut permits = Vec::new();
    while let Some(permit) = server.permit_read(mebibyte).now_or_never() {
        permits.push(permit);
    }
    assert_eq!(permits.len(), 6);
    permits.pop();
    assert!(server.permit_read(mebibyte + 1).now_or_never().is_none());
    assert!(server.permit_read(mebibyte).now_or_never().is_some());
    permits.clear();
    // The largest read waits for all others, and passes.
    let all = server.permit_read(100 * mebibyte).now_or_never();
    assert!(all.is_some());
    assert!(server.permit_read(1).now_or_never().is_none());
}

#[tokio::test]
async fn a_redis_that_is_not_there_is_away_at_once() {
    let cluster = unreachable();
    let running = cluster.clone();
    tokio::spawn(async move { running.run().await });
    let (ear, _) = ear();
    assert!(cluster.link().is_err() && !cluster.is_connected());
    assert_eq!(cluster.listen("channel", weak(&ear)).await, Err(Away));
    assert_eq!(cluster.generation_alone("x"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_the_server_has_no_room_for_is_refused_and_one_without_an_answer_fails() {
    let server = testing::SimulatedRedis::new(0, testing::Harm::default());
    let (cluster, _) = testing::simulated(&server);
    cluster.home().connected().await;
    let link = cluster.link().expect("a connection");
    server.pause();
    let quotas = Quotas::new(&Limits::default());
    let mut echo = cmd("ECHO");
    echo.arg("x".repeat(link.terms.settings.pending_bytes / 4 * 3));
    let mut outcomes = Vec::new();
    for _ in 0..4 {
        assert_eq!(link.query::<String>(&echo).await, Err(Away));
        let text = link.terms.metrics.render(&quotas).expect("text");
        let refused = r#"cluster_requests_total{outcome="refused"} 1"#;
        outcomes.push(text.contains(refused));
    }
    // The server reads the first request. The next two are larger than the bound.
    assert_eq!(outcomes, [false, false, false, true]);
    assert_eq!(link.loss(), "it was closed");
    server.cut(0);
    link.lost.cancelled().await;
    assert_eq!(link.loss(), "the server has closed the connection");
}

fn random_text() -> String {
    crate::ids::random_id()
}
