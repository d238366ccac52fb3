//! The token that a request carries.

use std::{
    future::{Ready, ready},
    time::SystemTime,
};

use actix_web::{FromRequest, HttpRequest, dev, http::header, web};
use anyhow::Context as _;
use shared_claims::{Rejection, VerifiedClaims};

use crate::{error::ApiError, state::AppState};

/// A request whose `Authorization` header has a token that we accept (RFC 6750, section 2.1).
pub struct Bearer(VerifiedClaims);

impl Bearer {
    /// Claims of the token.
    #[must_use]
    pub fn claims(&self) -> &VerifiedClaims {
        &self.0
    }
}

impl FromRequest for Bearer {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut dev::Payload) -> Self::Future {
        ready(accept(request))
    }
}

fn accept(request: &HttpRequest) -> Result<Bearer, ApiError> {
    let state = request
        .app_data::<web::Data<AppState>>()
        .context("the state is missing")?;
    token_of(request)
        .and_then(|token| state.ring().verifier.verify(token, SystemTime::now()))
        .map(Bearer)
        .map_err(ApiError::TokenRejected)
}

/// The token of the `Authorization` header.
///
/// # Errors
///
/// When there is none, more than one, or something else.
pub(crate) fn token_of(request: &HttpRequest) -> Result<&str, Rejection> {
    let mut values = request.headers().get_all(header::AUTHORIZATION);
    let value = match (values.next(), values.next()) {
        (None, _) => return Err(Rejection::TokenMissing),
        (Some(_), Some(_)) => return Err(Rejection::CredentialsAmbiguous),
        (Some(value), None) => value,
    };
    let text = value
        .to_str()
        .map_err(|_| Rejection::CredentialsMalformed)?;
    match text.split_once(' ') {
        Some((scheme, token))
            if scheme.eq_ignore_ascii_case("Bearer")
                && !token.is_empty()
                && !token.contains(char::is_whitespace) =>
        {
            Ok(token)
        }
        _ => Err(Rejection::CredentialsMalformed),
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn token(headers: &[&'static str]) -> Result<String, Rejection> {
        let request = headers.iter().fold(TestRequest::get(), |request, value| {
            request.append_header((header::AUTHORIZATION, *value))
        });
        token_of(&request.to_http_request()).map(str::to_owned)
    }

    #[test]
    fn the_scheme_is_bearer_in_any_case() {
        assert_eq!(token(&["Bearer abc"]), Ok("abc".to_owned()));
        assert_eq!(token(&["bearer abc"]), Ok("abc".to_owned()));
    }

    #[test]
    fn what_is_no_single_bearer_token_is_refused() {
        assert_eq!(token(&[]), Err(Rejection::TokenMissing));
        assert_eq!(
            token(&["Bearer a", "Bearer a"]),
            Err(Rejection::CredentialsAmbiguous)
        );
        for bad in [
            "",
            "Bearer",
            "Bearer ",
            "Bearer  a",
            "Bearer a b",
            "Basic YTpi",
            "abc",
        ] {
            assert_eq!(
                token(&[bad]),
                Err(Rejection::CredentialsMalformed),
                "{bad:?}"
            );
        }
    }
}
