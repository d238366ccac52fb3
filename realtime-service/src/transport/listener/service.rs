//! The services that answer the requests of a listener.

use std::sync::Arc;

use axum::{Router, body::Body};
use http::{Request, Response};
use tower::Service as _;

use super::Connection;

/// An HTTP service that answers every request.
pub trait HttpService: Clone + Send + Sync + 'static {
    /// Answers a request that came by `connection`. hyper may drop the future before its first poll, for
    /// example when the client has gone: what the call itself has begun must end then.
    fn answer(
        &self,
        request: Request<Body>,
        connection: &Arc<Connection>,
    ) -> impl Future<Output = Response<Body>> + Send + use<Self>;
}

impl HttpService for Router {
    /// Routes the request, which has an `Arc` of the [`Connection`] among its extensions.
    fn answer(
        &self,
        mut request: Request<Body>,
        connection: &Arc<Connection>,
    ) -> impl Future<Output = Response<Body>> + Send + use<> {
        request.extensions_mut().insert(connection.clone());
        let answer = self.clone().call(request);
        async move { answer.await.unwrap_or_else(|never| match never {}) }
    }
}
