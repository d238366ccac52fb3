//! `Idempotency-Key`: a request that is sent again, since its answer was lost, is answered as the first
//! one was, and nothing is done twice.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasher as _, RandomState},
    panic::resume_unwind,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Extension,
    body::{Body, Bytes, to_bytes},
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use shared_claims::ids::is_identifier;
use tokio::time::Instant;

use super::{Api, caller::Caller, problem::ApiError};

/// The header.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// How long answers are kept: longer than back ends try again.
const LIFETIME: Duration = Duration::from_secs(600);

/// How many answers are kept, and of what length. Those of the endpoints that take a key are short,
/// but for what clients acknowledge.
const MOST_ANSWERS: usize = 10_000;
const MAXIMUM_ANSWER_BYTES: usize = 64 * 1024;

/// A key belongs to the back end that chose it.
type Key = (String, String);

/// What was asked: a keyed hash of the path and the body.
type Asked = u64;

/// The answers that were given lately, and the requests that run.
#[derive(Default)]
pub(super) struct Answers {
    kept: Mutex<Kept>,
    hasher: RandomState,
}

#[derive(Default)]
struct Kept {
    /// At most [`MOST_ANSWERS`].
    answers: HashMap<Key, Slot>,
    /// The keys that have an answer, and since when. A key whose request runs is not evicted.
    order: VecDeque<(Instant, Key)>,
}

struct Slot {
    asked: Asked,
    /// `None` while the first request runs.
    answer: Option<Answer>,
}

/// What is kept of a request that was carried out.
#[derive(Clone, Debug, PartialEq)]
enum Answer {
    Whole(StatusCode, Bytes),
    /// It is longer than what is kept.
    TooLong,
}

impl Answers {
    /// The answer to the same request before; `None` when there was none, and this one is to run.
    fn begin(&self, key: &Key, asked: Asked, now: Instant) -> Result<Option<Answer>, ApiError> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.trim(now);
        match kept.answers.get(key) {
            Some(slot) if slot.asked != asked => Err(ApiError::KeyReused),
            Some(Slot { answer: None, .. }) => Err(ApiError::StillRunning),
            Some(slot) => Ok(slot.answer.clone()),
            None => {
                kept.make_room()?;
                let slot = Slot {
                    asked,
                    answer: None,
                };
                kept.answers.insert(key.clone(), slot);
                Ok(None)
            }
        }
    }

    /// Keeps the answer, or forgets the key when nothing was done.
    fn end(&self, key: &Key, answer: Option<Answer>, now: Instant) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        match answer {
            Some(answer) => {
                if let Some(slot) = kept.answers.get_mut(key) {
                    slot.answer = Some(answer);
                    kept.order.push_back((now, key.clone()));
                }
            }
            None => {
                kept.answers.remove(key);
            }
        }
    }
}

impl Kept {
    /// Forgets the answers that are too old.
    fn trim(&mut self, now: Instant) {
        while self
            .order
            .front()
            .is_some_and(|(at, _)| *at + LIFETIME <= now)
        {
            self.forget_first();
        }
    }

    /// Makes room for one more key, at the cost of the oldest answer.
    ///
    /// # Errors
    ///
    /// When as many requests run as keys are kept.
    fn make_room(&mut self) -> Result<(), ApiError> {
        if self.answers.len() >= MOST_ANSWERS && !self.forget_first() {
            return Err(ApiError::Unavailable);
        }
        Ok(())
    }

    /// Forgets the oldest answer. Returns whether there was one.
    fn forget_first(&mut self) -> bool {
        let Some((_, key)) = self.order.pop_front() else {
            return false;
        };
        self.answers.remove(&key).is_some()
    }
}

/// Forgets a key whose request was not carried out.
struct Running {
    api: Arc<Api>,
    key: Key,
    is_answered: bool,
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.is_answered {
            self.api.answers.end(&self.key, None, Instant::now());
        }
    }
}

