use std::{fs, os::unix::fs::PermissionsExt, time::Duration};

use shared_claims::verify::LogoutScope;
use tempfile::TempDir;

use super::*;
use crate::clock::for_test;

const ISSUER: &str = "https://issuer.example";

/// Long enough for a test.
const LIFETIME_SECS: u64 = 900;

fn settings(directory: &TempDir) -> RevocationSettings {
    RevocationSettings {
        file: directory.path().join("revocations.jsonl"),
        ..RevocationSettings::default()
    }
}

fn logout(scope: LogoutScope) -> VerifiedLogout {
    VerifiedLogout {
        iss: ISSUER.to_owned(),
        iat: unix_secs(wall_now()),
        scopes: vec![scope],
        tokens_exp: None,
    }
}

fn session(id: &str) -> VerifiedLogout {
    logout(LogoutScope::Session(id.to_owned()))
}

async fn revoke(revocations: &Revocations, logout: &VerifiedLogout) -> Result<(), RevocationError> {
    let times = (LIFETIME_SECS, SystemTime::now());
    let pending = revocations.remember(logout, times)?;
    revocations.write(pending).await
}

fn lines(settings: &RevocationSettings) -> Vec<String> {
    let text = fs::read_to_string(&settings.file).expect("a file");
    text.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_restart_and_what_is_moot_is_not() {
    let directory = tempfile::tempdir().expect("a directory");
    let settings = settings(&directory);
    let revocations = Revocations::open(&settings).expect("a file");
    revoke(&revocations, &session("s-1"))
        .await
        .expect("durable");
    let subject = logout(LogoutScope::Subject("alice".to_owned()));
    revoke(&revocations, &subject).await.expect("durable");
    let long_ago = SystemTime::now() - Duration::from_secs(LIFETIME_SECS + 60);
    let moot = revocations.remember(&session("s-2"), (LIFETIME_SECS, long_ago));
    revocations
        .write(moot.expect("room"))
        .await
        .expect("durable");
    assert_eq!(lines(&settings).len(), 3);
    revocations.close().await;

    let again = Revocations::open(&settings).expect("the same file");
    assert_eq!(again.len(), 2);
    assert_eq!(lines(&settings).len(), 2);
    let mode = fs::metadata(&settings.file)
        .expect("a file")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn a_line_with_a_session_and_the_unnamed_ones_of_its_subject_is_both_or_neither() {
    let directory = tempfile::tempdir().expect("a directory");
    let settings = RevocationSettings {
        entries: 3,
        ..settings(&directory)
    };
    let both = |sid: &str, sub: &str| VerifiedLogout {
        scopes: vec![
            LogoutScope::Session(sid.to_owned()),
            LogoutScope::Unnamed(sub.to_owned()),
        ],
        ..session(sid)
    };
    let revocations = Revocations::open(&settings).expect("a file");
    revoke(&revocations, &both("s-1", "alice"))
        .await
        .expect("durable");
    assert_eq!((revocations.len(), lines(&settings).len()), (2, 1));
    let beyond = revoke(&revocations, &both("s-2", "bob")).await;
    assert!(matches!(beyond, Err(RevocationError::Full)));
    assert_eq!(revocations.len(), 2);
    // Another session of the same person takes one more place, the last one.
    revoke(&revocations, &both("s-2", "alice"))
        .await
        .expect("durable");
    assert_eq!(revocations.len(), 3);
    revocations.close().await;
    // A file that is opened is written anew.
    let again = Revocations::open(&settings).expect("the same file");
    assert_eq!((again.len(), lines(&settings).len()), (3, 3));
}

#[tokio::test]
async fn half_a_line_was_never_acknowledged_and_a_bad_one_is_no_file_of_ours() {
    let directory = tempfile::tempdir().expect("a directory");
    let settings = settings(&directory);
    let revocations = Revocations::open(&settings).expect("a file");
    revoke(&revocations, &session("s-1"))
        .await
        .expect("durable");
    revocations.close().await;
    let whole = fs::read_to_string(&settings.file).expect("a file");
    // It is cut off within a character of two bytes.
    let cut_off = [whole.as_bytes(), &whole.as_bytes()[..20], &[0xc3]].concat();
    fs::write(&settings.file, cut_off).expect("written");
    let again = Revocations::open(&settings).expect("a file that was cut off");
    assert_eq!(again.len(), 1);
    again.close().await;
    fs::write(&settings.file, format!("{{}}\n{whole}")).expect("written");
    let error = format!(
        "{:#}",
        Revocations::open(&settings).err().expect("no revocation")
    );
    assert!(error.ends_with("line 1 is no revocation"), "{error}");
}

#[tokio::test]
async fn a_file_is_one_process_s_at_a_time() {
    let directory = tempfile::tempdir().expect("a directory");
    let settings = settings(&directory);
    let first = Revocations::open(&settings).expect("a file");
    let error = format!("{:#}", Revocations::open(&settings).err().expect("taken"));
    assert!(error.ends_with("another process uses it"), "{error}");
    first.close().await;
    assert!(Revocations::open(&settings).is_ok());
}

#[tokio::test]
async fn many_at_once_are_all_written_and_beyond_the_bound_none_is_taken() {
    let directory = tempfile::tempdir().expect("a directory");
    let settings = RevocationSettings {
        entries: 300,
        ..settings(&directory)
    };
    let revocations = Revocations::open(&settings).expect("a file");
    let logouts: Vec<_> = (0..300)
        .map(|number| session(&number.to_string()))
        .collect();
    let all = logouts.iter().map(|logout| revoke(&revocations, logout));
    for written in futures_util::future::join_all(all).await {
        written.expect("durable");
    }
    assert_eq!(lines(&settings).len(), 300);
    let beyond = revoke(&revocations, &session("one more")).await;
    assert!(matches!(beyond, Err(RevocationError::Full)));
    // What is there already takes no more room.
    revoke(&revocations, &logouts[0]).await.expect("durable");
}

#[tokio::test]
async fn a_file_that_grows_is_written_anew() {
    let directory = tempfile::tempdir().expect("a directory");
    let settings = settings(&directory);
    let revocations = Revocations::open(&settings).expect("a file");
    let same = session("s-1");
    for _ in 0..=SPARE_LINES / 500 {
        let all = (0..500).map(|_| revoke(&revocations, &same));
        for written in futures_util::future::join_all(all).await {
            written.expect("durable");
        }
    }
    revocations.log.is_short(SPARE_LINES).await;
    revocations.close().await;
    let length = lines(&settings).len();
    assert!(length < SPARE_LINES, "{length}");
}

/// Remembers `count` revocations, which lapse `LIFETIME_SECS` and a little after now.
fn remember_many(revocations: &Revocations, range: std::ops::Range<usize>) {
    for number in range {
        let times = (LIFETIME_SECS, wall_now());
        let pending = revocations.remember(&session(&number.to_string()), times);
        pending.expect("room");
    }
}

fn is_in_force(revocations: &Revocations, sid: &str) -> bool {
    let key = (ISSUER.to_owned(), LogoutScope::Session(sid.to_owned()));
    let now = unix_secs(wall_now());
    revocations.entries.get(&key, now).is_some()
}

#[tokio::test(start_paused = true)]
async fn revocations_lapse_while_the_gateway_runs_and_leave_memory_and_file() {
    const COUNT: usize = 3 * SPARE_LINES;
    let directory = tempfile::tempdir().expect("a directory");
    let settings = settings(&directory);
    let revocations = Arc::new(Revocations::open(&settings).expect("a file"));
    // From now on the wall clock runs with the clock of timers, which is paused.
    for_test::jump(Duration::ZERO);
    remember_many(&revocations, 0..COUNT);
    let all: Vec<String> = (0..COUNT)
        .map(|number| {
            line_of(&Record {
                iss: ISSUER.to_owned(),
                sid: Some(number.to_string()),
                ..Record::default()
            })
        })
        .collect();
    for some in all.chunks(500) {
        let some = some.iter().map(|line| revocations.log.append(line.clone()));
        for written in futures_util::future::join_all(some).await {
            written.expect("durable");
        }
    }
    let maintained = revocations.clone();
    let maintenance = tokio::spawn(async move { maintained.run_maintenance().await });
    for_test::jump(Duration::from_secs(LIFETIME_SECS));
    remember_many(&revocations, 0..1);
    remember_many(&revocations, COUNT..COUNT + 1);
    assert!(
        is_in_force(&revocations, "1"),
        "its tokens are accepted yet"
    );
    for_test::jump(Duration::from_secs(CLOCK_LEEWAY_SECS));
    assert!(!is_in_force(&revocations, "1"), "before it is removed");
    sleep(2 * LAPSE_INTERVAL).await;
    assert_eq!(revocations.len(), 2, "one that was extended, and a new one");
    assert!(is_in_force(&revocations, "0") && is_in_force(&revocations, &COUNT.to_string()));
    // The clock would run ahead while the other thread writes.
    maintenance.abort();
    revocations.log.is_short(2).await;
    assert_eq!(lines(&settings).len(), 2);
}

/// An account that logs in and out would fill the list otherwise, with a day for each of its short tokens.
#[tokio::test(start_paused = true)]
async fn a_revocation_lapses_with_the_last_token_and_with_the_longest_possible_one_at_the_latest() {
    const SHORT_SECS: u64 = 60;
    let directory = tempfile::tempdir().expect("a directory");
    let revocations = Revocations::open(&settings(&directory)).expect("a file");
    for_test::jump(Duration::ZERO);
    let now = unix_secs(wall_now());
    for (sid, tokens_exp) in [
        ("unsaid", None),
        ("short", Some(now + SHORT_SECS)),
        ("too long", Some(now + 2 * LIFETIME_SECS)),
    ] {
        let logout = VerifiedLogout {
            tokens_exp,
            ..session(sid)
        };
        let pending = revocations.remember(&logout, (LIFETIME_SECS, wall_now()));
        pending.expect("room");
    }
    let in_force = || ["unsaid", "short", "too long"].map(|sid| is_in_force(&revocations, sid));
    for_test::jump(Duration::from_secs(SHORT_SECS + CLOCK_LEEWAY_SECS - 1));
    assert_eq!(in_force(), [true, true, true]);
    for_test::jump(Duration::from_secs(1));
    assert_eq!(in_force(), [true, false, true]);
    for_test::jump(Duration::from_secs(LIFETIME_SECS - SHORT_SECS));
    assert_eq!(in_force(), [false, false, false]);
}

#[tokio::test(start_paused = true)]
async fn a_file_that_lacks_a_revocation_is_written_anew() {
    let directory = tempfile::tempdir().expect("a directory");
    let settings = settings(&directory);
    let revocations = Revocations::open(&settings).expect("a file");
    remember_many(&revocations, 0..1);
    // The queue has no room for so many at once.
    while !revocations.log.is_incomplete() {
        revocations.log.append_later("another".to_owned());
    }
    let is_there = || lines(&settings).iter().any(|line| line.contains("\"0\""));
    assert!(!is_there());
    // Another thread writes, by the clock on the wall.
    let begun = std::time::Instant::now();
    let until_there = async {
        while !is_there() {
            assert!(
                begun.elapsed() < Duration::from_secs(15),
                "it is not written"
            );
            sleep(LAPSE_INTERVAL).await;
        }
    };
    tokio::select! {
        () = revocations.run_maintenance() => {}
        () = until_there => {}
    }
}

#[tokio::test]
async fn a_rewrite_loses_nothing_that_is_appended_meanwhile() {
    let directory = tempfile::tempdir().expect("a directory");
    let settings = settings(&directory);
    let revocations = Revocations::open(&settings).expect("a file");
    remember_many(&revocations, 0..20_000);
    let mut before = 0;
    // Some of these come before a draft has copied their shard, and some after.
    for round in 0..20 {
        revocations.log.rewrite_later(revocations.entries.clone());
        let logouts: Vec<_> = (0..50)
            .map(|number| session(&format!("meanwhile-{round}-{number}")))
            .collect();
        let all = logouts.iter().map(|logout| revoke(&revocations, logout));
        for written in futures_util::future::join_all(all).await {
            written.expect("durable");
        }
        before += 50;
        // What is acknowledged is in the file, whichever file that is at this moment.
        let text = fs::read_to_string(&settings.file).expect("a file");
        for number in 0..50 {
            let sid = format!("\"meanwhile-{round}-{number}\"");
            assert!(text.contains(&sid), "{sid} is lost");
        }
    }
    revocations.close().await;
    let again = Revocations::open(&settings).expect("the same file");
    for round in 0..20 {
        assert!(is_in_force(&again, &format!("meanwhile-{round}-49")));
    }
    assert!(again.len() >= before);
}
