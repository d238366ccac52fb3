//! The binary's start on a server that is new, or is not there.

use std::{
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use crate::server::Server;

/// The binary, with this database and nothing else from our environment.
fn run(arguments: &[&str], database: &str) -> Child {
    Command::new(env!("CARGO_BIN_EXE_auth-service"))
        .args(arguments)
        .env_clear()
        .env("AUTH__LISTEN", "127.0.0.1:0")
        .env("AUTH__DATABASE_URL", database)
        .env("LATCHKEY_SECRET", "mZq3vX8pL1rT6wYc9sHd2kFg5jBn7uEa")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs")
}

fn end(child: Child) -> Output {
    child.wait_with_output().expect("it ends")
}

#[test]
#[ignore = "needs postgresql"]
fn processes_that_make_the_tables_at_once_all_get_them() {
    let server = Server::start();
    let children: Vec<_> = (0..6).map(|_| run(&["migrate"], &server.url())).collect();
    for child in children {
        let output = end(child);
        assert!(output.status.success(), "{output:?}");
    }
}

#[test]
#[ignore = "needs postgresql"]
fn a_server_that_cannot_be_used_ends_the_start_with_its_name_and_without_a_password() {
    let server = Server::start();
    let missing = server.url().replace("/postgres", "/missing");
    let missing = missing.replace("latchkey@", "latchkey:hidden@");
    let nobody = "postgres://latchkey:hidden@127.0.0.1:1/postgres".to_owned();
    for (database, shown) in [(&missing, "/missing"), (&nobody, "127.0.0.1:1/")] {
        for arguments in [&["serve"][..], &["user", "list"]] {
            let started = Instant::now();
            let output = end(run(arguments, database));
            assert!(started.elapsed() < Duration::from_secs(5));
            assert_eq!(output.status.code(), Some(1), "{output:?}");
            assert!(output.stdout.is_empty(), "{output:?}");
            let text = String::from_utf8(output.stderr).expect("text");
            assert_eq!(text.lines().count(), 1, "{text}");
            assert!(text.contains(shown), "{text}");
            assert!(!text.contains("hidden"), "{text}");
        }
    }
}
