//! A request's body: of a known kind, within a limit and a deadline, wiped after use.

use std::time::Duration;

use actix_web::{HttpMessage as _, HttpRequest, dev, http::header};
use futures_util::StreamExt as _;
use zeroize::Zeroizing;

use crate::error::ApiError;

/// What a body is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyKind {
    /// `application/json`
    Json,
    /// `application/x-www-form-urlencoded`
    Form,
}

/// What the headers say that the body is.
///
/// # Errors
///
/// [`ApiError::UnsupportedMediaType`] for anything else, and for another character set or a
/// content coding: nothing is decompressed, so that nothing small becomes large.
pub(crate) fn kind_of(request: &HttpRequest) -> Result<BodyKind, ApiError> {
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
pub(crate) async fn read(
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
