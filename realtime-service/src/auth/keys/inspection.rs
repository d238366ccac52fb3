//! Reports on the issuers in the settings, for an operator who asks.

use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use shared_claims::{Rejection, TokenRules, UnverifiedToken, verify::Step};

use super::{Keys, Unverified, issuer::Issuer, publication::printable, report::KeyReport};

/// Outcome of asking one issuer for its keys.
#[derive(Debug)]
pub struct Inspection {
    /// The issuer as the settings name it.
    pub issuer: String,
    /// The address of the keys and the time for which they can be kept; `None` for an issuer that
    /// shares its secrets; or why nothing could be fetched.
    pub fetched: anyhow::Result<Option<(String, Duration)>>,
    /// The use of each key, when there are some.
    pub report: Option<KeyReport>,
}

/// Outcome of trying a token on the rules of one issuer.
#[derive(Debug)]
pub struct Trial<'a> {
    /// The rules.
    pub rules: &'a TokenRules,
    /// The steps that began, in their order. When the token is refused, the last one failed.
    pub steps: Vec<Step>,
    /// The outcome.
    pub verdict: Result<(), Unverified>,
}

impl Keys {
    /// Fetches the keys of every issuer, our own first, and reports on them.
    pub async fn inspect(&self) -> Vec<Inspection> {
        join_all(self.issuers.iter().map(|issuer| inspect(issuer))).await
    }

    /// Tries a token on the rules of every issuer, our own first, with the keys that are known.
    ///
    /// # Errors
    ///
    /// When the text is no token at all.
    pub fn try_token(&self, token: &str, now: SystemTime) -> Result<Vec<Trial<'_>>, Rejection> {
        let trials = self.issuers.iter().map(|issuer| {
            let mut token = UnverifiedToken::parse(token)?;
            let mut steps = Vec::new();
            let verdict = issuer.ask(&mut token, |verifier, token| {
                verifier.verify_observed(token, now, &mut |step| steps.push(step))
            });
            Ok(Trial {
                rules: issuer.rules(),
                steps,
                verdict: verdict.map(|_| ()),
            })
        });
        trials.collect()
    }
}

async fn inspect(issuer: &Issuer) -> Inspection {
    let fetched = issuer.fetch_for_report().await;
    Inspection {
        issuer: issuer.name().to_owned(),
        report: fetched.as_ref().ok().and_then(|_| issuer.report()),
        fetched: fetched.map(|found| found.map(|(uri, max_age)| (printable(&uri), max_age))),
    }
}
