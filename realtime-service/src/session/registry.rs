//! The sessions, by the names that a revocation can use: the session at their issuer, and the subject.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use shared_claims::verify::LogoutScope;

use super::{Principal, Session};

/// What a revocation names, and whose it is.
type Key = (Arc<str>, LogoutScope);

/// Sessions by connection.
type Members = HashMap<Arc<str>, Weak<Session>>;

/// Every session of this gateway, by its connection, and by whom it belongs to.
#[derive(Default)]
pub struct Registry(Mutex<Sessions>);

#[derive(Default)]
struct Sessions {
    all: Members,
    by_key: HashMap<Key, Members>,
}

impl Registry {
    /// Takes a session in.
    pub fn insert(&self, session: &Arc<Session>) {
        let entry = Arc::downgrade(session);
        self.lock().all.insert(session.connection.clone(), entry);
    }

    /// Forgets a session that has ended.
    pub fn remove(&self, session: &Session) {
        self.lock().all.remove(&session.connection);
    }

    /// Takes a session in as somebody's. Whoever revokes from now on finds it.
    pub fn insert_as(&self, principal: &Principal, session: &Arc<Session>) {
        let mut sessions = self.lock();
        for key in keys_of(principal) {
            sessions
                .by_key
                .entry(key)
                .or_default()
                .insert(session.connection.clone(), Arc::downgrade(session));
        }
    }

    /// Forgets a session of somebody's that has ended.
    pub fn remove_as(&self, principal: &Principal, session: &Session) {
        let by_key = &mut self.lock().by_key;
        for key in keys_of(principal) {
            let Some(members) = by_key.get_mut(&key) else {
                continue;
            };
            members.remove(&session.connection);
            if members.is_empty() {
                by_key.remove(&key);
            }
        }
    }

    /// Every session.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Session>> {
        let sessions = self.lock();
        sessions.all.values().filter_map(Weak::upgrade).collect()
    }

    /// Returns the number of sessions.
    #[must_use]
    pub fn count(&self) -> usize {
        self.lock().all.len()
    }

    /// The session of a connection.
    #[must_use]
    pub fn find_connection(&self, connection: &str) -> Option<Arc<Session>> {
        self.lock().all.get(connection)?.upgrade()
    }

    /// The sessions that `scope` of `issuer` names.
    #[must_use]
    pub fn find(&self, issuer: &str, scope: &LogoutScope) -> Vec<Arc<Session>> {
        let sessions = self.lock();
        sessions
            .by_key
            .get(&(issuer.into(), scope.clone()))
            .into_iter()
            .flat_map(HashMap::values)
            .filter_map(Weak::upgrade)
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, Sessions> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn keys_of(principal: &Principal) -> [Key; 2] {
    let scopes = LogoutScope::of(&principal.subject, principal.session.as_deref());
    scopes.map(|scope| (principal.issuer.clone(), scope))
}
