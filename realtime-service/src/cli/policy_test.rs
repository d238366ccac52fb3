//! `realtime-service policy test`: what users expect of their own rules, case by case.
//!
//! The claims of a case are signed with a key that lives for one run, and verified as the gateway
//! would: there is no other way to claims that grant something.

use std::{
    fmt,
    io::{self, Write as _},
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, anyhow, ensure};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use shared_claims::{
    TokenRules, VerifiedClaims, Verifier,
    authorization::Action,
    claims::REALTIME_AUDIENCE,
    key_set::KeySet,
    secret::{SECRET_VARIABLE, Secrets, from_random},
};

use crate::{
    auth::policy::{Explanation, Holder, Policy, RoomName, RoomRule},
    config::Config,
    namespaces::{MAIN, Namespaces},
};

/// How long the tokens of a run would last.
const LIFETIME: Duration = Duration::from_secs(900);

/// What stands in the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Cases {
    /// The rules, if not those of the settings.
    rooms: Option<Vec<RoomRule>>,
    cases: Vec<Case>,
}

/// One expectation.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    claims: Option<Map<String, Value>>,
    #[serde(default)]
    guest: bool,
    #[serde(default = "main_namespace")]
    namespace: String,
    room: String,
    action: Option<Action>,
    #[serde(default)]
    actions: Vec<Action>,
    expect: Verdict,
}

fn main_namespace() -> String {
    MAIN.to_owned()
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Allow,
    /// A back end decides.
    Ask,
    Deny,
}

/// What came of the cases: for each its name and, if it failed, why.
struct Report(Vec<(String, Result<(), String>)>);

/// Tries the cases in `file` on its rules, or on those of `config`, and prints what came of them;
/// gives whether all passed.
///
/// # Errors
///
/// When the file cannot be used.
pub fn test_policy(config: &Config, file: &Path) -> anyhow::Result<bool> {
    let name = file.display();
    let text = std::fs::read_to_string(file).with_context(|| format!("{name}: cannot be read"))?;
    let report = report(config, &text).with_context(|| name.to_string())?;
    writeln!(io::stdout(), "{report}")?;
    Ok(report.failed() == 0)
}

fn report(config: &Config, text: &str) -> anyhow::Result<Report> {
    let Cases { rooms, cases } = toml::from_str(text).map_err(|error| in_one_line(&error, text))?;
    ensure!(!cases.is_empty(), "there are no cases");
    let mut config = config.clone();
    config.rooms = rooms.unwrap_or(config.rooms);
    config.check()?;
    let (policies, issuers) = (Policy::all(&config)?, Issuers::new(&config)?);
    let outcomes = cases.into_iter().map(|case| {
        let outcome = case.outcome(&policies, &issuers);
        (case.name, outcome)
    });
    Ok(Report(outcomes.collect()))
}

fn in_one_line(error: &toml::de::Error, text: &str) -> anyhow::Error {
    let before = error.span().and_then(|span| text.get(..span.start));
    let line = before.unwrap_or_default().matches('\n').count() + 1;
    anyhow!("line {line}: {}", error.message())
}

impl Case {
    /// Whether it is as expected; if not, how it is.
    fn outcome(&self, policies: &Namespaces<Policy>, issuers: &Issuers) -> Result<(), String> {
        let actions = match (self.action, &self.actions[..]) {
            (Some(action), []) => vec![action],
            (None, actions) if !actions.is_empty() => actions.to_vec(),
            _ => return Err("it has to say either action or actions".to_owned()),
        };
        let policy = policies
            .get(&self.namespace)
            .ok_or("namespace: no [[namespaces]] entry has this name")?;
        let room = RoomName::parse_in(&self.namespace, &self.room);
        let room = room.map_err(|error| format!("room: {error}"))?;
        let claims = match (&self.claims, self.guest) {
            (None, true) => None,
            (Some(claims), false) => Some(issuers.verify(claims)?),
            _ => return Err("it has to say either claims or guest = true".to_owned()),
        };
        let holder = match &claims {
            None => Holder::Guest,
            Some(claims) => policy.bearer(claims),
        };
        let explanations = actions
            .into_iter()
            .map(|action| policy.explain(&holder, action, &room));
        let surprises: Vec<_> = explanations
            .filter(|explanation| Verdict::of(explanation) != self.expect)
            .map(|explanation| explanation.to_string())
            .collect();
        match surprises.is_empty() {
            true => Ok(()),
            false => Err(surprises.join("\n")),
        }
    }
}

