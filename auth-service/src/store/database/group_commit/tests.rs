use std::{
    pin::Pin,
    sync::{atomic::AtomicI64, mpsc},
};

use futures_util::{FutureExt as _, future::join_all};
use sqlx::Connection as _;
use tempfile::TempDir;

use super::{super::Pool, *};
use crate::store::Opener;

const ADD: &str = "insert into clients (id, scopes, created_at) values ($1, '', 0)";

/// The outcome of a transaction that has ended.
type Ended = Pin<Box<dyn Future<Output = Result<(), StoreError>>>>;

/// A database whose commits are counted, while the clock stands still: on a slow machine no group grows old.
struct Database {
    directory: TempDir,
    writer: SqliteConnections,
    queue: WriterQueue,
    commits: Arc<AtomicI64>,
    _clock: mpsc::Sender<()>,
}

impl Database {
    async fn open() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("new.db");
        let opened = Pool::open_sqlite(&path, Opener::Service).await;
        let Ok((Pool::Sqlite(writer), _)) = opened else {
            panic!("no database");
        };
        let commits = Arc::new(AtomicI64::new(0));
        let counted = Arc::clone(&commits);
        let mut lent = writer.lend().await.expect("a connection");
        let mut handle = lent.connection.lock_handle().await.expect("a handle");
        handle.set_commit_hook(move || {
            counted.fetch_add(1, Ordering::SeqCst);
            true
        });
        drop(handle);
        drop(lent);
        Self {
            directory,
            writer,
            queue: WriterQueue::new(),
            commits,
            _clock: stop_clock(),
        }
    }

    async fn begin(&self) -> Result<Member, StoreError> {
        self.queue.begin(&self.writer).await
    }

    /// Returns the outcome of a transaction that has added a client, and the next one of its group.
    async fn begin_behind_first(&self) -> (Ended, Member) {
        let mut first = self.begin().await.expect("a turn");
        add(&mut first, "first").await;
        let mut entering = Box::pin(self.begin());
        assert!(is_waiting(&mut entering));
        let ended = end(first);
        (ended, entering.await.expect("a turn"))
    }

    /// Adds a client in a transaction of its own.
    async fn add(&self, id: &str) -> Result<(), StoreError> {
        let mut member = self.begin().await?;
        add(&mut member, id).await;
        member.commit().await
    }

    fn commits(&self) -> i64 {
        self.commits.load(Ordering::SeqCst)
    }

    /// The clients that are on the disk.
    async fn ids(&self) -> Vec<String> {
        let mut lent = self.writer.lend().await.expect("a connection");
        sqlx::query_scalar("select id from clients order by id")
            .fetch_all(&mut lent.connection)
            .await
            .expect("ids")
    }
}

/// Stops the clock of the runtime until the sender is dropped, or for a minute; then deadlines pass.
fn stop_clock() -> mpsc::Sender<()> {
    let (sender, end) = mpsc::channel::<()>();
    // A paused clock moves on by itself whenever nothing is to be done, except beside a blocking task.
    tokio::task::spawn_blocking(move || end.recv_timeout(Duration::from_secs(60)));
    tokio::time::pause();
    sender
}

async fn add(member: &mut Member, id: &str) {
    let connection = member.connection().expect("a connection");
    let added = sqlx::query(ADD).bind(id).execute(connection).await;
    added.expect("a write");
}

/// Ends a transaction behind which another one waits.
fn end(member: Member) -> Ended {
    let mut ending: Ended = Box::pin(member.commit());
    assert!(is_waiting(&mut ending));
    ending
}

/// Waits for the commit of a transaction that has ended.
async fn committed(ended: Ended) -> Result<(), StoreError> {
    let answer = timeout(Duration::from_secs(5), ended).await;
    answer.expect("somebody who commits")
}

/// A change that is checked at the commit, and fails it.
async fn break_commit(member: &mut Member) {
    for statement in [
        "pragma defer_foreign_keys = on",
        "insert into totp_secrets (user_id, sealed, created_at) values ('nobody', x'00', 0)",
    ] {
        let connection = member.connection().expect("a connection");
        let executed = sqlx::query(statement).execute(connection).await;
        executed.expect(statement);
    }
}

