//! What an issuer may publish that is no set of keys, or no good one.

use serde_json::Value;

use super::*;

const METADATA: &str = "/.well-known/openid-configuration";

/// The settings of an issuer whose metadata is on a server.
fn discovered(issuer: &str) -> IssuerSettings {
    let settings = json!({"issuer": issuer, "audience": AUDIENCE});
    serde_json::from_value(settings).expect("settings")
}

fn metadata(issuer: &str, keys: &str) -> Page {
    Page::json(&json!({"issuer": issuer, "jwks_uri": keys}))
}

/// Keys that no token may be verified by: each has the id `2`, and the last is by itself a good one.
fn bad_keys(signer: &Signer) -> Vec<(&'static str, Vec<Value>)> {
    let with = |name: &str, value: &str| {
        let mut key = signer.public.clone();
        key[name] = json!(value);
        key
    };
    let weak = "gA".repeat(86);
    vec![
        (
            "a secret",
            vec![json!({"kty": "oct", "k": "c2VjcmV0", "kid": "2"})],
        ),
        ("for encryption", vec![with("use", "enc")]),
        (
            "RSA of 1024 bits",
            vec![json!({"kty": "RSA", "n": weak, "e": "AQAB", "kid": "2"})],
        ),
        ("of another kind", vec![with("kty", "XX")]),
        ("two of one id", vec![signer.public.clone(); 2]),
        ("no keys", Vec::new()),
    ]
}

/// Documents that hold no keys, or more than is read.
fn bad_pages(signer: &Signer, elsewhere: &Server) -> Vec<(&'static str, Page)> {
    let document = |text: String| Page::Document(text.into_bytes(), "");
    let many: Vec<Value> = (0..10_000).map(|id| json!({"kid": id})).collect();
    let mut padded = json!({"keys": [signer.public]}).to_string();
    padded.push_str(&" ".repeat(10 * 1024 * 1024));
    vec![
        ("nothing there", Page::Status(404)),
        ("a failure", Page::Status(500)),
        (
            "a redirect",
            Page::Redirect(format!("{}{KEYS}", elsewhere.url())),
        ),
        ("no JSON", document("<html>".to_owned())),
        ("no set", Page::json(&json!([signer.public]))),
        ("ten mebibytes", document(padded)),
        ("ten thousand keys", Page::keys(&many)),
        (
            "more keys than are looked at",
            Page::keys(&vec![signer.public.clone(); 101]),
        ),
    ]
}

#[tokio::test]
async fn bad_documents_cost_nothing_that_was_known_and_no_other_issuer() {
    pause();
    let [server, other, elsewhere] = [(); 3].map(|()| Server::start());
    let (signer, next) = (Signer::ec("1"), Signer::ec("2"));
    for server in [&server, &other] {
        server.publish(KEYS, Page::keys([&signer.public]));
    }
    elsewhere.publish(KEYS, Page::keys([&next.public]));
    let bob = "https://b.example";
    let keys = keys(vec![settings(&server, ALICE), settings(&other, bob)]);
    let (known, unknown) = (signer.token(ALICE), next.token(ALICE));
    assert_eq!(verdict(&keys, &known).await, Ok(()));
    let sets = bad_keys(&next)
        .into_iter()
        .map(|(what, keys)| (what, Page::keys(&keys)));
    for (what, page) in sets.chain(bad_pages(&next, &elsewhere)) {
        server.publish(KEYS, page);
        advance(UNKNOWN_KEY_INTERVAL).await;
        let asked = server.requests();
        assert_eq!(verdict(&keys, &unknown).await, UNKNOWN, "{what}");
        assert_eq!(server.requests(), asked + 1, "{what}");
        assert_eq!(verdict(&keys, &known).await, Ok(()), "{what}");
        assert_eq!(verdict(&keys, &signer.token(bob)).await, Ok(()), "{what}");
    }
    assert_eq!(elsewhere.requests(), 0, "a redirect was followed");
    server.publish(KEYS, Page::keys([&signer.public, &next.public]));
    advance(UNKNOWN_KEY_INTERVAL).await;
    assert_eq!(verdict(&keys, &unknown).await, Ok(()));
}

