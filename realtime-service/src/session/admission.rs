//! The admission of a client by the back end of `connect.backend`.

use std::sync::Arc;

use shared_claims::VerifiedClaims;

use super::{Identity, SessionContext};
use crate::{
    backends::{Admission, AdmissionAnswer, AdmissionStage, CallError},
    clock::wall_now,
};

/// The reason why a client whose token was verified is not admitted.
#[derive(Debug)]
pub enum NotAdmitted {
    /// The back end refuses it, with a text for the client.
    Refused(Option<Box<str>>),
    /// The back end gives no answer that can be used.
    Unanswered(CallError),
}

impl SessionContext {
    /// Asks the back end of `connect.backend` of a namespace, if there is one, about the bearer of verified
    /// claims, on a connection of it. Takes as long as the back end's `timeout_ms` at most.
    ///
    /// # Errors
    ///
    /// See [`NotAdmitted`].
    pub(crate) async fn ask_admission(
        &self,
        claims: &VerifiedClaims,
        connection: &Arc<str>,
        namespace: &str,
        stage: AdmissionStage,
    ) -> Result<Arc<Admission>, NotAdmitted> {
        if !self.back_ends.decide_on_connections(namespace) {
            return Ok(Arc::default());
        }
        // Boxed: a handshake that asks no back end is allocated without this size.
        Box::pin(self.ask_back_end(claims, connection, namespace, stage)).await
    }

    async fn ask_back_end(
        &self,
        claims: &VerifiedClaims,
        connection: &Arc<str>,
        namespace: &str,
        stage: AdmissionStage,
    ) -> Result<Arc<Admission>, NotAdmitted> {
        let policy = self.policies.of(namespace);
        let identity = Identity::of(claims, policy, connection.clone(), wall_now());
        let details = identity.details();
        let asker = details.asker(namespace);
        match self
            .back_ends
            .ask_admission(&asker, connection, stage)
            .await
        {
            Ok(AdmissionAnswer::Admitted(admission)) => Ok(Arc::new(admission)),
            Ok(AdmissionAnswer::Refused(reason)) => Err(NotAdmitted::Refused(reason)),
            Err(error) => Err(NotAdmitted::Unanswered(error)),
        }
    }
}