/// Polls a future once.
fn is_waiting<F: Future + ?Sized>(future: &mut Pin<Box<F>>) -> bool {
    future.as_mut().now_or_never().is_none()
}

#[tokio::test]
async fn transactions_that_wait_at_the_same_time_are_committed_once() {
    let database = Database::open().await;
    let names: Vec<String> = (10..40).map(|number| number.to_string()).collect();
    let outcomes = join_all(names.iter().map(|name| database.add(name))).await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    assert_eq!(database.ids().await, names);
    assert_eq!(database.commits(), 1);
    // One alone does not wait for others.
    database.add("alone").await.expect("a commit");
    assert_eq!(database.commits(), 2);
}

#[tokio::test]
async fn a_group_has_a_bound() {
    let database = Database::open().await;
    let names: Vec<String> = (100..300).map(|number| number.to_string()).collect();
    let outcomes = join_all(names.iter().map(|name| database.add(name))).await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    let least = names.len().div_ceil(MAXIMUM_MEMBERS) as i64;
    assert!(database.commits() >= least, "{}", database.commits());
    assert_eq!(database.ids().await, names);
}

#[tokio::test]
async fn a_group_that_is_old_takes_no_further_member() {
    for is_old in [true, false] {
        let database = Database::open().await;
        let mut first = database.begin().await.expect("a turn");
        add(&mut first, "first").await;
        let mut entering = Box::pin(database.begin());
        assert!(is_waiting(&mut entering));
        if is_old {
            tokio::time::advance(MAXIMUM_AGE).await;
        }
        let (outcome, commits) = tokio::join!(first.commit(), async {
            let second = entering.await.expect("a turn");
            let commits = database.commits();
            second.commit().await.expect("a commit");
            commits
        });
        outcome.expect("a commit");
        assert_eq!(commits, i64::from(is_old));
        tokio::time::resume();
    }
}

#[tokio::test]
async fn nobody_is_answered_before_the_commit() {
    let database = Database::open().await;
    let (mut ended, mut second) = database.begin_behind_first().await;
    add(&mut second, "second").await;
    assert!(is_waiting(&mut ended));
    assert_eq!(database.commits(), 0);
    second.commit().await.expect("a commit");
    let answer = ended.now_or_never().expect("an answer");
    answer.expect("a commit");
    assert_eq!(database.commits(), 1);
}

#[tokio::test]
async fn a_member_that_is_dropped_takes_nothing_with_it() {
    let database = Database::open().await;
    let (ended, mut second) = database.begin_behind_first().await;
    add(&mut second, "second").await;
    let mut entering = Box::pin(database.begin());
    assert!(is_waiting(&mut entering));
    drop(second);
    let mut third = entering.await.expect("a turn");
    add(&mut third, "third").await;
    third.commit().await.expect("a commit");
    committed(ended).await.expect("a commit");
    assert_eq!(database.ids().await, ["first", "third"]);
    assert_eq!(database.commits(), 1);
}

#[tokio::test]
async fn a_group_that_is_dropped_leaves_the_file_to_other_processes() {
    let database = Database::open().await;
    let url = database.directory.path().join("new.db");
    let url = format!("sqlite:{}", url.display());
    let mut other = SqliteConnection::connect(&url).await.expect("a file");
    let mut member = database.begin().await.expect("a turn");
    add(&mut member, "one").await;
    drop(member);
    tokio::time::resume();
    // It waits for five seconds at most.
    let added = sqlx::query(ADD).bind("other").execute(&mut other).await;
    added.expect("a write");
    assert_eq!(database.ids().await, ["other"]);
}

#[tokio::test]
async fn the_first_is_dropped_alone() {
    let database = Database::open().await;
    let mut first = database.begin().await.expect("a turn");
    add(&mut first, "first").await;
    let mut entering = Box::pin(database.begin());
    assert!(is_waiting(&mut entering));
    drop(first);
    let mut second = entering.await.expect("a turn");
    add(&mut second, "second").await;
    second.commit().await.expect("a commit");
    assert_eq!(database.ids().await, ["second"]);
}

