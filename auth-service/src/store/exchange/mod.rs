//! A group commit for refreshes on SQLite: all refresh tokens that are presented at the same time are
//! exchanged in one transaction.
//!
//! The queue exchanges unspent tokens only. [`Store::rotate_refresh_token`] decides about a spent one.
//! A token is exchanged only if the writer finds it unspent inside of the transaction.

pub(super) mod queue;
mod statements;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use serde::{Deserialize, Serialize, Serializer};
use shared_claims::authorization::AuthorizationDetail;
use tokio::runtime::Handle;

use self::queue::{Request, Runner};
pub(super) use self::{
    queue::ExchangeQueue,
    statements::{EXCHANGE, FIND},
};
use super::{
    Account, Session, Store, StoreError,
    database::{Pool, in_time, on_transaction},
    grants,
};
use crate::vault::Hash;

/// A refresh token that a client presents, and its successor.
#[derive(Debug, Serialize)]
pub struct Exchange {
    /// The hash of the token.
    #[serde(serialize_with = "as_hex")]
    pub presented: Hash,
    /// The hash of the token's successor of generation 0, derived from the current key.
    #[serde(serialize_with = "as_hex")]
    pub successor: Hash,
    /// The client that presents the token.
    pub client_id: String,
    /// The address that the token comes from.
    pub address: String,
    /// Idle timeout of a session, in seconds.
    pub idle_secs: i64,
    /// The time of the request, in seconds since the epoch.
    pub now: i64,
    /// Expiry of an access token that is signed now, in seconds since the epoch.
    pub token_expires_at: i64,
}

/// The outcome of an [`Exchange`].
#[derive(Debug)]
pub enum Exchanged {
    /// The token was exchanged for its successor.
    Done(Box<ExchangedFor>),
    /// The token is unknown, expired, or another client's, its session has ended, or its account is
    /// disabled.
    Refused,
    /// The token was spent before, is presented twice at once, or changed between the lookup and the
    /// write; or the database is PostgreSQL, which itself commits several transactions at once.
    /// [`Store::rotate_refresh_token`] decides about the token.
    Undecided,
}

/// The data for the access token of a session that was refreshed.
#[derive(Debug)]
pub struct ExchangedFor {
    /// The session.
    pub session: Session,
    /// The owner of the session.
    pub account: Account,
    /// The grants of the owner, by room.
    pub grants: Vec<AuthorizationDetail>,
}

/// A token of a batch as the reader found it.
#[derive(Deserialize)]
struct Found {
    place: usize,
    spent_at: Option<i64>,
    session: Session,
    account: Account,
    /// Rooms and actions, as in the table.
    grants: Vec<(String, String)>,
}

/// The requests of a batch whose tokens the reader found unspent.
#[derive(Default)]
pub(super) struct Unspent {
    requests: Vec<Request>,
    /// The token of each request.
    found: Vec<Found>,
}

impl Store {
    /// Exchanges an unspent refresh token for its successor, together with all other tokens that are
    /// presented at the same time. A refused token costs no write.
    ///
    /// If the future is dropped, the token may be exchanged all the same.
    ///
    /// # Errors
    ///
    /// When the database fails, which fails all tokens of a batch, when too many requests wait, or when
    /// no batch takes the token within two seconds.
    pub async fn exchange_refresh_token(
        &self,
        exchange: Exchange,
    ) -> Result<Exchanged, StoreError> {
        if matches!(self.writer, Pool::Postgres(_)) {
            return Ok(Exchanged::Undecided);
        }
        let (pending, runner) = self.exchanges.push(exchange)?;
        if let Some(runner) = runner {
            // On the worker of the caller: its next requests join the batches without a switch of
            // threads.
            tokio::spawn(Run::new(self, runner).finish());
        }
        pending.outcome().await
    }

    /// Looks the tokens of a batch up, and answers the requests that exchange nothing.
    pub(super) async fn find_batch(&self, batch: Vec<Request>) -> Unspent {
        let mut unspent = Unspent::default();
        let mut found = match self.find_presented(&batch).await {
            Ok(found) => found,
            Err(error) => {
                fail(batch, error);
                return unspent;
            }
        };
        for (place, request) in batch.into_iter().enumerate() {
            match found.remove(&place) {
                None => request.answer(Ok(Exchanged::Refused)),
                Some(found) if found.spent_at.is_some() => {
                    request.answer(Ok(Exchanged::Undecided));
                }
                Some(found) => {
                    unspent.requests.push(request);
                    unspent.found.push(found);
                }
            }
        }
        unspent
    }

