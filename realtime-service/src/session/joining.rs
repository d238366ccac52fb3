//! Rooms that a session enters: its place among the rooms that it may be in, and rooms that a back end
//! takes it into.

use std::sync::Arc;

use super::{Membership, Session};
use crate::rooms::{JoinError, RoomName, SubscribeOptions};

/// The reason why a session is not in a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotJoined {
    /// The session has ended.
    SessionEnded,
    /// The log of the room cannot be reached now.
    Unavailable,
    /// The session is in as many rooms as it may be.
    TooManyRooms,
}

impl NotJoined {
    /// The code for the client.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::SessionEnded => "session_ended",
            Self::Unavailable => "unavailable",
            Self::TooManyRooms => "too_many_rooms",
        }
    }
}

impl From<JoinError> for NotJoined {
    fn from(error: JoinError) -> Self {
        match error {
            JoinError::SessionEnded => Self::SessionEnded,
            JoinError::Unavailable => Self::Unavailable,
        }
    }
}

impl Session {
    /// Takes a place among the rooms of the client, which may be in so many. Returns whether the
    /// session was not in the room before.
    ///
    /// # Errors
    ///
    /// When the client is in as many rooms as it may be.
    pub(crate) fn take_place(
        &self,
        room: &RoomName,
        membership: Membership,
    ) -> Result<bool, NotJoined> {
        let mut rooms = self.rooms();
        let is_new = !rooms.contains_key(room);
        if is_new && !self.share.enter_room(&self.context.limits) {
            return Err(NotJoined::TooManyRooms);
        }
        match membership {
            Membership::ByBackEnd => _ = rooms.insert(room.clone(), membership),
            // A subscription changes nothing for a socket that a back end has taken in.
            Membership::Granted => _ = rooms.entry(room.clone()).or_insert(membership),
        }
        Ok(is_new)
    }

    /// Takes the session into a room as a back end wants it, whatever its grants. Nothing happens when it is
    /// in the room.
    ///
    /// # Errors
    ///
    /// See [`NotJoined`].
    pub(crate) async fn join(&self, room: &RoomName) -> Result<(), NotJoined> {
        if !self.take_place(room, Membership::ByBackEnd)? {
            return Ok(());
        }
        let subscriber = self.subscriber(room);
        let options = SubscribeOptions::default();
        let rooms = &self.context.rooms;
        let joined = rooms.subscribe(room, &subscriber, &options, |_| None).await;
        joined.map_err(|error| {
            self.leave(room);
            error.into()
        })
    }

    /// Takes the session into the rooms that the back end has named which admitted it. The client is told of
    /// each room that it is not in after all.
    pub(super) async fn join_named_rooms(&self) {
        let identity = self.identity();
        for room in &identity.admission().rooms {
            if let Err(error) = self.join(room).await {
                let code = error.code();
                tracing::warn!(connection = %self.connection, code, "a room was not joined");
                self.leave_with_notice(room, code);
            }
        }
    }

    /// Does the same before the first event of the client is handled. Call it once the session is admitted,
    /// and before its client can send events.
    pub(super) fn join_named_rooms_first(self: &Arc<Self>) {
        if self.identity().admission().rooms.is_empty() {
            return;
        }
        let session = self.clone();
        let job = Box::pin(async move {
            // The caller may hold a lock that a delivery needs.
            tokio::task::yield_now().await;
            session.join_named_rooms().await;
        });
        // The queue is empty, so that the job is not one too many.
        let _ = self.intake.push(0, job);
    }
}
