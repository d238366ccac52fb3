//! The running binary: its one line, its end, its log.

use std::{
    io::{BufRead as _, BufReader, Read, Write as _},
    net::{TcpListener, TcpStream},
    panic,
    path::Path,
    process::{Child, Command, Output},
    sync::mpsc::{self, Receiver},
    thread,
    time::{Duration, Instant},
};

use crate::fixture::{Outcome, SECRET, Workbench};

/// A binary that serves, and the address that it printed. The process is killed when the value is dropped.
pub(crate) struct Serving {
    pub(crate) child: Child,
    pub(crate) address: String,
}

impl Serving {
    pub(crate) fn start(bench: &Workbench) -> Self {
        Self::start_with(bench, &[])
    }

    pub(crate) fn start_with(bench: &Workbench, variables: &[(&str, &str)]) -> Self {
        let mut command = bench.command(&[]);
        command.envs(variables.iter().copied());
        Self::spawn(&mut command)
    }

    pub(crate) fn spawn(command: &mut Command) -> Self {
        Self::spawn_with_its_secret(command.env("LATCHKEY_SECRET", SECRET))
    }

    /// Runs a command that says itself where the secret is.
    pub(crate) fn spawn_with_its_secret(command: &mut Command) -> Self {
        let mut serving = Self {
            child: command.spawn().expect("it runs"),
            address: String::new(),
        };
        let mut line = String::new();
        BufReader::new(serving.child.stdout.as_mut().expect("stdout"))
            .read_line(&mut line)
            .expect("a line");
        serving.address = line
            .strip_prefix("listening on http")
            .and_then(|rest| rest.split_once("://"))
            .expect("the one line")
            .1
            .trim_end()
            .to_owned();
        serving
    }

    pub(crate) fn send(&self, request: &str) -> TcpStream {
        let mut stream = TcpStream::connect(&self.address).expect("a connection");
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .expect("a deadline");
        stream.write_all(request.as_bytes()).expect("sent");
        stream
    }

    /// The answer, or nothing when the process has gone.
    pub(crate) fn try_ask(&self, request: &str) -> Option<String> {
        let mut stream = TcpStream::connect(&self.address).ok()?;
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        (!answer.is_empty()).then_some(answer)
    }

    pub(crate) fn signal(&self, signal: &str) {
        let kill = Command::new("sh")
            .args(["-c", &format!("kill -{signal} {}", self.child.id())])
            .status();
        assert!(kill.expect("a shell").success());
    }

    pub(crate) fn ask(&self, request: &str) -> String {
        let mut answer = String::new();
        self.send(request)
            .read_to_string(&mut answer)
            .expect("an answer");
        answer
    }

    /// Sends a signal, and asserts that the process ends within five seconds.
    pub(crate) fn end_by(mut self, signal: &str) -> Outcome {
        self.signal(signal);
        let deadline = Instant::now() + Duration::from_secs(5);
        let stdout = read_to_end(self.child.stdout.take());
        let stderr = read_to_end(self.child.stderr.take());
        // The streams end with the process.
        let [stdout, stderr] = [stdout, stderr].map(|read| {
            let left = deadline.saturating_duration_since(Instant::now());
            read.recv_timeout(left).expect("an end in time")
        });
        let status = self.child.wait().expect("it ends");
        let output = Output {
            status,
            stdout,
            stderr,
        };
        output.into()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // Both fail only for a process that has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads a stream of a process to its end, in a thread. A stream that was taken before has no bytes.
fn read_to_end(stream: Option<impl Read + Send + 'static>) -> Receiver<Vec<u8>> {
    let (sender, read) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut stream) = stream {
            stream.read_to_end(&mut bytes).expect("a stream");
        }
        let _ = sender.send(bytes);
    });
    read
}

