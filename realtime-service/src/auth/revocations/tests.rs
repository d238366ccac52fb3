use std::{fs, os::unix::fs::PermissionsExt, time::Duration};

use shared_claims::verify::LogoutScope;
use tempfile::TempDir;

use super::*;

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
        iat: seconds(SystemTime::now()),
        scopes: vec![scope],
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
    let anew = lines_of(&mut revocations.entries());
    revocations.close().await;
    fs::write(&settings.file, format!("{}\n", anew.join("\n"))).expect("written");
    let again = Revocations::open(&settings).expect("the same file");
    assert_eq!(again.len(), 3);
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
    fs::write(&settings.file, format!("{whole}{}", &whole[..20])).expect("written");
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
    revocations.close().await;
    assert!(
        lines(&settings).len() < SPARE_LINES,
        "{}",
        lines(&settings).len()
    );
}