#[tokio::test]
async fn a_good_key_is_used_whatever_stands_beside_it() {
    pause();
    let (signer, bad) = (Signer::ec("1"), Signer::ec("2"));
    for (what, mut set) in bad_keys(&bad) {
        let server = Server::start();
        set.push(signer.public.clone());
        server.publish(KEYS, Page::keys(&set));
        let keys = keys(vec![settings(&server, ALICE)]);
        assert_eq!(verdict(&keys, &signer.token(ALICE)).await, Ok(()), "{what}");
        assert_eq!(verdict(&keys, &bad.token(ALICE)).await, UNKNOWN, "{what}");
    }
}

#[tokio::test]
async fn an_answer_that_drips_is_given_up_at_the_deadline() {
    pause();
    let (server, signer) = (Server::start(), Signer::ec("1"));
    server.publish(KEYS, Page::Drip);
    let keys = keys(vec![settings(&server, ALICE)]);
    let token = signer.token(ALICE);
    let started = Instant::now();
    let mut handshake = pin!(keys.verify(&token, signer::now()));
    soon(async {
        tokio::select! {
            _ = &mut handshake => panic!("there is no end to it"),
            () = until(|| server.requests() == 1) => {}
        }
    })
    .await;
    // Timers are of whole milliseconds, rounded up.
    advance(Duration::from_millis(5001)).await;
    let verdict = soon(handshake).await;
    assert_eq!(verdict.err(), Some(Unverified::NoKeys));
    assert!(started.elapsed() <= Duration::from_secs(6));
}

#[tokio::test]
async fn an_issuer_says_by_its_metadata_where_its_keys_are() {
    pause();
    let (server, elsewhere) = (Server::start(), Server::start());
    let signer = Signer::ec("1");
    server.publish(KEYS, Page::keys([&signer.public]));
    let keys_are = format!("{}{KEYS}", server.url());
    // The slash at the end is part of an issuer's name, and of no address.
    for issuer in [server.url(), format!("{}/", server.url())] {
        server.publish(METADATA, metadata(&issuer, &keys_are));
        let keys = keys(vec![discovered(&issuer)]);
        assert_eq!(verdict(&keys, &signer.token(&issuer)).await, Ok(()));
    }
    let issuer = server.url();
    for (what, page) in [
        ("another issuer's", metadata("https://a.example", &keys_are)),
        (
            "the name of another",
            metadata(&format!("{issuer}/"), &keys_are),
        ),
        ("no address of keys", Page::json(&json!({"issuer": issuer}))),
        ("another scheme", metadata(&issuer, "file:///etc/passwd")),
        ("no JSON", Page::Document(b"<html>".to_vec(), "")),
        (
            "a redirect",
            Page::Redirect(format!("{}/elsewhere", elsewhere.url())),
        ),
    ] {
        server.publish(METADATA, page);
        let keys = keys(vec![discovered(&issuer)]);
        let asked = server.requests();
        let refused = verdict(&keys, &signer.token(&issuer)).await;
        assert_eq!(refused, Err(Unverified::NoKeys), "{what}");
        assert_eq!(
            server.requests(),
            asked + 1,
            "{what}: the keys were fetched"
        );
    }
}

#[tokio::test]
async fn keys_that_have_moved_are_found_where_the_metadata_says() {
    pause();
    let (server, first, next) = (Server::start(), Signer::ec("1"), Signer::ec("2"));
    let issuer = server.url();
    server.publish(METADATA, metadata(&issuer, &format!("{issuer}{KEYS}")));
    server.publish(KEYS, Page::keys([&first.public]));
    let keys = keys(vec![discovered(&issuer)]);
    assert_eq!(verdict(&keys, &first.token(&issuer)).await, Ok(()));
    server.publish(KEYS, Page::Status(404));
    server.publish("/moved", Page::keys([&next.public]));
    server.publish(METADATA, metadata(&issuer, &format!("{issuer}/moved")));
    refresh(&keys).await;
    assert_eq!(verdict(&keys, &first.token(&issuer)).await, Ok(()));
    refresh(&keys).await;
    assert_eq!(verdict(&keys, &next.token(&issuer)).await, Ok(()));
}

