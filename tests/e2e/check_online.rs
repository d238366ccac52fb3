//! `realtime-service check-config`: what it refuses, and what `--online` reports.

use harness::{OtherIssuer, random_text, stack::Ended, tls::Certificate};

const AUDIENCE: &str = "https://realtime.example";

/// Runs `check-config` with `toml` as the file, and a token on standard input if there is one.
async fn check(toml: &str, arguments: &[&str], token: Option<&str>) -> Ended {
    check_with(toml, arguments, token, None).await
}

/// The same with one more variable.
async fn check_with(
    toml: &str,
    arguments: &[&str],
    token: Option<&str>,
    variable: Option<(String, String)>,
) -> Ended {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("gateway.toml");
    std::fs::write(&file, toml).expect("a written file");
    let file = file.to_str().expect("a path in UTF-8");
    let mut all = vec!["check-config", "--config", file];
    all.extend(arguments);
    let secret = ("LATCHKEY_SECRET".to_owned(), random_text(36));
    let variables: Vec<_> = [secret].into_iter().chain(variable).collect();
    harness::stack::run("realtime-service", &all, &variables, token).await
}

#[track_caller]
fn assert_has_line(ended: &Ended, line: &str) {
    let output = &ended.output;
    assert!(output.lines().any(|one| one == line), "{line}: {output}");
}

fn settings(issuer: &OtherIssuer, more: &str) -> String {
    let url = &issuer.url;
    format!(
        "[[issuers]]\nissuer = \"{url}\"\naudience = \"{AUDIENCE}\"\n\
         jwks_uri = \"{url}/keys\"\n{more}\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the built binaries"]
async fn issuers_that_no_token_has_are_refused() {
    let common = "[[issuers]]\naudience = \"api\"\nissuer = \"https://login.microsoftonline.com/";
    for (toml, expected) in [
        (
            "issuer = \"https://x.example/\"".to_owned(),
            "issuer: must not end with a slash",
        ),
        (
            format!("{common}common/v2.0\""),
            "issuers[0]: issuer ends in a tenant",
        ),
        (
            format!("{common}{{tenantid}}/v2.0\""),
            "issuers[0]: issuer has braces",
        ),
    ] {
        let ended = check(&toml, &[], None).await;
        assert_eq!(ended.status.code(), Some(2), "{}", ended.output);
        assert!(ended.output.contains(expected), "{}", ended.output);
        assert_eq!(ended.output.lines().count(), 1, "{}", ended.output);
    }
    for toml in [
        "issuer = \"https://x.example\"".to_owned(),
        format!("{common}3fa85f64-5717-4562-b3fc-2c963f66afa6/v2.0\""),
    ] {
        let ended = check(&toml, &[], None).await;
        assert!(ended.status.success(), "{}", ended.output);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the built binaries"]
async fn keys_are_fetched_and_each_is_reported_as_used_or_not() {
    let issuer = OtherIssuer::start().await;
    let ended = check(&settings(&issuer, ""), &["--online"], None).await;
    assert!(ended.status.success(), "{}", ended.output);
    let place = format!("  fetched {}/keys, good for 300 s", issuer.url);
    for line in [
        "issuer http://localhost:8080",
        "  the secrets are shared, and nothing is fetched",
        &format!("issuer {}", issuer.url),
        &place,
        "  key \"1\" used for ES256",
    ] {
        assert_has_line(&ended, line);
    }
    let only_rsa = settings(&issuer, "algorithms = [\"RS256\"]");
    let ended = check(&only_rsa, &["--online"], None).await;
    assert_eq!(ended.status.code(), Some(1));
    let line = "  key \"1\" not used: ES256 is not among algorithms";
    assert!(ended.output.contains(line), "{}", ended.output);
    let settings = settings(&issuer, "");
    drop(issuer);
    let ended = check(&settings, &["--online"], None).await;
    assert_eq!(ended.status.code(), Some(1));
    assert!(
        ended.output.contains("  FAILED  the keys at http://"),
        "{}",
        ended.output
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the built binaries"]
async fn an_issuer_of_a_private_authority_is_reached_once_ssl_cert_file_names_it() {
    let [known, other] = [Certificate::default(), Certificate::default()];
    let issuer = OtherIssuer::start_with_tls(&known).await;
    for (certificate, expected) in [(None, 1), (Some(&other), 1), (Some(&known), 0)] {
        let variable = certificate.map(|certificate| {
            let file = certificate.cert_file().display().to_string();
            ("SSL_CERT_FILE".to_owned(), file)
        });
        let ended = check_with(&settings(&issuer, ""), &["--online"], None, variable).await;
        assert_eq!(ended.status.code(), Some(expected), "{}", ended.output);
        let is_refused = ended.output.contains("  FAILED  the keys at https://");
        assert_eq!(is_refused, expected == 1, "{}", ended.output);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the built binaries"]
async fn a_token_is_tried_on_the_rules_of_every_issuer_step_by_step() {
    let issuer = OtherIssuer::start().await;
    let forge = issuer.forge();
    let required = settings(&issuer, "require_claims = { role = \"user\" }");
    let arguments = ["--online", "--token-file", "-"];
    let token = forge.clone().claim("role", "user").token();
    let accepted = check(&required, &arguments, Some(&token)).await;
    assert!(accepted.status.success(), "{}", accepted.output);
    for line in [
        "token on the rules of http://localhost:8080",
        "  FAILED  header: alg is one of the issuer's, with a key for it: invalid algorithm",
        "          alg is \"ES256\", and must be one of [\"HS256\",\"ES256\"], with a key for it",
        "  ok      the signature is by the key",
        "  ok      the required claims have their values",
        "  the token is accepted",
    ] {
        assert_has_line(&accepted, line);
    }
    let role = forge.clone().claim("role", "\u{1b}[2J");
    for (forge, step, details) in [
        (
            forge.clone().claim("aud", "other"),
            "the audience is one of ours: jwt audience invalid",
            "aud is \"other\", and must be one of [\"https://realtime.example\"]",
        ),
        (
            forge.clone(),
            "the required claims have their values: jwt claims invalid",
            "role is absent, and must be one of [\"user\"]",
        ),
        (
            role,
            "the required claims have their values: jwt claims invalid",
            "role is \"\\u001b[2J\", and must be one of [\"user\"]",
        ),
        (
            forge.clone().header("typ", "logout+jwt"),
            "header: typ is one of the issuer's types: jwt type invalid",
            "typ is \"logout+jwt\", and must be one of [\"at+jwt\",\"jwt\"]",
        ),
    ] {
        let refused = check(&required, &arguments, Some(&forge.token())).await;
        assert_eq!(refused.status.code(), Some(1), "{}", refused.output);
        for line in [format!("  FAILED  {step}"), format!("          {details}")] {
            assert_has_line(&refused, &line);
        }
    }
    let none = check(&required, &arguments, Some("abc.def")).await;
    assert_eq!(none.status.code(), Some(1));
    assert!(
        none.output.contains("it is no token: jwt malformed"),
        "{}",
        none.output
    );
}
