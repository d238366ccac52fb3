//! Commands to users: end their connections, and send to them.

use std::{borrow::Cow, sync::Arc, time::Duration};

use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::{AppState, Command, Everywhere, Outgoing, Reach};
use crate::{
    metrics::Cause,
    namespaces::MAIN,
    session::{Event, NotAcknowledged, Session},
};

/// The connections that a command concerns.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Target {
    /// Connections of a user: the issuer, when it is another than our own, and the subject.
    User(Option<String>, String),
    /// Connections of a session: the issuer, when it is another than our own, and the `sid`.
    Session(Option<String>, String),
    /// One connection, by its id.
    Connection(String),
}

/// The clients that got a message.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Emitted {
    /// Number of sockets that it was queued for.
    pub(crate) sockets: usize,
    /// The answers of the clients; `None` when none were wanted.
    pub(crate) acks: Option<Vec<Acknowledged>>,
}

/// Acknowledgement of a client.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Acknowledged {
    /// The connection.
    pub(crate) connection: String,
    /// The arguments of its acknowledgement.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<serde_json::Value>>)]
    pub(crate) answer: Option<Vec<Value>>,
    /// Why there is none: `timeout`, `gone`, or `invalid`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub(crate) error: Option<Cow<'static, str>>,
}

impl Acknowledged {
    fn of(session: &Session, answer: Result<Vec<Value>, NotAcknowledged>) -> Self {
        let connection = session.connection.to_string();
        match answer {
            Ok(arguments) => Self {
                connection,
                answer: Some(arguments),
                error: None,
            },
            Err(error) => Self {
                connection,
                answer: None,
                error: Some(error.name().into()),
            },
        }
    }
}

impl AppState {
    /// Ends connections on all gateways, in whichever namespaces. Returns how many there were.
    pub(crate) async fn disconnect_everywhere(
        &self,
        target: Target,
        reconnect: bool,
        by: &str,
    ) -> (usize, Reach) {
        let own = self.disconnect_here(&target, reconnect, by);
        let command = Command::Disconnect {
            target,
            reconnect,
            by: by.to_owned(),
        };
        let ended: Everywhere<usize> = self
            .everywhere((MAIN, &command), Duration::ZERO, async { own })
            .await;
        (ended.answers.into_iter().sum(), ended.reach)
    }

    pub(super) fn disconnect_here(&self, target: &Target, reconnect: bool, by: &str) -> usize {
        let sessions = match target {
            Target::User(iss, sub) => self.sessions_of_user(iss.as_deref(), sub),
            Target::Session(iss, sid) => self.sessions_of_session(iss.as_deref(), sid),
            Target::Connection(connection) => {
                let found = self.sessions.sessions.find_connection(connection);
                found.into_iter().collect()
            }
        };
        for session in &sessions {
            tracing::info!(connection = %session.connection, by, "disconnected by a back end");
            match reconnect {
                true => session.close(Cause::Disconnected),
                false => session.disconnect(Cause::Disconnected),
            }
        }
        sessions.len()
    }

    /// Sends a message to every socket of a user in a namespace, on all gateways, and waits for the acknowledgements if
    /// `ack` says for how long.
    pub(crate) async fn emit_everywhere(
        &self,
        namespace: &str,
        (iss, sub): (Option<String>, String),
        message: Outgoing,
        ack: Option<Duration>,
    ) -> (Emitted, Reach) {
        let wait = ack.unwrap_or_default();
        let ack_ms = ack.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
        let command = Command::Emit {
            iss,
            sub,
            message,
            ack_ms,
        };
        let Command::Emit {
            iss, sub, message, ..
        } = &command
        else {
            return Default::default();
        };
        let own = self.emit_here(namespace, (iss.as_deref(), sub), message, ack);
        let emitted: Everywhere<Emitted> = self.everywhere((namespace, &command), wait, own).await;
        let mut sum = Emitted {
            sockets: 0,
            acks: ack.map(|_| Vec::new()),
        };
        for one in emitted.answers {
            sum.sockets += one.sockets;
            if let Some(acks) = &mut sum.acks {
                acks.extend(one.acks.into_iter().flatten());
            }
        }
        (sum, emitted.reach)
    }

    pub(super) async fn emit_here(
        &self,
        namespace: &str,
        (iss, sub): (Option<&str>, &str),
        message: &Outgoing,
        ack: Option<Duration>,
    ) -> Emitted {
        let sessions = in_namespace(self.sessions_of_user(iss, sub), namespace);
        let Some(wait) = ack else {
            return Emitted {
                sockets: deliver(&sessions, message),
                acks: None,
            };
        };
        let arguments = (&message.data, &message.meta);
        let asking = sessions.iter().map(|session| async {
            let answer = session.ask(&message.event, &arguments, wait).await;
            let was_asked = answer != Err(NotAcknowledged::NotAsked);
            (was_asked, Acknowledged::of(session, answer))
        });
        let (was_asked, acks): (Vec<bool>, Vec<_>) = join_all(asking).await.into_iter().unzip();
        Emitted {
            sockets: was_asked.into_iter().filter(|was_asked| *was_asked).count(),
            acks: Some(acks),
        }
    }

    /// Sends a message to every admitted socket of a namespace, on all gateways. Returns for how many it was queued;
    /// `None` when too much waits for the clients of this gateway.
    pub(crate) async fn broadcast_everywhere(
        &self,
        namespace: &str,
        message: Outgoing,
    ) -> Option<(usize, Reach)> {
        let own = self.broadcast_here(namespace, &message)?;
        let command = Command::Broadcast(message);
        let sent: Everywhere<usize> = self
            .everywhere((namespace, &command), Duration::ZERO, async { own })
            .await;
        Some((sent.answers.into_iter().sum(), sent.reach))
    }

    pub(super) fn broadcast_here(&self, namespace: &str, message: &Outgoing) -> Option<usize> {
        let is_overloaded = self.sessions.outboxes.is_overloaded();
        let sessions = || in_namespace(self.sessions.sessions.all(), namespace);
        (!is_overloaded).then(|| deliver(&sessions(), message))
    }
}

/// Returns the sessions in a namespace. Those in the namespaces of an application count to the main one.
fn in_namespace(mut sessions: Vec<Arc<Session>>, namespace: &str) -> Vec<Arc<Session>> {
    sessions.retain(|session| **session.policy().namespace() == *namespace);
    sessions
}

/// Queues a message for sessions, and returns for how many.
fn deliver(sessions: &[Arc<Session>], message: &Outgoing) -> usize {
    let arguments = (&message.data, &message.meta);
    let mut event = Event::new(&message.event, &arguments);
    let sessions = sessions.iter();
    sessions.filter(|session| event.deliver(session)).count()
}
