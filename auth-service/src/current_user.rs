//! The owner of a bearer token, as the database has the account now.

use std::{pin::Pin, time::SystemTime};

use actix_web::{FromRequest, HttpRequest, dev, web};
use anyhow::Context as _;

use crate::{
    bearer::Bearer, clock::seconds_since_epoch, error::ApiError, state::AppState, store::Account,
};

/// Somebody whose token we accept, whose session lives, and whose account is not shut. A token
/// alone proves what was so when it was signed.
pub(crate) struct CurrentUser {
    /// The account.
    pub(crate) account: Account,
    /// The session of the token.
    pub(crate) session_id: String,
}

impl FromRequest for CurrentUser {
    type Error = ApiError;
    type Future = Pin<Box<dyn Future<Output = Result<Self, ApiError>>>>;

    fn from_request(request: &HttpRequest, payload: &mut dev::Payload) -> Self::Future {
        let state = request.app_data::<web::Data<AppState>>().cloned();
        let bearer = Bearer::from_request(request, payload);
        Box::pin(async move {
            let state = state.context("the state is missing")?;
            let bearer = bearer.await?;
            let claims = bearer.claims();
            let account = state
                .users()
                .find_active(&claims.sub)
                .await?
                .ok_or(ApiError::AccountUnavailable)?;
            let now = seconds_since_epoch(SystemTime::now())?;
            // Ours have one; the empty text is no session's.
            let session_id = claims.sid.clone().unwrap_or_default();
            let lives = state.store().is_session_live(&session_id, &account.id, now);
            if !lives.await? {
                return Err(ApiError::SessionEnded);
            }
            Ok(Self {
                account,
                session_id,
            })
        })
    }
}
