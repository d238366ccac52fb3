//! The table `attempt_counters`: attempts that all issuers on one PostgreSQL count together, unless they have a
//! Redis for it ([`crate::guard::shared`]). SQLite has one issuer, whose memory counts.
//!
//! A counter is the time at which it will be empty again, by the clock of the server (the generic cell rate
//! algorithm, as in [`crate::guard::limits`]). Statements lock rows in the order of their keys, so that two of them
//! never wait for each other.

use super::{
    Store, StoreError,
    database::{Pool, in_time},
};

/// A counter, and what one attempt adds to it.
#[derive(Clone, Copy, Debug)]
pub struct AttemptCounter {
    /// A keyed hash of what is counted.
    pub key: [u8; 32],
    /// Addition of one attempt, in milliseconds: the window divided by the number of attempts.
    pub step_ms: i64,
    /// The window, in milliseconds.
    pub window_ms: i64,
}

impl AttemptCounter {
    /// Returns the level of the counter when it is empty in so many milliseconds, or in a window if that is
    /// less.
    pub(crate) fn level(&self, empty_in_ms: i64) -> Level {
        // Redis may hold any number.
        let empty_in_ms = empty_in_ms.clamp(0, self.window_ms);
        Level {
            empty_in_ms,
            wait_ms: (empty_in_ms + self.step_ms - self.window_ms).max(0),
        }
    }
}

/// The level of a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// Time until the counter is empty, in milliseconds.
    pub empty_in_ms: i64,
    /// Time until one more attempt fits, in milliseconds; 0 when it fits now.
    pub wait_ms: i64,
}

/// Counts an attempt at each counter of `$1` that has room for it, and returns the level from before for
/// each that has none. The main query sees no row that the statement writes. A time that is further away than the
/// window comes from a longer window or another clock, and is brought back to the window.
const COUNT: &str = "\
    with now as materialized ( \
             select cast(extract(epoch from clock_timestamp()) * 1000 as bigint) as ms), \
         asked as materialized ( \
             select key, step, span, ms from now, unnest($1, $2, $3) as asked(key, step, span)), \
         counted as ( \
             insert into attempt_counters as counter (key, empty_at) \
             select key, ms + step from asked order by key \
             on conflict (key) do update set empty_at = least( \
                 greatest(counter.empty_at, (select ms from now)) \
                 + excluded.empty_at - (select ms from now), \
                 (select ms + span from asked where asked.key = excluded.key)) \
             where greatest(counter.empty_at, (select ms from now)) \
                   + excluded.empty_at - (select ms from now) \
                   <= (select ms + span from asked where asked.key = excluded.key) \
                or counter.empty_at > (select ms + span from asked where asked.key = excluded.key) \
             returning key) \
    select asked.key, greatest(coalesce(counter.empty_at - ms, 0), 0) \
    from asked left join attempt_counters as counter on counter.key = asked.key \
    where asked.key not in (select key from counted) or counter.empty_at > ms + span";

/// The time until each counter of `$1` is empty, in milliseconds.
const READ: &str = "\
    select key, greatest(empty_at - cast(extract(epoch from clock_timestamp()) * 1000 as bigint), 0) \
    from attempt_counters where key = any($1)";

/// Takes an attempt back from each counter of `$1`.
const GIVE_BACK: &str = "\
    with asked as (select key, step from unnest($1, $2) as asked(key, step)), \
         locked as materialized ( \
             select counter.key, step from attempt_counters as counter join asked using (key) \
             order by counter.key for update of counter) \
    update attempt_counters as counter set empty_at = empty_at - step \
    from locked where counter.key = locked.key";

impl Store {
    /// Returns whether several issuers may share this database, and their counters with it.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        matches!(self.writer, Pool::Postgres(_))
    }

    /// Counts an attempt at each of the counters that has room for it. Returns the counters that had none,
    /// by their place, and their levels. The count is in the database when this returns.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn count_attempts(
        &self,
        counters: &[AttemptCounter],
    ) -> Result<Vec<(usize, Level)>, StoreError> {
        let Pool::Postgres(pool) = &self.writer else {
            return Ok(Vec::new());
        };
        let (keys, steps, windows) = columns(counters);
        let full: Vec<(Vec<u8>, i64)> = in_time(async {
            let counting = sqlx::query_as(COUNT).bind(keys).bind(steps).bind(windows);
            Ok(counting.fetch_all(pool).await?)
        })
        .await?;
        let level = |(place, level): (usize, Level)| {
            // Attempts that another issuer counted meanwhile are missing in the rows that this statement saw.
            let wait_ms = level.wait_ms.max(1);
            (place, Level { wait_ms, ..level })
        };
        Ok(levels(counters, &full).into_iter().map(level).collect())
    }

    /// Returns the levels of the counters that are not empty, by their place. It only reads.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn read_attempts(
        &self,
        counters: &[AttemptCounter],
    ) -> Result<Vec<(usize, Level)>, StoreError> {
        let Pool::Postgres(pool) = &self.readers else {
            return Ok(Vec::new());
        };
        let (keys, ..) = columns(counters);
        let found: Vec<(Vec<u8>, i64)> = in_time(async {
            let reading = sqlx::query_as(READ).bind(keys);
            Ok(reading.fetch_all(pool).await?)
        })
        .await?;
        Ok(levels(counters, &found))
    }

    /// Takes an attempt back from each of the counters.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn give_attempts_back(&self, counters: &[AttemptCounter]) -> Result<(), StoreError> {
        let Pool::Postgres(pool) = &self.writer else {
            return Ok(());
        };
        let (keys, steps, _) = columns(counters);
        in_time(async {
            let giving = sqlx::query(GIVE_BACK).bind(keys).bind(steps);
            giving.execute(pool).await?;
            Ok(())
        })
        .await
    }

    /// Removes up to `most` counters that are empty, and returns how many. Counters that another
    /// transaction has locked are left to a later round.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn remove_empty_counters(&self, most: u64) -> Result<u64, StoreError> {
        let Pool::Postgres(pool) = &self.writer else {
            return Ok(0);
        };
        in_time(async {
            let removing = sqlx::query(
                "delete from attempt_counters where key = any(array( \
                     select key from attempt_counters \
                     where empty_at < cast(extract(epoch from clock_timestamp()) * 1000 as bigint) \
                     order by key limit $1 for update skip locked))",
            );
            let most = i64::try_from(most).unwrap_or(i64::MAX);
            Ok(removing.bind(most).execute(pool).await?.rows_affected())
        })
        .await
    }
}

/// Returns the keys, the steps and the windows of counters.
fn columns(counters: &[AttemptCounter]) -> (Vec<Vec<u8>>, Vec<i64>, Vec<i64>) {
    let keys = counters.iter().map(|counter| counter.key.to_vec());
    let steps = counters.iter().map(|counter| counter.step_ms);
    let windows = counters.iter().map(|counter| counter.window_ms);
    (keys.collect(), steps.collect(), windows.collect())
}

/// Returns the levels of the counters that were found, by their place.
fn levels(counters: &[AttemptCounter], found: &[(Vec<u8>, i64)]) -> Vec<(usize, Level)> {
    let level = |(place, counter): (usize, &AttemptCounter)| {
        let (_, empty_in_ms) = found.iter().find(|(key, _)| *key == counter.key)?;
        Some((place, counter.level(*empty_in_ms)))
    };
    counters.iter().enumerate().filter_map(level).collect()
}