pub(crate) fn login(username: &str, password: &str) -> String {
    let body = format!("username={username}&password={password}");
    format!(
        "POST /login HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\
         content-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[test]
fn a_test_that_ends_early_leaves_no_process_behind() {
    let bench = Workbench::new();
    let (sender, id) = mpsc::channel();
    for panics in [false, true] {
        let early = panic::catch_unwind(|| {
            let serving = Serving::start(&bench);
            let id = serving.child.id();
            assert!(Path::new(&format!("/proc/{id}")).exists());
            sender.send(id).expect("a receiver");
            assert!(!panics, "this test fails on purpose");
        });
        assert_eq!(early.is_err(), panics);
        let id: u32 = id.recv().expect("a process");
        assert!(!Path::new(&format!("/proc/{id}")).exists(), "{id} runs");
    }
}

#[test]
fn sigterm_and_sigint_end_it_though_a_client_stalls() {
    for signal in ["TERM", "INT"] {
        let bench = Workbench::new();
        let serving = Serving::start(&bench);
        let stalled = serving.send(
            "POST /login HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n\
             content-length: 100\r\n\r\n{",
        );
        let live = serving.ask("GET /health/live HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        assert!(live.starts_with("HTTP/1.1 200 "), "{live}");
        let outcome = serving.end_by(signal);
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
        drop(stalled);
    }
}

#[test]
fn a_port_in_use_is_one_line() {
    let bench = Workbench::new();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let output = bench
        .command(&["serve"])
        .env("LATCHKEY_SECRET", SECRET)
        .env("AUTH__LISTEN", &address)
        .output();
    let line = Outcome::from(output.expect("it runs")).refused(1);
    assert!(
        line.contains(&format!("cannot listen on {address}")),
        "{line}"
    );
}

#[test]
fn health_tells_a_ready_service_from_none() {
    let bench = Workbench::new();
    let serving = Serving::start(&bench);
    let ask = |address: &str| -> Outcome {
        let mut command = bench.command(&["health"]);
        command.env("AUTH__LISTEN", address);
        command.output().expect("it runs").into()
    };
    let address = serving.address.clone();
    assert_eq!(ask(&address).printed(), "ready\n");
    assert_eq!(serving.end_by("TERM").code, Some(0));
    ask(&address).refused(1);
}

/// Anybody may ask whether it is ready.
#[test]
fn a_service_that_is_not_ready_says_why_once_however_often_it_is_asked() {
    const READY: &str = "GET /health/ready HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    let bench = Workbench::new();
    let serving = Serving::start(&bench);
    assert!(serving.ask(READY).starts_with("HTTP/1.1 200 "));
    let file = bench.path().join("latchkey.db");
    std::fs::rename(&file, file.with_extension("moved")).expect("a file that can be moved");
    for _ in 0..20 {
        assert!(serving.ask(READY).starts_with("HTTP/1.1 503 "));
    }
    let outcome = serving.end_by("TERM");
    assert_eq!(
        outcome.stderr.matches("not ready: ").count(),
        1,
        "{outcome:?}"
    );
}

#[test]
fn an_account_made_while_it_runs_signs_in_and_nothing_secret_is_logged() {
    let bench = Workbench::new();
    let serving = Serving::start_with(&bench, &[("RUST_LOG", "trace")]);
    bench
        .run_with("open-sesame\n", &["user", "add", "alice"])
        .printed();
    let answer = serving.ask(&login("alice", "open-sesame"));
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let token = answer
        .split_once(r#""token":""#)
        .and_then(|(_, rest)| rest.split_once('"'))
        .map(|(token, _)| token.to_owned())
        .expect("a token");
    let me = format!(
        "GET /me HTTP/1.1\r\nhost: a\r\nconnection: close\r\nauthorization: Bearer {token}\r\n\r\n"
    );
    assert!(serving.ask(&me).starts_with("HTTP/1.1 200 "));
    let refused = serving.ask(&login("alice", "open-barley"));
    assert!(refused.starts_with("HTTP/1.1 401 "), "{refused}");
    let refused = serving.ask(&login("my-mistyped-password", "open-barley"));
    assert!(refused.starts_with("HTTP/1.1 401 "), "{refused}");

    let log = serving.end_by("TERM").stderr;
    for outcome in ["success", "wrong_password", "unknown_user"] {
        assert!(log.contains(&format!("outcome=\"{outcome}\"")), "{log}");
    }
    let signature = token.rsplit('.').next().expect("a signature");
    for secret in ["sesame", "barley", "mistyped", SECRET, signature, &token] {
        assert!(!log.contains(secret), "{secret} was logged");
    }
}

#[test]
fn who_hangs_up_leaves_the_queue_with_the_requests_behind() {
    let bench = Workbench::new();
    let settings = [
        ("AUTH__PASSWORD__THREADS", "1"),
        ("AUTH__LIMITS__WAITING_PER_ADDRESS", "100"),
        ("AUTH__LIMITS__LOGINS_PER_NAME", "100"),
    ];
    for requests in [1, 4] {
        let serving = Serving::start_with(&bench, &settings);
        let login = login("nobody", "open-sesame");
        let pipeline = login.replace("close", "keep-alive").repeat(requests);
        let waiting: Vec<_> = (0..12).map(|_| serving.send(&pipeline)).collect();
        drop(waiting);
        let answer = serving.ask(&login);
        assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
        let log = serving.end_by("TERM").stderr;
        // The first of them may have been at work already.
        let answered = log.matches("outcome=\"unknown_user\"").count();
        assert!((1..6).contains(&answered), "{answered} were answered");
    }
}

#[test]
fn a_header_of_a_proxy_that_cannot_be_parsed_is_logged_once_a_minute() {
    let bench = Workbench::new();
    let trusted = ("AUTH__TRUSTED_PROXIES", "127.0.0.0/8");
    let serving = Serving::start_with(&bench, &[trusted, ("AUTH__FORWARDED_HEADER", "forwarded")]);
    let login = |header: &str| {
        let request = login("nobody", "open-sesame");
        let request = request.replacen("host: a", &format!("host: a\r\n{header}"), 1);
        let answer = serving.ask(&request);
        assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    };
    login("forwarded: for=\"[2001:db8::1]:443\"");
    login("x-forwarded-for: rubbish");
    for _ in 0..3 {
        login("forwarded: for=hidden-rubbish");
    }
    let log = serving.end_by("TERM").stderr;
    let reports: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("cannot be parsed"))
        .collect();
    assert_eq!(reports.len(), 1, "{log}");
    assert!(reports[0].contains("proxy=127.0.0.1"), "{log}");
    assert!(!log.contains("hidden-rubbish"), "{log}");
}

#[test]
fn bytes_that_are_no_http_are_logged_once_a_minute() {
    let bench = Workbench::new();
    let serving = Serving::start(&bench);
    for _ in 0..20 {
        let answer = serving.ask("no HTTP at all\r\n\r\n");
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    }
    let ended = serving.end_by("TERM");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let lines = ended.stderr.lines();
    let count = lines.filter(|line| line.contains("stream error")).count();
    assert_eq!(count, 1, "{}", ended.stderr);
}
