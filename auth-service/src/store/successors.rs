//! Finds the successor of a spent refresh token, which decides whether a second use is a retry or a copy. The
//! module [`super::refresh_tokens`] decides what follows.

use super::{
    Store, StoreError,
    database::{on_pool, on_transaction},
    transaction::Transaction,
};
use crate::vault::Hash;

impl Store {
    /// Returns whether a spent token has an unused successor, for the case that the successor was derived from a
    /// secret that has been removed: the table holds none of the successors under our keys.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn has_unused_successor(
        &self,
        spent: &Hash,
        session_id: &str,
    ) -> Result<bool, StoreError> {
        let used_at: Option<Option<i64>> = on_pool!(&self.readers, |pool| sqlx::query_scalar(
            "select used_at from refresh_tokens where hash = $1",
        )
        .bind(spent.as_bytes())
        .fetch_optional(pool)
        .await?);
        let Some(used_at) = used_at.flatten() else {
            return Ok(false);
        };
        let issued: Vec<(Vec<u8>, i64, bool)> =
            on_pool!(&self.readers, |pool| sqlx::query_as(ISSUED_BY_USE)
                .bind(session_id)
                .bind(used_at)
                .bind(spent.as_bytes())
                .fetch_all(pool)
                .await?);
        Ok(matches!(&issued[..], [(_, _, false)]))
    }
}

/// A refresh token that was used.
pub(super) struct SpentToken<'a> {
    /// The hash of the token.
    pub(super) hash: &'a Hash,
    /// The session of the token.
    pub(super) session_id: &'a str,
    /// When the token was used last, in seconds since the epoch.
    pub(super) used_at: i64,
}

/// The unused successor of a spent token.
pub(super) struct Successor {
    /// The hash of the successor.
    pub(super) hash: Hash,
    /// The index among the derived hashes. `None` if the successor was derived from a secret that has been
    /// removed.
    pub(super) index: Option<usize>,
    /// When the successor expires, in seconds since the epoch.
    pub(super) expires_at: i64,
}

/// Returns the successor of a spent token, or `None` when the successor was used or replaced. The `derived`
/// hashes are those of the successor under each of our keys.
pub(super) async fn find_successor(
    transaction: &mut Transaction,
    spent: &SpentToken<'_>,
    derived: &[Hash],
) -> Result<Option<Successor>, StoreError> {
    for (index, hash) in derived.iter().enumerate() {
        match find_state(transaction, hash).await? {
            Some((expires_at, false)) => {
                return Ok(Some(Successor {
                    hash: *hash,
                    index: Some(index),
                    expires_at,
                }));
            }
            Some((_, true)) => return Ok(None),
            None => {}
        }
    }
    let issued: Vec<(Vec<u8>, i64, bool)> = on_transaction!(transaction, |connection| {
        sqlx::query_as(ISSUED_BY_USE)
            .bind(spent.session_id)
            .bind(spent.used_at)
            .bind(spent.hash.as_bytes())
            .fetch_all(connection)
            .await?
    });
    Ok(match &issued[..] {
        [(hash, expires_at, false)] => Hash::from_bytes(hash).map(|hash| Successor {
            hash,
            index: None,
            expires_at: *expires_at,
        }),
        _ => None,
    })
}

/// Statement that returns up to two tokens of the session `$1` that were issued at `$2` or later, when the
/// token `$3` was used, and whether they were used.
///
/// A use issues one token, and the next token of the session is issued by a use of that one. So the token
/// that the use at `$2` issued is still unused exactly if the statement returns one row, of an unused token.
///
/// The statement returns no row if the token `$3` was replaced at `$2`: it was never exchanged. The token
/// whose retry caused the replacement has the same time of use, and `reissues > 0`.
const ISSUED_BY_USE: &str = "\
    select hash, expires_at, used_at is not null from refresh_tokens \
    where session_id = $1 and issued_at >= $2 and hash <> $3 \
          and not exists (select 1 from refresh_tokens as origin \
                          where origin.session_id = $1 and origin.reissues > 0 \
                                and origin.used_at = $2 and origin.hash <> $3) \
    limit 2";

/// Returns when a refresh token expires, and whether it was used; `None` when nobody has it.
async fn find_state(
    transaction: &mut Transaction,
    hash: &Hash,
) -> Result<Option<(i64, bool)>, StoreError> {
    Ok(on_transaction!(transaction, |connection| {
        sqlx::query_as("select expires_at, used_at is not null from refresh_tokens where hash = $1")
            .bind(hash.as_bytes())
            .fetch_optional(connection)
            .await?
    }))
}
