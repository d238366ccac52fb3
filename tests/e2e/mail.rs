//! Mail over a real server by SMTP: verified addresses and forgotten passwords.

use harness::{
    Options, Stack, eventually,
    mail_server::{Access, MailServer, headers, link_token},
    random_text, soon,
    tls::Certificate,
};
use reqwest::StatusCode;
use serde_json::{Value, json};

const APP_URL: &str = "https://app.example.org/";

fn options(access: &Access<'_>, port: u16) -> Options {
    Options::default()
        .auth("app_url", APP_URL)
        .auth("mail.url", access.url(port))
        .auth("mail.from", "Latchkey <noreply@example.org>")
        .auth("registration", "open")
}

/// The settings for a server with STARTTLS, whose certificate no authority has signed.
fn with_starttls(access: &Access<'_>, certificate: &Certificate, port: u16) -> Options {
    options(access, port).auth("mail.ca_file", json!(certificate.cert_file()))
}

async fn post(stack: &Stack, path: &str, body: &Value) -> (StatusCode, Value) {
    let request = stack.http().post(format!("{}{path}", stack.issuer_url));
    let answer = soon("an answer", request.json(body).send()).await;
    let answer = answer.expect("an answer");
    let status = answer.status();
    (status, answer.json().await.unwrap_or_default())
}

async fn register(stack: &Stack, username: &str, name: &str, email: &str) -> String {
    let password = format!("correct-{}", random_text(18));
    let body = json!({"username": username, "password": password, "name": name, "email": email});
    let (status, answer) = post(stack, "/register", &body).await;
    assert_eq!(status, StatusCode::CREATED, "{answer}");
    password
}

async fn forget(stack: &Stack, email: &str) {
    let (status, _) = post(stack, "/password/forgot", &json!({"email": email})).await;
    assert_eq!(status, StatusCode::ACCEPTED);
}

