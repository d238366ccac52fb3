//! The claims webhook: a service of the operator's that is asked before a token of a person is signed. It adds
//! roles and claims, or refuses the login.
//!
//! A request holds up the login or the refresh that it is for, and no other: it runs outside of every lock,
//! queue of passwords and batch of refreshes, and ends at the time of the settings, its wait for a place
//! included.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use anyhow::Context as _;
use aws_lc_rs::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use shared_claims::json;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use crate::{
    config::{ClaimsWebhookSettings, OnFailure, TokenSettings},
    ids::random_id,
    metrics::{ClaimsOutcome, Metrics},
    store::Account,
    user_claims::UserClaims,
    waiting::Waiting,
    webhook::Webhook,
};

/// The longest answer, in bytes: the claims of an account, with escapes and white space.
const MAXIMUM_ANSWER_BYTES: usize = 16 * 1024;

/// The longest text of a refusal, in bytes.
const MAXIMUM_TEXT_BYTES: usize = 255;

/// The longest time for which an answer is kept, in seconds.
const MAXIMUM_CACHE_SECS: u64 = 3600;

/// The webhook, its places, and the answers that are kept.
pub(crate) struct ClaimsWebhook {
    webhook: Webhook,
    timeout: Duration,
    on_failure: OnFailure,
    places: Semaphore,
    /// The requests of each account: it may ask about a part of the places at a time.
    waiting: Waiting<Question>,
    most_of_account: u32,
    cache: Mutex<Cache>,
}

/// Occasion at which a token is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Occasion {
    /// A login or a registration.
    Login,
    /// A refresh.
    Refresh,
}

/// Reason that no token is signed.
#[derive(Debug)]
pub(crate) enum TokenRefused {
    /// The webhook refuses the login, with this text for the client.
    Because(String),
    /// The webhook gives no answer that can be used, and the settings refuse the login then.
    NoAnswer,
}

/// Too many requests of one account wait for the webhook.
#[derive(Debug, thiserror::Error)]
#[error("too many requests of this account wait")]
struct Crowded;

/// The body of an answer.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    #[serde(default)]
    roles: Vec<String>,
    #[serde(default, deserialize_with = "json::unambiguous_members")]
    claims: Map<String, Value>,
    refuse: Option<String>,
    #[serde(default)]
    cache_secs: u64,
}

/// A decision about a token.
#[derive(Clone, Debug, PartialEq)]
enum Decision {
    Add(UserClaims),
    Refuse(String),
}

/// Hash of what the webhook is told of an account: a change of it is another question.
type Question = [u8; SHA256_OUTPUT_LEN];

/// Answers by question, of a bounded number.
struct Cache {
    most: usize,
    decisions: HashMap<Question, (Decision, Instant)>,
    /// The questions by the time at which their answers end; the number tells those of one time apart.
    ends: BTreeMap<(Instant, u64), Question>,
    next: u64,
}

impl ClaimsWebhook {
    /// Makes the webhook of the settings, if they name one.
    ///
    /// # Errors
    ///
    /// When the file with its secrets holds none, or TLS cannot be set up.
    pub(crate) fn open(settings: &ClaimsWebhookSettings) -> anyhow::Result<Option<Self>> {
        if !settings.url.is_on() {
            return Ok(None);
        }
        let webhook = Webhook::open(&settings.url, &settings.secret_file);
        Ok(Some(Self {
            webhook: webhook.context("token.claims_webhook")?,
            timeout: Duration::from_millis(settings.timeout_ms),
            on_failure: settings.on_failure,
            places: Semaphore::new(settings.concurrency),
            waiting: Waiting::default(),
            most_of_account: u32::try_from(settings.concurrency / 16)?.max(2),
            cache: Mutex::new(Cache::new(settings.cache)),
        }))
    }

    async fn decide(
        &self,
        account: &Account,
        occasion: Occasion,
        settings: &TokenSettings,
    ) -> anyhow::Result<(Decision, ClaimsOutcome)> {
        let user = describe(account);
        let question = question(&user);
        if let Some(decision) = self.cached(&question) {
            return Ok((decision, ClaimsOutcome::Cached));
        }
        let _own = self
            .waiting
            .enter(question, self.most_of_account)
            .ok_or(Crowded)?;
        let asking = async {
            let _place = self.places.acquire().await?;
            let id = random_id()?;
            let body = Zeroizing::new(message(&user, occasion)?);
            self.webhook.ask(&id, body, MAXIMUM_ANSWER_BYTES).await
        };
        let answer = tokio::time::timeout(self.timeout, asking).await;
        let answer = answer.context("it did not answer in time")??;
        let (decision, cache_secs) = parse(&answer, settings)?;
        let kept = Duration::from_secs(cache_secs.min(MAXIMUM_CACHE_SECS));
        self.keep(question, &decision, kept);
        Ok((decision, ClaimsOutcome::Answered))
    }

