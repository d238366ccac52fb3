//! A process that is killed in the middle of a refresh leaves one refresh token that works.

use std::{
    io::Read as _,
    path::Path,
    time::{Duration, Instant},
};

use sqlx::{Connection as _, SqliteConnection};

use crate::{
    fixture::Workbench,
    serving::{Serving, login},
};

const KILLS: u32 = 100;

/// Passwords that cost little: at each start one is hashed, and each thread clears its memory, which
/// took most of the test's time and none of its meaning.
const CHEAP_PASSWORDS: [(&str, &str); 3] = [
    ("AUTH__PASSWORD__THREADS", "1"),
    ("AUTH__PASSWORD__MEMORY_KIB", "12288"),
    ("AUTH__PASSWORD__PASSES", "1"),
];

fn refresh(token: &str) -> String {
    let body = format!("refresh_token={token}");
    format!(
        "POST /token/refresh HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\
         content-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// The refresh token of an answer that came whole.
fn token_of(answer: &str) -> Option<String> {
    let (_, rest) = answer.split_once(r#""refresh_token":""#)?;
    let (token, _) = rest.split_once('"')?;
    answer.ends_with('}').then(|| token.to_owned())
}

fn successor_of(serving: &Serving, token: &str) -> String {
    let answer = serving.ask(&refresh(token));
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    token_of(&answer).expect("a refresh token")
}

/// Number of refresh tokens that have not been used.
fn count_unused(database: &Path) -> i64 {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let url = format!("sqlite://{}", database.display());
        let mut connection = SqliteConnection::connect(&url).await.expect("a file");
        let count = "select count(*) from refresh_tokens where used_at is null";
        let count = sqlx::query_scalar(count).fetch_one(&mut connection).await;
        connection.close().await.expect("closed");
        count.expect("a number")
    })
}

/// Asks for a refresh and kills the process after `delay`; what arrived of the answer, if it did.
fn killed_after(serving: Serving, token: &str, delay: Duration) -> Option<String> {
    let mut stream = serving.send(&refresh(token));
    let start = Instant::now();
    // A sleep would be longer than what is to be hit.
    while start.elapsed() < delay {
        std::hint::spin_loop();
    }
    // The process is killed, and has ended.
    drop(serving);
    let mut answer = Vec::new();
    // A reset is as good as an end.
    let _ = stream.read_to_end(&mut answer);
    token_of(&String::from_utf8_lossy(&answer))
}

#[test]
fn a_kill_between_commit_and_answer_leaves_one_token_100_times_over() {
    let bench = Workbench::with_database();
    let added = bench.run_with(
        "open sesame\n",
        &["user", "add", "alice", "--password-stdin"],
    );
    added.printed();
    let database = bench.path().join("latchkey.db");
    let serving = Serving::start_with(&bench, &CHEAP_PASSWORDS);
    let answer = serving.ask(&login("alice", "open+sesame"));
    let first = token_of(&answer).expect("a refresh token");
    let start = Instant::now();
    let mut token = successor_of(&serving, &first);
    let usual = start.elapsed();

    let (mut answered, mut serving) = (0, serving);
    for kill in 0..KILLS {
        let delay = usual * 2 * kill / KILLS;
        let arrived = killed_after(serving, &token, delay);
        assert_eq!(count_unused(&database), 1, "after kill {kill}");
        serving = Serving::start_with(&bench, &CHEAP_PASSWORDS);
        // Whether or not it was exchanged, and whether or not the answer arrived, asking again
        // gets the same one.
        let successor = successor_of(&serving, &token);
        if let Some(arrived) = arrived {
            assert_eq!(arrived, successor, "kill {kill}");
            answered += 1;
        }
        assert_eq!(count_unused(&database), 1, "after the retry of kill {kill}");
        token = successor;
    }
    // The kills came before and after the answer.
    assert!(
        (1..KILLS).contains(&answered),
        "{answered} of {KILLS} were answered"
    );
    let refused = serving.ask(&refresh(&first));
    assert!(refused.starts_with("HTTP/1.1 401 "), "{refused}");
    serving.end_by("TERM");
}
