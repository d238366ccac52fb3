//! Gateways that are lost, and those that go on for them.

use std::collections::HashSet;

use super::{
    super::adoption::{Adoption, Adoptions, Uptime},
    *,
};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server; run by tests/redis"]
async fn another_gateway_goes_on_with_what_a_lost_one_has_left_and_none_while_it_lives() {
    go_on(&settings()).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server; run by tests/redis"]
async fn so_it_is_in_a_redis_cluster() {
    let settings = ClusterSettings {
        lease_secs: 3,
        ..redis_server::settings_of_cluster()
    };
    go_on(&settings).await;
}

async fn go_on(settings: &ClusterSettings) {
    let (disk, other_disk) = (directory(), directory());
    let one = Gateway::start(settings, disk.path()).await;
    let two = Gateway::start(settings, other_disk.path()).await;
    for (id, subject) in [
        ("a1", "alice"),
        ("b1", "bob"),
        ("a2", "alice"),
        ("c1", "carol"),
    ] {
        one.append(id, subject, 2).await;
    }
    one.open_book("alice closed", "alice").await;
    one.open_book("bob closed", "bob").await;
    let (at, listed) = (now(), one.list(false).await);
    let (alice, carol) = (listed[0].seq, listed[3].seq);
    let noted = one.copy.queue.run(move |store| {
        store.retry(alice, (3, at), "no")?;
        store.bury(carol, (9, at), "never")
    });
    noted.await.expect("noted");
    two.append("a0", "alice", 2).await;
    let created_at = listed[0].created_at;

    // As long as its gateway lives, a queue is nobody else's.
    let lost_id = one.copy.progress.id();
    let tried = two.copy.adopt(&lost_id, &mut Default::default()).await;
    tried.expect("an answer");
    assert_eq!(two.ids().await, ["a0"]);

    let lost = one.kill().await;
    drop(disk);
    lost.lapse().await;
    lost.adopted().await;
    let taken = two.list(false).await;
    let ids: Vec<_> = taken.iter().map(|event| &*event.id).collect();
    assert_eq!(ids, ["a0", "a1", "b1", "a2", "alice closed", "bob closed"]);
    assert_eq!((taken[1].attempts, taken[1].created_at), (3, created_at));
    assert_eq!(taken[1].problem.as_deref(), Some("no"));
    let dead = two.list(true).await;
    assert_eq!(
        (&*dead[0].id, dead[0].attempts, dead[0].dead_at),
        ("c1", 9, Some(at))
    );
    let closed = two.body("alice closed").await;
    assert_eq!(closed["data"]["cause"], "gateway_lost");
    assert_eq!(two.copied_rows().await, two.rows().await);
    let delivered = two.deliver().await;
    let of = |letter: char| delivered.iter().filter(move |id| id.starts_with(letter));
    assert!(
        of('a').eq(["a0", "a1", "a2", "alice closed"]),
        "{delivered:?}"
    );
    assert!(of('b').eq(["b1", "bob closed"]), "{delivered:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server; run by tests/redis"]
async fn of_many_adopters_one_has_each_event() {
    let settings = settings();
    let disks = [directory(), directory(), directory(), directory()];
    let one = Gateway::start(&settings, disks[0].path()).await;
    for number in 0..40 {
        // A few to a page.
        let subject = (number % 7).to_string();
        one.append(&number.to_string(), &subject, 100_000).await;
    }
    let mut others = Vec::new();
    for disk in &disks[1..] {
        others.push(Gateway::start(&settings, disk.path()).await);
    }
    let lost = one.kill().await;
    lost.lapse().await;
    let (mut first, mut second, mut third) = <(Adoptions, Adoptions, Adoptions)>::default();
    let (one, two, three) = tokio::join!(
        others[0].copy.adopt(&lost.id, &mut first),
        others[1].copy.adopt(&lost.id, &mut second),
        others[2].copy.adopt(&lost.id, &mut third),
    );
    for outcome in [one, two, three] {
        outcome.expect("an answer");
    }
    lost.adopted().await;
    let mut all = Vec::new();
    for other in &others {
        all.extend(other.ids().await);
    }
    let expected: Vec<_> = (0..40).map(|number| number.to_string()).collect();
    assert_eq!(all, expected, "all of them in one file");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server; run by tests/redis"]
async fn a_file_that_comes_back_has_what_nobody_has_adopted() {
    let settings = settings();
    let (disk, other_disk) = (directory(), directory());
    let one = Gateway::start(&settings, disk.path()).await;
    for id in ["a1", "a2"] {
        one.append(id, "alice", 2).await;
    }
    one.open_book("alice closed", "alice").await;
    // Before the adoption it goes on itself.
    let id = one.kill().await.id;
    let one = Gateway::start(&settings, disk.path()).await;
    assert_eq!(one.copy.progress.id(), id);
    assert_eq!(one.ids().await, ["a1", "a2", "alice closed"]);
    assert_eq!(one.copied_rows().await, one.rows().await);

    // Redis is away when the last event is stored.
    one.open_book("bob closed", "bob").await;
    one.running.abort();
    one.copy.progress.fall_back();
    one.append("a3", "alice", 2).await;
    one.append("c1", "carol", 2).await;
    let lost = one.kill().await;
    let two = Gateway::start(&settings, other_disk.path()).await;
    lost.lapse().await;
    lost.adopted().await;
    let adopted = ["a1", "a2", "alice closed", "bob closed"];
    assert_eq!(two.ids().await, adopted);
    let one = Gateway::start(&settings, disk.path()).await;
    assert_ne!(one.copy.progress.id(), id);
    assert_eq!(one.ids().await, ["a3", "c1"]);
    assert_eq!(one.copied_rows().await, one.rows().await);
    assert_eq!(one.deliver().await, ["a3", "c1"]);
    // Once more, it goes on as any other.
    let id = one.copy.progress.id();
    one.append("a4", "alice", 2).await;
    one.kill().await;
    let one = Gateway::start(&settings, disk.path()).await;
    assert_eq!(
        (one.copy.progress.id(), one.ids().await),
        (id, vec!["a4".to_owned()])
    );
    assert_eq!(two.ids().await, adopted);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server; run by tests/redis"]
async fn an_adopter_that_dies_in_the_middle_leaves_everything_to_the_next_one() {
    let settings = settings();
    let (disk, second_disk, third_disk) = (directory(), directory(), directory());
    let one = Gateway::start(&settings, disk.path()).await;
    for number in 0..4 {
        one.append(&number.to_string(), "alice", 300_000).await;
    }
    one.open_book("closed", "alice").await;
    let first = one.kill().await;
    let two = Gateway::start(&settings, second_disk.path()).await;
    // It looks for no queues by itself.
    two.running.abort();
    let copy = two.copy.clone();
    let following = tokio::spawn(async move { copy.follow().await });
    first.lapse().await;
    assert_eq!(two.copy.claim(&first.keys).await, Ok(1));
    let mut adoption = Adoption::default();
    let page = two.copy.import_page(&first.keys, &mut adoption).await;
    assert!(page.expect("a page").is_some());
    let half = two.ids().await;
    assert!(
        half.starts_with(&["0".to_owned()]) && half.len() < 5,
        "{half:?}"
    );
    let kept = rows_of(&first.cluster, &first.keys).await;
    assert_eq!(kept.len(), 5, "all of it, until the end");
    // What it has taken is in its own copy, too.
    following.abort();
    let _ = following.await;
    let second = two.kill().await;
    drop(second_disk);
    let three = Gateway::start(&settings, third_disk.path()).await;
    first.lapse().await;
    second.lapse().await;
    first.adopted().await;
    second.adopted().await;
    let delivered = three.deliver().await;
    let mut seen = HashSet::new();
    let once: Vec<_> = delivered.iter().filter(|id| seen.insert(*id)).collect();
    assert_eq!(once, ["0", "1", "2", "3", "closed"]);
    assert_eq!(delivered.len(), 5, "a file has an id once");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server; run by tests/redis"]
async fn a_copy_with_a_row_that_cannot_be_read_is_kept_and_holds_up_no_other() {
    let settings = settings();
    let (disk, other_disk, next_disk) = (directory(), directory(), directory());
    let one = Gateway::start(&settings, disk.path()).await;
    let other = Gateway::start(&settings, other_disk.path()).await;
    one.append("a1", "alice", 2).await;
    one.append("a2", "alice", 2).await;
    other.append("b1", "bob", 2).await;
    let (one, other) = (one.kill().await, other.kill().await);
    // Another version wrote it.
    let link = one.cluster.link_of(&one.keys.rows).expect("a connection");
    let first = Place {
        number: 1,
        ..Place::BEFORE_EVENTS
    };
    let mut write = cmd("HSET");
    write
        .arg(&one.keys.rows)
        .arg(first.name())
        .arg("unreadable");
    assert_eq!(link.query::<i64>(&write).await, Ok(0));
    let next = Gateway::start(&settings, next_disk.path()).await;
    one.lapse().await;
    other.lapse().await;
    other.adopted().await;
    let taken = async || next.ids().await.into_iter().collect::<HashSet<_>>();
    let all = HashSet::from(["a2".to_owned(), "b1".to_owned()]);
    eventually("what can be read", async || taken().await == all).await;
    let kept = rows_of(&one.cluster, &one.keys).await;
    assert_eq!(kept.len(), 2, "all of it");
}

#[test]
fn after_an_outage_every_gateway_has_the_time_of_a_lease_to_return() {
    let (mut uptime, start) = (Uptime::default(), Instant::now());
    let at = |secs| start + Duration::from_secs(secs);
    let mut note = |generation, secs| uptime.note(generation, at(secs)).as_secs();
    assert_eq!((note(Some(1), 0), note(Some(1), 9)), (0, 9));
    // Redis did not answer, and then it was connected anew.
    assert_eq!(
        (note(None, 10), note(Some(1), 11), note(Some(1), 13)),
        (0, 0, 2)
    );
    assert_eq!((note(Some(3), 14), note(Some(3), 16)), (0, 2));
}
