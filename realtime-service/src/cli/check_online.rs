//! `realtime-service check-config --online`: the keys of every issuer, and a token tried on them.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use anyhow::Context as _;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use clap::Args;
use serde_json::{Map, Value, json};
use shared_claims::{TokenRules, verify::Step};

use super::token_file;
use crate::{
    auth::keys::{Inspection, Keys, Trial, Unverified},
    config::{Config, load_keys},
    metrics::Metrics,
    telemetry,
};

/// The longest value of a token or a setting that is printed, in characters.
const MAXIMUM_VALUE_CHARS: usize = 200;

/// The arguments of `check-config`.
#[derive(Debug, Args)]
pub struct CheckArguments {
    /// Fetch the keys of every issuer, and report which of them are used
    #[arg(long)]
    pub online: bool,
    /// A file that holds a token to try on the rules of every issuer; - is standard input
    #[arg(long, value_name = "FILE", requires = "online")]
    token_file: Option<PathBuf>,
}

/// Prints what every issuer publishes and what becomes of it, and each step by which the token is
/// accepted or refused. Returns whether every issuer has a key that is used, and some issuer's rules
/// accept the token.
///
/// # Errors
///
/// When the settings or the file cannot be used.
#[tokio::main(flavor = "current_thread")]
pub async fn check_online(config: &Config, arguments: &CheckArguments) -> anyhow::Result<bool> {
    let _log = telemetry::init(config.log_format)?;
    let token = arguments.token_file.as_deref().map(read).transpose()?;
    let keys = Keys::new(config, load_keys(config)?, &Arc::new(Metrics::new()))?;
    let (mut text, mut is_fine) = (String::new(), true);
    for inspection in keys.inspect().await {
        is_fine &= inspection
            .report
            .as_ref()
            .is_some_and(|report| report.has_usable_key());
        describe_keys(&mut text, &inspection)?;
    }
    if let Some(token) = &token {
        is_fine &= describe_token(&mut text, &keys, token.trim())?;
    }
    write!(io::stdout(), "{text}")?;
    Ok(is_fine)
}

fn read(path: &Path) -> anyhow::Result<String> {
    token_file::read(path).context("--token-file: cannot be read")
}

fn describe_keys(text: &mut String, inspection: &Inspection) -> std::fmt::Result {
    writeln!(text, "issuer {}", inspection.issuer)?;
    match &inspection.fetched {
        Ok(None) => writeln!(text, "  the secrets are shared, and nothing is fetched")?,
        Ok(Some((place, max_age))) => {
            writeln!(text, "  fetched {place}, good for {} s", max_age.as_secs())?;
        }
        Err(error) => writeln!(text, "  FAILED  {error:#}")?,
    }
    for line in inspection.report.iter().flat_map(|report| report.lines()) {
        writeln!(text, "  {line}")?;
    }
    Ok(())
}

/// Returns whether some issuer's rules accept the token.
fn describe_token(text: &mut String, keys: &Keys, token: &str) -> anyhow::Result<bool> {
    let trials = match keys.try_token(token, SystemTime::now()) {
        Ok(trials) => trials,
        Err(rejection) => {
            writeln!(
                text,
                "token\n  FAILED  it is no token: {}",
                rejection.message()
            )?;
            return Ok(false);
        }
    };
    let [header, claims] = parts_of(token);
    for trial in &trials {
        writeln!(
            text,
            "token on the rules of {}",
            trial.rules.issuer.as_str()
        )?;
        describe_trial(text, trial, &header, &claims)?;
    }
    Ok(trials.iter().any(|trial| trial.verdict.is_ok()))
}

