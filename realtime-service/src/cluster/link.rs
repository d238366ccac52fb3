//! One connection to Redis, from its handshake to its loss.

use std::sync::Arc;

use redis::{Cmd, ErrorKind, FromRedisValue, RedisError, ScriptInvocation, ServerErrorKind, cmd};
use tokio_util::sync::CancellationToken;

use super::{
    Away, Invocation,
    connection::{Connection, is_refused, is_unanswered, repeats_arguments},
    silence::Silence,
    terms::Terms,
};
use crate::{limits::Charge, metrics::ClusterOutcome};

/// The memory that a request takes besides its bytes.
const REQUEST_BYTES: usize = 512;

/// One connection to a server of Redis. Clones share it, and their requests are pipelined.
#[derive(Clone)]
pub struct Link {
    pub(super) terms: Arc<Terms>,
    pub(super) connection: Connection,
    /// The connection with the subscriptions: the same one, but for a shard of a Redis Cluster.
    pub(super) subscriptions: Connection,
    /// The server as `HOST:PORT`.
    pub(super) address: Arc<str>,
    pub(super) generation: u64,
    /// The text that the server's process keeps for as long as it serves the data without a break.
    pub(super) tenure: Arc<str>,
    /// The tenures of other shards, from which the slot came here while both were connected.
    pub(super) former_tenures: Arc<str>,
    /// What the server keeps under the key of its incarnation until all its data is deleted.
    pub(super) incarnation: Arc<str>,
    /// The run of the server's process as a primary, by `INFO`.
    pub(super) run: Arc<str>,
    pub(super) lost: CancellationToken,
    pub(super) silence: Arc<Silence>,
}

/// Reason for a request that was not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// See [`Away`].
    Away,
    /// The slot of the keys moves, or has moved, to another shard. The request was not carried out.
    Moving,
}

impl From<Failure> for Away {
    fn from(_: Failure) -> Self {
        Self
    }
}

impl Link {
    /// The generation of the connection, which is odd.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The text that stands for the server's process, from when it began to serve the data until another
    /// process does. A log of another tenure may have lost its end.
    #[must_use]
    pub fn tenure(&self) -> &str {
        &self.tenure
    }

    /// The tenures, one a line, in which a log is complete too: of the shards that had its slot before,
    /// and handed it over to this one.
    #[must_use]
    pub fn former_tenures(&self) -> &str {
        &self.former_tenures
    }

    /// The random text that the server keeps until all its data is deleted.
    #[must_use]
    pub fn incarnation(&self) -> &str {
        &self.incarnation
    }

