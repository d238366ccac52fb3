//! Sessions for unit tests, without a connection.

use std::{
    net::Ipv4Addr,
    sync::{Arc, OnceLock},
};

use http::HeaderMap;

use super::{
    Dialect, EngineSession, RequestCredentials, TransportContext,
    engine_session::CarriedBy,
    listener::Place,
    request::{Opener, Visitor},
};

/// Returns a session without a socket: its packets stay in its queue until the test takes them.
pub(crate) fn session(context: &Arc<TransportContext>) -> Arc<EngineSession> {
    let address = Ipv4Addr::LOCALHOST.into();
    let credentials = RequestCredentials::default();
    let opener = Opener::of(address, &HeaderMap::new(), &credentials, context.binding);
    let visitor = Visitor {
        opener,
        credentials,
    };
    let by_engine = CarriedBy::Engine(OnceLock::new());
    EngineSession::new(
        visitor,
        Dialect::DEFAULT,
        context.clone(),
        by_engine,
        Place::default(),
    )
}