fn describe_trial(
    text: &mut String,
    trial: &Trial<'_>,
    header: &Map<String, Value>,
    claims: &Map<String, Value>,
) -> std::fmt::Result {
    let (passed, failed) = match (&trial.verdict, trial.steps.split_last()) {
        (Err(_), Some((failed, passed))) => (passed, Some(failed)),
        _ => (&trial.steps[..], None),
    };
    for step in passed {
        writeln!(text, "  ok      {step}")?;
    }
    match (&trial.verdict, failed) {
        (Ok(()), _) => writeln!(text, "  the token is accepted"),
        (Err(Unverified::NoKeys), _) => writeln!(text, "  FAILED  no keys are known"),
        (Err(Unverified::Rejected(rejection)), failed) => {
            let message = rejection.message();
            let step = failed.map(ToString::to_string).unwrap_or_default();
            writeln!(text, "  FAILED  {step}: {message}")?;
            let details = failed.and_then(|step| details(*step, trial.rules, header, claims));
            match details {
                None => Ok(()),
                Some((name, found, wanted)) => writeln!(
                    text,
                    "          {name} is {}, and must be {wanted}",
                    printable(found)
                ),
            }
        }
    }
}

/// Returns the member that a step looks at, its value in the token, and the values that it must have.
fn details<'a>(
    step: Step,
    rules: &TokenRules,
    header: &'a Map<String, Value>,
    claims: &'a Map<String, Value>,
) -> Option<(String, Option<&'a Value>, String)> {
    let of_header = |name: &str, wanted| Some((name.to_owned(), header.get(name), wanted));
    let of_claims = |name: &str, wanted| Some((name.to_owned(), claims.get(name), wanted));
    let one_of = |values: Value| format!("one of {values}");
    match step {
        Step::Algorithm => {
            let names = rules.algorithms.iter().map(|one| format!("{one:?}"));
            let names: Vec<String> = names.collect();
            of_header(
                "alg",
                format!("{}, with a key for it", one_of(json!(names))),
            )
        }
        Step::Type => of_header("typ", one_of(json!(rules.types))),
        Step::Key => of_header("kid", "the id of a key that is used".to_owned()),
        Step::KeyAlgorithm => of_header("alg", "the algorithm of the key".to_owned()),
        Step::Issuer => of_claims("iss", rules.issuer.as_str().to_owned()),
        Step::Audience => of_claims(&rules.audience_claim, one_of(json!(rules.audiences))),
        Step::Expiry => of_claims("exp", "a time in the future, and not too far".to_owned()),
        Step::NotBefore => of_claims("nbf", "a time that has come".to_owned()),
        Step::IssuedAt => of_claims(
            "iat",
            "a time that has come, and not too long ago".to_owned(),
        ),
        Step::RequiredClaims => {
            let missing = rules
                .required_claims
                .iter()
                .find(|one| !one.is_met_by(claims))?;
            of_claims(&missing.name, one_of(json!(missing.values)))
        }
        Step::Claim(name) => {
            of_claims(name, "of its type, and no longer than it may be".to_owned())
        }
        Step::Extensions | Step::Signature | Step::Kind => None,
    }
}

/// Returns the header and the claims of a token that parses.
fn parts_of(token: &str) -> [Map<String, Value>; 2] {
    let mut segments = token.split('.').map(|segment| {
        let json = URL_SAFE_NO_PAD.decode(segment).unwrap_or_default();
        serde_json::from_slice(&json).unwrap_or_default()
    });
    [(); 2].map(|()| segments.next().unwrap_or_default())
}

/// A value as JSON, which escapes every character that could mislead a terminal, cut off.
fn printable(value: Option<&Value>) -> String {
    let Some(value) = value else {
        return "absent".to_owned();
    };
    let text = value.to_string();
    let escaped = text.chars().take(MAXIMUM_VALUE_CHARS).flat_map(|one| {
        let is_plain = one.is_ascii() && !one.is_ascii_control();
        let plain = is_plain.then_some(one);
        let escaped = (!is_plain).then(|| one.escape_unicode());
        plain.into_iter().chain(escaped.into_iter().flatten())
    });
    escaped.collect()
}
