//! Failures of the parts of the service, as a request fails by them.

use super::ApiError;
use crate::{
    claims_webhook::TokenRefused,
    guard::{attempts::AttemptError, counters::CountError, limits::LimitReached},
    store::StoreError,
    users::password::PoolError,
};

impl From<LimitReached> for ApiError {
    fn from(LimitReached { limit, secs }: LimitReached) -> Self {
        Self::RateLimited { limit, secs }
    }
}

impl From<CountError> for ApiError {
    fn from(error: CountError) -> Self {
        match error {
            CountError::Reached(reached) => reached.into(),
            CountError::Store(error) => error.into(),
        }
    }
}

impl From<TokenRefused> for ApiError {
    fn from(refused: TokenRefused) -> Self {
        match refused {
            TokenRefused::Because(text) => Self::LoginRefused(text.into()),
            TokenRefused::NoAnswer => Self::Unavailable,
        }
    }
}

impl From<AttemptError> for ApiError {
    fn from(error: AttemptError) -> Self {
        match error {
            AttemptError::Limited(reached) => reached.into(),
            AttemptError::Crowded => Self::Overloaded,
            AttemptError::NoPassword(error) => Self::InvalidRequest(error.to_string().into()),
            AttemptError::Refused => Self::InvalidCredentials,
            AttemptError::Pool(error) => error.into(),
            AttemptError::Store(error) => error.into(),
        }
    }
}

impl From<anyhow::Error> for ApiError {
    fn from(error: anyhow::Error) -> Self {
        Self::Internal(error)
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<PoolError> for ApiError {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Overloaded => Self::Overloaded,
            PoolError::Failed => Self::Internal(error.into()),
        }
    }
}