/// Answers a request with a key once.
pub(super) async fn answer_once(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let Some(key) = key_of(request.headers())? else {
        return Ok(next.run(request).await);
    };
    let (parts, body) = request.into_parts();
    let most = api.body_bytes();
    let bytes = to_bytes(body, most)
        .await
        .map_err(|_| ApiError::BodyTooLarge)?;
    let key = (caller.id().to_owned(), key);
    let asked = api.answers.hasher.hash_one((parts.uri.path(), &bytes));
    match api.answers.begin(&key, asked, Instant::now())? {
        Some(Answer::Whole(status, answer)) => {
            let kind = [(header::CONTENT_TYPE, "application/json")];
            return Ok((status, kind, answer).into_response());
        }
        Some(Answer::TooLong) => return Err(ApiError::AnswerNotKept),
        None => {}
    }
    let running = Running {
        api,
        key,
        is_answered: false,
    };
    let request = Request::from_parts(parts, Body::from(bytes));
    // Whoever hangs up asks again, and has to find what was done: it is done without them.
    match tokio::spawn(carry_out(running, request, next)).await {
        Ok(answer) => answer,
        // Nobody cancels it.
        Err(panicked) => resume_unwind(panicked.into_panic()),
    }
}

/// Runs a request for the first time, and keeps its answer.
async fn carry_out(
    mut running: Running,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let (parts, body) = next.run(request).await.into_parts();
    // It is in memory already.
    let answer = to_bytes(body, usize::MAX).await;
    let answer = answer.map_err(|_| ApiError::Unavailable)?;
    if parts.status.is_success() {
        let kept = match answer.len() {
            0..=MAXIMUM_ANSWER_BYTES => Answer::Whole(parts.status, answer.clone()),
            _ => Answer::TooLong,
        };
        let answers = &running.api.answers;
        answers.end(&running.key, Some(kept), Instant::now());
        running.is_answered = true;
    }
    Ok(Response::from_parts(parts, Body::from(answer)))
}

fn key_of(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let text = value.to_str().ok().filter(|text| is_identifier(text));
    match (text, values.next()) {
        (Some(text), None) => Ok(Some(text.to_owned())),
        _ => Err(ApiError::InvalidRequest(
            "Idempotency-Key must be one text of 1 to 255 visible bytes".into(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_request_runs_once_and_its_answer_is_kept_for_a_while() {
        let answers = Answers::default();
        let key = ("caller".to_owned(), "key".to_owned());
        let (asked, other) = (1, 2);
        let begin = |asked| answers.begin(&key, asked, Instant::now());
        assert!(matches!(begin(asked), Ok(None)));
        assert!(matches!(begin(asked), Err(ApiError::StillRunning)));
        // Nothing was done, so it may run again, and is kept from then on.
        answers.end(&key, None, Instant::now());
        tokio::time::advance(LIFETIME / 2).await;
        assert!(matches!(begin(asked), Ok(None)));
        let answer = Answer::Whole(StatusCode::OK, Bytes::from_static(b"{\"offset\":1}"));
        answers.end(&key, Some(answer.clone()), Instant::now());
        assert!(matches!(begin(asked), Ok(Some(kept)) if kept == answer));
        assert!(matches!(begin(other), Err(ApiError::KeyReused)));
        tokio::time::advance(LIFETIME / 2).await;
        assert!(matches!(begin(asked), Ok(Some(_))));
        tokio::time::advance(LIFETIME / 2).await;
        assert!(matches!(begin(other), Ok(None)));
    }
    #[tokio::test(start_paused = true)]
    async fn a_key_whose_request_runs_is_not_evicted_by_any_number_of_others() {
        let (answers, now) = (Answers::default(), Instant::now());
        let key = |number: usize| ("caller".to_owned(), number.to_string());
        let begin = |number| answers.begin(&key(number), 1, Instant::now());
        let answer = || Some(Answer::Whole(StatusCode::OK, Bytes::new()));
        assert!(matches!(begin(0), Ok(None)));
        for number in 1..=2 * MOST_ANSWERS {
            assert!(matches!(begin(number), Ok(None)), "{number}");
            answers.end(&key(number), answer(), now);
        }
        // The oldest answers are evicted, and the request that runs is not.
        assert!(matches!(begin(0), Err(ApiError::StillRunning)));
        assert!(matches!(begin(2 * MOST_ANSWERS), Ok(Some(_))));
        tokio::time::advance(2 * LIFETIME).await;
        assert!(matches!(begin(0), Err(ApiError::StillRunning)));
        // A new key is refused only while all of them run.
        for number in 1..MOST_ANSWERS {
            assert!(matches!(begin(number), Ok(None)), "{number}");
        }
        assert!(matches!(begin(MOST_ANSWERS), Err(ApiError::Unavailable)));
        answers.end(&key(0), answer(), Instant::now());
        assert!(matches!(begin(MOST_ANSWERS), Ok(None)));
    }
}
