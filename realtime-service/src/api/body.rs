//! Extractors for the body, the path and the query of a request.

use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Path, Query, Request},
    http::{StatusCode, header, request::Parts},
    response::IntoResponse as _,
};
use serde::de::DeserializeOwned;
use shared_claims::json;

use super::problem::ApiError;
use crate::rooms::is_portable;

/// A JSON body of the shape of a `T`, whose struct denies unknown members.
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let kind = request.headers().get(header::CONTENT_TYPE);
        let kind = kind
            .and_then(|kind| kind.to_str().ok())
            .and_then(|kind| kind.split(';').next())
            .unwrap_or_default();
        if !kind.trim().eq_ignore_ascii_case("application/json") {
            return Err(ApiError::UnsupportedMediaType);
        }
        let read = Bytes::from_request(request, state).await;
        let bytes = read.map_err(|rejection| match rejection.into_response().status() {
            StatusCode::PAYLOAD_TOO_LARGE => ApiError::BodyTooLarge,
            _ => ApiError::InvalidRequest("the body cannot be read".into()),
        })?;
        let text = str::from_utf8(&bytes);
        let is_plain = text.is_ok_and(is_portable);
        let parsed = is_plain.then(|| json::from_object(&bytes)).flatten();
        let value = parsed.ok_or(ApiError::InvalidRequest(
            "the body must be an object with exactly the members that this endpoint takes".into(),
        ))?;
        Ok(Self(value))
    }
}

/// The variable segment of the path, decoded.
pub(super) struct Segment(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Segment {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let segment = Path::from_request_parts(parts, state).await;
        let Path(segment) = segment.map_err(|_| {
            ApiError::InvalidRequest("the path is not percent-encoded UTF-8".into())
        })?;
        Ok(Self(segment))
    }
}

/// The parameters of the query, of the shape of a `T`, whose struct denies unknown ones.
pub(super) struct Parameters<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Parameters<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let Query(value) = Query::try_from_uri(&parts.uri).map_err(|_| {
            ApiError::InvalidRequest(
                "the query has a parameter or a value that this endpoint does not take".into(),
            )
        })?;
        Ok(Self(value))
    }
}
