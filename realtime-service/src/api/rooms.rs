//! Rooms: which there are, who is in them, and what was said.

use std::sync::Arc;

use axum::{Extension, Json, extract::State};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use shared_claims::authorization::Action;
use utoipa::{IntoParams, ToSchema};

use super::{
    Api,
    body::{Parameters, Segment},
    caller::{Caller, Scope},
    problem::{ApiError, PROBLEM_TYPE, Problem},
};
use crate::{
    rooms::{Message, Position, Presence, PresenceMode, RoomName, Selection, Since},
    state::{Reach, RoomCount},
};

/// The most that one answer lists, and what it lists unless it is asked for less.
pub(super) const MOST_LISTED: usize = 1000;
pub(super) const LISTED: usize = 100;

/// Maximum number of pages that one answer is looked for in.
const MOST_PAGES: usize = 20;

/// Which rooms to list.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct RoomsQuery {
    /// The namespace of the rooms; `/` when it is left out.
    namespace: Option<String>,
    /// With what their names begin.
    #[serde(default)]
    prefix: String,
    /// How many at most: 100 when it is left out, 1000 at most.
    limit: Option<usize>,
    /// After which room to go on: the `next` of the answer before.
    after: Option<String>,
}

/// Some rooms, by name.
#[derive(Serialize, ToSchema)]
pub(super) struct RoomsAnswer {
    /// The rooms that somebody is in.
    rooms: Vec<RoomCount>,
    /// From where to go on, when there are more.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
    #[serde(flatten)]
    reach: Reach,
}

/// Lists the rooms that somebody is in on any gateway, by name. Scope `rt.read`; a token that is held to rooms sees
/// those in which it may see who is there.
#[utoipa::path(
    get,
    path = "/v1/rooms",
    tag = "rooms",
    params(RoomsQuery),
    security(("bearer" = [])),
    responses(
        (status = 200, description = "some rooms", body = RoomsAnswer),
        (status = 400, description = "no such namespace", body = Problem, content_type = PROBLEM_TYPE),
        (status = 401, description = "no token", body = Problem, content_type = PROBLEM_TYPE),
        (status = 403, description = "not with this token", body = Problem, content_type = PROBLEM_TYPE),
        (status = 429, description = "too many requests", body = Problem, content_type = PROBLEM_TYPE),
    )
)]
pub(super) async fn list_rooms(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Parameters(query): Parameters<RoomsQuery>,
) -> Result<Json<RoomsAnswer>, ApiError> {
    caller.require(Scope::Read)?;
    let limit = query.limit.unwrap_or(LISTED).min(MOST_LISTED);
    let namespace = api.namespace(query.namespace.as_deref())?;
    let is_meant = |one: &RoomCount| {
        let room = RoomName::parse_in(&namespace, one.room.clone());
        room.is_ok_and(|room| caller.may(Action::Presence, &room))
    };
    let (mut rooms, mut next) = (Vec::new(), query.after);
    let mut reach = Reach::default();
    // Rooms that the token does not cover take no place in the answer.
    for _ in 0..MOST_PAGES {
        let wanted = limit - rooms.len();
        let listing = (&*namespace, &*query.prefix);
        let pages = api.state.rooms_everywhere(listing, next, wanted).await;
        rooms.extend(pages.entries.into_iter().filter(is_meant));
        next = pages.next;
        reach.add(pages.reach);
        if next.is_none() || rooms.len() == limit {
            break;
        }
    }
    Ok(Json(RoomsAnswer { rooms, next, reach }))
}

/// How much to tell of who is in a room.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct PresenceQuery {
    /// The namespace of the room; `/` when it is left out.
    namespace: Option<String>,
    /// `full` when it is left out, or `count`.
    #[serde(default = "full")]
    #[param(value_type = Option<String>)]
    mode: PresenceMode,
}

fn full() -> PresenceMode {
    PresenceMode::Full
}

