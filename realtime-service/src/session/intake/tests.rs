//! The order of events, the end of a session, and the limits of what waits.

use std::future::pending;

use tokio::{sync::oneshot, time::Instant};

use super::*;

fn intake_of(limits: &Limits, ended: CancellationToken) -> Intake {
    Intake::new(limits, Arc::default(), ended, TaskTracker::new())
}

fn intake() -> (Intake, CancellationToken) {
    let ended = CancellationToken::new();
    let intake = intake_of(&Limits::default(), ended.clone());
    (intake, ended)
}

/// Ends a queue while `handler` runs, and returns how long the last job waits after that.
async fn time_until_last(handler: impl Future<Output = ()> + Send + 'static) -> Duration {
    let (intake, ended) = intake();
    let (begin, has_begun) = oneshot::channel();
    let handler = Box::pin(async move {
        begin.send(()).expect("the test listens");
        handler.await;
    });
    assert!(intake.push(1, handler).is_ok());
    let (next, is_next) = oneshot::channel();
    let next = Box::pin(async move {
        next.send(()).expect("the test listens");
    });
    assert!(intake.push(1, next).is_ok());
    let (tell, is_told) = oneshot::channel();
    intake.at_end(Box::pin(async move {
        tell.send(Instant::now()).expect("the test listens");
    }));
    has_begun.await.expect("a handler that runs");
    let end = Instant::now();
    ended.cancel();
    intake.end();
    let told = timeout(2 * HANDLER_GRACE, is_told).await;
    let told = told.expect("a last job in time").expect("a last job");
    is_next.await.expect_err("what waited is not done any more");
    told - end
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_never_ends_is_dropped_after_the_grace() {
    let session = Arc::new(());
    let kept = Arc::downgrade(&session);
    let took = time_until_last(async move {
        pending::<()>().await;
        drop(session);
    });
    assert_eq!(took.await, HANDLER_GRACE);
    assert!(kept.upgrade().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_ends_within_the_grace_is_finished() {
    const WORK: Duration = Duration::from_secs(9);
    let (done, is_done) = oneshot::channel();
    let took = time_until_last(async move {
        tokio::time::sleep(WORK).await;
        done.send(()).expect("the test listens");
    });
    assert_eq!(took.await, WORK);
    is_done.await.expect("a handler that finished");
}

/// Handles one event with a second one behind it. Returns whether the second event is handled, when
/// the session ends (`ends`) before the second event begins.
async fn is_second_handled(waits: bool, ends: bool) -> bool {
    let (intake, ended) = intake();
    let (open, is_open) = oneshot::channel();
    let (tell, is_told) = oneshot::channel();
    let queue = intake.clone();
    let first = Box::pin(async move {
        let second = Box::pin(async move { tell.send(()).expect("the test listens") });
        assert!(queue.push(1, second).is_ok());
        if waits {
            is_open.await.expect("the test opens");
        }
    });
    assert!(intake.push(1, first).is_ok());
    if waits {
        open.send(()).expect("an event that waits");
        // The first event ends, and its task yields.
        tokio::task::yield_now().await;
    }
    if ends {
        ended.cancel();
        intake.end();
    }
    is_told.await.is_ok()
}

#[tokio::test]
async fn a_session_that_ends_between_two_events_does_not_handle_the_second() {
    for waits in [false, true] {
        assert!(is_second_handled(waits, false).await, "waits: {waits}");
        assert!(!is_second_handled(waits, true).await, "waits: {waits}");
    }
}

#[tokio::test]
async fn a_last_job_that_comes_after_the_end_is_done_at_once() {
    let (intake, _) = intake();
    intake.end();
    let (tell, is_told) = oneshot::channel();
    intake.at_end(Box::pin(async move {
        tell.send(()).expect("the test listens");
    }));
    is_told.await.expect("a last job");
}

#[tokio::test]
async fn jobs_are_done_in_order_and_a_panic_concerns_its_own_alone() {
    let (intake, _) = intake();
    let done = Arc::new(Mutex::new(Vec::new()));
    let (open, is_open) = oneshot::channel::<()>();
    let (end, has_ended) = oneshot::channel();
    let note = |number: u32| lock(&done).push(number);
    note(0);
    let kept = done.clone();
    let first = Box::pin(async move {
        is_open.await.expect("the test opens");
        lock(&kept).push(1);
    });
    assert!(intake.push(1, first).is_ok());
    assert!(
        intake
            .push(1, Box::pin(async { panic!("on purpose") }))
            .is_ok()
    );
    let kept = done.clone();
    let last = Box::pin(async move {
        lock(&kept).push(2);
        end.send(()).expect("the test listens");
    });
    assert!(intake.push(1, last).is_ok());
    open.send(()).expect("a job that waits");
    has_ended.await.expect("the last job");
    assert_eq!(*lock(&done), [0, 1, 2]);
    assert!(
        intake
            .push(1, Box::pin(async { panic!("on purpose") }))
            .is_ok()
    );
}

#[tokio::test]
async fn what_waits_is_bounded_by_number_and_size() {
    let limits = Limits {
        inbound_events: 2,
        inbound_bytes: 10,
        ..Limits::default()
    };
    let intake = intake_of(&limits, CancellationToken::new());
    let job = || Box::pin(pending::<()>());
    assert!(intake.push(100, job()).is_ok(), "it is begun at once");
    assert!(intake.push(100, job()).is_ok(), "nothing waits yet");
    intake.push(1, job()).expect_err("too many bytes");
    let intake = intake_of(&limits, CancellationToken::new());
    for _ in 0..3 {
        assert!(intake.push(1, job()).is_ok());
    }
    intake.push(1, job()).expect_err("too many events");
}

#[tokio::test]
async fn what_waits_counts_for_all_sessions_of_a_client_until_they_end() {
    let limits = Limits {
        inbound_events: 2,
        ..Limits::default()
    };
    let share = Arc::<ClientShare>::default();
    let of = |share: &Arc<ClientShare>| {
        Intake::new(
            &limits,
            share.clone(),
            CancellationToken::new(),
            TaskTracker::new(),
        )
    };
    let job = || Box::pin(pending::<()>());
    let (main, admin, other) = (of(&share), of(&share), of(&Arc::default()));
    for intake in [&main, &admin, &other] {
        assert!(intake.push(1, job()).is_ok(), "it is begun at once");
    }
    assert!(main.push(1, job()).is_ok(), "one waits");
    assert!(admin.push(1, job()).is_ok(), "two wait");
    admin.push(1, job()).expect_err("one too many");
    assert!(other.push(1, job()).is_ok(), "of another client");
    main.end();
    assert!(admin.push(1, job()).is_ok(), "what waited for it is gone");
}
