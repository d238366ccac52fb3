//! The delivery, with destinations that fail or take their time.

use std::sync::atomic::AtomicI64;

use sqlx::{ConnectOptions as _, sqlite::SqliteConnectOptions};
use tokio::sync::Barrier;

use super::*;
use crate::{config::DatabaseUrl, credentials::email::Email, store::ResetRequest};

#[test]
fn the_wait_doubles_up_to_the_longest() {
    let waits = |backoff| [0, 1, 2, 5, 6, 1_000, i64::MAX].map(|n| backoff_secs(backoff, n));
    assert_eq!(waits((1, 60)), [1, 2, 4, 32, 60, 60, 60]);
    assert_eq!(waits((5, 300)), [5, 10, 20, 160, 300, 300, 300]);
}

/// A destination that is down. An attempt takes a minute of the test's clock.
struct Down<'a> {
    store: &'a Store,
    clock: &'a AtomicI64,
}

impl Carrier for Down<'_> {
    const CONCURRENCY: usize = 1;
    const LEASE_SECS: Option<i64> = Some(120);
    const BACKOFF_SECS: (i64, i64) = (5, 300);

    fn destination(&self) -> Destination<'_> {
        Destination::PasswordResets
    }

    async fn deliver(&self, _: &Message) -> Outcome {
        let start = self.clock.fetch_add(60, Ordering::SeqCst);
        assert_eq!(due(self.store, start + 119).await.len(), 0);
        assert_eq!(due(self.store, start + 120).await.len(), 1);
        Outcome::Failed(anyhow::anyhow!("down"))
    }
}

async fn due(store: &Store, now: i64) -> Vec<Message> {
    let order = DeliveryOrder::LongestWaiting;
    let due = store.due_messages(Destination::PasswordResets, order, now, 600, 10);
    due.await.expect("a list")
}

async fn open_store(directory: &tempfile::TempDir) -> Store {
    let url = DatabaseUrl::sqlite(&directory.path().join("new.db"));
    Store::open(&url).await.expect("a store")
}

async fn ask_reset(store: &Store, id: &str, now: i64) {
    let request = ResetRequest {
        id: id.to_owned(),
        email: Email::parse("nobody@example.org").expect("an address"),
        now,
        expires_at: now + 10_000,
    };
    let asked = store.request_password_reset(&request).await;
    asked.expect("a write");
}

/// A destination that takes a message when all of them are under way, the first one before the others.
struct Slow {
    under_way: Barrier,
    delivered: AtomicI64,
}

impl Carrier for Slow {
    const CONCURRENCY: usize = 3;
    const LEASE_SECS: Option<i64> = None;
    const BACKOFF_SECS: (i64, i64) = (1, 60);

    fn destination(&self) -> Destination<'_> {
        Destination::PasswordResets
    }

    async fn deliver(&self, message: &Message) -> Outcome {
        self.under_way.wait().await;
        if message.id != "one" {
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        self.delivered.fetch_add(1, Ordering::SeqCst);
        Outcome::Delivered(None)
    }
}

#[tokio::test]
async fn a_write_that_fails_cuts_off_no_other_attempt_and_starts_none() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open_store(&directory).await;
    let now = clock().expect("a time");
    for id in ["one", "two", "three", "four"] {
        ask_reset(&store, id, now).await;
    }
    let file = directory.path().join("new.db");
    let options = SqliteConnectOptions::new().filename(file);
    let mut connection = options.connect().await.expect("a connection");
    let trigger = "create trigger keep before delete on outbox when old.id = 'one' \
                   begin select raise(abort, 'kept'); end";
    let made = sqlx::query(trigger).execute(&mut connection).await;
    made.expect("a trigger");
    let slow = Slow {
        under_way: Barrier::new(3),
        delivered: AtomicI64::new(0),
    };
    let outcome = deliver_due(&store, &slow, &AtomicBool::new(false)).await;
    assert!(outcome.is_err());
    assert_eq!(slow.delivered.load(Ordering::SeqCst), 3);
    let due = due(&store, now).await.into_iter();
    let ids: Vec<_> = due.map(|due| due.id).collect();
    assert_eq!(ids, ["one", "four"]);
}

#[tokio::test]
async fn a_lease_and_a_wait_count_from_the_attempt_and_not_from_the_batch() {
    const NOW: i64 = 1_000;
    let directory = tempfile::tempdir().expect("a directory");
    let store = open_store(&directory).await;
    ask_reset(&store, "one", NOW).await;
    let [message] = due(&store, NOW).await.try_into().expect("one");
    // The messages before this one took 500 s.
    let clock = AtomicI64::new(NOW + 500);
    let carrier = Down {
        store: &store,
        clock: &clock,
    };
    let read = || Some(clock.load(Ordering::SeqCst));
    let outcome = attempt(&store, &carrier, message, read).await;
    assert!(matches!(outcome, Ok(Some(Outcome::Failed(_)))));
    assert_eq!(due(&store, NOW + 564).await.len(), 0);
    assert_eq!(due(&store, NOW + 565).await.len(), 1);
}

/// A destination that takes one message and never answers to another.
struct Hanging {
    is_under_way: Notify,
    is_delivered: Notify,
}

impl Carrier for &Hanging {
    const CONCURRENCY: usize = 1;
    const LEASE_SECS: Option<i64> = Some(120);
    const BACKOFF_SECS: (i64, i64) = (1, 60);
    const LANES: usize = 2;

    fn destination(&self) -> Destination<'_> {
        Destination::PasswordResets
    }

    async fn deliver(&self, message: &Message) -> Outcome {
        if message.id == "one" {
            self.is_under_way.notify_one();
            return std::future::pending().await;
        }
        self.is_delivered.notify_one();
        Outcome::Delivered(None)
    }
}

#[tokio::test]
async fn a_message_that_hangs_holds_up_no_later_one() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open_store(&directory).await;
    let now = clock().expect("a time");
    ask_reset(&store, "one", now).await;
    let hanging = Hanging {
        is_under_way: Notify::new(),
        is_delivered: Notify::new(),
    };
    let outbox = Outbox::default();
    let (_stop, stopping) = watch::channel(false);
    let sending = async {
        hanging.is_under_way.notified().await;
        ask_reset(&store, "two", now).await;
        outbox.wake();
        hanging.is_delivered.notified().await;
    };
    let delivered = tokio::time::timeout(Duration::from_secs(10), async {
        tokio::select! {
            () = serve(&store, &outbox, &hanging, stopping) => panic!("nobody stops it"),
            () = sending => {}
        }
    });
    delivered.await.expect("in time");
}
