//! The requests of sessions that socketioxide carries.

use std::sync::Arc;

use axum::body::Body;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Bytes;
use serde_json::Value;
use tower::ServiceExt;

use super::{Refusal, Shared};
use crate::transport::{
    engine_session::EngineSession,
    listener::{Connection, refusal_data},
    poll_body::messages_in,
    request::{closing_request, detach_head},
};

impl Shared {
    pub(super) async fn open_websocket(
        &self,
        mut request: Request<Body>,
        session: Arc<EngineSession>,
        connection: Arc<Connection>,
    ) -> Result<Response<Body>, Refusal> {
        session.attach(connection);
        detach_head(&mut request);
        request.extensions_mut().insert(session.clone());
        self.upgrade(request, &session).await
    }

    /// Lets a WebSocket through to which `session` is attached already.
    async fn upgrade(
        &self,
        request: Request<Body>,
        session: &EngineSession,
    ) -> Result<Response<Body>, Refusal> {
        let response = self.forward(request.map(|_| Full::default())).await;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            session.detach();
        }
        Ok(response)
    }

    pub(super) async fn open_polling(
        &self,
        mut request: Request<Body>,
        session: Arc<EngineSession>,
    ) -> Result<Response<Body>, Refusal> {
        detach_head(&mut request);
        request.extensions_mut().insert(session.clone());
        let uri = request.uri().clone();
        let response = self.forward(request.map(|_| Full::default())).await;
        if response.status() != StatusCode::OK {
            return Ok(response);
        }
        let (parts, body) = response.into_parts();
        let body = body
            .collect()
            .await
            .map_err(|_| Refusal::BadRequest)?
            .to_bytes();
        let sid = opened_sid(&body).ok_or(Refusal::BadRequest)?;
        let engine = self.socketioxide.clone();
        let closing = sid.clone();
        let close = move || {
            if let Some(request) = closing_request(&uri, &closing, Full::from("1")) {
                tokio::spawn(engine.clone().oneshot(request));
            }
        };
        self.registry.insert(&session, sid, close);
        Ok(Response::from_parts(parts, Body::from(body)))
    }

    /// Serves a request of a session that exists, until the session ends.
    pub(super) async fn resume(
        &self,
        request: Request<Body>,
        session: Arc<EngineSession>,
        upgrade_by: Option<Arc<Connection>>,
    ) -> Result<Response<Body>, Refusal> {
        if let Some(connection) = upgrade_by {
            if !session.attach(connection) {
                return Err(Refusal::BadRequest);
            }
            return self.upgrade(request, &session).await;
        }
        let request = if request.method() == Method::POST {
            let (parts, body) = request.into_parts();
            Request::from_parts(parts, Full::from(self.read(body).await?))
        } else {
            request.map(|_| Full::default())
        };
        session.heard();
        let answer = tokio::select! {
            biased;
            () = session.ended() => Err(Refusal::UnknownSession),
            response = self.forward(request) => finish_poll(response, &session).await,
        };
        session.heard();
        answer
    }

    /// Reads a whole body, which is bounded in size and time.
    async fn read(&self, body: Body) -> Result<Bytes, Refusal> {
        let limits = &self.context.limits;
        let read = Limited::new(body, limits.message_bytes).collect();
        match tokio::time::timeout(limits.body_read(), read).await {
            Ok(Ok(body)) => Ok(body.to_bytes()),
            Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Refusal::TooLarge),
            Ok(Err(_)) => Err(Refusal::BadRequest),
            Err(_) => Err(Refusal::TooSlow),
        }
    }

    async fn forward(&self, request: Request<Full<Bytes>>) -> Response<Body> {
        let response = self
            .socketioxide
            .clone()
            .oneshot(request)
            .await
            .unwrap_or_else(|never| match never {});
        response.map(Body::new)
    }
}

/// Notes which messages leave with the answer to a poll, and adds to the refusals in it what
/// socketioxide leaves out.
async fn finish_poll(
    response: Response<Body>,
    session: &Arc<EngineSession>,
) -> Result<Response<Body>, Refusal> {
    let (mut parts, body) = response.into_parts();
    let body = body
        .collect()
        .await
        .map_err(|_| Refusal::BadRequest)?
        .to_bytes();
    let frames = messages_in(&body, session.dialect().version);
    if frames > 0 {
        session.frames_left(frames);
    }
    let Some(rewritten) = refusal_data::in_body(&body, session.dialect().version) else {
        return Ok(Response::from_parts(parts, Body::from(body)));
    };
    parts
        .headers
        .insert(header::CONTENT_LENGTH, rewritten.len().into());
    Ok(Response::from_parts(parts, Body::from(rewritten)))
}

/// The `sid` in the packet that opens a session: `0{…}`, with its length before it on version 3.
fn opened_sid(body: &[u8]) -> Option<String> {
    let start = body.iter().position(|byte| *byte == b'{')?;
    let open: Value = serde_json::from_slice(&body[start..]).ok()?;
    Some(open.get("sid")?.as_str()?.to_owned())
}
