//! The answers of the engine to requests.

use std::pin::Pin;

use axum::body::Body;
use http::Response;

use super::error::RequestError;

/// The task of a WebSocket from the end of HTTP on. The task begins by waiting for that end. Dropping it
/// ends the session that the request has opened, or the upgrade that the request has started.
pub type UpgradeTask = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The answer to a request. Dropping it also drops the task of a WebSocket.
#[must_use = "a dropped answer ends the session that the request has opened"]
pub struct Answer {
    /// The response.
    pub response: Response<Body>,
    /// The task to run when the response makes the connection a WebSocket.
    pub upgrade: Option<UpgradeTask>,
}

impl Answer {
    /// Spawns the task of the WebSocket, and returns the response.
    #[must_use]
    pub fn spawn(self) -> Response<Body> {
        if let Some(upgrade) = self.upgrade {
            tokio::spawn(upgrade);
        }
        self.response
    }
}

impl From<Response<Body>> for Answer {
    fn from(response: Response<Body>) -> Self {
        Self {
            response,
            upgrade: None,
        }
    }
}

/// An answer, or the wait for one.
pub enum Reply {
    /// The answer.
    Now(Result<Answer, RequestError>),
    /// The wait for packets, or for the body of the request.
    Later(Pin<Box<dyn Future<Output = Result<Answer, RequestError>> + Send>>),
}

impl Reply {
    /// Waits for the answer.
    ///
    /// # Errors
    ///
    /// When the request does not fit the state of the session.
    pub async fn wait(self) -> Result<Answer, RequestError> {
        match self {
            Self::Now(answer) => answer,
            Self::Later(answer) => answer.await,
        }
    }
}
