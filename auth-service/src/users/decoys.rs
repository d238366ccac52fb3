//! Hashes to compare the password of an unknown name with.
//!
//! Hashes of other systems take another time than ours. If every unknown name took the time of ours, any
//! other time would show that a name exists. Therefore unknown names have the schemes of the accounts, in
//! the same shares, and each name always the same scheme, as an account has it.

use arc_swap::ArcSwap;

use crate::{
    credentials::{hash::StoredHash, schemes},
    store::Store,
};

/// The most schemes that are told apart, the most frequent first.
const MAXIMUM_SCHEMES: usize = 32;

/// Hashes that are no password's, by the share of the accounts that have such a hash.
#[derive(Default)]
pub(super) struct Decoys(ArcSwap<Vec<Decoy>>);

struct Decoy {
    scheme: String,
    /// Draws below this one, and not below that of the decoy before, have it.
    end: u64,
    hash: StoredHash,
}

impl Decoys {
    /// Returns what stands for the hash of an unknown name: `draw` is evenly distributed over the names,
    /// and the same each time for one name. `None` stands for a hash of ours.
    pub(super) fn choose(&self, draw: u64) -> Option<StoredHash> {
        let decoys = self.0.load();
        let chosen = decoys.iter().find(|decoy| draw < decoy.end);
        chosen.map(|decoy| decoy.hash.clone())
    }

    /// Counts the schemes of the accounts again.
    ///
    /// # Errors
    ///
    /// When the database or the source of randomness fails.
    pub(super) async fn refresh(&self, store: &Store) -> anyhow::Result<()> {
        let mut counts = store.count_hash_schemes().await?;
        let known = self.0.load();
        if counts.is_empty() && known.is_empty() {
            return Ok(());
        }
        let total = store.count_accounts().await?.max(1);
        counts.truncate(MAXIMUM_SCHEMES);
        // By name: a share that shrinks moves as few names as it can to another foreign scheme.
        counts.sort();
        let (mut before, mut decoys) = (0_i64, Vec::with_capacity(counts.len()));
        for (scheme, count) in counts {
            before = before.saturating_add(count);
            let same = known.iter().find(|decoy| decoy.scheme == scheme);
            let hash = match same {
                Some(decoy) => decoy.hash.clone(),
                None => schemes::decoy_of(&scheme)?,
            };
            decoys.push(Decoy {
                end: share(before, total),
                scheme,
                hash,
            });
        }
        self.0.store(decoys.into());
        Ok(())
    }
}

/// Returns the part of all draws that `count` of `total` is.
fn share(count: i64, total: i64) -> u64 {
    let (count, total) = (i128::from(count.max(0)), i128::from(total.max(1)));
    let part = count * i128::from(u64::MAX) / total;
    u64::try_from(part).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_the_names_has_a_scheme_as_a_share_of_the_accounts_has() {
        let decoy = |scheme: &str, end| Decoy {
            scheme: scheme.to_owned(),
            end,
            hash: schemes::decoy_of(scheme).expect("a decoy"),
        };
        let decoys = Decoys::default();
        assert!(decoys.choose(0).is_none());
        let half = decoy("bcrypt:12", share(1, 2));
        let quarter = decoy("pbkdf2-sha256:100000", share(3, 4));
        decoys.0.store(vec![half, quarter].into());
        let chosen = |draw: u64| decoys.choose(draw).map(|hash| hash.as_str().to_owned());
        for (draw, start) in [
            (0, "$2b$12$"),
            (u64::MAX / 2 - 1, "$2b$12$"),
            (u64::MAX / 2 + 1, "$pbkdf2-sha256$i=100000$"),
            (u64::MAX / 4 * 3 - 1, "$pbkdf2-sha256$i=100000$"),
        ] {
            let hash = chosen(draw).expect("a decoy");
            assert!(hash.starts_with(start), "{draw}: {hash}");
            assert_eq!(chosen(draw).as_ref(), Some(&hash));
        }
        assert_eq!(chosen(u64::MAX / 4 * 3 + 8), None);
        assert_eq!(chosen(u64::MAX), None);
    }
}
