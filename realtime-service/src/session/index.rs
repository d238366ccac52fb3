//! The sessions by whom a revocation can name: their issuer's session, and its subject.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use shared_claims::verify::LogoutScope;

use super::{Principal, Session};

/// What a revocation names, and whose it is.
type Key = (String, LogoutScope);

/// Sessions by connection.
type Members = HashMap<String, Weak<Session>>;

/// Every session of this gateway that belongs to somebody.
#[derive(Default)]
pub struct Index(Mutex<HashMap<Key, Members>>);

impl Index {
    /// Takes a session in. Whoever revokes from now on finds it.
    pub fn insert(&self, principal: &Principal, session: &Arc<Session>) {
        let mut index = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for key in keys_of(principal) {
            index
                .entry(key)
                .or_default()
                .insert(session.connection.clone(), Arc::downgrade(session));
        }
    }

    /// Forgets a session that has ended.
    pub fn remove(&self, principal: &Principal, session: &Session) {
        let mut index = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for key in keys_of(principal) {
            let Some(members) = index.get_mut(&key) else {
                continue;
            };
            members.remove(&session.connection);
            if members.is_empty() {
                index.remove(&key);
            }
        }
    }

    /// The sessions that `scope` of `issuer` names.
    #[must_use]
    pub fn find(&self, issuer: &str, scope: &LogoutScope) -> Vec<Arc<Session>> {
        let index = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        index
            .get(&(issuer.to_owned(), scope.clone()))
            .into_iter()
            .flat_map(HashMap::values)
            .filter_map(Weak::upgrade)
            .collect()
    }
}

fn keys_of(principal: &Principal) -> [Key; 2] {
    let scopes = LogoutScope::of(&principal.subject, principal.session.as_deref());
    scopes.map(|scope| (principal.issuer.clone(), scope))
}
