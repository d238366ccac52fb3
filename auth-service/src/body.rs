//! A request's body: of a known kind, within a limit and a deadline, wiped after use.

use std::{pin::Pin, time::Duration};

use actix_web::{FromRequest, HttpMessage as _, HttpRequest, dev, http::header, web};
use anyhow::Context as _;
use futures_util::StreamExt as _;
use serde::de::DeserializeOwned;
use shared_claims::json;
use zeroize::Zeroizing;

use crate::{error::ApiError, state::AppState};

/// Body of an endpoint. The structs that implement it deny unknown members.
pub(crate) trait Body: DeserializeOwned {
    /// In what it may be written.
    const KINDS: &[BodyKind] = &[BodyKind::Json];
    /// Contents that the body must have, for a client that sent something else: "the body must hold …".
    const SHAPE: &str;
}

/// A body that was read and has the shape of a `T`.
pub(crate) struct Parsed<T>(pub(crate) T);

impl<T: Body + 'static> FromRequest for Parsed<T> {
    type Error = ApiError;
    type Future = Pin<Box<dyn Future<Output = Result<Self, ApiError>>>>;

    fn from_request(request: &HttpRequest, payload: &mut dev::Payload) -> Self::Future {
        let request = request.clone();
        let payload = payload.take();
        Box::pin(async move {
            let state = request
                .app_data::<web::Data<AppState>>()
                .context("the state is missing")?;
            let kind = kind_of(&request)?;
            if !T::KINDS.contains(&kind) {
                return Err(ApiError::UnsupportedMediaType);
            }
            let login = &state.settings().login;
            let deadline = Duration::from_secs(login.body_deadline_secs);
            let body = read(&request, payload, login.body_limit_bytes, deadline).await?;
            let parsed = match kind {
                BodyKind::Json => json::from_object(&body),
                BodyKind::Form => from_form(&body),
            };
            // Messages of serde may repeat a piece of a password.
            parsed
                .map(Self)
                .ok_or(ApiError::InvalidRequest(T::SHAPE.into()))
        })
    }
}

/// The pairs of a form, for an endpoint that takes nothing else.
///
/// # Errors
///
/// When the body is no form in UTF-8, too long or too slow.
pub(crate) async fn read_form(
    request: &HttpRequest,
    payload: dev::Payload,
) -> Result<Vec<(String, Zeroizing<String>)>, ApiError> {
    let state = request
        .app_data::<web::Data<AppState>>()
        .context("the state is missing")?;
    if kind_of(request)? != BodyKind::Form {
        return Err(ApiError::UnsupportedMediaType);
    }
    let login = &state.settings().login;
    let deadline = Duration::from_secs(login.body_deadline_secs);
    let body = read(request, payload, login.body_limit_bytes, deadline).await?;
    if str::from_utf8(&body).is_err() {
        return Err(ApiError::InvalidRequest("the body is not UTF-8".into()));
    }
    let pairs = form_urlencoded::parse(&body);
    Ok(pairs
        .map(|(name, value)| (name.into_owned(), Zeroizing::new(value.into_owned())))
        .collect())
}

/// Reads a body to its end and forgets it, as far as it is one that could be taken.
pub(crate) async fn discard(request: &HttpRequest, payload: dev::Payload) {
    let Some(state) = request.app_data::<web::Data<AppState>>() else {
        return;
    };
    let login = &state.settings().login;
    let deadline = Duration::from_secs(login.body_deadline_secs);
    // One that is too long or too slow ends the connection, as it does elsewhere.
    let _ = read(request, payload, login.body_limit_bytes, deadline).await;
}

fn from_form<T: DeserializeOwned>(body: &[u8]) -> Option<T> {
    let text = str::from_utf8(body).ok()?;
    // Bytes that are no UTF-8 would be replaced on the way, which makes passwords equal that are
    // not; nobody means the replacement itself.
    let is_replaced = web::Query::<Vec<(String, String)>>::from_query(text)
        .ok()?
        .iter()
        .any(|(_, value)| value.contains(char::REPLACEMENT_CHARACTER));
    let parsed = web::Query::<T>::from_query(text).ok()?.into_inner();
    (!is_replaced).then_some(parsed)
}

/// Encoding of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyKind {
    /// `application/json`
    Json,
    /// `application/x-www-form-urlencoded`
    Form,
}

/// Returns the kind of the body by its headers.
///
/// # Errors
///
/// [`ApiError::UnsupportedMediaType`] for anything else, and for another character set or a
/// content coding: nothing is decompressed, so that nothing small becomes large.
fn kind_of(request: &HttpRequest) -> Result<BodyKind, ApiError> {
    let headers = request.headers();
    let is_coded = headers
        .get_all(header::CONTENT_ENCODING)
        .any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"));
    if is_coded || headers.get_all(header::CONTENT_TYPE).count() != 1 {
        return Err(ApiError::UnsupportedMediaType);
    }
    let Ok(Some(media_type)) = request.mime_type() else {
        return Err(ApiError::UnsupportedMediaType);
    };
    let is_utf8 = media_type
        .get_param("charset")
        .is_none_or(|charset| charset.as_str().eq_ignore_ascii_case("utf-8"));
    match media_type.essence_str() {
        "application/json" if is_utf8 => Ok(BodyKind::Json),
        "application/x-www-form-urlencoded" if is_utf8 => Ok(BodyKind::Form),
        _ => Err(ApiError::UnsupportedMediaType),
    }
}

/// Reads the whole body.
///
/// # Errors
///
/// When it is longer than `limit` bytes, which a `Content-Length` says before any of it is read,
/// or takes longer than `deadline`.
async fn read(
    request: &HttpRequest,
    payload: dev::Payload,
    limit: usize,
    deadline: Duration,
) -> Result<Zeroizing<Vec<u8>>, ApiError> {
    let announced = request
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<usize>().ok())
        .unwrap_or(0);
    if announced > limit {
        return Err(ApiError::BodyTooLarge(limit));
    }
    tokio::time::timeout(deadline, collect(payload, limit, announced))
        .await
        .map_err(|_| ApiError::BodyTimeout)?
}

async fn collect(
    mut payload: dev::Payload,
    limit: usize,
    announced: usize,
) -> Result<Zeroizing<Vec<u8>>, ApiError> {
    // Growing would leave copies of a password behind; with a length there is no growing.
    let mut body = Zeroizing::new(Vec::with_capacity(announced));
    while let Some(chunk) = payload.next().await {
        let chunk =
            chunk.map_err(|_| ApiError::InvalidRequest("the body cannot be read".into()))?;
        if body.len() + chunk.len() > limit {
            return Err(ApiError::BodyTooLarge(limit));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}
