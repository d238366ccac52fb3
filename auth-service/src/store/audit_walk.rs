//! Verification of the audit chain, event by event.
//!
//! An event whose hash covers a detail that was erased is verified by the event `account_deleted` of the
//! same person, which has a hash of all that is left of such events. An event whose detail has only the
//! hash of what was erased is verified as it is. In both cases, nothing is missing unless the account was
//! deleted later in the chain.

use std::collections::HashMap;

use aws_lc_rs::digest::{Context, SHA256};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use super::{
    Store, StoreError,
    audit::{BEGINNING, PERSONAL, StoredEvent, add_fields},
    database::on_pool,
    event::ACCOUNT_DELETED,
};

/// Number of events that are read at a time.
const PAGE: i64 = 1_000;

/// The member that takes the place of a detail that was erased, with the id of the account; and of the
/// detail of `account_deleted`, with the [`Seal`] of these events.
pub(super) const ERASED: &str = "erased";

/// The hash of what is left of events whose details were erased, in the order of their numbers.
pub(super) struct Seal(Context);

impl Default for Seal {
    fn default() -> Self {
        Self(Context::new(&SHA256))
    }
}

impl Seal {
    /// Adds what is left of an event.
    pub(super) fn add(&mut self, event: &StoredEvent) {
        let fields = [
            Some(&event.number.to_be_bytes()[..]),
            Some(&event.at.to_be_bytes()),
            Some(event.event.as_bytes()),
            event.user_id.as_deref().map(str::as_bytes),
            event.session_id.as_deref().map(str::as_bytes),
            Some(&event.hash),
        ];
        add_fields(&mut self.0, &fields);
    }

    /// The hash, in base64url.
    pub(super) fn text(self) -> String {
        URL_SAFE_NO_PAD.encode(self.0.finish())
    }
}

/// The part of the events about one account that was erased.
struct Erased {
    /// The number of the first of them.
    first: i64,
    /// Of those whose whole detail was erased: the number of the first, and the seal of all.
    sealed: Option<(i64, Seal)>,
}

/// The state of a verification after some events.
struct Walk {
    count: i64,
    last: Vec<u8>,
    /// By account, until its deletion.
    erased: HashMap<String, Erased>,
}

impl Default for Walk {
    fn default() -> Self {
        Self {
            count: 0,
            last: BEGINNING.to_vec(),
            erased: HashMap::new(),
        }
    }
}

impl Walk {
    /// Verifies the next event.
    ///
    /// # Errors
    ///
    /// The number of the event that is wrong.
    fn step(&mut self, event: &StoredEvent) -> Result<(), i64> {
        let sealed_for = event
            .member(ERASED)
            .filter(|_| event.event != ACCOUNT_DELETED);
        let is_next = event.number == self.count + 1 && event.previous == self.last;
        let is_intact = sealed_for.is_some() || event.hash == event.hash_after(&self.last);
        if !is_next || !is_intact || !event.is_personal_unchanged() {
            return Err(event.number);
        }
        if let Some(account) = sealed_for {
            let erased = self.erased(account, event.number);
            let first = (event.number, Seal::default());
            erased.sealed.get_or_insert(first).1.add(event);
        } else if event.personal.is_none() && event.member(PERSONAL).is_some() {
            let account = event.user_id.clone().unwrap_or_default();
            self.erased(account, event.number);
        }
        if event.event == ACCOUNT_DELETED {
            self.finish_account(event)?;
        }
        self.count = event.number;
        self.last.clone_from(&event.hash);
        Ok(())
    }

    fn erased(&mut self, account: String, number: i64) -> &mut Erased {
        self.erased.entry(account).or_insert(Erased {
            first: number,
            sealed: None,
        })
    }

    /// Verifies what is left of the events about an account by its deletion.
    fn finish_account(&mut self, deleted: &StoredEvent) -> Result<(), i64> {
        let account = deleted.user_id.as_deref().unwrap_or_default();
        let sealed = self.erased.remove(account).and_then(|erased| erased.sealed);
        let (first, seal) = match sealed {
            Some((first, seal)) => (first, Some(seal.text())),
            None => (deleted.number, None),
        };
        (seal == deleted.member(ERASED)).then_some(()).ok_or(first)
    }

    /// The number of events, when nothing is missing of them.
    ///
    /// # Errors
    ///
    /// The number of the first event of which something was erased, though its account is not deleted.
    fn end(self) -> Result<i64, i64> {
        let first = self.erased.values().map(|erased| erased.first).min();
        first.map_or(Ok(self.count), Err)
    }
}

impl Store {
    /// Walks the whole chain: how many events there are, or the number of the first that was
    /// changed, that follows one which was removed, or of which something was erased though the account
    /// was not deleted.
    ///
    /// Somebody who can write the table can also write a new chain, or cut the last events off: compare
    /// the newest event with one that was kept elsewhere.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn check_events(&self) -> Result<Result<i64, i64>, StoreError> {
        let mut walk = Walk::default();
        loop {
            let page: Vec<StoredEvent> = on_pool!(&self.readers, |pool| {
                sqlx::query_as(
                "select number, at, event, user_id, session_id, detail, previous, hash, personal \
                 from audit_events where number > $1 order by number limit $2",
            )
            .bind(walk.count)
            .bind(PAGE)
            .fetch_all(pool)
            .await?
            });
            if page.is_empty() {
                return Ok(walk.end());
            }
            for event in &page {
                if let Err(number) = walk.step(event) {
                    return Ok(Err(number));
                }
            }
        }
    }
}
