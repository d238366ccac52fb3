//! Requests of one gateway to all others, and their answers. What a request asks for is the business of
//! whoever sends it.
//!
//! A request reaches a gateway at most once. A gateway that does not answer in time is named, and may
//! have carried the request out.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use redis::{Script, cmd};
use tokio::{sync::oneshot, time::timeout};

use super::{Cluster, Listener};
use crate::{
    ids::random_id,
    limits::{Budget, Charge},
};

/// Sends a request to the gateways that may be alive.
static ASK: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("ask.lua")));

/// Maximum number of requests of this gateway whose answers are awaited.
const MAXIMUM_ASKED: usize = 1024;

/// Maximum size of an answer, in bytes.
pub const MAXIMUM_ANSWER_BYTES: usize = 1024 * 1024;

/// Maximum size of all answers that wait to be read, and of all requests of others that are carried out.
const HELD_BYTES: usize = 64 * 1024 * 1024;

/// The memory that a request of another gateway takes besides its bytes, in bytes.
const REQUEST_BYTES: usize = 16 * 1024;

/// The requests of this gateway that are not answered yet.
pub(super) struct Requests {
    asked: Mutex<HashMap<String, Asked>>,
    answers: Arc<Budget>,
    carried_out: Arc<Budget>,
}

impl Default for Requests {
    fn default() -> Self {
        Self {
            asked: Mutex::default(),
            answers: Budget::new(HELD_BYTES),
            carried_out: Budget::new(HELD_BYTES),
        }
    }
}

/// A request that is not answered yet.
#[derive(Default)]
struct Asked {
    /// The names of the gateways that should answer, once they are known.
    expected: Option<Vec<String>>,
    answers: Vec<(String, Answer)>,
    done: Option<oneshot::Sender<()>>,
}

/// An answer, or nothing from a gateway that could not give one.
type Answer = Option<(Vec<u8>, Charge)>;

/// Answers of other gateways to one request.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Replies {
    /// The answers, in no order.
    pub answers: Vec<Vec<u8>>,
    /// The names of the gateways that should have answered and did not.
    pub missing: Vec<String>,
    /// Number of gateways that were asked.
    pub asked: usize,
    /// Whether an answer may be missing.
    pub is_partial: bool,
}

/// Carries out requests of other gateways.
pub trait Handler: Send + Sync + 'static {
    /// Carries a request out, and returns the answer; `None` when that is not possible.
    fn handle(&self, request: Vec<u8>) -> impl Future<Output = Option<Vec<u8>>> + Send;
}

/// Takes the requests of other gateways.
struct Inbox<H> {
    cluster: Weak<Cluster>,
    handler: Arc<H>,
}

/// Takes the answers of other gateways.
struct Outcomes(Weak<Cluster>);

/// A request while its answers are awaited, also if whoever waits gives up.
struct Ticket<'a> {
    requests: &'a Requests,
    text: String,
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.requests.asked().remove(&self.text);
    }
}

impl Requests {
    fn begin(&self) -> Option<(Ticket<'_>, oneshot::Receiver<()>)> {
        let mut asked = self.asked();
        if asked.len() >= MAXIMUM_ASKED {
            return None;
        }
        let (done, all) = oneshot::channel();
        let text = random_id();
        let entry = Asked {
            done: Some(done),
            ..Asked::default()
        };
        asked.insert(text.clone(), entry);
        drop(asked);
        let requests = self;
        Some((Ticket { requests, text }, all))
    }

    /// Changes what is known of a request, and tells whoever waits when all gateways have answered.
    fn settle(&self, ticket: &str, change: impl FnOnce(&mut Asked)) {
        let mut asked = self.asked();
        let Some(entry) = asked.get_mut(ticket) else {
            return;
        };
        change(entry);
        let is_done = entry.expected.as_ref().is_some_and(|expected| {
            let has_answered = |name| entry.answers.iter().any(|(of, _)| of == name);
            expected.iter().all(has_answered)
        });
        if is_done && let Some(done) = entry.done.take() {
            // The receiver may have given up.
            let _ = done.send(());
        }
    }

    /// Takes an answer in, unless there is no room for it.
    fn receive(&self, ticket: &str, name: &str, answer: Option<&[u8]>) {
        let held = answer.and_then(|answer| {
            let charge = self.answers.try_charge(answer.len());
            charge.map(|charge| (answer.to_vec(), charge))
        });
        self.settle(ticket, |asked| asked.answers.push((name.to_owned(), held)));
    }

