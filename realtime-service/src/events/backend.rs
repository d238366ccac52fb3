//! An application's own events: a back end answers them.

use std::{sync::Arc, time::Duration};

use serde_json::{json, value::to_raw_value};

use super::{Call, EventError};
use crate::{
    auth::policy::Holder,
    backends::{
        Action, CallData, CallError, CloudEvent, EventType, Failure, NotStored, Reply, Route,
        TOO_LARGE,
    },
    clock::{self, unix_millis, wall_now},
    config::EventMode,
    ids::random_id,
    outbox,
    rooms::{Data, Draft, MessageKey, RoomName, Sender},
    session::{Identity, NotJoined},
};

/// Time after which a client should send an event again that the full queue did not take.
const FULL_QUEUE_PAUSE: Duration = Duration::from_secs(10);

/// Posts an event to the back end of its route, does the actions of the answer in their order, and
/// acknowledges the event with the rest of the answer. An event that is delivered later is stored and
/// acknowledged.
///
/// The events of the socket that come after it wait for the answer, as for every event: for the
/// `timeout_ms` of the back end at most.
pub(super) async fn call(call: &Call<'_>) -> Result<(), EventError> {
    let name = call.received.name().unwrap_or_default();
    let namespace = call.session.outbox().namespace();
    let Some(route) = call.context.back_ends.route(namespace, &name) else {
        return Err(EventError::unknown());
    };
    let identity = call.session.identity();
    let Some(reply) = hand_over(call, route, (&name, &identity)).await? else {
        return Ok(());
    };
    let from = route.back_end().name();
    for action in reply.actions {
        carry_out(call, from, action).await.inspect_err(|error| {
            tracing::warn!(
                backend = from,
                code = error.code(),
                "an action of a back end failed"
            );
        })?;
    }
    acknowledge(call, &reply.ack).await;
    Ok(())
}

/// Posts the event and returns the answer, or stores and acknowledges it, if its sender may send it.
async fn hand_over(
    call: &Call<'_>,
    route: &Route,
    (name, identity): (&str, &Arc<Identity>),
) -> Result<Option<Reply>, EventError> {
    if !is_admitted(call, route, identity) {
        let message = "the token does not allow this event";
        return Err(EventError::new("forbidden", message));
    }
    let key = identity.key();
    route.count(&key).map_err(too_often)?;
    let args = arguments(call)?;
    let id = random_id();
    let data = CallData::new(&args, identity.claims_json());
    let namespace = call.session.outbox().namespace();
    let mut event = CloudEvent::new(EventType::ClientEvent, (&id, wall_now()), namespace, data);
    event.connection = Some(&call.session.connection);
    event.event = Some(name);
    if let Some(principal) = &identity.principal {
        event.subject = Some(&principal.subject);
        event.issuer = Some(&principal.issuer);
        event.session = principal.session.as_deref();
    }
    match route.mode {
        EventMode::Call => {
            let load = (&*key, call.received.bytes());
            let answer = route.back_end().call(&event, load).await;
            answer.map(Some).map_err(|error| error_of(&error))
        }
        EventMode::Notify => {
            let back_ends = &call.context.back_ends;
            let stored = back_ends.store(route, key, &event).await;
            stored.map_err(error_of_queue)?;
            call.succeed(&json!({ "id": id })).await;
            Ok(None)
        }
    }
}

/// Whether the client may send the events of a route.
fn is_admitted(call: &Call<'_>, route: &Route, identity: &Identity) -> bool {
    if identity.is_of_own_issuer() && route.admits_own_tokens() {
        return true;
    }
    let claims = identity.claims();
    let holder = match &claims {
        Some(claims) => call.session.policy().bearer(claims),
        None => Holder::Guest,
    };
    route.admits(&holder)
}

fn error_of_queue(error: NotStored) -> EventError {
    match error {
        NotStored::Full => EventError::new(Failure::Busy.code(), "the queue of events is full")
            .retryable_after(Some(FULL_QUEUE_PAUSE)),
        NotStored::TooLarge => EventError::invalid(TOO_LARGE),
        NotStored::Unavailable => {
            EventError::unavailable("the queue of events cannot be written; try again")
        }
    }
}

fn too_often(wait: Duration) -> EventError {
    let error = EventError::new("rate_limited", "this user sends such events too often");
    // Rounded up, so that a client that comes back after it is not too early.
    error.retryable_after(Some(wait + Duration::from_millis(1)))
}

