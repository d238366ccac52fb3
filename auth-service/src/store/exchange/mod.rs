//! A group commit for refreshes on SQLite: all refresh tokens that are presented at the same time are
//! exchanged in one transaction.
//!
//! It exchanges unspent tokens only. [`Store::rotate_refresh_token`] decides about a spent one.
//! A token is exchanged only if the writer finds it unspent inside of the transaction.

mod statements;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize, Serializer};
use shared_claims::authorization::AuthorizationDetail;
use tokio::sync::oneshot;

pub(super) use self::statements::{EXCHANGE, FIND};
use super::{
    Account, Session, Store, StoreError,
    database::{Pool, in_time, on_transaction},
    grants,
};
use crate::vault::Hash;

/// Maximum number of refreshes that wait. Further ones fail with [`StoreError::QueueFull`].
const MAXIMUM_WAITING: usize = 1024;

/// Maximum number of refreshes in one transaction. It bounds the time that other writers wait.
const MAXIMUM_BATCH: usize = 256;

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

/// The refreshes that wait for the next batch. Clones share the queue.
#[derive(Clone, Debug, Default)]
pub(super) struct ExchangeQueue(Arc<Mutex<Waiting>>);

#[derive(Debug, Default)]
struct Waiting {
    requests: VecDeque<Request>,
    /// A [`Runner`] exists, and takes what waits.
    is_running: bool,
}

#[derive(Debug)]
struct Request {
    exchange: Exchange,
    answer: oneshot::Sender<Result<Exchanged, StoreError>>,
}

/// The one task that takes batches from the queue. If the task ends early, by a panic or with its
/// runtime, all waiting requests fail and the next request starts another task.
struct Runner {
    queue: ExchangeQueue,
    is_done: bool,
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

impl Store {
    /// Exchanges an unspent refresh token for its successor, together with all other tokens that are
    /// presented at the same time. A refused token costs no write.
    ///
    /// If the future is dropped, the token may be exchanged all the same.
    ///
    /// # Errors
    ///
    /// When the database fails, which fails all tokens of a batch, or too many requests wait.
    pub async fn exchange_refresh_token(
        &self,
        exchange: Exchange,
    ) -> Result<Exchanged, StoreError> {
        if matches!(self.writer, Pool::Postgres(_)) {
            return Ok(Exchanged::Undecided);
        }
        let (answer, answered) = oneshot::channel();
        if let Some(runner) = self.exchanges.push(Request { exchange, answer })? {
            tokio::spawn(run(self.clone(), runner));
        }
        // The task ended without an answer.
        let lost = |_| Err(sqlx::Error::WorkerCrashed.into());
        answered.await.unwrap_or_else(lost)
    }

    /// Exchanges the tokens of one batch and answers each request.
    async fn exchange_batch(&self, batch: Vec<Request>) {
        let mut found = match self.find_presented(&batch).await {
            Ok(found) => found,
            Err(error) => return fail(batch, error),
        };
        let (mut unspent, mut outcomes) = (Vec::new(), Vec::new());
        for (place, request) in batch.into_iter().enumerate() {
            match found.remove(&place) {
                None => request.answer(Ok(Exchanged::Refused)),
                Some(found) if found.spent_at.is_some() => {
                    request.answer(Ok(Exchanged::Undecided));
                }
                Some(found) => {
                    unspent.push(request);
                    outcomes.push(found);
                }
            }
        }
        if unspent.is_empty() {
            return;
        }
        let exchanged = match self.exchange_unspent(&unspent).await {
            Ok(exchanged) => exchanged,
            Err(error) => return fail(unspent, error),
        };
        for (place, (request, found)) in unspent.into_iter().zip(outcomes).enumerate() {
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
            let query = sqlx::query_scalar(FIND).bind(items);
            Ok(query.fetch_one(readers).await?)
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

/// Exchanges batches until no request waits.
async fn run(store: Store, mut runner: Runner) {
    loop {
        // Requests that the event loop reads in the same turn join the batch. After a batch, these are
        // also the next requests of the clients that were answered: otherwise two halves of the
        // clients would take turns for ever.
        tokio::task::yield_now().await;
        let Some((batch, repeated)) = runner.next_batch() else {
            return;
        };
        store.exchange_batch(batch).await;
        for request in repeated {
            request.answer(Ok(Exchanged::Undecided));
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

impl ExchangeQueue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a request, and returns a runner to start unless one exists.
    fn push(&self, request: Request) -> Result<Option<Runner>, StoreError> {
        let mut waiting = self.lock();
        if waiting.requests.len() >= MAXIMUM_WAITING {
            return Err(StoreError::QueueFull);
        }
        waiting.requests.push_back(request);
        let is_running = mem::replace(&mut waiting.is_running, true);
        Ok((!is_running).then(|| Runner {
            queue: self.clone(),
            is_done: false,
        }))
    }
}

impl Runner {
    /// Returns the next batch and the requests that repeat one of its tokens, or `None` when no request
    /// waits; then the next request needs another runner. Repeated requests are undecided after the
    /// batch, so that one token cannot fill the queue.
    fn next_batch(&mut self) -> Option<(Vec<Request>, Vec<Request>)> {
        let mut waiting = self.queue.lock();
        if waiting.requests.is_empty() {
            waiting.is_running = false;
            self.is_done = true;
            return None;
        }
        let (mut batch, mut repeated, mut later) = (Vec::new(), Vec::new(), VecDeque::new());
        let mut presented = HashSet::new();
        for request in mem::take(&mut waiting.requests) {
            if request.answer.is_closed() {
                continue;
            }
            if presented.contains(&request.exchange.presented) {
                repeated.push(request);
            } else if batch.len() < MAXIMUM_BATCH {
                presented.insert(request.exchange.presented);
                batch.push(request);
            } else {
                later.push_back(request);
            }
        }
        waiting.requests = later;
        Some((batch, repeated))
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        if self.is_done {
            return;
        }
        let mut waiting = self.queue.lock();
        waiting.is_running = false;
        let abandoned = mem::take(&mut waiting.requests);
        drop(waiting);
        // Requests whose sender is dropped fail.
        drop(abandoned);
    }
}

impl Request {
    /// Sends the outcome, unless the client has left meanwhile.
    fn answer(self, outcome: Result<Exchanged, StoreError>) {
        let _ = self.answer.send(outcome);
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