impl Verdict {
    fn of(explanation: &Explanation) -> Self {
        match (explanation.allowed, &explanation.backend) {
            (true, _) => Self::Allow,
            (false, Some(_)) => Self::Ask,
            (false, None) => Self::Deny,
        }
    }
}

/// The issuers in the settings, with a key that is thrown away in place of theirs.
struct Issuers {
    rules: Vec<TokenRules>,
    secrets: Secrets,
}

impl Issuers {
    fn new(config: &Config) -> anyhow::Result<Self> {
        let ours = TokenRules::of_our_issuer(&config.issuer, REALTIME_AUDIENCE);
        let others = config.issuers.iter().map(|issuer| TokenRules {
            algorithms: vec![Algorithm::HS256],
            ..issuer.rules()
        });
        let mut random = [0; 32];
        getrandom::fill(&mut random)?;
        Ok(Self {
            rules: std::iter::once(ours).chain(others).collect(),
            secrets: Secrets::parse(SECRET_VARIABLE, &from_random(random), ',')?,
        })
    }

    /// What the gateway makes of these claims, with those that every token has, unless they say
    /// otherwise.
    fn verify(&self, claims: &Map<String, Value>) -> Result<VerifiedClaims, String> {
        let name = claims.get("iss").unwrap_or(&Value::Null);
        let mut rules = self.rules.iter();
        let rules = match name.is_null() {
            true => rules.next(),
            false => rules.find(|rules| name.as_str().is_some_and(|iss| rules.issuer.covers(iss))),
        };
        let rules = rules.ok_or_else(|| format!("claims: no issuer {name} is in the settings"))?;
        let now = SystemTime::now();
        let mut all = usual_claims(rules, now);
        all.extend(claims.clone());
        let token = self.sign(rules, &all).map_err(|error| error.to_string())?;
        let keys = KeySet::from_secrets(&self.secrets).map_err(|error| error.to_string())?;
        Verifier::with_rules(rules.clone(), keys)
            .verify(&token, now)
            .map_err(|rejection| {
                format!("claims: the gateway refuses them: {}", rejection.message())
            })
    }

    fn sign(
        &self,
        rules: &TokenRules,
        claims: &Map<String, Value>,
    ) -> Result<String, jsonwebtoken::errors::Error> {
        let typ = rules.types.first().filter(|typ| !typ.is_empty());
        let header = Header {
            typ: typ.cloned(),
            kid: Some(self.secrets.signing().key_id()?),
            ..Header::new(Algorithm::HS256)
        };
        let key = EncodingKey::from_secret(self.secrets.signing().expose());
        jsonwebtoken::encode(&header, claims, &key)
    }
}

/// What stands in every token of the issuer.
fn usual_claims(rules: &TokenRules, now: SystemTime) -> Map<String, Value> {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let lifetime = LIFETIME.as_secs().min(rules.maximum_lifetime_secs);
    let claims = json!({
        "iss": rules.issuer.as_str(), "sub": "somebody", "aud": rules.audiences[0], "iat": now,
        "exp": now + lifetime, "jti": "token", "sid": "session", "client_id": "client",
    });
    let mut claims = claims.as_object().cloned().unwrap_or_default();
    for required in &rules.required_claims {
        let value = required.values.first().cloned();
        claims.insert(required.name.clone(), value.unwrap_or_default());
    }
    claims.insert(rules.audience_claim.clone(), json!(rules.audiences[0]));
    claims
}

impl Report {
    fn failed(&self) -> usize {
        let outcomes = self.0.iter();
        outcomes.filter(|(_, outcome)| outcome.is_err()).count()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, outcome) in &self.0 {
            match outcome {
                Ok(()) => writeln!(formatter, "ok      {name}")?,
                Err(why) => {
                    writeln!(formatter, "FAILED  {name}")?;
                    for line in why.lines() {
                        writeln!(formatter, "        {line}")?;
                    }
                }
            }
        }
        let failed = self.failed();
        let passed = self.0.len() - failed;
        write!(formatter, "{passed} passed, {failed} failed")
    }
}

#[cfg(test)]
mod tests;
