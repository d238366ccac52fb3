//! `cargo dev` as a stranger meets it, with ports and a directory of its own.

mod readme;
mod run;

use std::error::Error;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::run::{Home, Run, exchange, get, log_in, mode, open_session, password_of};

type TestResult = Result<(), Box<dyn Error>>;

#[test]
fn a_port_in_use_is_one_line_before_anything_is_built() -> TestResult {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let number = taken.local_addr()?.port().to_string();

    let output = Command::new(env!("CARGO_BIN_EXE_dev"))
        .env("AUTH_PORT", &number)
        .env("CARGO", "/nonexistent")
        .output()?;

    assert_eq!(output.status.code(), Some(1));
    let line = String::from_utf8(output.stderr)?;
    assert!(
        line.starts_with(&format!("cargo dev: port {number} is in use: ")),
        "{line}"
    );
    assert_eq!(line.lines().count(), 1, "{line}");
    Ok(())
}

#[test]
#[ignore = "builds both services"]
fn one_command_and_a_demo_user_can_log_in() -> TestResult {
    let home = Home::new("login")?;

    let mut first = Run::start(&home)?;
    let shown = first.until("open http://")?;
    assert!(
        shown.contains(&format!("open http://localhost:{}", home.realtime_port)),
        "{shown}"
    );
    let password = password_of("alice", &shown).ok_or("no password was shown")?;
    assert!(password_of("bob", &shown).is_some(), "{shown}");
    assert_eq!(mode(&home.dir)?, 0o700);
    assert_eq!(mode(&home.dir.join("secret"))?, 0o640);
    assert!(log_in(home.auth_port, &password)?.starts_with("HTTP/1.1 200 "));
    assert!(get(home.realtime_port, "/")?.starts_with("HTTP/1.1 200 "));
    let api = format!("back ends call http://localhost:{}", home.api_port);
    assert!(shown.contains(&api), "{shown}");
    assert!(get(home.api_port, "/docs/")?.starts_with("HTTP/1.1 200 "));
    assert!(get(home.api_port, "/v1/rooms")?.starts_with("HTTP/1.1 401 "));
    assert!(first.end(Signal::SIGTERM)?.success());
    home.ports_must_be_free()?;

    let mut second = Run::start(&home)?;
    let shown = second.until("open http://")?;
    assert!(shown.contains("from an earlier run"), "{shown}");
    assert_eq!(password_of("alice", &shown), None);
    assert!(log_in(home.auth_port, &password)?.starts_with("HTTP/1.1 200 "));
    assert!(second.end(Signal::SIGINT)?.success());
    home.ports_must_be_free()
}

#[test]
#[ignore = "builds both services"]
fn what_the_user_sets_is_kept_and_added_to() -> TestResult {
    let home = Home::new("settings")?;
    fs::create_dir_all(&home.dir)?;
    let file = home.dir.join("auth.toml");
    fs::write(&file, "[token]\nlifetime_secs = 77\n")?;
    let file = file.to_str().ok_or("no UTF-8")?;
    let page = "https://app.example.org";
    let mut run = Run::start_with(
        &home,
        &["--auth-config", file],
        &[
            ("AUTH__ORIGINS", page),
            ("REALTIME__ORIGINS", page),
            ("AUTH__PUBLIC_URL", "https://id.example.org"),
        ],
    )?;
    let shown = run.until("open http://")?;
    let password = password_of("alice", &shown).ok_or("no password was shown")?;
    assert!(log_in(home.auth_port, &password)?.contains(r#""expires_in":77"#));
    let config = get(home.realtime_port, "/console/config.json")?;
    assert!(config.contains("https://id.example.org"), "{config}");
    let own = format!("http://localhost:{}", home.realtime_port);
    for origin in [page, own.as_str()] {
        let answer = exchange(
            home.auth_port,
            &format!(
                "OPTIONS /login HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nOrigin: {origin}\r\n\
                 Access-Control-Request-Method: POST\r\n\r\n"
            ),
        )?;
        let answer = answer.to_lowercase();
        let allowed = format!("access-control-allow-origin: {origin}\r\n");
        assert!(answer.contains(&allowed), "{origin}: {answer}");
        assert_eq!(open_session(home.realtime_port, origin)?, "200");
    }
    assert_eq!(
        open_session(home.realtime_port, "https://other.example.org")?,
        "403"
    );
    run.end(Signal::SIGTERM)?;
    home.ports_must_be_free()
}

#[test]
#[ignore = "builds both services"]
fn the_printed_prefix_is_a_command_for_the_accounts_of_the_run() -> TestResult {
    let home = Home::new("prefix")?;
    let mut run = Run::start(&home)?;
    let shown = run.until("open http://")?;
    assert!(shown.starts_with("cargo dev: "), "{shown}");
    let command = shown.lines().find(|line| line.contains("cargo run -q"));
    let command = command.ok_or("no prefix was shown")?.trim();
    let command = command.replace("user passwd alice", "user list");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2);
    let listed = Command::new("sh")
        .args(["-c", &command])
        .current_dir(root.ok_or("no repository")?)
        .output()?;
    let listed = String::from_utf8(listed.stdout)?;
    assert!(
        listed.contains("alice") && listed.contains("bob"),
        "{command}: {listed}"
    );
    run.end(Signal::SIGTERM)?;
    home.ports_must_be_free()
}

#[test]
fn a_wrong_argument_is_one_line_that_names_the_right_ones() -> TestResult {
    let output = Command::new(env!("CARGO_BIN_EXE_dev"))
        .args(["--config", "auth.toml"])
        .output()?;
    assert_eq!(output.status.code(), Some(1));
    let line = String::from_utf8(output.stderr)?;
    assert!(line.contains("--auth-config FILE"), "{line}");
    assert_eq!(line.lines().count(), 1, "{line}");
    Ok(())
}

#[test]
#[ignore = "builds both services"]
fn when_one_service_dies_the_other_is_stopped() -> TestResult {
    let home = Home::new("death")?;
    let mut run = Run::start(&home)?;
    run.until("open http://")?;

    let id = run.child.id();
    let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children"))?;
    let first = children.split_whitespace().next().ok_or("no children")?;
    kill(Pid::from_raw(first.parse()?), Signal::SIGKILL)?;

    assert_eq!(run.child.wait()?.code(), Some(1));
    home.ports_must_be_free()
}