    fn asked(&self) -> MutexGuard<'_, HashMap<String, Asked>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cluster {
    /// Sends a request to every other gateway that may be alive, or to `only` one, and awaits the answers for
    /// `cluster.timeout_ms` after `wait`. A gateway that does not listen is named without a wait.
    pub async fn ask_others(&self, request: &[u8], only: Option<&str>, wait: Duration) -> Replies {
        let mut known = self.other_gateways();
        known.retain(|name| only.is_none_or(|only| name == only));
        let nobody = Replies {
            asked: known.len(),
            missing: known.clone(),
            is_partial: true,
            ..Replies::default()
        };
        let (Ok(link), Some((ticket, all))) = (self.link(), self.requests.begin()) else {
            return nobody;
        };
        let head = format!("{} {}\n", ticket.text, self.gateway());
        let message = [head.as_bytes(), request].concat();
        let mut script = ASK.key(self.register());
        script
            .key(self.ended())
            .arg(self.gateway())
            .arg(self.name("requests:"))
            .arg(&message)
            .arg(only.unwrap_or_default())
            .arg(link.publish_command())
            .arg(&known);
        let asking = link.invoke::<(Vec<String>, Vec<String>)>(&script, message.len());
        let Ok((expected, unheard)) = asking.await else {
            return nobody;
        };
        drop(message);
        self.remember(expected.iter().chain(&unheard));
        self.requests
            .settle(&ticket.text, |asked| asked.expected = Some(expected));
        let _ = timeout(wait + self.terms.settings.timeout(), all).await;
        let asked = self.requests.asked().remove(&ticket.text);
        asked.map_or(nobody, |asked| Replies::of(asked, unheard))
    }

    /// Has `handler` carry out the requests of other gateways; never returns.
    pub async fn serve_requests<H: Handler>(self: &Arc<Self>, handler: H) {
        let inbox = Arc::new(Inbox {
            cluster: Arc::downgrade(self),
            handler: Arc::new(handler),
        });
        let outcomes = Arc::new(Outcomes(Arc::downgrade(self)));
        let (to_us, of_ours) = (
            self.requests_of(self.gateway()),
            self.answers_to(self.gateway()),
        );
        let weak: Weak<Outcomes> = Arc::downgrade(&outcomes);
        // A subscription that is not confirmed now is confirmed later.
        let _ = self.listen(&of_ours, weak).await;
        let weak: Weak<Inbox<H>> = Arc::downgrade(&inbox);
        let _ = self.listen(&to_us, weak).await;
        std::future::pending::<()>().await;
        drop((inbox, outcomes));
    }

    async fn answer(&self, ticket: &str, to: &str, answer: Option<Vec<u8>>) {
        let answer = answer.filter(|answer| answer.len() <= MAXIMUM_ANSWER_BYTES);
        let head = format!(
            "{ticket} {} {}\n",
            self.gateway(),
            u8::from(answer.is_some())
        );
        let message = [head.as_bytes(), answer.as_deref().unwrap_or_default()].concat();
        if let Ok(link) = self.link() {
            let mut publish = cmd(link.publish_command());
            publish.arg(self.answers_to(to)).arg(message);
            // Without an answer, the other gateway names this one.
            let _ = link.query::<()>(&publish).await;
        }
    }

    fn requests_of(&self, gateway: &str) -> String {
        self.name(&format!("requests:{gateway}"))
    }

    fn answers_to(&self, gateway: &str) -> String {
        self.name(&format!("answers:{gateway}"))
    }
}

impl Replies {
    /// Sums up the answers to a request that `unheard` gateways did not get.
    fn of(asked: Asked, unheard: Vec<String>) -> Self {
        let mut missing = asked.expected.unwrap_or_default();
        missing.extend(unheard);
        let count = missing.len();
        let mut answers = Vec::new();
        for (name, answer) in asked.answers {
            if let Some((answer, _)) = answer {
                missing.retain(|one| *one != name);
                answers.push(answer);
            }
        }
        Self {
            answers,
            is_partial: !missing.is_empty(),
            missing,
            asked: count,
        }
    }
}

/// Splits a message into the words of its first line and the rest.
fn split(payload: &[u8]) -> Option<(Vec<&str>, &[u8])> {
    let end = payload.iter().position(|byte| *byte == b'\n')?;
    let head = str::from_utf8(&payload[..end]).ok()?;
    Some((head.split(' ').collect(), &payload[end + 1..]))
}

impl<H: Handler> Listener for Inbox<H> {
    fn receive(self: Arc<Self>, payload: &[u8], _: u64) {
        let (Some((head, request)), Some(cluster)) = (split(payload), self.cluster.upgrade())
        else {
            return;
        };
        let [ticket, from] = head[..] else {
            tracing::error!("a request of another gateway cannot be read");
            return;
        };
        let charge = cluster
            .requests
            .carried_out
            .try_charge(request.len() + REQUEST_BYTES);
        let (ticket, from, request) = (ticket.to_owned(), from.to_owned(), request.to_vec());
        tokio::spawn(async move {
            let answer = match charge {
                Some(_) => self.handler.handle(request).await,
                None => None,
            };
            cluster.answer(&ticket, &from, answer).await;
            drop(charge);
        });
    }

    fn resume(self: Arc<Self>, _: u64) {}
}

impl Listener for Outcomes {
    fn receive(self: Arc<Self>, payload: &[u8], _: u64) {
        let (Some((head, answer)), Some(cluster)) = (split(payload), self.0.upgrade()) else {
            return;
        };
        if let [ticket, name, is_answer] = head[..] {
            let answer = (is_answer == "1").then_some(answer);
            cluster.requests.receive(ticket, name, answer);
        }
    }

    fn resume(self: Arc<Self>, _: u64) {}
}

#[cfg(test)]
mod tests;