    /// Exchanges the tokens that the lookup found unspent, and answers their requests.
    pub(super) async fn exchange_batch(&self, unspent: Unspent) {
        let Unspent { requests, found } = unspent;
        if requests.is_empty() {
            return;
        }
        let exchanged = match self.exchange_unspent(&requests).await {
            Ok(exchanged) => exchanged,
            Err(error) => return fail(requests, error),
        };
        for (place, (request, found)) in requests.into_iter().zip(found).enumerate() {
            request.answer(Ok(match exchanged.contains(&place) {
                true => Exchanged::Done(Box::new(found.into())),
                false => Exchanged::Undecided,
            }));
        }
    }

    /// Looks the tokens of a batch up, by their place in it. Those that are refused are missing.
    async fn find_presented(&self, batch: &[Request]) -> Result<HashMap<usize, Found>, StoreError> {
        let Pool::Sqlite(readers) = &self.readers else {
            return Ok(HashMap::new());
        };
        let items = to_json(batch)?;
        let found: String = in_time(async {
            let mut lent = readers.lend().await?;
            let query = sqlx::query_scalar(FIND).bind(items);
            let found = query.fetch_one(&mut lent.connection).await?;
            lent.settle();
            Ok(found)
        })
        .await?;
        let found: Vec<Found> = from_json(&found)?;
        Ok(found
            .into_iter()
            .map(|found| (found.place, found))
            .collect())
    }

    /// Exchanges those tokens of a batch that are still accepted, and returns their places in it.
    async fn exchange_unspent(&self, batch: &[Request]) -> Result<HashSet<usize>, StoreError> {
        let items = to_json(batch)?;
        let mut transaction = self.begin().await?;
        // All rows, though there is one: a query that wants one row stops after it, and leaves the
        // statements behind it out.
        let places: Vec<String> = on_transaction!(&mut transaction, |connection| {
            sqlx::query_scalar(EXCHANGE)
                .bind(items)
                .fetch_all(connection)
                .await?
        });
        transaction.commit().await?;
        let places = places.first().map(String::as_str).unwrap_or("[]");
        from_json(places)
    }
}

/// The exchange of batches until no request waits. If it is dropped with the runtime of its worker, the
/// batch at hand fails, and the runtime that opened the store exchanges the others.
struct Run {
    store: Store,
    /// `None` once no request waits.
    runner: Option<Runner>,
    /// The runtime that goes on after a drop; `None` once it has.
    next_runtime: Option<Handle>,
}

impl Run {
    fn new(store: &Store, runner: Runner) -> Self {
        Self {
            store: store.clone(),
            runner: Some(runner),
            next_runtime: Some(store.runtime.clone()),
        }
    }

    async fn finish(mut self) {
        loop {
            // Requests that the event loop reads in the same turn join the batch. After a batch, these are
            // also the next requests of the clients that were answered: otherwise two halves of the
            // clients would take turns for ever.
            tokio::task::yield_now().await;
            let Some(batch) = self.runner.as_mut().and_then(Runner::next_batch) else {
                self.runner = None;
                return;
            };
            let unspent = self.store.find_batch(batch.requests).await;
            self.store.exchange_batch(unspent).await;
            for request in batch.repeated {
                request.answer(Ok(Exchanged::Undecided));
            }
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // After a panic the waiting requests fail: the next ones could meet the same fault.
        if let Some(runtime) = self.next_runtime.take()
            && let Some(runner) = self.runner.take()
            && !std::thread::panicking()
        {
            let next = Self {
                store: self.store.clone(),
                runner: Some(runner),
                next_runtime: None,
            };
            runtime.spawn(next.finish());
        }
    }
}

/// Fails all requests of a batch for the same reason.
fn fail(batch: Vec<Request>, error: StoreError) {
    let error = Arc::new(error);
    for request in batch {
        request.answer(Err(StoreError::Batch(Arc::clone(&error))));
    }
}

impl From<Found> for ExchangedFor {
    fn from(found: Found) -> Self {
        Self {
            session: found.session,
            account: found.account,
            grants: grants::details(found.grants),
        }
    }
}

fn as_hex<S: Serializer>(hash: &Hash, serializer: S) -> Result<S::Ok, S::Error> {
    let digits = hash
        .as_bytes()
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15]);
    let text: String = digits
        .filter_map(|digit| char::from_digit(digit.into(), 16))
        .collect();
    serializer.serialize_str(&text)
}

fn to_json(batch: &[Request]) -> Result<String, StoreError> {
    let items: Vec<&Exchange> = batch.iter().map(|request| &request.exchange).collect();
    serde_json::to_string(&items).map_err(|error| sqlx::Error::Encode(error.into()).into())
}

fn from_json<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|error| sqlx::Error::Decode(error.into()).into())
}
