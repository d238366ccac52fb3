//! The table of events: what each name does.

mod backend;
mod call;
mod decision;
mod history;
mod presence;
mod publish;
mod subscribe;
mod unsubscribe;

use std::{panic::AssertUnwindSafe, sync::Arc};

use futures_util::FutureExt as _;
use serde_json::json;
use socketioxide::extract::SocketRef;

use self::call::{Call, EventError};
use crate::session::{AUTHENTICATE, Audience, InvalidArguments, Received, Session};

/// What a client can ask for.
#[derive(Clone, Copy)]
enum Event {
    Subscribe,
    Unsubscribe,
    Publish,
    History,
    Presence,
    /// An event of the application, which a back end may answer.
    Application,
}

impl Event {
    /// The event of this name.
    fn named(name: &str) -> Self {
        let found = EVENTS.into_iter().find(|event| event.name() == name);
        found.unwrap_or(Self::Application)
    }

    /// The name in metrics.
    fn name(self) -> &'static str {
        match self {
            Self::Subscribe => "rt:subscribe",
            Self::Unsubscribe => "rt:unsubscribe",
            Self::Publish => "rt:publish",
            Self::History => "rt:history",
            Self::Presence => "rt:presence",
            Self::Application => "application",
        }
    }
}

/// Every event of the gateway, besides `authenticate`. An event that is not in it is the application's:
/// a back end of the settings answers it, or `unknown_event` is the answer.
const EVENTS: [Event; 5] = [
    Event::Subscribe,
    Event::Unsubscribe,
    Event::Publish,
    Event::History,
    Event::Presence,
];

/// Registers every event on a socket that is about to be admitted.
pub fn register(socket: &SocketRef, session: &Arc<Session>) {
    for event in EVENTS {
        session.on(socket, event.name(), move |session, received| {
            answer(event, received, session)
        });
    }
    session.on_any_other(socket, |session, received| {
        answer(Event::Application, received, session)
    });
}

/// Takes in an event of a client that the engine carries.
///
/// # Errors
///
/// When the event has no name.
pub fn receive(session: &Arc<Session>, received: Received) -> Result<(), InvalidArguments> {
    let event = match &*received.name().ok_or(InvalidArguments)? {
        AUTHENTICATE => None,
        name => Some(Event::named(name)),
    };
    match event {
        Some(event) => session.receive(received, Audience::Members, move |session, received| {
            answer(event, received, session)
        }),
        None => session.receive_authenticate(received),
    }
    Ok(())
}

/// Carries an event out, and tells why if it cannot.
async fn answer(event: Event, received: Received, session: Arc<Session>) {
    let call = Call {
        received: &received,
        session: &session,
        context: session.context(),
    };
    let handling = AssertUnwindSafe(handle(event, &call)).catch_unwind();
    let result = handling.await.unwrap_or_else(|_| {
        tracing::error!("a handler panicked");
        Err(EventError::internal())
    });
    let outcome = result.as_ref().err().map_or("ok", EventError::code);
    let name = match outcome {
        EventError::UNKNOWN => "unknown",
        _ => event.name(),
    };
    call.context.metrics.event(name, outcome);
    if let Err(error) = result {
        let answer = json!({ "ok": false, "error": error });
        received.acknowledge(&session, &answer).await;
    }
}

/// Handles an event. Futures of rarer events are boxed: the future of each event has room for the largest one, and
/// is moved and overwritten as a whole.
async fn handle(event: Event, call: &Call<'_>) -> Result<(), EventError> {
    match event {
        Event::Publish => publish::publish(call).await,
        Event::Subscribe => Box::pin(subscribe::subscribe(call)).await,
        Event::Unsubscribe => Box::pin(unsubscribe::unsubscribe(call)).await,
        Event::History => Box::pin(history::read(call)).await,
        Event::Presence => Box::pin(presence::show(call)).await,
        Event::Application => Box::pin(backend::call(call)).await,
    }
}
