//! The stage that a client of the engine has reached in each namespace.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use crate::{
    namespaces::MAIN,
    session::{ClientShare, Session},
};

/// The stages that a client has reached in the namespaces.
#[derive(Default)]
pub struct Admission {
    stages: Mutex<Stages>,
    /// The part that its sessions share.
    share: OnceLock<Arc<ClientShare>>,
}

/// The stage of a client in each namespace. One without a stage of its own is as `Outside`.
#[derive(Default)]
pub(super) struct Stages {
    main: Stage,
    others: Vec<(Arc<str>, Stage)>,
}

/// The stage of a client in a namespace.
#[derive(Default)]
pub(super) enum Stage {
    /// The client has not presented a token, or was rejected, or has left.
    #[default]
    Outside,
    /// Its token is being verified.
    Connecting,
    /// The client has left while its token is being verified.
    Leaving,
    /// The client was admitted.
    Joined(Arc<Session>),
}

/// Outcome of a CONNECT.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Begun {
    /// The token is to be verified.
    Connecting,
    /// An earlier CONNECT is being answered.
    Again,
    /// The client is in the namespace.
    Joined,
    /// The client has left before its token was verified.
    Leaving,
    /// The client is in as many namespaces as it may be.
    TooMany,
}

impl Stage {
    fn session(&self) -> Option<Arc<Session>> {
        match self {
            Self::Joined(session) => Some(session.clone()),
            Self::Outside | Self::Connecting | Self::Leaving => None,
        }
    }

    /// Takes the session out, when the client leaves.
    fn leave(&mut self) -> Option<Arc<Session>> {
        match std::mem::take(self) {
            Self::Joined(session) => Some(session),
            Self::Outside => None,
            Self::Connecting | Self::Leaving => {
                *self = Self::Leaving;
                None
            }
        }
    }

    fn is_outside(&self) -> bool {
        matches!(self, Self::Outside)
    }
}

impl Stages {
    /// Returns the stage in a namespace, if the client has come to it.
    pub(super) fn find(&mut self, namespace: &str) -> Option<&mut Stage> {
        if namespace == MAIN {
            return Some(&mut self.main);
        }
        let mut others = self.others.iter_mut();
        let found = others.find(|(name, _)| **name == *namespace);
        found.map(|(_, stage)| stage)
    }

    /// Takes the stage out of a namespace whose CONNECT is answered now.
    pub(super) fn take(&mut self, namespace: &str) -> Stage {
        self.find(namespace).map(std::mem::take).unwrap_or_default()
    }

    /// Puts a session in the place of such a stage.
    pub(super) fn join(&mut self, namespace: &str, session: Arc<Session>) {
        if let Some(stage) = self.find(namespace) {
            *stage = Stage::Joined(session);
        }
    }

    /// Begins to connect the client to a namespace, one of `limit` at most.
    fn begin(&mut self, namespace: &Arc<str>, limit: usize) -> Begun {
        match self.find(namespace) {
            None | Some(Stage::Outside) => {}
            Some(Stage::Connecting) => return Begun::Again,
            Some(Stage::Joined(_)) => return Begun::Joined,
            Some(Stage::Leaving) => return Begun::Leaving,
        }
        self.others.retain(|(_, stage)| !stage.is_outside());
        if self.others.len() + usize::from(!self.main.is_outside()) >= limit {
            return Begun::TooMany;
        }
        if **namespace == *MAIN {
            self.main = Stage::Connecting;
        } else {
            self.others.push((namespace.clone(), Stage::Connecting));
        }
        Begun::Connecting
    }
}

impl Admission {
    pub(super) fn stages(&self) -> MutexGuard<'_, Stages> {
        self.stages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to connect the client to a namespace, one of `limit` at most.
    pub(super) fn begin(&self, namespace: &Arc<str>, limit: usize) -> Begun {
        self.stages().begin(namespace, limit)
    }

    /// The part that the sessions of the client share.
    pub(super) fn share(&self) -> &Arc<ClientShare> {
        self.share.get_or_init(Arc::default)
    }

    /// Returns the session in a namespace, if the client was admitted to it.
    pub(super) fn session(&self, namespace: &str) -> Option<Arc<Session>> {
        self.stages().find(namespace)?.session()
    }

    /// Whether the client was admitted to some namespace.
    pub(super) fn has_session(&self) -> bool {
        let stages = self.stages();
        let mut others = stages.others.iter().map(|(_, stage)| stage);
        let is_joined = |stage: &Stage| matches!(stage, Stage::Joined(_));
        is_joined(&stages.main) || others.any(is_joined)
    }

    /// Takes the session out of a namespace, when the client leaves it.
    pub(super) fn leave(&self, namespace: &str) -> Option<Arc<Session>> {
        self.stages().find(namespace)?.leave()
    }

    /// Takes all sessions out, when the client has gone.
    pub(super) fn leave_all(&self) -> Vec<Arc<Session>> {
        let mut stages = self.stages();
        let main = stages.main.leave();
        let others = stages.others.iter_mut();
        let others = others.filter_map(|(_, stage)| stage.leave());
        main.into_iter().chain(others).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_connects_to_so_many_namespaces_and_to_each_once() {
        let [main, admin, staff] = ["/", "/admin", "/staff"].map(Arc::<str>::from);
        let admission = Admission::default();
        for name in [&main, &admin] {
            assert_eq!(admission.begin(name, 2), Begun::Connecting, "{name}");
            assert_eq!(admission.begin(name, 2), Begun::Again, "{name}");
        }
        assert_eq!(admission.begin(&staff, 2), Begun::TooMany);
        assert!(admission.leave(&admin).is_none());
        assert_eq!(admission.begin(&admin, 2), Begun::Leaving);
        // The answer to CONNECT comes, and the place is free.
        assert!(matches!(admission.stages().take(&admin), Stage::Leaving));
        assert_eq!(admission.begin(&staff, 2), Begun::Connecting);
        assert_eq!(admission.begin(&admin, 2), Begun::TooMany);
        assert_eq!(admission.begin(&admin, 3), Begun::Connecting);
        assert!(!admission.has_session());
        assert!(admission.leave_all().is_empty());
        for name in [&main, &admin, &staff] {
            assert!(matches!(admission.stages().take(name), Stage::Leaving));
        }
    }
}
