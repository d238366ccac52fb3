//! Decisions of back ends about actions in rooms.
//!
//! Questions that are the same are asked once at a time, whoever waits for the answer, and an answer is
//! kept for as long as it says. A renewed token and a revocation void the answers of their user or
//! session at once, those under way included.

mod answer;
mod generations;
mod key;

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use quick_cache::sync::Cache;
use serde::Serialize;
use serde_json::{Map, Value, value::RawValue};
use shared_claims::{authorization::Action, verify::LogoutScope};
use tokio::time::Instant;
use utoipa::ToSchema;

pub(super) use self::answer::WrittenDecision;
pub use self::answer::{Decision, DecisionAnswer, Replacement};
use self::{
    generations::{Generations, Stamp},
    key::{QuestionKey, Weight},
};
use super::{Asker, BackEnd, CallError, EventType, asker::unusable};
use crate::{
    auth::policy::{BackEndAnswer, Explanation, RoomName, RuleIndex},
    config::{Config, ConfigError},
    ids::random_id,
    namespaces::Namespaces,
    rooms::Draft,
};

/// Maximum number of answers that a question waits for and that are void when they come. After them it
/// is asked for itself alone.
const MAXIMUM_ROUNDS: usize = 3;

/// The back ends that decide, and their answers.
pub struct Decisions {
    /// The back end of each rule of `[[rooms]]` in a namespace, by the index of the rule.
    back_ends: Namespaces<Box<[Option<Arc<BackEnd>>]>>,
    kept: Cache<QuestionKey, Arc<KeptDecision>, Weight>,
    generations: Generations,
}

/// The outcome of a question, a failure too: everybody who waited for it gets it.
struct KeptDecision {
    outcome: Result<Decision, CallError>,
    answered_at: Instant,
    cache: Duration,
    stamp: Stamp,
}

/// An action in a room that a rule leaves to its back end.
#[derive(Clone, Copy)]
pub struct Matter<'a> {
    /// The rule, of the namespace of the room.
    pub rule: RuleIndex,
    /// The action.
    pub action: Action,
    /// The room.
    pub room: &'a RoomName,
}

/// The content of a question.
#[derive(Serialize, ToSchema)]
pub(super) struct DecisionQuestion<'a> {
    /// `sub`, `pub` or `prs`.
    #[schema(value_type = String)]
    action: Action,
    #[schema(value_type = String)]
    room: &'a RoomName,
    /// The message, if the user wants to publish one.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<MessageData<'a>>,
    /// The claims of the token.
    #[schema(value_type = Object)]
    claims: &'a Map<String, Value>,
}

/// The message that a user wants to publish.
#[derive(Serialize, ToSchema)]
#[schema(as = DecisionMessageData)]
struct MessageData<'a> {
    event: &'a str,
    #[schema(value_type = Value)]
    data: &'a RawValue,
    /// The binary data of its placeholders, in base64.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    attachments: Vec<String>,
    id: &'a str,
}

impl Decisions {
    /// Finds the back ends that decide among `all`. None of them is asked.
    ///
    /// # Errors
    ///
    /// The first rule whose back end does not exist.
    pub(super) fn new(config: &Config, all: &[Arc<BackEnd>]) -> Result<Self, ConfigError> {
        let find = |name: &String| all.iter().find(|one| one.name() == name).cloned();
        let back_ends = config.each_namespace(|namespace| {
            let back_end = |(index, name): (usize, &Option<String>)| match name {
                None => Ok(None),
                Some(name) => find(name).map(Some).ok_or_else(|| ConfigError::Invalid {
                    setting: format!("{}rooms[{index}].backend", namespace.place),
                    problem: "no [[backends]] entry has this name".to_owned(),
                }),
            };
            let names = namespace.rooms.iter().map(|rule| &rule.backend).enumerate();
            names.map(back_end).collect::<Result<_, ConfigError>>()
        })?;
        let settings = &config.decisions;
        Ok(Self {
            back_ends,
            kept: Cache::with_weighter(
                settings.entries,
                settings.bytes as u64,
                Weight::of(settings),
            ),
            generations: Generations::default(),
        })
    }

    /// Returns the decision about `matter`: one that is kept, or the answer to a question that is under
    /// way, or to one that is asked now.
    ///
    /// # Errors
    ///
    /// See [`CallError`]. A failure is not kept.
    pub async fn decide(
        &self,
        asker: &Asker<'_>,
        matter: Matter<'_>,
    ) -> Result<Decision, CallError> {
        let (outcome, was_asked) = self.find(asker, matter).await;
        self.count(matter, &outcome, was_asked);
        outcome
    }

    /// Returns the decision, and whether the back end was asked for it on behalf of this asker.
    async fn find(
        &self,
        asker: &Asker<'_>,
        matter: Matter<'_>,
    ) -> (Result<Decision, CallError>, bool) {
        let began_at = Instant::now();
        let key = QuestionKey::new(asker, matter);
        for _ in 0..MAXIMUM_ROUNDS {
            let guard = match self.kept.get_value_or_guard_async(&key).await {
                Ok(kept) if self.is_valid(&kept, began_at) => return (kept.outcome.clone(), false),
                Ok(void) => {
                    self.kept.remove_if(&key, |kept| Arc::ptr_eq(kept, &void));
                    continue;
                }
                Err(guard) => guard,
            };
            let stamp = self.generations.stamp(asker);
            let answer = self.ask(asker, matter, None).await;
            let outcome = answer.map(|answer| (answer.decision, answer.cache));
            let kept = Arc::new(KeptDecision::new(outcome, stamp));
            // Waiting askers get the outcome in any case.
            let _ = guard.insert(kept.clone());
            if kept.cache.is_zero() {
                self.kept.remove_if(&key, |other| Arc::ptr_eq(other, &kept));
            }
            return (kept.outcome.clone(), true);
        }
        let answer = self.ask(asker, matter, None).await;
        (answer.map(|answer| answer.decision), true)
    }