#[tokio::test]
async fn a_redirect_is_followed_within_its_origin_and_no_further() {
    pause();
    let (server, elsewhere, signer) = (Server::start(), Server::start(), Signer::ec("1"));
    let issuer = server.url();
    let token = signer.token(&issuer);
    for server in [&server, &elsewhere] {
        server.publish("/moved", metadata(&issuer, &format!("{issuer}/old-keys")));
        server.publish(KEYS, Page::keys([&signer.public]));
    }
    server.publish("/old-keys", Page::Redirect(KEYS.to_owned()));
    let same = [format!("{issuer}/moved"), "/moved".to_owned()];
    for to in same {
        server.publish(METADATA, Page::Redirect(to));
        let keys = keys(vec![discovered(&issuer)]);
        assert_eq!(verdict(&keys, &token).await, Ok(()));
    }
    let elsewhere_moved = format!("{}/moved", elsewhere.url());
    let host = elsewhere_moved.replace("127.0.0.1", "localhost");
    for to in [elsewhere_moved, host, METADATA.to_owned()] {
        server.publish(METADATA, Page::Redirect(to.clone()));
        let keys = keys(vec![discovered(&issuer)]);
        let refused = verdict(&keys, &token).await;
        assert_eq!(refused, Err(Unverified::NoKeys), "{to}");
    }
    assert_eq!(elsewhere.requests(), 0, "a redirect was followed");
}

#[tokio::test]
async fn a_key_server_that_refuses_clients_without_a_name_answers_us() {
    pause();
    let (server, signer) = (Server::start(), Signer::ec("1"));
    server.publish(KEYS, Page::keys([&signer.public]));
    server.refuse_nameless();
    let keys = keys(vec![settings(&server, ALICE)]);
    assert_eq!(verdict(&keys, &signer.token(ALICE)).await, Ok(()));
    let nameless = reqwest::Client::new().get(format!("{}{KEYS}", server.url()));
    let answer = soon(nameless.send()).await.expect("an answer");
    assert_eq!(answer.status(), 403);
}

/// The error of a fetch of what is published at an issuer's address.
async fn error_of(settings: IssuerSettings) -> String {
    let keys = keys(vec![settings]);
    let fetched = soon(keys.issuers[1].fetch_for_report()).await;
    let error = fetched.expect_err("a failure");
    format!("{error:#}")
}

#[tokio::test]
async fn an_error_names_the_step_that_failed_in_one_line_and_no_password() {
    pause();
    let (server, elsewhere, signer) = (Server::start(), Server::start(), Signer::ec("1"));
    let issuer = server.url();
    let keys_are = format!("{issuer}{KEYS}");
    let elsewhere_is = elsewhere.url();
    let named = |page| {
        server.publish(METADATA, page);
        error_of(discovered(&issuer))
    };
    let [of_metadata, of_keys] = [("metadata", METADATA), ("keys", KEYS)]
        .map(|(what, path)| format!("the {what} at {issuer}{path}: "));
    for (page, expected) in [
        (Page::Status(403), "the issuer answered 403 Forbidden"),
        (Page::Document(b"<html>".to_vec(), ""), "no JSON object"),
        (
            metadata("https://a.example", &keys_are),
            "of another issuer",
        ),
        (metadata(&issuer, "file:///x"), "not at an https address"),
        (
            Page::Redirect(elsewhere_is.clone()),
            "another origin, http://",
        ),
    ] {
        let error = named(page).await;
        assert!(error.starts_with(&of_metadata), "{error}");
        assert!(error.contains(expected) && !error.contains('\n'), "{error}");
    }
    server.publish(METADATA, metadata(&issuer, &keys_are));
    let encryption = bad_keys(&signer).remove(1).1;
    for (page, expected) in [
        (Page::Status(404), "the issuer answered 404 Not Found"),
        (Page::Document(b"[]".to_vec(), ""), "not a set of keys"),
        (Page::keys(&encryption), "use or key_ops"),
    ] {
        server.publish(KEYS, page);
        let error = error_of(discovered(&issuer)).await;
        assert!(error.starts_with(&of_keys), "{error}");
        assert!(error.contains(expected), "{error}");
    }
    let down = Server::start();
    let mut unreachable = settings(&down, ALICE);
    let address = down.address;
    drop(down);
    unreachable.jwks_uri = format!("http://user:hunter2@{address}{KEYS}?token=hunter2");
    let error = error_of(unreachable).await;
    assert!(
        error.starts_with(&format!("the keys at http://{address}{KEYS}: ")),
        "{error}"
    );
    assert!(
        !error.contains("hunter2") && !error.contains('\n'),
        "{error}"
    );
}
