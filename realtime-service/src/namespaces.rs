//! Values of the main namespace and of the namespaces in the settings.

use std::sync::Arc;

/// The main namespace, in which a client is that names none.
pub(crate) const MAIN: &str = "/";

/// Maximum length of a namespace's name, in bytes.
pub(crate) const MAXIMUM_NAME_BYTES: usize = 64;

/// A value of the main namespace, and one of each namespace of `[[namespaces]]`. The namespaces that an
/// application registers itself share the value of the main one.
pub struct Namespaces<T> {
    main: T,
    others: Box<[(Arc<str>, T)]>,
}

impl<T> Namespaces<T> {
    /// Returns the values `main` and `others`.
    #[must_use]
    pub fn new(main: T, others: impl IntoIterator<Item = (Arc<str>, T)>) -> Self {
        Self {
            main,
            others: others.into_iter().collect(),
        }
    }

    /// Returns the value of the main namespace.
    #[must_use]
    pub fn main(&self) -> &T {
        &self.main
    }

    /// Returns the value of a namespace of the gateway; `None` when the gateway has no such namespace.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&T> {
        match name {
            MAIN => Some(&self.main),
            name => self.find(name).map(|(_, value)| value),
        }
    }

    /// Returns the value of a namespace; that of the main one for a namespace that an application has
    /// registered itself.
    #[must_use]
    pub fn of(&self, name: &str) -> &T {
        self.get(name).unwrap_or(&self.main)
    }

    /// Returns the name of the namespace whose value [`Self::of`] returns.
    #[must_use]
    pub fn name_of(&self, name: &str) -> &str {
        self.find(name).map_or(MAIN, |(name, _)| name)
    }

    /// Returns all values, that of the main namespace first.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        std::iter::once(&self.main).chain(self.others.iter().map(|(_, value)| value))
    }

    fn find(&self, name: &str) -> Option<&(Arc<str>, T)> {
        self.others.iter().find(|(other, _)| **other == *name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_namespace_has_no_value_of_its_own_and_shares_the_main_one() {
        let values = Namespaces::new(1, [("/admin".into(), 2)]);
        let found = ["/", "/admin", "/other", "/admin/"].map(|name| values.get(name).copied());
        assert_eq!(found, [Some(1), Some(2), None, None]);
        let shared = ["/", "/admin", "/other"].map(|name| (values.name_of(name), *values.of(name)));
        assert_eq!(shared, [("/", 1), ("/admin", 2), ("/", 1)]);
        assert_eq!(values.values().sum::<i32>(), 3);
    }
}
