//! One connection to Redis, from its handshake to its loss.

use std::sync::Arc;

use redis::{
    Cmd, ErrorKind, FromRedisValue, RedisError, ScriptInvocation, ServerErrorKind,
    aio::MultiplexedConnection,
};
use tokio_util::sync::CancellationToken;

use super::Away;
use crate::{
    limits::{Budget, Charge},
    metrics::{ClusterOutcome, Metrics},
};

/// The memory that a request takes besides its bytes.
const REQUEST_BYTES: usize = 512;

/// One connection to Redis. Clones of the connection inside share it, and their requests are
/// pipelined.
pub struct Link {
    pub(super) connection: MultiplexedConnection,
    pub(super) generation: u64,
    /// The text that the server's process keeps for as long as it serves the data without a break.
    pub(super) tenure: String,
    /// What the server keeps under the key of its incarnation until all its data is deleted.
    pub(super) incarnation: String,
    pub(super) lost: CancellationToken,
    pub(super) pending: Arc<Budget>,
    pub(super) metrics: Arc<Metrics>,
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

    /// The random text that the server keeps until all its data is deleted.
    #[must_use]
    pub fn incarnation(&self) -> &str {
        &self.incarnation
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
        let answer = script.invoke_async(&mut self.connection.clone()).await;
        self.settle(answer)
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
        let _charge = self.pending.charge(bytes + REQUEST_BYTES);
        let answer = script.invoke_async(&mut self.connection.clone()).await;
        self.settle(answer)
    }

    /// Sends a command.
    ///
    /// # Errors
    ///
    /// See [`Away`].
    pub async fn query<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, Away> {
        let _charge = self.charge(command.get_packed_command().len())?;
        let answer = command.query_async(&mut self.connection.clone()).await;
        self.settle(answer)
    }

    fn charge(&self, bytes: usize) -> Result<Charge, Away> {
        let charge = self.pending.try_charge(bytes + REQUEST_BYTES);
        charge.ok_or_else(|| {
            self.metrics.cluster_request(ClusterOutcome::Refused);
            Away
        })
    }

    /// Counts an answer. A server that takes no writes is left, so that the connection is made anew: to
    /// the server that has taken its place, behind the same name.
    fn settle<T>(&self, answer: Result<T, RedisError>) -> Result<T, Away> {
        let error = match answer {
            Ok(answer) => {
                self.metrics.cluster_request(ClusterOutcome::Answered);
                return Ok(answer);
            }
            Err(error) => error,
        };
        self.metrics.cluster_request(ClusterOutcome::Failed);
        let is_stale = matches!(
            error.kind(),
            ErrorKind::Server(
                ServerErrorKind::ReadOnly
                    | ServerErrorKind::MasterDown
                    | ServerErrorKind::BusyLoading
            )
        );
        if is_stale || error.is_unrecoverable_error() {
            self.lost.cancel();
        } else if !error.is_timeout() {
            tracing::warn!("Redis refused a request: {error}");
        }
        Err(Away)
    }
}
