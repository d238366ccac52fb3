//! `cargo dev` as a stranger meets it, with ports and a directory of its own.

use std::error::Error;
use std::io::{BufRead, BufReader, Lines, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::{env, fs, process};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

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

/// Where one test's run lives.
struct Home {
    dir: PathBuf,
    auth_port: u16,
    realtime_port: u16,
    api_port: u16,
}

impl Home {
    fn new(name: &str) -> Result<Self, Box<dyn Error>> {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", process::id()));
        let free = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
        // All three are held until each is known.
        let (auth, realtime, api) = (free()?, free()?, free()?);
        Ok(Self {
            dir,
            auth_port: auth.local_addr()?.port(),
            realtime_port: realtime.local_addr()?.port(),
            api_port: api.local_addr()?.port(),
        })
    }

    fn ports_must_be_free(&self) -> TestResult {
        for port in [self.auth_port, self.realtime_port, self.api_port] {
            TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        }
        Ok(())
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// The runner, killed with its services if the test fails half-way.
struct Run {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Run {
    fn start(home: &Home) -> Result<Self, Box<dyn Error>> {
        let mut child = Command::new(env!("CARGO_BIN_EXE_dev"))
            .env("DEV_DIR", &home.dir)
            .env("AUTH_PORT", home.auth_port.to_string())
            .env("REALTIME_PORT", home.realtime_port.to_string())
            .env("API_PORT", home.api_port.to_string())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = child.stdout.take().ok_or("no output")?;
        Ok(Self {
            child,
            lines: BufReader::new(output).lines(),
        })
    }

    /// Everything up to the line that contains `text`; the runner ends, and so does its output,
    /// when something goes wrong before.
    fn until(&mut self, text: &str) -> Result<String, Box<dyn Error>> {
        let mut shown = String::new();
        for line in self.lines.by_ref() {
            let line = line?;
            shown.push_str(&line);
            shown.push('\n');
            if line.contains(text) {
                return Ok(shown);
            }
        }
        Err(format!("the runner ended before it said {text:?}:\n{shown}").into())
    }

    fn end(&mut self, signal: Signal) -> Result<ExitStatus, Box<dyn Error>> {
        kill(Pid::from_raw(self.child.id().try_into()?), signal)?;
        for line in self.lines.by_ref() {
            line?;
        }
        Ok(self.child.wait()?)
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.end(Signal::SIGTERM);
        }
    }
}

fn mode(path: &Path) -> Result<u32, Box<dyn Error>> {
    Ok(fs::metadata(path)?.permissions().mode() & 0o777)
}

fn password_of(user: &str, shown: &str) -> Option<String> {
    shown.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some(user))
            .then(|| words.next().map(str::to_owned))
            .flatten()
    })
}

fn log_in(port: u16, password: &str) -> Result<String, Box<dyn Error>> {
    let body = format!("username=alice&password={password}");
    exchange(
        port,
        &format!(
            "POST /login HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ),
    )
}

fn get(port: u16, path: &str) -> Result<String, Box<dyn Error>> {
    exchange(
        port,
        &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"),
    )
}

fn exchange(port: u16, request: &str) -> Result<String, Box<dyn Error>> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