async fn verify(stack: &Stack, mail: &Value) {
    let body = json!({"token": link_token(mail, "verify")});
    let (status, answer) = post(stack, "/email/verify", &body).await;
    assert_eq!(status, StatusCode::NO_CONTENT, "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs python"]
async fn links_arrive_by_starttls_and_a_login_and_do_what_they_say() {
    let certificate = Certificate::default();
    let access = Access::by_starttls(&certificate);
    let mut server = MailServer::start(&access, 0).await;
    let stack = Stack::start_with(with_starttls(&access, &certificate, server.port)).await;
    register(&stack, "carol", "Carol", "carol@example.org").await;
    let mail = server.next().await;
    assert_eq!(mail["tls"], json!(true));
    assert_eq!(mail["user"], json!("latchkey@example.org"));
    assert_eq!(mail["from"], json!("noreply@example.org"));
    assert_eq!(mail["to"], json!(["carol@example.org"]));
    assert_eq!(headers(&mail, "from"), ["Latchkey <noreply@example.org>"]);
    assert_eq!(headers(&mail, "auto-submitted"), ["auto-generated"]);
    assert_eq!(headers(&mail, "message-id").len(), 1);
    let token = link_token(&mail, "verify");
    let html = mail["html"].as_str().expect("HTML");
    // The template escapes slashes too.
    let html = html.replace("&#x2f;", "/");
    assert!(
        html.contains(&format!("{APP_URL}#verify={token}")),
        "{html}"
    );
    verify(&stack, &mail).await;

    forget(&stack, "Carol@example.org").await;
    let mail = server.next().await;
    let new = format!("correct-{}", random_text(18));
    let body = json!({"token": link_token(&mail, "reset"), "new_password": new});
    let (status, answer) = post(&stack, "/password/reset", &body).await;
    assert_eq!(status, StatusCode::NO_CONTENT, "{answer}");
    let login = json!({"username": "carol", "password": new});
    assert_eq!(post(&stack, "/login", &login).await.0, StatusCode::OK);
    // At any log level, the log holds none of these.
    let (log, _) = stack.output();
    let used = link_token(&mail, "reset");
    for secret in [used.as_str(), &token, access.password(), &new] {
        assert!(!log.contains(secret), "a secret is in the log");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs python"]
async fn a_mail_waits_for_a_server_that_is_down() {
    let access = Access::open();
    let server = MailServer::start(&access, 0).await;
    let port = server.port;
    let options = options(&access, port).auth("mail.starttls", "off");
    let stack = Stack::start_with(options.auth("admin.listen", harness::free_address())).await;
    server.stop().await;
    register(&stack, "carol", "Carol", "carol@example.org").await;
    let mut server = MailServer::start(&access, port).await;
    let mail = server.next().await;
    assert_eq!(mail["to"], json!(["carol@example.org"]));
    verify(&stack, &mail).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs python"]
async fn a_refused_recipient_is_given_up_and_delays_nobody() {
    let access = Access::open();
    let mut server = MailServer::start(&access, 0).await;
    let admin = harness::free_address();
    let options = options(&access, server.port)
        .auth("mail.starttls", "off")
        .auth("admin.listen", admin.clone());
    let stack = Stack::start_with(options).await;
    register(&stack, "carol", "Carol", "refused.carol@example.org").await;
    let refused = server.next().await;
    assert_eq!(refused, json!({"refused": "refused.carol@example.org"}));
    register(&stack, "dave", "Dave", "dave@example.org").await;
    assert_eq!(server.next().await["to"], json!(["dave@example.org"]));
    eventually("nothing waits, and one mail was refused", async || {
        let metrics = stack.http().get(format!("http://{admin}/metrics"));
        let metrics = metrics.send().await.expect("an answer").text().await;
        let metrics = metrics.expect("text");
        let has = |line: &str| metrics.lines().any(|shown| shown == line);
        has(r#"latchkey_auth_mails_total{kind="verify_email",outcome="refused"} 1"#)
            && has(r#"latchkey_auth_mails_total{kind="verify_email",outcome="sent"} 1"#)
            && has("latchkey_auth_mails_pending 0")
    })
    .await;
    let (log, _) = stack.output();
    assert!(!log.contains("refused.carol"), "an address is in the log");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs python"]
async fn nothing_is_sent_in_the_clear_unless_the_settings_say_so() {
    let access = Access::open();
    let mut server = MailServer::start(&access, 0).await;
    let admin = harness::free_address();
    let required = options(&access, server.port).auth("admin.listen", admin.clone());
    let stack = Stack::start_with(required).await;
    register(&stack, "carol", "Carol", "carol@example.org").await;
    eventually("an attempt that failed", async || {
        let metrics = stack.http().get(format!("http://{admin}/metrics"));
        let metrics = metrics.send().await.expect("an answer").text().await;
        metrics.expect("text").contains(r#"outcome="failed""#)
    })
    .await;
    // The next mail that arrives is that of the twin.
    let off = options(&access, server.port).auth("mail.starttls", "off");
    let twin = Stack::start_with(off).await;
    register(&twin, "dave", "Dave", "dave@example.org").await;
    assert_eq!(server.next().await["to"], json!(["dave@example.org"]));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs python"]
async fn names_and_addresses_add_no_header_and_no_recipient() {
    let directory = tempfile::tempdir().expect("a directory");
    // A template that puts the person's name where an attacker wants it.
    let subject = directory.path().join("verify_email.subject.txt");
    std::fs::write(subject, "For {{ name }}\n{{ email }}\n").expect("a file");
    let access = Access::open();
    let mut server = MailServer::start(&access, 0).await;
    let options = options(&access, server.port)
        .auth("mail.starttls", "off")
        .auth("mail.templates", json!(directory.path()));
    let stack = Stack::start_with(options).await;
    let injections = [
        ("name", "Eve\r\nBcc: eve@example.net"),
        ("name", "Eve\u{85}Bcc: eve@example.net"),
        ("email", "eve@example.org\r\nRCPT TO:<eve@example.net>"),
        ("email", "eve@example.org,eve@example.net"),
        ("email", "\"eve@example.net> x\"@example.org"),
    ];
    for (member, text) in injections {
        let mut body = json!({"username": "eve", "password": "barley is not sesame", "email": "eve@example.org"});
        body[member] = json!(text);
        let (status, answer) = post(&stack, "/register", &body).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{text:?}: {answer}");
    }
    // Names that are some, and look like more.
    let name = "=?utf-8?q?Eve=0D=0ABcc:_eve@example.net?= <eve@example.net>, \u{e9}";
    register(&stack, "eve", name, "o'neil+a=b@example.org").await;
    let mail = server.next().await;
    assert_eq!(mail["to"], json!(["o'neil+a=b@example.org"]));
    assert!(headers(&mail, "bcc").is_empty() && headers(&mail, "cc").is_empty());
    assert_eq!(headers(&mail, "to"), ["o'neil+a=b@example.org"]);
    let [subject] = headers(&mail, "subject")[..] else {
        panic!("one subject: {mail}");
    };
    assert!(
        subject.starts_with("For = ?utf-8?q?Eve") && !subject.contains(['\r', '\n']),
        "{subject:?}"
    );
    verify(&stack, &mail).await;
}
