//! What only the real processes can show: exit codes, signals, and all that they ever write.

use std::{
    os::unix::fs::PermissionsExt,
    time::{Duration, Instant},
};

use harness::{
    Mode, Opening, Options, Polling, SocketClient, Stack,
    client::Credential,
    random_text, soon,
    stack::{Ended, run},
};
use serde_json::json;

const SERVICES: [&str; 2] = ["auth-service", "realtime-service"];

fn binaries() -> Options {
    Options::default().mode(Mode::Binaries)
}

/// Starts a service that should not start, with these variables.
async fn start_with(service: &'static str, variables: &[(&str, &str)]) -> Ended {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let database = format!("sqlite://{}", directory.path().join("auth.db").display());
    let listen = "127.0.0.1:0".to_owned();
    let mut all = match service {
        "auth-service" => vec![("AUTH__LISTEN", listen), ("AUTH__DATABASE_URL", database)],
        _ => vec![("REALTIME__LISTEN", listen)],
    };
    all.extend(
        variables
            .iter()
            .map(|(name, value)| (*name, (*value).to_owned())),
    );
    let all: Vec<_> = all
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    run(service, &[], &all, None).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the built binaries"]
async fn without_a_good_secret_a_service_says_what_is_wrong_and_exits_with_2() {
    let short = random_text(24)[..31].to_owned();
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), &short).expect("a written file");
    let path = file.path().to_str().expect("a path in UTF-8");
    for service in SERVICES {
        for (variables, variable, problem) in [
            (vec![], "LATCHKEY_SECRET", "not set"),
            (
                vec![("LATCHKEY_SECRET", "")],
                "LATCHKEY_SECRET",
                "no secret",
            ),
            (
                vec![("LATCHKEY_SECRET", short.as_str())],
                "LATCHKEY_SECRET",
                "31 bytes",
            ),
            (
                vec![("LATCHKEY_SECRET_FILE", path)],
                "LATCHKEY_SECRET_FILE",
                "31 bytes",
            ),
            (
                vec![("LATCHKEY_SECRET_FILE", "/nonexistent/secret")],
                "LATCHKEY_SECRET_FILE",
                "cannot read",
            ),
        ] {
            let ended = start_with(service, &variables).await;
            assert_eq!(ended.status.code(), Some(2), "{service}: {}", ended.output);
            let lines: Vec<_> = ended.output.lines().collect();
            let [line] = lines[..] else {
                panic!("{service}: not one line: {lines:?}")
            };
            assert!(
                line.contains(variable) && line.contains(problem),
                "{service}: {line}"
            );
            assert!(!line.contains(&short), "{service}: {line}");
        }
    }
    // The twin: with a secret of 48 bytes both start, and stop well.
    let stack = Stack::start_with(binaries()).await;
    let (auth, gateway) = stack.stop().await.expect("two processes");
    assert!(
        auth.status.success() && gateway.status.success(),
        "{auth:?} {gateway:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the built binaries"]
