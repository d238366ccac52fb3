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
pub(super) struct SuspendedTokens(Mutex<State>);

#[derive(Default)]
struct State {
    until: HashMap<Key, Instant>,
    order: VecDeque<(Instant, Key)>,
}

impl SuspendedTokens {
    /// Refuses the token with these claims from now on, for a minute.
    pub(super) fn suspend(&self, claims: &VerifiedClaims, now: Instant) {
        let mut state = self.lock();
        state.trim(now);
        let (key, until) = (key_of(claims), now + SUSPENSION);
        state.until.insert(key.clone(), until);
        state.order.push_back((until, key));
    }

    /// Whether the token with these claims is refused.
    pub(super) fn covers(&self, claims: &VerifiedClaims, now: Instant) -> bool {
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::auth::policy::tests::claims;

    #[test]
    fn a_token_is_refused_for_a_minute_and_no_other_token_is() {
        let (suspended, start) = (SuspendedTokens::default(), Instant::now());
        let token = claims(json!({"jti": "one"}));
        let others = [
            claims(json!({"jti": "two"})),
            claims(json!({"jti": "one", "sub": "bob"})),
            claims(json!({"jti": "one", "iss": "https://other.example"})),
        ];
        assert!(!suspended.covers(&token, start));
        suspended.suspend(&token, start);
        let last = start + SUSPENSION - Duration::from_millis(1);
        assert!(suspended.covers(&token, last));
        assert!(!suspended.covers(&token, start + SUSPENSION));
        assert!(others.iter().all(|other| !suspended.covers(other, last)));
    }

    #[test]
    fn a_token_that_is_suspended_again_is_refused_for_a_minute_from_then_on() {
        let (suspended, start) = (SuspendedTokens::default(), Instant::now());
        let token = claims(json!({}));
        suspended.suspend(&token, start);
        suspended.suspend(&token, start + SUSPENSION / 2);
        // The first entry is trimmed, and the second stays.
        suspended.suspend(&claims(json!({"jti": "two"})), start + SUSPENSION);
        assert!(suspended.covers(&token, start + SUSPENSION));
        assert!(!suspended.covers(&token, start + SUSPENSION / 2 * 3));
    }

    #[test]
    fn the_oldest_token_makes_room_when_there_are_too_many() {
        let (suspended, now) = (SuspendedTokens::default(), Instant::now());
        let numbered = |number: usize| (String::new(), String::new(), number.to_string());
        let mut state = suspended.lock();
        for number in 0..MOST_TOKENS {
            state.until.insert(numbered(number), now + SUSPENSION);
            state.order.push_back((now + SUSPENSION, numbered(number)));
        }
        drop(state);
        let token = claims(json!({}));
        suspended.suspend(&token, now);
        assert!(suspended.covers(&token, now));
        let state = suspended.lock();
        let lengths = (state.until.len(), state.order.len());
        assert_eq!(lengths, (MOST_TOKENS, MOST_TOKENS));
        assert!(!state.until.contains_key(&numbered(0)));
        assert!(state.until.contains_key(&numbered(1)));
    }
}
