//! Commands that concern the clients of all gateways: this one carries them out here, and has the
//! others do so.

mod lists;
mod users;

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;
use utoipa::ToSchema;

pub(crate) use self::{
    lists::{Connected, RoomCount},
    users::{Acknowledged, Target},
};
use super::{AppState, DrainPlan};
use crate::{
    cluster::{Handler, Replies},
    namespaces::MAIN,
    rooms::Sender,
    transport::turn,
};

/// A command, as it is sent to other gateways.
#[derive(Serialize, Deserialize)]
enum Command {
    /// Ends connections.
    Disconnect {
        /// Whose connections end.
        target: Target,
        /// Whether the clients may reconnect by themselves.
        reconnect: bool,
        /// The back end, for the log.
        by: String,
    },
    /// Sends a message to the sockets of a user.
    Emit {
        /// The issuer, when it is another than our own.
        iss: Option<String>,
        /// The subject.
        sub: String,
        /// The message.
        message: Outgoing,
        /// Time to wait for acknowledgements, in milliseconds; `None` when none are wanted.
        ack_ms: Option<u64>,
    },
    /// Sends a message to all sockets.
    Broadcast(Outgoing),
    /// Lists connections.
    Connections {
        /// The issuer and the subject of the only user to list.
        user: Option<(Option<String>, String)>,
        /// The connection after which to begin.
        after: Option<String>,
        /// Maximum number of connections.
        limit: usize,
    },
    /// Lists rooms with members.
    Rooms {
        /// The first part of the names.
        prefix: String,
        /// The room after which to begin.
        after: Option<String>,
        /// Maximum number of rooms.
        limit: usize,
    },
    /// A command that concerns a namespace beside the main one.
    In(String, Box<Self>),
    /// Hands the clients over to other gateways.
    Drain {
        /// Time over which they are asked to reconnect, in seconds.
        window_secs: u64,
    },
}

/// A command that concerns a namespace beside the main one. Gateways of an earlier version, which have none,
/// cannot read it.
#[derive(Serialize)]
enum Scoped<'a> {
    In(&'a str, &'a Command),
}

/// A message in no room.
#[derive(Serialize, Deserialize)]
pub(crate) struct Outgoing {
    /// The name of the event.
    pub(crate) event: String,
    /// The content, as it came.
    pub(crate) data: Box<RawValue>,
    /// Metadata, which its receivers get too.
    pub(crate) meta: Meta,
}

/// Metadata of a message that is in no room.
#[derive(Serialize, Deserialize)]
pub(crate) struct Meta {
    /// The id of the message.
    pub(crate) id: String,
    /// The time in milliseconds since the epoch.
    pub(crate) ts: u64,
    /// The sender.
    pub(crate) from: Sender,
}

/// Answers of all gateways that have given one, this one's first.
struct Everywhere<T> {
    answers: Vec<T>,
    reach: Reach,
}

/// Gateways that a request has not reached, if there are any.
#[derive(Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Reach {
    /// Whether gateways may be missing: one has not answered in time, or Redis cannot be reached.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) partial: bool,
    /// The names of the gateways that have not answered. They may have done what was asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) missing: Vec<String>,
}

/// No gateway has this name, or it does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotDrained {
    /// No living gateway has this name.
    Unknown,
    /// The gateway has not answered in time.
    Silent,
}

impl Reach {
    /// Adds the gateways that another request has not reached.
    pub(crate) fn add(&mut self, other: Self) {
        self.partial |= other.partial;
        self.missing.extend(other.missing);
        self.missing.sort_unstable();
        self.missing.dedup();
    }
}

impl<T> Everywhere<T> {
    fn of(own: T, replies: Replies) -> Self
    where
        T: DeserializeOwned,
    {
        let mut answers = vec![own];
        let others = replies.answers.iter();
        let parsed = others.filter_map(|answer| serde_json::from_slice(answer).ok());
        answers.extend(parsed);
        // A gateway of another version may give an answer that cannot be read.
        let has_all = answers.len() == 1 + replies.answers.len();
        let reach = Reach {
            partial: replies.is_partial || !has_all,
            missing: replies.missing,
        };
        Self { answers, reach }
    }
}

impl AppState {
    /// Returns the name of this gateway; `None` when it stands alone.
    #[must_use]
    pub(crate) fn gateway(&self) -> Option<&str> {
        self.cluster.as_ref().map(|cluster| cluster.gateway())
    }

