//! The first look at a request: requests of Engine.IO are most of all, and need no router.

use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use axum::{Router, body::Body};
use futures_util::future::Either;
use http::{Request, Response, header};
use tower::Service;

use crate::transport::Gate;

/// Leads requests of Engine.IO straight to the gate, and all others to the router.
#[derive(Clone)]
pub(super) struct Entrance {
    gate: Gate,
    /// The routes, the gate's behind CORS among them.
    router: Router,
}

impl Entrance {
    pub(super) fn new(gate: Gate, router: Router) -> Self {
        Self { gate, router }
    }
}

impl Service<Request<Body>> for Entrance {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<
        <Gate as Service<Request<Body>>>::Future,
        <Router as Service<Request<Body>>>::Future,
    >;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let is_of_engine = matches!(request.uri().path(), "/socket.io/" | "/socket.io");
        // A request from another origin needs the headers of CORS in its answer.
        if is_of_engine && !request.headers().contains_key(header::ORIGIN) {
            Either::Left(self.gate.call(request))
        } else {
            Either::Right(self.router.call(request))
        }
    }
}
