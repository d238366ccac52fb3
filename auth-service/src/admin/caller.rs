//! The client that calls the operator's API.

use std::{marker::PhantomData, pin::Pin, time::SystemTime};

use actix_web::{FromRequest, HttpRequest, dev, web};
use anyhow::Context as _;
use shared_claims::Rejection;

use crate::{
    bearer::token_of,
    clients::{READ_USERS, WRITE_USERS, client_of},
    error::ApiError,
    state::AppState,
    store::event::Actor,
    users::Administration,
};

/// A right to call.
pub(super) trait Scope {
    /// The scope that a token needs at least.
    const NAME: &'static str;
    /// The scopes that include it.
    const SUFFICIENT: &'static [&'static str];
}

/// Reads accounts.
pub(super) struct Read;

/// Reads and changes accounts.
pub(super) struct Write;

impl Scope for Read {
    const NAME: &'static str = READ_USERS;
    const SUFFICIENT: &'static [&'static str] = &[READ_USERS, WRITE_USERS];
}

impl Scope for Write {
    const NAME: &'static str = WRITE_USERS;
    const SUFFICIENT: &'static [&'static str] = &[WRITE_USERS];
}

/// A request with the token of a client for the operator's API, of which one scope is sufficient for
/// `S`. The client was not removed since the token was signed.
pub(super) struct Caller<S> {
    client_id: String,
    state: web::Data<AppState>,
    scope: PhantomData<S>,
}

impl<S> Caller<S> {
    /// The accounts, as this client manages them.
    pub(super) fn administration(&self) -> Administration<'_> {
        let actor = Actor::Client(self.client_id.clone());
        Administration::new(self.state.store(), actor, self.state.settings())
    }
}

impl<S: Scope + 'static> FromRequest for Caller<S> {
    type Error = ApiError;
    type Future = Pin<Box<dyn Future<Output = Result<Self, ApiError>>>>;

    fn from_request(request: &HttpRequest, _: &mut dev::Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move {
            let state = request.app_data::<web::Data<AppState>>().cloned();
            let state = state.context("the state is missing")?;
            let now = SystemTime::now();
            let claims = token_of(&request)
                .and_then(|token| state.ring().admin_verifier.verify(token, now))
                .map_err(ApiError::TokenRejected)?;
            // Nobody but a client is given such a token.
            let client_id = client_of(&claims.sub)
                .ok_or(ApiError::TokenRejected(Rejection::AudienceInvalid))?
                .to_owned();
            let scopes = claims.scope.as_deref().unwrap_or_default();
            if !scopes
                .split(' ')
                .any(|scope| S::SUFFICIENT.contains(&scope))
            {
                return Err(ApiError::ScopeMissing(S::NAME));
            }
            if state.store().find_client(&client_id).await?.is_none() {
                return Err(ApiError::AccountUnavailable);
            }
            Ok(Self {
                client_id,
                state,
                scope: PhantomData,
            })
        })
    }
}