#[tokio::test]
async fn those_that_ended_are_committed_when_the_last_one_is_dropped() {
    let database = Database::open().await;
    let (ended, mut second) = database.begin_behind_first().await;
    add(&mut second, "second").await;
    drop(second);
    committed(ended).await.expect("a commit");
    assert_eq!(database.ids().await, ["first"]);
}

#[tokio::test]
async fn those_that_ended_are_committed_when_the_one_that_waits_leaves() {
    let database = Database::open().await;
    let mut first = database.begin().await.expect("a turn");
    add(&mut first, "first").await;
    let mut entering = Box::pin(database.begin());
    assert!(is_waiting(&mut entering));
    let ended = end(first);
    drop(entering);
    committed(ended).await.expect("a commit");
    assert_eq!(database.ids().await, ["first"]);
}

#[tokio::test]
async fn a_client_that_leaves_during_the_commit_takes_it_from_nobody() {
    let database = Database::open().await;
    let (ended, mut second) = database.begin_behind_first().await;
    add(&mut second, "second").await;
    drop(end(second));
    committed(ended).await.expect("a commit");
    assert_eq!(database.ids().await, ["first", "second"]);
}

#[tokio::test]
async fn a_commit_that_fails_is_a_failure_for_all() {
    let database = Database::open().await;
    let (ended, mut second) = database.begin_behind_first().await;
    break_commit(&mut second).await;
    second.commit().await.expect_err("a broken reference");
    committed(ended).await.expect_err("the same commit");
    assert_eq!(database.ids().await, [""; 0]);
    database.add("next").await.expect("a commit");
}

#[tokio::test]
async fn a_transaction_of_which_a_statement_failed_is_not_committed() {
    let database = Database::open().await;
    for has_failed in [true, false] {
        let mut member = database.begin().await.expect("a turn");
        add(&mut member, "one").await;
        if has_failed {
            member.mark_failed();
        }
        assert_eq!(member.commit().await.is_err(), has_failed);
        assert_eq!(database.ids().await.is_empty(), has_failed);
    }
}

#[tokio::test]
async fn a_group_that_sqlite_has_rolled_back_fails_as_a_whole() {
    let database = Database::open().await;
    let (ended, mut second) = database.begin_behind_first().await;
    // SQLite itself does so when the disk is full.
    let connection = second.connection().expect("a connection");
    let rolled_back = sqlx::query("rollback").execute(connection).await;
    rolled_back.expect("a rollback");
    second.mark_failed();
    let mut entering = Box::pin(database.begin());
    assert!(is_waiting(&mut entering));
    drop(second);
    assert!(entering.await.is_err(), "there is no group to join");
    committed(ended).await.expect_err("a lost change");
    database.add("next").await.expect("a commit");
    assert_eq!(database.ids().await, ["next"]);
}

#[tokio::test]
async fn members_that_are_dropped_do_not_keep_a_group_open() {
    for is_old in [true, false] {
        let database = Database::open().await;
        let (_ended, second) = database.begin_behind_first().await;
        let mut entering = Box::pin(database.begin());
        assert!(is_waiting(&mut entering));
        if is_old {
            tokio::time::advance(MAXIMUM_AGE).await;
        }
        drop(second);
        let _third = entering.await.expect("a turn");
        assert_eq!(database.commits(), i64::from(is_old));
        tokio::time::resume();
    }
}

#[tokio::test]
async fn what_a_transaction_has_seen_is_on_the_disk_when_it_is_rolled_back() {
    for is_broken in [true, false] {
        let database = Database::open().await;
        let (ended, mut second) = database.begin_behind_first().await;
        if is_broken {
            break_commit(&mut second).await;
        }
        let mut entering = Box::pin(database.begin());
        assert!(is_waiting(&mut entering));
        let second = end(second);
        let mut third = entering.await.expect("a turn");
        add(&mut third, "third").await;
        assert_eq!(third.roll_back().await.is_err(), is_broken);
        assert_eq!(committed(ended).await.is_err(), is_broken);
        assert_eq!(committed(second).await.is_err(), is_broken);
        let ids: &[&str] = if is_broken { &[] } else { &["first"] };
        assert_eq!(database.ids().await, ids);
        tokio::time::resume();
    }
}