    fn cached(&self, question: &Question) -> Option<Decision> {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        cache.get(question, Instant::now())
    }

    fn keep(&self, question: Question, decision: &Decision, time: Duration) {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        cache.insert(question, decision.clone(), Instant::now(), time);
    }
}

/// Returns the roles and the claims of the next token of an account: its own, and those of the webhook, of
/// which a claim of the same name wins.
///
/// # Errors
///
/// [`TokenRefused`].
pub(crate) async fn claims_of(
    webhook: &ClaimsWebhook,
    metrics: &Metrics,
    settings: &TokenSettings,
    account: &Account,
    occasion: Occasion,
) -> Result<UserClaims, TokenRefused> {
    match webhook.decide(account, occasion, settings).await {
        Ok((Decision::Add(added), outcome)) => {
            metrics.claims(outcome);
            Ok(merge(account.claims.clone(), added))
        }
        Ok((Decision::Refuse(text), _)) => {
            metrics.claims(ClaimsOutcome::Refused);
            tracing::info!(user = account.id, "the claims webhook refused a token");
            Err(TokenRefused::Because(text))
        }
        Err(error) => {
            metrics.claims(ClaimsOutcome::Failed);
            if error.is::<Crowded>() {
                // Any account can cause a line for each of its requests.
                tracing::debug!(user = account.id, "the claims webhook failed: {error:#}");
                // Else whom the webhook refuses could see to it that it is not asked.
                return Err(TokenRefused::NoAnswer);
            }
            tracing::warn!(user = account.id, "the claims webhook failed: {error:#}");
            match webhook.on_failure {
                OnFailure::Refuse => Err(TokenRefused::NoAnswer),
                OnFailure::Ignore => Ok(account.claims.clone()),
            }
        }
    }
}

fn merge(mut own: UserClaims, added: UserClaims) -> UserClaims {
    for role in added.roles {
        if !own.roles.contains(&role) {
            own.roles.push(role);
        }
    }
    own.custom.extend(added.custom);
    own
}

/// Describes an account to the webhook.
fn describe(account: &Account) -> Value {
    let profile = account.profile();
    json!({
        "user_id": account.id,
        "username": account.username,
        "name": profile.name,
        "email": profile.email,
        "email_verified": profile.email_verified,
        "roles": account.claims.roles,
        "claims": account.claims.custom,
    })
}

fn question(user: &Value) -> Question {
    let mut question = [0; SHA256_OUTPUT_LEN];
    question.copy_from_slice(digest(&SHA256, user.to_string().as_bytes()).as_ref());
    question
}

/// Returns the message after Standard Webhooks: `type`, `timestamp` and `data`.
fn message(user: &Value, occasion: Occasion) -> anyhow::Result<String> {
    let mut data = user.clone();
    data["occasion"] = match occasion {
        Occasion::Login => "login".into(),
        Occasion::Refresh => "refresh".into(),
    };
    let now = OffsetDateTime::from(SystemTime::now()).format(&Rfc3339)?;
    Ok(json!({"type": "token.claims", "timestamp": now, "data": data}).to_string())
}

/// Returns the decision of an answer, and the time for which it is kept, in seconds.
fn parse(answer: &[u8], settings: &TokenSettings) -> anyhow::Result<(Decision, u64)> {
    let answer: Answer = json::from_object(answer.trim_ascii()).context(
        "its answer is no JSON object with roles, claims, refuse and cache_secs alone, each once",
    )?;
    if let Some(text) = answer.refuse {
        anyhow::ensure!(
            answer.roles.is_empty() && answer.claims.is_empty(),
            "its answer both adds claims and refuses"
        );
        anyhow::ensure!(
            shared_claims::ids::is_identifier(&text) && text.len() <= MAXIMUM_TEXT_BYTES,
            "its refusal is no text of 1 to {MAXIMUM_TEXT_BYTES} bytes without control characters"
        );
        return Ok((Decision::Refuse(text), answer.cache_secs));
    }
    let claims = UserClaims {
        roles: answer.roles,
        custom: answer.claims,
    };
    claims.check(settings)?;
    Ok((Decision::Add(claims), answer.cache_secs))
}

