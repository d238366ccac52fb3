//! The pool, with threads and without.

use super::*;

fn password(text: &str) -> Password {
    Password::parse(text.to_owned()).expect("a password")
}

fn pool() -> PasswordPool {
    PasswordPool::start(&settings(1)).expect("a pool")
}

async fn verify(
    pool: &PasswordPool,
    password: Password,
    stored: Option<StoredHash>,
) -> Result<bool, PoolError> {
    pool.enter()?.verify(password, stored).await
}

fn settings(threads: usize) -> PasswordSettings {
    PasswordSettings {
        threads,
        ..PasswordSettings::default()
    }
}

fn stored(text: &str) -> StoredHash {
    hash::hash_password(&password(text), [7; hash::SALT_BYTES], &Cost::DEFAULT).expect("a hash")
}

#[tokio::test]
async fn the_right_password_matches_and_a_wrong_one_does_not() {
    let pool = pool();
    let right = verify(&pool, password("open sesame"), Some(stored("open sesame")));
    assert_eq!(right.await, Ok(true));
    let wrong = verify(&pool, password("open barley"), Some(stored("open sesame")));
    assert_eq!(wrong.await, Ok(false));
}

#[tokio::test]
async fn without_a_stored_hash_the_work_is_done_all_the_same() {
    let pool = pool();
    assert_eq!(
        verify(&pool, password("open sesame"), None).await,
        Ok(false)
    );
    assert_eq!(pool.verified(), 1);
}

#[tokio::test]
async fn a_broken_hash_is_a_wrong_password_and_the_pool_lives_on() {
    let pool = pool();
    let broken = StoredHash::from("$argon2id$v=19$m=4294967295,t=2,p=1$c2FsdHNhbHQ$aGFzaA");
    assert_eq!(verify(&pool, password("x"), Some(broken)).await, Ok(false));
    let right = verify(&pool, password("open sesame"), Some(stored("open sesame")));
    assert_eq!(right.await, Ok(true));
}

#[tokio::test]
async fn a_hash_that_is_made_is_one_of_the_password_with_a_salt_of_its_own() {
    let pool = pool();
    let first = pool.hash(password("open sesame")).await.expect("a hash");
    let second = pool.hash(password("open sesame")).await.expect("a hash");
    assert_ne!(first.as_str(), second.as_str());
    let right = verify(&pool, password("open sesame"), Some(first));
    assert_eq!(right.await, Ok(true));
}

/// A pool without threads: what is queued stays queued.
fn idle_pool(queue: usize) -> (PasswordPool, Receiver<Job>) {
    let (sender, receiver) = sync_channel(queue);
    let pool = PasswordPool {
        queue: Some(sender),
        places: Arc::new(Semaphore::new(queue)),
        threads: Vec::new(),
        verified: Arc::default(),
        cost: Cost::DEFAULT,
    };
    (pool, receiver)
}

fn worker(pool: &PasswordPool, queue: Receiver<Job>) -> Worker {
    Worker {
        queue: Arc::new(Mutex::new(queue)),
        verified: Arc::clone(&pool.verified),
        decoy: decoy_hash(&Cost::DEFAULT).expect("a hash"),
        memory: hash::new_memory(&Cost::DEFAULT),
        cost: Cost::DEFAULT,
        deadline: Duration::from_secs(1),
    }
}

#[tokio::test]
async fn a_full_queue_refuses_at_once() {
    let (pool, _queue) = idle_pool(1);
    let mut first = Box::pin(verify(&pool, password("first"), None));
    assert!(
        futures_util::future::poll_immediate(&mut first)
            .await
            .is_none()
    );
    let second = verify(&pool, password("second"), None).await;
    assert_eq!(second, Err(PoolError::Overloaded));
    assert_eq!(
        pool.hash(password("third")).await.err(),
        Some(PoolError::Overloaded)
    );
}

#[tokio::test]
async fn a_job_whose_requester_has_gone_is_skipped() {
    let (mut pool, queue) = idle_pool(2);
    let mut gone = Box::pin(verify(&pool, password("gone"), None));
    assert!(
        futures_util::future::poll_immediate(&mut gone)
            .await
            .is_none()
    );
    drop(gone);
    let (answer, answered) = oneshot::channel();
    let waiting = Job {
        password: password("waiting"),
        work: Work::Verify(None, answer),
        queued_at: Instant::now(),
        place: pool.enter().expect("a place").permit,
    };
    let sender = pool.queue.take().expect("a queue");
    sender.try_send(waiting).expect("a place");
    drop(sender);
    worker(&pool, queue).run();
    assert_eq!(answered.await, Ok(Ok(false)));
    assert_eq!(pool.verified(), 1);
}

#[tokio::test]
async fn a_job_that_waited_too_long_is_not_done() {
    let (mut pool, queue) = idle_pool(2);
    let sender = pool.queue.take().expect("a queue");
    let mut answers = Vec::new();
    for age in [Duration::ZERO, Duration::from_millis(1_001)] {
        let (answer, answered) = oneshot::channel();
        let job = Job {
            password: password("waiting"),
            work: Work::Verify(None, answer),
            queued_at: Instant::now().checked_sub(age).expect("a time"),
            place: pool.enter().expect("a place").permit,
        };
        sender.try_send(job).expect("a place");
        answers.push(answered);
    }
    drop(sender);
    worker(&pool, queue).run();
    let late = answers.pop().expect("an answer").await;
    assert_eq!(late, Ok(Err(PoolError::Overloaded)));
    let early = answers.pop().expect("an answer").await;
    assert_eq!(early, Ok(Ok(false)));
    assert_eq!(pool.verified(), 1);
}

#[tokio::test]
async fn ten_thousand_that_hang_up_leave_the_queue_empty() {
    let pool = PasswordPool::start(&PasswordSettings {
        queue: 10_000,
        ..settings(1)
    });
    let pool = pool.expect("a pool");
    let mut waiting: Vec<_> = (0..10_000)
        .map(|_| Box::pin(verify(&pool, password("gone"), None)))
        .collect();
    for one in &mut waiting {
        let _ = futures_util::future::poll_immediate(one).await;
    }
    drop(waiting);
    let right = verify(&pool, password("open sesame"), Some(stored("open sesame")));
    assert_eq!(right.await, Ok(true));
    assert!(pool.verified() < 100, "{}", pool.verified());
}

#[tokio::test]
async fn a_place_that_is_not_used_is_free_again() {
    let (pool, _queue) = idle_pool(1);
    let place = pool.enter().expect("a place");
    assert_eq!(pool.enter().err(), Some(PoolError::Overloaded));
    drop(place);
    assert!(pool.enter().is_ok());
}