/// Tells who is in a room, on whichever gateway. Scope `rt.read`.
#[utoipa::path(
    get,
    path = "/v1/rooms/{room}/presence",
    tag = "rooms",
    params(("room" = String, Path, description = "the room"), PresenceQuery),
    security(("bearer" = [])),
    responses(
        (status = 200, description = "who is there", body = Presence),
        (status = 400, description = "no such room", body = Problem, content_type = PROBLEM_TYPE),
        (status = 401, description = "no token", body = Problem, content_type = PROBLEM_TYPE),
        (status = 403, description = "not with this token", body = Problem, content_type = PROBLEM_TYPE),
        (status = 429, description = "too many requests", body = Problem, content_type = PROBLEM_TYPE),
    )
)]
pub(super) async fn show_presence(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Segment(name): Segment,
    Parameters(query): Parameters<PresenceQuery>,
) -> Result<Json<Presence>, ApiError> {
    caller.require(Scope::Read)?;
    let room = api.room(query.namespace.as_deref(), name)?;
    caller.require_room(Action::Presence, &room)?;
    let rooms = &api.state.sessions.rooms;
    Ok(Json(rooms.presence(&room, query.mode).await))
}

/// Which messages to read.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct HistoryQuery {
    /// The namespace of the room; `/` when it is left out.
    namespace: Option<String>,
    /// How many at most: 100 when it is left out, 1000 at most.
    limit: Option<usize>,
    /// With `offset`: the life of the room to read on in.
    epoch: Option<String>,
    /// The message after which to begin; without it, the answer has the last ones.
    offset: Option<u64>,
}

/// Some messages of a room, oldest first.
#[derive(Serialize, ToSchema)]
pub(super) struct HistoryAnswer {
    /// The messages.
    messages: Vec<Said>,
    #[serde(flatten)]
    position: Position,
    /// Whether there are more after the last of them.
    more: bool,
    /// Whether nothing is missing before the first of them, for who named an offset.
    #[serde(skip_serializing_if = "Option::is_none")]
    recovered: Option<bool>,
}

/// A message.
#[derive(Serialize, ToSchema)]
pub(super) struct Said {
    /// The name of its event.
    event: String,
    /// What it said; binary data in it reads `{"base64": …}`.
    data: Value,
    /// What its subscribers got with it.
    meta: Value,
}

impl Said {
    fn of(message: &Message) -> Self {
        Self {
            event: message.event(),
            data: message.data(),
            meta: message.meta(),
        }
    }
}

/// Reads what is kept of a room. Scope `rt.read`.
#[utoipa::path(
    get,
    path = "/v1/rooms/{room}/history",
    tag = "rooms",
    params(("room" = String, Path, description = "the room"), HistoryQuery),
    security(("bearer" = [])),
    responses(
        (status = 200, description = "some messages", body = HistoryAnswer),
        (status = 400, description = "no such room", body = Problem, content_type = PROBLEM_TYPE),
        (status = 401, description = "no token", body = Problem, content_type = PROBLEM_TYPE),
        (status = 403, description = "not with this token", body = Problem, content_type = PROBLEM_TYPE),
        (status = 429, description = "too many requests", body = Problem, content_type = PROBLEM_TYPE),
    )
)]
pub(super) async fn show_history(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Segment(name): Segment,
    Parameters(query): Parameters<HistoryQuery>,
) -> Result<Json<HistoryAnswer>, ApiError> {
    caller.require(Scope::Read)?;
    let room = api.room(query.namespace.as_deref(), name)?;
    caller.require_room(Action::History, &room)?;
    let since = match (query.epoch, query.offset) {
        (Some(epoch), Some(offset)) => Some(Since { epoch, offset }),
        (None, None) => None,
        _ => {
            let detail = "epoch and offset must come together";
            return Err(ApiError::InvalidRequest(detail.into()));
        }
    };
    let limit = query.limit.unwrap_or(LISTED).min(MOST_LISTED);
    let selection = Selection {
        since,
        last: limit,
        limit: Some(limit),
    };
    let extract = api.state.sessions.rooms.read(&room, &selection).await;
    let extract = extract.map_err(|_| ApiError::Unavailable)?;
    Ok(Json(HistoryAnswer {
        messages: extract.messages.iter().map(|one| Said::of(one)).collect(),
        position: extract.position,
        more: extract.more,
        recovered: extract.recovered,
    }))
}