/// The arguments of the event as one JSON array, with their binary data.
fn arguments(call: &Call<'_>) -> Result<Data, EventError> {
    let arguments = call.received.arguments();
    let arguments = arguments.map_err(|_| EventError::invalid("the arguments are not JSON"))?;
    let arguments: Vec<_> = arguments.iter().map(|argument| argument.raw()).collect();
    let json = to_raw_value(&arguments).map_err(|_| EventError::internal())?;
    Data::new(json, call.received.attachments().to_vec()).map_err(|_| {
        EventError::invalid(
            "the arguments must be JSON that every parser takes, with one placeholder for each attachment",
        )
    })
}

pub(super) fn error_of(error: &CallError) -> EventError {
    let message = match error.failure {
        Failure::TimedOut => "the back end has not answered in time",
        Failure::Failed => "the back end failed",
        Failure::Busy => "the back end has too much to do",
        Failure::TooLarge => TOO_LARGE,
    };
    EventError::new(error.failure.code(), message).retryable_after(error.retry_after)
}

/// Does what the back end `from` has the gateway do.
async fn carry_out(call: &Call<'_>, from: &str, action: Action) -> Result<(), EventError> {
    match action {
        Action::Publish {
            room,
            event,
            data,
            id,
        } => publish(call, from, (room, event, data, id)).await,
        Action::Join(room) => join(call, &room).await,
        Action::Leave(room) => {
            call.session.leave(&room);
            Ok(())
        }
        Action::Emit { event, args } => {
            emit(call, &event, &args).await;
            Ok(())
        }
        Action::Disconnect => {
            tracing::info!(connection = %call.session.connection, backend = from, "disconnected by a back end");
            call.session.disconnect(crate::metrics::Cause::Disconnected);
            Ok(())
        }
    }
}

async fn publish(
    call: &Call<'_>,
    from: &str,
    (room, event, data, id): (RoomName, String, Data, Option<String>),
) -> Result<(), EventError> {
    // No user's key begins like that, since an issuer's name stands in front of it.
    let key = id.as_ref().map(|id| MessageKey {
        publisher: format!("\ncalled back end\n{from}"),
        id: id.clone(),
    });
    let draft = Draft {
        room,
        event,
        data,
        id: id.unwrap_or_else(random_id),
        from: Sender {
            iss: None,
            sub: Some(format!("backend:{from}").into()),
            name: None,
            connection: "".into(),
        },
        ts: unix_millis(clock::now().wall),
    };
    let published = call.context.publish(&draft, key.as_ref()).await;
    published
        .map(|_| ())
        .map_err(|error| EventError::from(error).in_room(draft.room.clone()))
}

/// Takes the socket into a room. Nothing happens when it is in it, or has gone: the actions that follow may concern
/// others.
async fn join(call: &Call<'_>, room: &RoomName) -> Result<(), EventError> {
    match call.session.join(room).await {
        Ok(()) | Err(NotJoined::SessionEnded) => Ok(()),
        Err(error) => Err(EventError::of_join(error, room)),
    }
}

async fn emit(call: &Call<'_>, event: &str, args: &Data) {
    let outbox = call.session.outbox();
    outbox.wait_for_room().await;
    let name = serde_json::Value::from(event);
    let arguments = args.json()[1..].trim_start();
    let comma = if arguments == "]" { "" } else { "," };
    let json = format!("[{name}{comma}{arguments}");
    let write = |buffer: &mut Vec<u8>| buffer.extend_from_slice(json.as_bytes());
    let packet = outbox::event_of(outbox.namespace(), write, args.attachments());
    // After the end of the session nothing is sent.
    let _ = outbox.send(packet);
}

/// Acknowledges the event with the arguments of the back end, if the client waits for it.
async fn acknowledge(call: &Call<'_>, arguments: &Data) {
    let Some(id) = call.received.ack_id() else {
        return;
    };
    let outbox = call.session.outbox();
    outbox.wait_for_room().await;
    let (json, attachments) = (arguments.raw(), arguments.attachments());
    // JSON is always JSON, and after the end of the session nothing is sent.
    if let Ok(packet) = outbox::acknowledgement_of(outbox.namespace(), id, json, attachments) {
        let _ = outbox.send(packet);
    }
}
