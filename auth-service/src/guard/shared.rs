//! The counters that issuers share: in Redis when the settings name one, else in PostgreSQL. While Redis is
//! away, PostgreSQL counts; with SQLite the process counts alone then.

use super::redis::RedisCounters;
use crate::{
    metrics::Metrics,
    store::{AttemptCounter, Level, Store, StoreError},
};

/// The counters that issuers share.
#[derive(Clone)]
pub(crate) struct SharedCounters<'a> {
    /// Redis, if the settings name one.
    pub(crate) redis: Option<&'a RedisCounters>,
    /// The database.
    pub(crate) store: &'a Store,
    /// The count of requests to Redis.
    pub(crate) metrics: &'a Metrics,
}

/// Place in which an attempt was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Home {
    /// Redis.
    Redis,
    /// The database.
    Store,
}

impl SharedCounters<'_> {
    /// Returns whether anything counts besides the process.
    pub(crate) fn are_on(&self) -> bool {
        self.redis.is_some() || self.store.is_shared()
    }

    /// Counts an attempt at each of the counters that has room for it. Returns where, and the counters that
    /// had none, by their place, with their levels.
    ///
    /// # Errors
    ///
    /// When the database counts and fails.
    pub(crate) async fn count(
        &self,
        counters: &[AttemptCounter],
    ) -> Result<(Home, Vec<(usize, Level)>), StoreError> {
        if let Some(redis) = self.redis
            && let Ok(full) = redis.count(counters, self.metrics).await
        {
            return Ok((Home::Redis, full));
        }
        Ok((Home::Store, self.store.count_attempts(counters).await?))
    }

    /// Returns the levels of the counters that are not empty, by their place.
    ///
    /// # Errors
    ///
    /// When the database counts and fails.
    pub(crate) async fn read(
        &self,
        counters: &[AttemptCounter],
    ) -> Result<Vec<(usize, Level)>, StoreError> {
        if let Some(redis) = self.redis
            && let Ok(levels) = redis.read(counters, self.metrics).await
        {
            return Ok(levels);
        }
        self.store.read_attempts(counters).await
    }

    /// Takes an attempt back from each of the counters, where it was counted: anywhere else it would undo
    /// another one. A place that fails keeps the attempt, which costs its owner one of a window.
    pub(crate) async fn give_back(&self, home: Home, counters: &[AttemptCounter]) {
        match (home, self.redis) {
            (Home::Redis, Some(redis)) => {
                // The loss of the connection has its own line in the log.
                let _ = redis.give_back(counters, self.metrics).await;
            }
            _ => {
                if let Err(error) = self.store.give_attempts_back(counters).await {
                    tracing::warn!("an attempt cannot be taken back: {}", error.story());
                }
            }
        }
    }
}