async fn a_gateway_warns_of_a_secret_that_everybody_can_read() {
    // It reads the secret before it listens, and ends because it cannot.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let listen = taken.local_addr().expect("an address").to_string();
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), random_text(36)).expect("a written file");
    let path = file.path().to_str().expect("a path in UTF-8");
    let variables = [
        ("REALTIME__LISTEN", listen.as_str()),
        ("LATCHKEY_SECRET_FILE", path),
    ];
    for (mode, is_warned) in [(0o640, false), (0o644, true)] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("a mode");
        let ended = start_with("realtime-service", &variables).await;
        assert_eq!(ended.status.code(), Some(1), "{}", ended.output);
        assert!(
            ended.output.contains("cannot listen on"),
            "{}",
            ended.output
        );
        let warning = "the file with the secrets can be read by everybody";
        assert_eq!(
            ended.output.contains(warning),
            is_warned,
            "{mode:o}: {}",
            ended.output
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the built binaries"]
async fn an_unknown_setting_is_refused_by_name_and_without_its_value() {
    let secret = random_text(36);
    for (service, variable) in SERVICES
        .into_iter()
        .zip(["AUTH__LISTNE", "REALTIME__LISTNE"])
    {
        let variables = [
            ("LATCHKEY_SECRET", secret.as_str()),
            (variable, "hidden-value"),
        ];
        let ended = start_with(service, &variables).await;
        assert_eq!(ended.status.code(), Some(2), "{service}: {}", ended.output);
        assert!(
            ended.output.to_lowercase().contains("listne"),
            "{service}: {}",
            ended.output
        );
        assert!(
            !ended.output.contains("hidden-value"),
            "{service}: {}",
            ended.output
        );
        assert!(!ended.output.contains(&secret), "{service}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the built binaries"]
async fn both_end_within_5_s_of_sigterm_with_a_stalled_client_connected() {
    let stack = Stack::start_with(binaries()).await;
    let mut healthy = Opening::of(&stack)
        .admitted(&stack.login("alice").await)
        .await;
    let narrow = Opening::of(&stack).receive_buffer_bytes(16 * 1024);
    let mut stalled = narrow.admitted(&stack.login("bob").await).await;
    healthy.subscribe("lobby").await;
    stalled.subscribe("lobby").await;
    for _ in 0..150 {
        healthy.publish("lobby", json!("x".repeat(64 * 1024))).await;
        healthy.event().await;
    }
    let polling = Polling::of(&stack).admitted(&stack.forge().token()).await;
    let pipelining = pipelining_client(&stack).await;
    // An idle connection to the issuer is no reason to stay either.
    let issuer = stack.issuer_url.trim_start_matches("http://");
    let idle = tokio::net::TcpStream::connect(issuer)
        .await
        .expect("a connection");
    let started = Instant::now();
    let (auth, gateway) = stack.stop().await.expect("two processes");
    let lasted = started.elapsed();
    assert_eq!(auth.status.code(), Some(0), "{}", auth.output);
    assert_eq!(gateway.status.code(), Some(0), "{}", gateway.output);
    assert!(lasted < Duration::from_secs(5), "{lasted:?}");
    healthy.closed().await;
    drop((stalled, polling, idle, pipelining));
}

/// A client that polls several times without waiting for an answer.
async fn pipelining_client(stack: &Stack) -> tokio::net::TcpStream {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let mut stream = tokio::net::TcpStream::connect(stack.gateway_address)
        .await
        .expect("a connection");
    let get = |query: &str| {
        format!("GET /socket.io/?EIO=4&transport=polling{query} HTTP/1.1\r\nHost: x\r\n\r\n")
    };
    stream
        .write_all(get("").as_bytes())
        .await
        .expect("a request");
    let mut answer = String::new();
    while !answer.ends_with('}') {
        let mut bytes = [0; 1024];
        let count = stream.read(&mut bytes).await.expect("an answer");
        assert!(count > 0, "{answer}");
        answer.push_str(&String::from_utf8_lossy(&bytes[..count]));
    }
    let (_, rest) = answer.split_once("\"sid\":\"").expect("a session");
    let (sid, _) = rest.split_once('"').expect("a session");
    let polls = get(&format!("&sid={sid}")).repeat(4);
    stream.write_all(polls.as_bytes()).await.expect("requests");
    stream
}

/// Tokens and a password that the test below presents in every way, and that no log may repeat.
struct Presented {
    /// A token of alice, which is accepted.
    token: String,
    /// A token of bob, which is accepted.
    other: String,
    /// A token of another issuer, which is refused.
    bad: String,
    /// A password that is not alice's.
    wrong_password: String,
}

impl Presented {
    async fn new(stack: &Stack) -> Self {
        Self {
            token: stack.login("alice").await,
            other: stack.login("bob").await,
            bad: stack.forge().claim("iss", "https://evil.example").token(),
            wrong_password: format!("wrong-{}", random_text(18)),
        }
    }

    /// Returns every secret with a description: those of the stack, and those of `self`.
    fn secrets(&self, stack: &Stack) -> Vec<(&'static str, String)> {
        let mut secrets = vec![
            ("the secret", stack.secret.clone()),
            ("a wrong password", self.wrong_password.clone()),
        ];
        for name in ["alice", "bob"] {
            secrets.push(("a password", stack.passwords().of(name).to_owned()));
        }
        for token in [&self.token, &self.other, &self.bad] {
            let segments = token.split('.').map(str::to_owned);
            secrets.extend(segments.map(|segment| ("a part of a token", segment)));
            secrets.push(("a token", token.clone()));
        }
        secrets
    }
}

/// Sends passwords and tokens to the issuer where they belong and where they do not.
async fn present_over_http(stack: &Stack, presented: &Presented) {
    let http = stack.http();
    let login = format!("{}/login", stack.issuer_url);
    let me = format!("{}/me", stack.issuer_url);
    let alice = stack.passwords().of("alice");
    let (token, wrong) = (&presented.token, &presented.wrong_password);
    for request in [
        http.post(&login)
            .json(&json!({"username": "alice", "password": wrong})),
        http.post(&login)
            .form(&[("username", "alice"), ("password", alice)]),
        http.post(&login)
            .json(&json!({"username": 1, "password": alice})),
        http.post(format!("{login}?password={alice}"))
            .body(alice.to_owned()),
        http.get(&me).bearer_auth(token),
        http.get(&me).bearer_auth(&presented.bad),
        http.get(format!("{me}?token={token}")),
    ] {
        soon("an answer", request.send()).await.expect("an answer");
    }
}

/// Connects with a good and with a bad token in every place where a client may put a token.
async fn present_as_credentials(stack: &Stack, Presented { token, bad, .. }: &Presented) {
    for credential in [
        Credential::Auth(json!(token)),
        Credential::Auth(json!(format!("Bearer {token}"))),
        Credential::Header(format!("Bearer {token}")),
        Credential::Query(token.clone()),
        Credential::Auth(json!(bad)),
        Credential::Header(format!("Basic {bad}")),
        Credential::Query(bad.clone()),
        Credential::Auth(json!({ "nested": bad })),
    ] {
        // Both ends are of interest here.
        if let Ok(mut client) = SocketClient::connect(&stack.gateway_url, credential).await {
            client.call("rt:subscribe", json!({"room": "lobby"})).await;
            client.disconnect().await;
        }
    }
}

/// Presents tokens in handshakes that are refused: two at once, in a broken payload, from a page of
/// another origin.
async fn present_in_refused_handshakes(stack: &Stack, presented: &Presented) {
    let Presented {
        token, other, bad, ..
    } = presented;
    let mut socket = Opening::of(stack).query("token", token).session().await;
    let refused = socket.connect(&json!({"token": other})).await;
    assert_eq!(
        refused.expect_err("two tokens").message(),
        "more than one token provided"
    );
    let _ = Opening::of(stack)
        .session()
        .await
        .connect_with(&format!("{{\"token\":\"{bad}"))
        .await;
    let _ = Opening::of(stack)
        .header("origin", "https://evil.example")
        .query("token", token)
        .open()
        .await;
}

/// Uses a session of each transport until its token expires. Returns the ids of both sessions.
async fn use_sessions_until_they_expire(stack: &Stack, token: &str) -> [String; 2] {
    let mut last = Opening::of(stack).admitted(token).await;
    let mut polling = Polling::of(stack)
        .query("token", token)
        .open()
        .await
        .expect("a session");
    polling.connect(&json!({})).await;
    let thief = polling.clone().header("authorization", "Bearer other");
    thief.get().await;
    last.subscribe("lobby").await;
    let message = json!({"room": "lobby", "event": "chat", "data": "hello"});
    polling.call("rt:publish", message).await;
    last.call("authenticate", json!({ "token": token })).await;
    let ids = [last.sid.clone(), polling.sid.clone()];
    last.closed().await;
    polling.closed().await;
    ids
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the built binaries"]
async fn nothing_secret_is_ever_written_at_any_log_level() {
    let stack = Stack::start_with(binaries().log("trace").token_lifetime_secs(5)).await;
    let presented = Presented::new(&stack).await;
    let mut secrets = presented.secrets(&stack);
    present_over_http(&stack, &presented).await;
    present_as_credentials(&stack, &presented).await;
    present_in_refused_handshakes(&stack, &presented).await;
    // A session id is a secret too.
    let ids = use_sessions_until_they_expire(&stack, &presented.other).await;
    secrets.extend(ids.map(|id| ("a sid", id)));

    let (auth, gateway) = stack.stop().await.expect("two processes");
    for (service, ended) in SERVICES.into_iter().zip([auth, gateway]) {
        assert!(
            ended.output.lines().count() > 10,
            "{service} logs nothing: {}",
            ended.output
        );
        for (what, text) in &secrets {
            let line = ended
                .output
                .lines()
                .find(|line| line.contains(text.as_str()));
            assert_eq!(line, None, "{service} wrote {what}");
        }
    }
}