    fn count(&self, matter: Matter<'_>, outcome: &Result<Decision, CallError>, was_asked: bool) {
        let name = match outcome {
            Ok(Decision::Allowed) => "allowed",
            Ok(Decision::Refused(_)) => "refused",
            Err(_) => "failed",
        };
        if let Some(back_end) = self.back_end(matter) {
            back_end.metrics().decided(name, was_asked);
        }
    }

    fn back_end(&self, matter: Matter<'_>) -> Option<&Arc<BackEnd>> {
        let rules = self.back_ends.of(matter.room.namespace());
        rules.get(usize::from(matter.rule))?.as_ref()
    }

    /// Returns the decision about a message, and the message in its place, if there is one. Each message
    /// is asked about by itself, unless an answer that is kept holds for all of them.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub async fn decide_message(
        &self,
        asker: &Asker<'_>,
        rule: RuleIndex,
        draft: &Draft,
    ) -> Result<(Decision, Option<Replacement>), CallError> {
        let matter = Matter {
            rule,
            action: Action::Publish,
            room: &draft.room,
        };
        let key = QuestionKey::new(asker, matter);
        if let Some(kept) = self.kept.get(&key)
            && self.is_in_force(&kept)
        {
            self.count(matter, &kept.outcome, false);
            return kept.outcome.clone().map(|decision| (decision, None));
        }
        let stamp = self.generations.stamp(asker);
        let answer = self.ask(asker, matter, Some(draft)).await;
        let (answer, message) = match answer {
            Ok(answer) => (Ok((answer.decision, answer.cache)), answer.message),
            Err(error) => (Err(error), None),
        };
        let kept = KeptDecision::new(answer, stamp);
        let outcome = kept.outcome.clone();
        self.count(matter, &outcome, true);
        if !kept.cache.is_zero() {
            self.kept.insert(key, Arc::new(kept));
        }
        outcome.map(|decision| (decision, message))
    }

    /// Asks the back end of a rule, whatever is kept, and keeps nothing. Without a `draft`, a question about
    /// publishing is about no message in particular.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub async fn ask(
        &self,
        asker: &Asker<'_>,
        matter: Matter<'_>,
        draft: Option<&Draft>,
    ) -> Result<DecisionAnswer, CallError> {
        let back_end = self.back_end(matter);
        let back_end = back_end.ok_or_else(|| CallError::permanent("the rule has no back end"))?;
        let bytes = draft.map_or(0, |draft| draft.data.bytes());
        let question = DecisionQuestion {
            action: matter.action,
            room: matter.room,
            message: draft.map(MessageData::of).transpose()?,
            claims: asker.claims,
        };
        let id = random_id();
        let event = asker.event(EventType::Authorize, &id, question);
        let parse = |body: &[u8]| DecisionAnswer::parse(body, draft.is_some());
        back_end.ask(&event, (asker.key, bytes), parse).await
    }

    /// Asks the back end that decides according to an explanation, and adds its answer; an explanation by
    /// which none decides stays as it is. Nothing is kept.
    pub async fn explain(&self, asker: &Asker<'_>, explanation: Explanation) -> Explanation {
        let Some(rule) = explanation.asks() else {
            return explanation;
        };
        let matter = Matter {
            rule,
            action: explanation.action,
            room: &explanation.room,
        };
        let answer = match self.ask(asker, matter, None).await {
            Ok(answer) => BackEndAnswer {
                allow: answer.decision == Decision::Allowed,
                cache_secs: answer.cache.as_secs(),
                reason: match answer.decision {
                    Decision::Refused(reason) => reason.map(|reason| reason.to_string()),
                    Decision::Allowed => None,
                },
                error: None,
            },
            Err(error) => BackEndAnswer {
                error: Some(error.failure.code()),
                ..BackEndAnswer::default()
            },
        };
        explanation.answered(answer)
    }

    /// Voids the answers that the user or the session of `scope` was given, those under way included.
    pub fn forget(&self, issuer: &str, scope: &LogoutScope) {
        self.generations.advance(issuer, scope);
    }

    /// Whether an outcome answers a question that was asked at `began_at`: it is kept, or came later.
    fn is_valid(&self, kept: &KeptDecision, began_at: Instant) -> bool {
        self.is_in_force(kept)
            || (kept.answered_at >= began_at && self.generations.is_current(&kept.stamp))
    }

    /// Whether an answer holds at this moment.
    fn is_in_force(&self, kept: &KeptDecision) -> bool {
        kept.answered_at.elapsed() < kept.cache && self.generations.is_current(&kept.stamp)
    }
}

impl KeptDecision {
    fn new(outcome: Result<(Decision, Duration), CallError>, stamp: Stamp) -> Self {
        let cache = outcome.as_ref().map_or(Duration::ZERO, |(_, cache)| *cache);
        Self {
            outcome: outcome.map(|(decision, _)| decision),
            answered_at: Instant::now(),
            cache,
            stamp,
        }
    }
}

impl<'a> MessageData<'a> {
    fn of(draft: &'a Draft) -> Result<Self, CallError> {
        let attachments = draft.data.attachments().iter();
        Ok(Self {
            event: &draft.event,
            data: serde_json::from_str(draft.data.json())
                .map_err(|_| unusable("the data is no JSON"))?,
            attachments: attachments.map(|data| STANDARD.encode(data)).collect(),
            id: &draft.id,
        })
    }
}

#[cfg(test)]
mod tests;
