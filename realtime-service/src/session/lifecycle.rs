//! The lifecycle events of a connection.

use serde_json::Map;

use super::{Identity, Session, lock};
use crate::{backends::Origin, metrics::Cause};

impl Session {
    /// Tells back ends that the connection is open, unless they know or it may do no more than authenticate.
    /// When this returns, that is durable, and so is that its end will be told: the caller confirms CONNECT, or
    /// the token, after it. Nothing is awaited where no back end is told.
    ///
    /// A session that has ended meanwhile is not told of, or its end is.
    pub(crate) async fn open_book(&self) {
        if !self
            .context
            .back_ends
            .follow_connections(self.outbox.namespace())
            || !self.is_member()
        {
            return;
        }
        if lock(&self.book).is_none() {
            // Boxed: a handshake that no back end is told of is allocated without this size.
            Box::pin(self.open_new_book()).await;
        }
    }

    async fn open_new_book(&self) {
        let identity = self.identity();
        let (claims, none) = (identity.claims(), Map::new());
        let claims = claims.as_ref().map_or(&none, |claims| claims.all());
        let origin = self.origin(&identity);
        let opening = self.context.back_ends.connection_opening(origin, claims);
        let Some(opening) = opening.await else {
            return;
        };
        let stored = {
            let mut book = lock(&self.book);
            // The end of a session is noted before its book is taken.
            if book.is_some() || self.is_terminated() {
                return;
            }
            let (opened, stored) = opening.store().split();
            *book = Some(Box::new(opened));
            stored
        };
        stored.await;
    }

    /// Tells back ends that the connection has ended, if they know that it was open.
    pub(super) fn close_book(&self, cause: Cause) {
        let book = lock(&self.book).take();
        if let Some(book) = book {
            book.close(cause.name());
        }
    }

    fn origin<'a>(&'a self, identity: &'a Identity) -> Origin<'a> {
        let principal = identity.principal.as_ref();
        Origin {
            connection: &self.connection,
            namespace: self.outbox.namespace(),
            issuer: principal.map(|principal| &*principal.issuer),
            subject: principal.map(|principal| &*principal.subject),
            session: principal.and_then(|principal| principal.session.as_deref()),
        }
    }
}
