//! The running binary when its database file is not as it should be.

use std::{
    fs,
    io::{Seek as _, SeekFrom, Write as _},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown},
    path::Path,
    process::{Command, Stdio},
    sync::mpsc,
    thread,
};

use crate::{
    fixture::{Outcome, SECRET, Workbench},
    serving::{Serving, login},
};

const PASSWORD: &str = "open-sesame";

/// The user that owns nothing.
const NOBODY: u32 = 65_534;

/// SQLite's page, in bytes.
const PAGE: usize = 4096;

const DATABASE: &str = "latchkey.db";

fn add(bench: &Workbench, name: &str) -> Outcome {
    bench.run_with(&format!("{PASSWORD}\n"), &["user", "add", name])
}

fn get(serving: &Serving, path: &str) -> String {
    serving.ask(&format!(
        "GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
    ))
}

fn status(answer: &str) -> &str {
    answer
        .get("HTTP/1.1 ".len()..)
        .map_or("", |rest| &rest[..3])
}

fn log_in(serving: &Serving, name: &str) -> String {
    serving.ask(&login(name, PASSWORD))
}

/// Asserts that an answer says that the database is the trouble, and not what its trouble is.
fn assert_unavailable(answer: &str) {
    assert_eq!(status(answer), "503", "{answer}");
    assert!(answer.contains(r#""code":"unavailable""#), "{answer}");
    assert!(answer.contains("retry-after: "), "{answer}");
    for word in ["sqlite", "disk", "latchkey.db", "select", "insert"] {
        assert!(!answer.contains(word), "{answer}");
    }
}

/// Lets a process write no file beyond its first byte, or as it likes again.
fn limit_files(serving: &Serving, limit: &str) {
    let limited = Command::new("prlimit")
        .arg(format!("--pid={}", serving.child.id()))
        .arg(format!("--fsize={limit}:unlimited"))
        .status();
    assert!(limited.expect("prlimit").success());
}

/// Serves, with the signal ignored that a write beyond the limit raises: it fails, as on a disk
/// that is full.
fn serve_where_writes_can_fail(bench: &Workbench) -> Serving {
    let binary = bench.command(&[]).get_program().to_owned();
    let mut command = Command::new("sh");
    command
        .args(["-c", "trap '' XFSZ; exec \"$0\""])
        .arg(binary)
        .env_clear()
        .env("AUTH__LISTEN", "127.0.0.1:0")
        .current_dir(bench.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    Serving::spawn(&mut command)
}

#[test]
fn writes_that_fail_are_never_acknowledged_and_it_goes_on_when_they_work_again() {
    let bench = Workbench::with_database();
    add(&bench, "alice").printed();
    let serving = serve_where_writes_can_fail(&bench);
    assert_eq!(status(&log_in(&serving, "alice")), "200");
    for _ in 0..2 {
        limit_files(&serving, "1");
        for _ in 0..3 {
            assert_unavailable(&log_in(&serving, "alice"));
        }
        assert_unavailable(&get(&serving, "/health/ready"));
        assert_eq!(status(&get(&serving, "/health/live")), "200");

        limit_files(&serving, "unlimited");
        assert_eq!(status(&log_in(&serving, "alice")), "200");
    }
    let log = serving.end_by("TERM").stderr;
    assert!(log.contains(r#"trouble="failing""#), "{log}");
    assert!(!log.contains(PASSWORD) && !log.contains(SECRET), "{log}");
    let sessions = count_sessions(&bench);
    assert_eq!(sessions, 3, "one for each login that was answered with 200");
}

fn count_sessions(bench: &Workbench) -> i64 {
    let url = format!("sqlite://{}", bench.path().join(DATABASE).display());
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let pool = sqlx::SqlitePool::connect(&url).await.expect("a file");
        let count = sqlx::query_scalar("select count(*) from sessions");
        count.fetch_one(&pool).await.expect("a number")
    })
}

/// Writes nonsense over a part of the file.
fn damage(path: &Path, from: usize, length: usize) {
    let mut file = fs::OpenOptions::new()
        .write(true)
        .open(path)
        .expect("a file");
    file.seek(SeekFrom::Start(from as u64)).expect("sought");
    file.write_all(&vec![0xA5; length]).expect("written");
}

fn size_of(path: &Path) -> usize {
    let size = fs::metadata(path).expect("a file").len();
    usize::try_from(size).expect("a size")
}

#[test]
fn a_file_that_is_no_database_ends_the_start_with_its_name() {
    let bench = Workbench::with_database();
    add(&bench, "alice").printed();
    let path = bench.path().join(DATABASE);
    damage(&path, 0, 100);
    for arguments in [&["serve"][..], &["user", "list"]] {
        let mut command = bench.command(arguments);
        let output = command.env("LATCHKEY_SECRET", SECRET).output();
        let line = Outcome::from(output.expect("it runs")).refused(1);
        assert!(
            line.contains(DATABASE) && line.contains("not a database"),
            "{line}"
        );
    }
}

#[test]
fn a_file_whose_inside_is_damaged_ends_the_start_with_its_name() {
    let bench = Workbench::with_database();
    add(&bench, "alice").printed();
    let path = bench.path().join(DATABASE);
    // The first page stays, with the list of the tables; every table is gone.
    damage(&path, PAGE, size_of(&path) - PAGE);
    let mut command = bench.command(&["serve"]);
    let output = command.env("LATCHKEY_SECRET", SECRET).output();
    let line = Outcome::from(output.expect("it runs")).refused(1);
    assert!(
        line.contains(DATABASE) && line.contains("malformed"),
        "{line}"
    );
}

#[test]
fn a_file_that_is_damaged_while_it_is_served_costs_answers_and_not_the_process() {
    let bench = Workbench::with_database();
    add(&bench, "alice").printed();
    let path = bench.path().join(DATABASE);
    let serving = Serving::start(&bench);
    assert_eq!(status(&get(&serving, "/health/ready")), "200");
    let size = size_of(&path);
    damage(&path, 0, size);
    for _ in 0..4 {
        assert_unavailable(&get(&serving, "/health/ready"));
        assert_unavailable(&log_in(&serving, "alice"));
        assert_eq!(status(&get(&serving, "/health/live")), "200");
    }
    let outcome = serving.end_by("TERM");
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert!(!outcome.stderr.contains("panicked"), "{outcome:?}");
    assert!(
        outcome.stderr.contains(r#"trouble="damaged""#),
        "{outcome:?}"
    );
}

#[test]
fn what_was_acknowledged_outlives_a_lost_log_when_the_process_is_ended_and_not_killed() {
    let bench = Workbench::with_database();
    add(&bench, "alice").printed();
    let serving = Serving::start(&bench);
    assert_eq!(status(&log_in(&serving, "alice")), "200");
    fs::remove_file(bench.path().join("latchkey.db-wal")).expect("removed");
    assert_eq!(status(&log_in(&serving, "alice")), "200");
    assert_eq!(serving.end_by("TERM").code, Some(0));
    assert_eq!(count_sessions(&bench), 2);
}

#[test]
fn a_file_that_is_moved_away_is_missed_and_found_again() {
    let bench = Workbench::with_database();
    add(&bench, "alice").printed();
    let path = bench.path().join(DATABASE);
    let serving = Serving::start(&bench);
    assert_eq!(status(&get(&serving, "/health/ready")), "200");
    fs::rename(&path, bench.path().join("elsewhere")).expect("moved");
    assert_unavailable(&get(&serving, "/health/ready"));
    assert_eq!(status(&get(&serving, "/health/live")), "200");
    fs::rename(bench.path().join("elsewhere"), &path).expect("moved back");
    assert_eq!(status(&get(&serving, "/health/ready")), "200");
    assert_eq!(status(&log_in(&serving, "alice")), "200");
}

#[test]
fn what_was_acknowledged_survives_the_death_of_the_process_in_the_middle_of_writes() {
    let bench = Workbench::with_database();
    add(&bench, "alice").printed();
    let mut acknowledged = 0;
    for _ in 0..3 {
        let serving = Serving::start(&bench);
        let (sender, receiver) = mpsc::channel();
        thread::scope(|scope| {
            for _ in 0..4 {
                let (serving, sender) = (&serving, sender.clone());
                // A client that finds nobody there has seen the end.
                scope.spawn(move || {
                    while let Some(answer) = serving.try_ask(&login("alice", PASSWORD)) {
                        let _ = sender.send(status(&answer) == "200");
                    }
                });
            }
            drop(sender);
            let is_good = receiver.iter().take(10).filter(|is_good| *is_good).count();
            serving.signal("KILL");
            acknowledged += is_good + receiver.iter().filter(|is_good| *is_good).count();
        });
    }
    let kept = count_sessions(&bench);
    assert!(acknowledged >= 30, "{acknowledged}");
    assert!(
        kept >= i64::try_from(acknowledged).expect("a number"),
        "{kept} of {acknowledged}"
    );
}

#[test]
fn processes_that_make_the_same_database_at_once_all_get_it() {
    let bench = Workbench::new();
    let children: Vec<_> = (0..6)
        .map(|_| bench.command(&["migrate"]).spawn().expect("it runs"))
        .collect();
    for child in children {
        Outcome::from(child.wait_with_output().expect("it ends")).printed();
    }
}

/// Root may write what it likes, so as root the binary runs as somebody else, who may not enter the
/// folder that it was built in.
#[test]
fn a_database_that_may_not_be_written_ends_the_start_with_its_name() {
    let bench = Workbench::with_database();
    add(&bench, "alice").printed();
    let binary = bench.path().join("auth-service");
    fs::copy(bench.command(&[]).get_program(), &binary).expect("copied");
    let is_root = fs::metadata("/proc/self").expect("ourselves").uid() == 0;
    let give = |name: &str, mode| {
        let path = bench.path().join(name);
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("changed");
        if is_root {
            chown(&path, Some(NOBODY), None).expect("given");
        }
    };
    give(DATABASE, 0o400);
    // The lock is not what is at fault.
    give("latchkey.db.lock", 0o600);
    give("", 0o500);
    let mut command = Command::new(if is_root {
        "setpriv".as_ref()
    } else {
        binary.as_os_str()
    });
    if is_root {
        let nobody = NOBODY.to_string();
        command.args(["--reuid", &nobody, "--regid", &nobody, "--clear-groups"]);
        command.arg(&binary);
    }
    let output = command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("AUTH__LISTEN", "127.0.0.1:0")
        .env("LATCHKEY_SECRET", SECRET)
        .current_dir(bench.path())
        .output();
    give("", 0o700);
    let line = Outcome::from(output.expect("it runs")).refused(1);
    assert!(
        line.contains(DATABASE) && line.contains("readonly database"),
        "{line}"
    );
}

#[test]
fn commands_need_the_tables_of_their_version_and_migrate_makes_them() {
    let bench = Workbench::with_database();
    let printed = bench.run(&["migrate"]).printed();
    assert_eq!(printed, "the database is up to date\n");
    add(&bench, "alice").printed();
    let url = format!("sqlite://{}", bench.path().join(DATABASE).display());
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let execute = |statement: &'static str| {
        runtime.block_on(async {
            let pool = sqlx::SqlitePool::connect(&url).await.expect("a file");
            sqlx::query(statement)
                .execute(&pool)
                .await
                .expect(statement);
            pool.close().await;
        });
    };
    execute("update _sqlx_migrations set version = version + 1000 where version > 8");
    for arguments in [
        &["serve"][..],
        &["user", "list"],
        &["audit", "verify"],
        &["client", "list"],
        &["migrate"],
    ] {
        let mut command = bench.command(arguments);
        let output = command.env("LATCHKEY_SECRET", SECRET).output();
        let line = Outcome::from(output.expect("it runs")).refused(1);
        assert!(
            line.contains(DATABASE) && line.contains("newer version"),
            "{line}"
        );
    }
    execute("update _sqlx_migrations set version = version - 1000 where version > 1000");
    bench.run(&["audit", "verify"]).printed();
}