    /// The command that publishes to a channel of [`super::Cluster::listen`]: `SPUBLISH` in a Redis
    /// Cluster.
    #[must_use]
    pub fn publish_command(&self) -> &'static str {
        match self.terms.is_sharded() {
            true => "SPUBLISH",
            false => "PUBLISH",
        }
    }

    /// Publishes to a channel of [`super::Cluster::listen`].
    ///
    /// # Errors
    ///
    /// See [`Away`].
    pub async fn publish(&self, channel: &str, payload: &str) -> Result<i64, Away> {
        let mut publish = cmd(self.publish_command());
        publish.arg(channel).arg(payload);
        self.query(&publish).await
    }

    /// Awaits `work`, which asks the server, until the server is silent: it has not answered any request for a quarter
    /// of a second. Does not poll the work if it is known to be silent, so that a server that is stopped does not have
    /// to answer all of it later. The heartbeat ends a silence.
    ///
    /// # Errors
    ///
    /// When the server is silent.
    pub async fn unless_silent<T>(&self, work: impl Future<Output = T>) -> Result<T, Away> {
        if self.silence.is_known() {
            return Err(Away);
        }
        tokio::select! {
            biased;
            // An answer that has arrived counts, also when this process was slow to take it.
            outcome = work => Ok(outcome),
            () = self.silence.begun() => Err(Away),
        }
    }

    /// Runs a script, which is loaded when the server does not have it. `bytes` is the size of its
    /// arguments.
    ///
    /// # Errors
    ///
    /// See [`Away`].
    pub async fn invoke<T: FromRedisValue>(
        &self,
        script: &ScriptInvocation<'_>,
        bytes: usize,
    ) -> Result<T, Away> {
        let _charge = self.charge(bytes)?;
        Ok(self.run(script).await?)
    }

    /// Runs a script as [`Self::invoke`] does, also when as much waits for Redis as may: for requests that
    /// must not fail because of others, and that are few.
    ///
    /// # Errors
    ///
    /// See [`Away`].
    pub async fn invoke_beyond_bound<T: FromRedisValue>(
        &self,
        script: &ScriptInvocation<'_>,
        bytes: usize,
    ) -> Result<T, Away> {
        let _charge = self.terms.pending.charge(bytes + REQUEST_BYTES);
        Ok(self.run(script).await?)
    }

    /// Sends a command.
    ///
    /// # Errors
    ///
    /// See [`Away`].
    pub async fn query<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, Away> {
        let _charge = self.charge(command.get_packed_command().len())?;
        let mut connection = self.connection.clone();
        Ok(self.settle(command.query_async(&mut connection)).await?)
    }

    /// Runs a script whose bytes are charged by the caller.
    pub(super) async fn evaluate<T: FromRedisValue>(
        &self,
        invocation: &Invocation,
    ) -> Result<T, Failure> {
        self.settle(invocation.run(&self.connection)).await
    }

    async fn run<T: FromRedisValue>(&self, script: &ScriptInvocation<'_>) -> Result<T, Failure> {
        let mut connection = self.connection.clone();
        self.settle(script.invoke_async(&mut connection)).await
    }

    /// Returns the reason for the loss of the connection.
    pub(super) fn loss(&self) -> String {
        let cause = self.connection.cause();
        let cause = cause.or_else(|| self.subscriptions.cause());
        cause.map_or_else(|| "it was closed".to_owned(), |cause| cause.to_string())
    }

    pub(super) fn charge(&self, bytes: usize) -> Result<Charge, Away> {
        let charge = self.terms.pending.try_charge(bytes + REQUEST_BYTES);
        charge.ok_or_else(|| {
            self.terms.metrics.cluster_request(ClusterOutcome::Refused);
            Away
        })
    }

    /// Awaits and counts an answer. A server that takes no writes is left, so that the connection is made anew: to
    /// the server that has taken its place, behind the same name.
    async fn settle<T>(
        &self,
        request: impl Future<Output = Result<T, RedisError>>,
    ) -> Result<T, Failure> {
        let waiting = self.silence.wait();
        let answer = request.await;
        match &answer {
            Err(error) if error.is_timeout() || is_refused(error) => drop(waiting),
            _ => waiting.answer(),
        }
        let error = match answer {
            Ok(answer) => {
                self.terms.metrics.cluster_request(ClusterOutcome::Answered);
                return Ok(answer);
            }
            Err(error) => error,
        };
        let outcome = match is_refused(&error) {
            true => ClusterOutcome::Refused,
            false => ClusterOutcome::Failed,
        };
        self.terms.metrics.cluster_request(outcome);
        if is_of_moving_slot(&error) {
            self.terms.map_outdated.notify_one();
            return Err(Failure::Moving);
        }
        let is_stale = matches!(
            error.kind(),
            ErrorKind::Server(
                ServerErrorKind::ReadOnly
                    | ServerErrorKind::MasterDown
                    | ServerErrorKind::BusyLoading
                    | ServerErrorKind::ClusterDown
            )
        );
        if is_stale || error.is_unrecoverable_error() {
            self.lost.cancel();
        } else if !is_unanswered(&error) {
            tracing::warn!("Redis refused a request: {}", refusal_text(&error));
        }
        Err(Failure::Away)
    }
}

/// Returns the text of a refusal for the log. An argument may be a message.
fn refusal_text(error: &RedisError) -> String {
    if repeats_arguments(error) {
        return "it does not know a command".to_owned();
    }
    error.to_string()
}

/// Whether a server of a Redis Cluster refused a request since its slot moves, or has moved.
pub(super) fn is_of_moving_slot(error: &RedisError) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Server(
            ServerErrorKind::Moved | ServerErrorKind::Ask | ServerErrorKind::TryAgain
        )
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_of_a_refusal_does_not_repeat_the_arguments() {
        let text = |detail: &str| {
            let kind = ErrorKind::Server(ServerErrorKind::ResponseError);
            refusal_text(&RedisError::from((kind, "an error", detail.to_owned())))
        };
        let repeated = text("unknown command 'EVALSHA', with args beginning with: 'a message' ");
        assert!(!repeated.contains("a message"), "{repeated}");
        let told = text("User gateway has no permissions to run the 'evalsha' command");
        assert!(told.contains("no permissions"), "{told}");
    }
}