    /// Has all gateways carry a command out in `namespace`: this one by `own`, the others within `wait` and the time that
    /// Redis may take.
    async fn everywhere<T: DeserializeOwned>(
        &self,
        (namespace, command): (&str, &Command),
        wait: Duration,
        own: impl Future<Output = T>,
    ) -> Everywhere<T> {
        let Some(cluster) = &self.cluster else {
            return Everywhere::of(own.await, Replies::default());
        };
        // A command is always JSON.
        let request = match namespace {
            MAIN => serde_json::to_vec(command),
            name => serde_json::to_vec(&Scoped::In(name, command)),
        };
        let request = request.unwrap_or_default();
        let (own, replies) = tokio::join!(own, cluster.ask_others(&request, None, wait));
        Everywhere::of(own, replies)
    }

    /// Drains a gateway by its name, or this one. Returns the name and the plan.
    ///
    /// # Errors
    ///
    /// When there is no such gateway, or it does not answer.
    pub(crate) async fn drain_gateway(
        self: &Arc<Self>,
        name: Option<&str>,
        window: Duration,
    ) -> Result<(Option<String>, DrainPlan), NotDrained> {
        let own = self.gateway();
        let Some(name) = name.filter(|name| Some(*name) != own) else {
            return Ok((own.map(str::to_owned), self.start_drain(window)));
        };
        let cluster = self.cluster.as_ref().ok_or(NotDrained::Unknown)?;
        let command = Command::Drain {
            window_secs: window.as_secs(),
        };
        let request = serde_json::to_vec(&command).unwrap_or_default();
        let replies = cluster
            .ask_others(&request, Some(name), Duration::ZERO)
            .await;
        if replies.asked == 0 && !replies.is_partial {
            return Err(NotDrained::Unknown);
        }
        let answer = replies.answers.first().ok_or(NotDrained::Silent)?;
        let plan: (usize, u64) = serde_json::from_slice(answer).map_err(|_| NotDrained::Silent)?;
        let plan = DrainPlan {
            sockets: plan.0,
            window: Duration::from_secs(plan.1),
        };
        Ok((Some(name.to_owned()), plan))
    }

    /// Carries a command of another gateway out, and returns the answer; `None` when that is not possible.
    async fn carry_out(self: &Arc<Self>, command: Command) -> Option<Vec<u8>> {
        match command {
            // A gateway whose settings have no such namespace has nobody there.
            Command::In(namespace, command) => self.carry_out_in(&namespace, *command).await,
            command => self.carry_out_in(MAIN, command).await,
        }
    }

    async fn carry_out_in(self: &Arc<Self>, namespace: &str, command: Command) -> Option<Vec<u8>> {
        let answer = match command {
            Command::In(..) => return None,
            Command::Disconnect {
                target,
                reconnect,
                by,
            } => serde_json::to_vec(&self.disconnect_here(&target, reconnect, &by)),
            Command::Emit {
                iss,
                sub,
                message,
                ack_ms,
            } => {
                let user = (iss.as_deref(), &*sub);
                let wait = ack_ms.map(Duration::from_millis);
                serde_json::to_vec(&self.emit_here(namespace, user, &message, wait).await)
            }
            Command::Broadcast(message) => {
                serde_json::to_vec(&self.broadcast_here(namespace, &message)?)
            }
            Command::Connections { user, after, limit } => {
                serde_json::to_vec(&self.connections_here(user.as_ref(), after.as_deref(), limit))
            }
            Command::Rooms {
                prefix,
                after,
                limit,
            } => {
                serde_json::to_vec(&self.rooms_here((namespace, &prefix), after.as_deref(), limit))
            }
            Command::Drain { window_secs } => {
                let plan = self.start_drain(Duration::from_secs(window_secs));
                serde_json::to_vec(&(plan.sockets, plan.window.as_secs()))
            }
        };
        answer.ok()
    }
}

impl Handler for Arc<AppState> {
    async fn handle(&self, request: Vec<u8>) -> Option<Vec<u8>> {
        let command = serde_json::from_slice(&request);
        let command = command.inspect_err(|error| {
            // A gateway of another version may know other commands.
            tracing::error!("a command of another gateway cannot be read: {error}");
        });
        drop(request);
        // A message to many is written to each once, by several tasks.
        turn::in_turn(self.carry_out(command.ok()?)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rooms() -> Command {
        Command::Rooms {
            prefix: "a".to_owned(),
            after: None,
            limit: 1,
        }
    }

    #[test]
    fn a_command_for_the_main_namespace_is_as_ever_and_another_one_is_read_with_its_namespace() {
        let main = serde_json::to_string(&rooms()).expect("JSON");
        assert_eq!(main, r#"{"Rooms":{"prefix":"a","after":null,"limit":1}}"#);
        let scoped = serde_json::to_string(&Scoped::In("/admin", &rooms())).expect("JSON");
        let Ok(Command::In(namespace, command)) = serde_json::from_str(&scoped) else {
            panic!("{scoped}");
        };
        assert_eq!(namespace, "/admin");
        assert_eq!(serde_json::to_string(&command).expect("JSON"), main);
    }
}
