//! The namespace that a request names, and the rooms in it.

use std::sync::Arc;

use super::{Api, problem::ApiError};
use crate::{namespaces::MAIN, rooms::RoomName};

impl Api {
    /// Returns the namespace that a request names; the main one when it names none.
    ///
    /// # Errors
    ///
    /// When the gateway has no such namespace.
    pub(super) fn namespace(&self, name: Option<&str>) -> Result<Arc<str>, ApiError> {
        let policy = self.state.sessions.policies.get(name.unwrap_or(MAIN));
        let policy = policy.ok_or(ApiError::InvalidRequest(
            "the gateway has no namespace of this name".into(),
        ))?;
        Ok(policy.namespace().clone())
    }

    /// Returns the room that a request names, in the namespace that it names.
    ///
    /// # Errors
    ///
    /// When there is no such namespace, or a room cannot have this name.
    pub(super) fn room(&self, namespace: Option<&str>, text: String) -> Result<RoomName, ApiError> {
        RoomName::parse_in(&self.namespace(namespace)?, text)
            .map_err(|_| ApiError::InvalidRequest("this is not the name of a room".into()))
    }
}
