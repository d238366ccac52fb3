//! Tokens that are refused for a while: those of clients that were disconnected for good, and took
//! nothing when they were to be told so. Without the packet that says it they would come back.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use shared_claims::VerifiedClaims;
use tokio::time::Instant;

/// How long a token is refused: a stock client tries to come back within 5 seconds, and gives up
/// once it is refused.
const SUSPENSION: Duration = Duration::from_secs(60);

/// How many tokens are refused at once; the oldest makes room for a new one.
const MOST_TOKENS: usize = 10_000;

/// A token: its issuer, its subject, and its id or, without one, when it was signed.
type Key = (String, String, String);

/// The tokens that are refused for a while.
#[derive(Default)]
pub struct SuspendedTokens(Mutex<State>);

#[derive(Default)]
struct State {
    until: HashMap<Key, Instant>,
    order: VecDeque<(Instant, Key)>,
}

impl SuspendedTokens {
    /// Refuses the token with these claims from now on, for a minute.
    pub fn suspend(&self, claims: &VerifiedClaims, now: Instant) {
        let mut state = self.lock();
        state.trim(now);
        let (key, until) = (key_of(claims), now + SUSPENSION);
        state.until.insert(key.clone(), until);
        state.order.push_back((until, key));
    }

    /// Whether the token with these claims is refused.
    #[must_use]
    pub fn covers(&self, claims: &VerifiedClaims, now: Instant) -> bool {
        let state = self.lock();
        !state.until.is_empty()
            && state
                .until
                .get(&key_of(claims))
                .is_some_and(|until| now < *until)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn trim(&mut self, now: Instant) {
        while self.order.len() >= MOST_TOKENS
            || self.order.front().is_some_and(|(until, _)| *until <= now)
        {
            let Some((until, key)) = self.order.pop_front() else {
                return;
            };
            // A token that was suspended again has a later entry.
            if self.until.get(&key) == Some(&until) {
                self.until.remove(&key);
            }
        }
    }
}

fn key_of(claims: &VerifiedClaims) -> Key {
    let id = claims.jti.clone().unwrap_or_else(|| claims.iat.to_string());
    (claims.iss.clone(), claims.sub.clone(), id)
}