impl Cache {
    fn new(most: usize) -> Self {
        Self {
            most,
            decisions: HashMap::new(),
            ends: BTreeMap::new(),
            next: 0,
        }
    }

    fn get(&mut self, question: &Question, now: Instant) -> Option<Decision> {
        let (decision, end) = self.decisions.get(question)?;
        (now < *end).then(|| decision.clone())
    }

    /// Keeps a decision. When there are too many, the one that ends first is dropped.
    fn insert(&mut self, question: Question, decision: Decision, now: Instant, time: Duration) {
        let end = now + time;
        self.remove_ended(now);
        // Of two requests at once with one question, the first answer is kept.
        if time.is_zero() || self.most == 0 || self.decisions.contains_key(&question) {
            return;
        }
        while self.decisions.len() >= self.most {
            let Some((_, first)) = self.ends.pop_first() else {
                break;
            };
            self.decisions.remove(&first);
        }
        self.next += 1;
        self.ends.insert((end, self.next), question);
        self.decisions.insert(question, (decision, end));
    }

    fn remove_ended(&mut self, now: Instant) {
        while let Some(entry) = self.ends.first_entry() {
            let (end, _) = *entry.key();
            if end > now {
                return;
            }
            self.decisions.remove(&entry.remove());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decision(role: &str) -> Decision {
        Decision::Add(UserClaims {
            roles: vec![role.to_owned()],
            custom: Map::new(),
        })
    }

    #[test]
    fn an_answer_is_kept_for_its_time_and_no_more_are_than_the_bound() {
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let mut cache = Cache::new(3);
        cache.insert([0; 32], decision("none"), now, Duration::ZERO);
        assert_eq!(cache.get(&[0; 32], now), None);
        for number in 1..=5_u8 {
            let time = second * u32::from(number);
            cache.insert([number; 32], decision("x"), now, time);
            assert!(cache.decisions.len() <= 3);
        }
        assert_eq!(cache.get(&[2; 32], now), None);
        assert_eq!(cache.get(&[3; 32], now + 2 * second), Some(decision("x")));
        assert_eq!(cache.get(&[3; 32], now + 3 * second), None);
        cache.insert([3; 32], decision("y"), now + 3 * second, second);
        assert_eq!(cache.get(&[3; 32], now + 3 * second), Some(decision("y")));
        cache.insert([9; 32], decision("z"), now + 60 * second, second);
        assert_eq!((cache.decisions.len(), cache.ends.len()), (1, 1));
        let mut off = Cache::new(0);
        off.insert([1; 32], decision("x"), now, second);
        assert_eq!(off.get(&[1; 32], now), None);
    }

    #[test]
    fn an_answer_is_one_of_two_and_adds_no_claim_of_the_issuer() {
        let settings = TokenSettings::default();
        let long = format!(r#"{{"claims": {{"a": "{}"}}}}"#, "x".repeat(1_100));
        let text = format!(r#"{{"refuse": "{}"}}"#, "x".repeat(256));
        for (fine, bad) in [
            (
                r#"{"claims": {"org": "acme"}}"#,
                r#"{"claims": {"sub": "bob"}}"#,
            ),
            (
                r#"{"claims": {"a": 1, "b": 2}}"#,
                r#"{"claims": {"a": 1, "a": 2}}"#,
            ),
            (r#"{"roles": ["a"]}"#, r#"{"roles": ["a", "a"]}"#),
            (r#" {"cache_secs": 60} "#, r#"{"cache_secs": -1}"#),
            (
                r#"{"refuse": "not in the office"}"#,
                r#"{"refuse": "two\nlines"}"#,
            ),
            (r#"{"refuse": "x"}"#, r#"{"refuse": "x", "roles": ["a"]}"#),
            ("{}", r#"{"role": "a"}"#),
            ("{}", "[]"),
            ("{}", ""),
            ("{}", &long),
            ("{}", &text),
        ] {
            assert!(parse(fine.as_bytes(), &settings).is_ok(), "{fine}");
            assert!(parse(bad.as_bytes(), &settings).is_err(), "{bad}");
        }
    }
}
