//! The blocks of README.md, run as they are printed and in their order.
//!
//! A block with the tag `sh` or `mjs` is run here, on free ports. A block without a tag shows an answer, or is run by the
//! program that it names: `tests/run-all` and `tests/compose`.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;

use crate::TestResult;
use crate::run::{Home, Run, password_of};

/// Starts of the lines in blocks that are not run here.
const RUN_ELSEWHERE: [&str; 6] = [
    "cargo dev", // the first such block is run here
    "cargo test --workspace",
    "tests/run-all",
    "docker compose",
    "docker build",
    "{\"",
];

struct Block {
    tag: String,
    text: String,
}

fn root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package
        .ancestors()
        .nth(2)
        .map(Path::to_owned)
        .unwrap_or_default()
}

fn blocks() -> Vec<Block> {
    let readme = fs::read_to_string(root().join("README.md")).unwrap_or_default();
    let mut blocks = Vec::new();
    let mut lines = readme.lines();
    while let Some(line) = lines.next() {
        if let Some(tag) = line.strip_prefix("```") {
            let inside = lines.by_ref().take_while(|line| *line != "```");
            let text = inside.map(|line| format!("{line}\n")).collect();
            let tag = tag.to_owned();
            blocks.push(Block { tag, text });
        }
    }
    blocks
}

#[test]
fn every_block_of_the_readme_is_run_somewhere() {
    let blocks = blocks();
    for Block { tag, text } in &blocks {
        let is_known = match tag.as_str() {
            "sh" | "mjs" => true,
            // The outline of the tutorial's server.
            "js" => text.contains("socketioJwt.authorize"),
            _ => text
                .lines()
                .all(|line| RUN_ELSEWHERE.iter().any(|start| line.starts_with(start))),
        };
        assert!(is_known, "who runs this block?\n{text}");
    }
    let first = blocks.iter().find(|block| block.tag == "sh");
    assert_eq!(first.map(|block| block.text.as_str()), Some("cargo dev\n"));
}

/// Deletes a file when the test has ended.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Runs a script with bash in the repository, and returns what it printed.
fn bash(script: &str, input: &str, path: &str) -> Result<String, Box<dyn std::error::Error>> {
    let mut child = Command::new("bash")
        .args(["-euo", "pipefail", "-c", script])
        .current_dir(root())
        .env("PATH", path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    let printed = String::from_utf8(output.stdout)?;
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}\n{printed}\n{complaints}");
    Ok(printed)
}

#[test]
#[ignore = "builds both services; needs bash, curl, node and the packages of tests/clients"]
fn the_blocks_of_the_readme_run_as_printed() -> TestResult {
    let home = Home::new("readme")?;
    let mut run = Run::start(&home)?;
    let shown = run.until("open http://")?;
    let password = password_of("alice", &shown).ok_or("no password was shown")?;

    let dir = home.dir.to_str().ok_or("no UTF-8")?.to_owned();
    let here = |text: &str| {
        text.replace("localhost:8080", &format!("localhost:{}", home.auth_port))
            .replace(
                "localhost:9000",
                &format!("localhost:{}", home.realtime_port),
            )
            .replace("localhost:9001", &format!("localhost:{}", home.api_port))
            .replace(".dev/", &format!("{dir}/"))
    };
    // Beside its packages, where Node finds them.
    let name = format!("tests/clients/readme-{}.mjs", std::process::id());
    let client = Scratch(root().join(&name));
    let mut script = String::new();
    let mut by_hand = String::new();
    for Block { tag, text } in blocks()
        .into_iter()
        .skip_while(|block| block.tag != "sh")
        .skip(1)
    {
        match tag.as_str() {
            "mjs" => {
                fs::write(&client.0, here(&text))?;
                script.push_str(&format!(
                    "grep -m1 'Alice Example hello' <(timeout 20 node {name})\n"
                ));
            }
            "sh" if text.contains("realtime-service &") => by_hand = here(&text),
            "sh" => script.push_str(&here(&text)),
            _ => {}
        }
    }
    let path = std::env::var("PATH")?;
    let printed = bash(&script, &format!("{password}\n"), &path)?;
    for expected in [
        "\"refresh_token\":\"",
        "\"username\":\"alice\"",
        "Alice Example hello",
        "\"epoch\":\"",
    ] {
        assert!(printed.contains(expected), "{expected} in {printed}");
    }
    assert!(!printed.contains("\"status\":4"), "{printed}");
    assert!(run.end(Signal::SIGTERM)?.success());

    start_by_hand(&home, &by_hand, &path)?;
    home.ports_must_be_free()
}

/// Runs the block that starts both services without cargo, until both listen.
fn start_by_hand(home: &Home, block: &str, path: &str) -> TestResult {
    let place = home.dir.join("by-hand");
    fs::create_dir(&place)?;
    let binaries = Path::new(env!("CARGO_BIN_EXE_dev"))
        .parent()
        .ok_or("no directory")?;
    // The services write into a file: bash could not wait for a pipe's end while they have it.
    let script = format!(
        "cd {}\nexport AUTH__LISTEN=127.0.0.1:{} REALTIME__LISTEN=127.0.0.1:{}\n\
         trap 'kill $(jobs -p); wait' EXIT\nexec 3>&1 >printed 2>&1\n{block}\n\
         for _ in $(seq 200); do\n\
         if [ \"$(grep -c 'listening on http' printed)\" = 2 ]; then cat printed >&3; exit; fi\n\
         sleep 0.1\ndone\nexit 1",
        place.display(),
        home.auth_port,
        home.realtime_port,
    );
    let path = format!("{}:{path}", binaries.display());
    let printed = bash(&script, "", &path)?;
    assert_eq!(printed.matches("listening on http").count(), 2, "{printed}");
    Ok(())
}
