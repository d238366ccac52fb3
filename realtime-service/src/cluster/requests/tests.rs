//! Requests between gateways over a real server.

use redis::cmd;
use tokio::task::AbortHandle;

use crate::{cluster::testing, config::ClusterSettings};

use super::*;

/// Answers with its own mark and the request; says nothing to `silence`, and that it cannot do `impossible`.
struct Echo(&'static str);

impl Handler for Echo {
    async fn handle(&self, request: Vec<u8>) -> Option<Vec<u8>> {
        match &request[..] {
            b"silence" => std::future::pending().await,
            b"impossible" => None,
            b"much" => Some(vec![b'x'; MAXIMUM_ANSWER_BYTES + 1]),
            b"as much as possible" => Some(vec![b'x'; MAXIMUM_ANSWER_BYTES]),
            _ => Some([self.0.as_bytes(), b" ", &request].concat()),
        }
    }
}

/// A gateway with a lease, which serves no requests. Whoever has the handle ends the renewals.
async fn leased(settings: &ClusterSettings) -> (Arc<Cluster>, AbortHandle) {
    let cluster = testing::connected(settings).await;
    let lease = cluster.clone();
    let renewing = tokio::spawn(async move { lease.keep_lease().await });
    let mut leases = cluster.leases();
    let leased = leases.wait_for(Option::is_some).await;
    leased.expect("a lease");
    (cluster, renewing.abort_handle())
}

/// Waits until `cluster` knows so many other gateways.
async fn knows(cluster: &Cluster, count: usize) {
    let known = async {
        while cluster.other_gateways().len() != count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(10), known)
        .await
        .expect("others");
}

/// Deletes the lease of another gateway, as a restart of Redis does.
async fn delete_lease(cluster: &Cluster, other: &Cluster) {
    let id = other.leases().borrow().clone().expect("a lease");
    let link = cluster.link().expect("a connection");
    let mut remove = cmd("ZREM");
    remove.arg(cluster.register()).arg(&*id);
    assert_eq!(link.query::<i64>(&remove).await, Ok(1));
}

async fn gateway(settings: &ClusterSettings, mark: &'static str) -> Arc<Cluster> {
    let (cluster, _) = leased(settings).await;
    let serving = cluster.clone();
    tokio::spawn(async move { serving.serve_requests(Echo(mark)).await });
    listens(&cluster).await;
    cluster
}

/// Waits until a gateway listens to requests.
async fn listens(cluster: &Cluster) {
    let link = cluster.link().expect("a connection");
    let mut count = cmd("PUBSUB");
    count
        .arg("NUMSUB")
        .arg(cluster.requests_of(cluster.gateway()));
    let listens =
        async { while link.query::<(String, u64)>(&count).await.map(|it| it.1) != Ok(1) {} };
    let listens = timeout(Duration::from_secs(10), listens).await;
    listens.expect("a subscription");
}

fn settings() -> ClusterSettings {
    ClusterSettings {
        timeout_ms: 500,
        ..testing::settings()
    }
}

fn texts(replies: &Replies) -> Vec<String> {
    let texts = replies.answers.iter();
    let mut texts: Vec<_> = texts
        .map(|answer| String::from_utf8_lossy(answer).into_owned())
        .collect();
    texts.sort();
    texts
}

const AT_ONCE: Duration = Duration::ZERO;

#[tokio::test]
#[ignore = "needs redis-server"]
async fn all_other_gateways_answer_or_the_one_that_is_named() {
    let settings = settings();
    let (a, b, c) = tokio::join!(
        gateway(&settings, "a"),
        gateway(&settings, "b"),
        gateway(&settings, "c"),
    );
    let replies = a.ask_others(b"hello", None, AT_ONCE).await;
    assert_eq!(texts(&replies), ["b hello", "c hello"]);
    assert_eq!((replies.asked, replies.is_partial), (2, false));
    let replies = c.ask_others(b"hello", Some(b.gateway()), AT_ONCE).await;
    assert_eq!(
        (texts(&replies), replies.asked),
        (vec!["b hello".to_owned()], 1)
    );
    let replies = c.ask_others(b"hello", Some("nobody"), AT_ONCE).await;
    assert_eq!((texts(&replies), replies.asked), (Vec::new(), 0));
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_gateway_that_cannot_answer_or_does_not_in_time_is_named() {
    let settings = settings();
    let (a, b) = tokio::join!(gateway(&settings, "a"), gateway(&settings, "b"));
    let largest = a.ask_others(b"as much as possible", None, AT_ONCE).await;
    assert_eq!(largest.answers[0].len(), MAXIMUM_ANSWER_BYTES);
    for request in [&b"impossible"[..], b"much", b"silence"] {
        let replies = a.ask_others(request, None, AT_ONCE).await;
        let expected = Replies {
            missing: vec![b.gateway().to_owned()],
            asked: 1,
            is_partial: true,
            ..Replies::default()
        };
        assert_eq!(replies, expected);
        assert!(a.requests.asked().is_empty());
    }
    // A gateway whose process has gone does not listen, and is alive until its lease runs out.
    let (gone, renewing) = leased(&settings).await;
    renewing.abort();
    let replies = a.ask_others(b"hello", None, AT_ONCE).await;
    assert_eq!(texts(&replies), ["b hello"]);
    assert_eq!(replies.missing, [gone.gateway()]);
}

#[tokio::test]
#[ignore = "needs redis-server"]
async fn a_gateway_without_a_lease_is_asked_and_is_named_unless_it_has_ended() {
    let settings = settings();
    let (living, renewing) = leased(&settings).await;
    renewing.abort();
    let a = gateway(&settings, "a").await;
    let serving = living.clone();
    tokio::spawn(async move { serving.serve_requests(Echo("b")).await });
    listens(&living).await;
    knows(&a, 1).await;
    delete_lease(&a, &living).await;
    let replies = a.ask_others(b"hello", None, AT_ONCE).await;
    assert_eq!(texts(&replies), ["b hello"]);
    assert_eq!((replies.asked, replies.is_partial), (1, false));
    // Two gateways whose processes have gone: one without a word.
    let ((gone, renewing), (ended, renewing_too)) =
        (leased(&settings).await, leased(&settings).await);
    renewing.abort();
    renewing_too.abort();
    knows(&a, 3).await;
    delete_lease(&a, &gone).await;
    ended.end_lease(Duration::from_secs(60)).await;
    let replies = a.ask_others(b"hello", None, AT_ONCE).await;
    assert_eq!(texts(&replies), ["b hello"]);
    assert_eq!((replies.asked, replies.is_partial), (2, true));
    assert_eq!(replies.missing, [gone.gateway()]);
    let replies = a
        .ask_others(b"hello", Some(living.gateway()), AT_ONCE)
        .await;
    assert_eq!((replies.asked, replies.is_partial), (1, false));
}

#[tokio::test]
async fn without_redis_nobody_answers() {
    let settings = ClusterSettings {
        url: "redis://127.0.0.1:9".to_owned(),
        ..ClusterSettings::default()
    };
    let cluster = Cluster::new(&settings, &Arc::new(crate::metrics::Metrics::new()));
    let cluster = cluster.expect("settings").expect("a cluster");
    let replies = cluster.ask_others(b"hello", None, AT_ONCE).await;
    assert!(replies.is_partial && replies.answers.is_empty());
}

#[test]
fn answers_are_bounded_in_bytes_and_requests_in_number() {
    let requests = Requests::default();
    let tickets: Vec<_> = std::iter::from_fn(|| requests.begin()).collect();
    assert_eq!(tickets.len(), MAXIMUM_ASKED);
    let (ticket, _) = &tickets[0];
    let answer = vec![0; MAXIMUM_ANSWER_BYTES];
    let fitting = HELD_BYTES / MAXIMUM_ANSWER_BYTES;
    for _ in 0..=fitting {
        requests.receive(&ticket.text, "gateway", Some(&answer));
    }
    let asked = requests.asked().remove(&ticket.text).expect("a request");
    let held = asked.answers.iter().filter(|(_, answer)| answer.is_some());
    assert_eq!(held.count(), fitting);
    drop(asked);
    assert_eq!(requests.answers.used(), 0);
    // An answer that nobody waits for is not held.
    requests.receive(&ticket.text, "gateway", Some(&answer));
    assert_eq!(requests.answers.used(), 0);
    drop(tickets);
    assert!(requests.begin().is_some());
}
