//! The policies of all namespaces, and who may be in a namespace at all.

use std::sync::Arc;

use super::{Holder, Policy, TokenRequirement};
use crate::{
    config::{Config, ConfigError, NamespaceView},
    namespaces::Namespaces,
};

impl Policy {
    /// Builds the policies of all namespaces in `config`.
    ///
    /// # Errors
    ///
    /// When a rule for rooms cannot work.
    pub fn all(config: &Config) -> Result<Namespaces<Self>, ConfigError> {
        config.each_namespace(|view| Self::of_namespace(config, view))
    }

    fn of_namespace(config: &Config, view: &NamespaceView<'_>) -> Result<Self, ConfigError> {
        Ok(Self {
            namespace: view.name.into(),
            required: view.entry.map(TokenRequirement::of_namespace),
            ..Self::with_rules(config, view.rooms, &view.place)?
        })
    }

    /// The namespace.
    #[must_use]
    pub fn namespace(&self) -> &Arc<str> {
        &self.namespace
    }

    /// Whether the holder of a token, or a guest, may be in the namespace.
    #[must_use]
    pub fn admits(&self, holder: &Holder<'_>) -> bool {
        let required = self.required.as_ref();
        required.is_none_or(|required| required.is_met_by(holder))
    }

    /// Whether guests may stay in the namespace, where the gateway admits guests.
    #[must_use]
    pub fn admits_guests(&self) -> bool {
        let required = self.required.as_ref();
        required.is_none_or(TokenRequirement::is_met_by_guests)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use shared_claims::authorization::Action;

    use super::*;
    use crate::auth::policy::{RoomName, tests::claims};

    /// The policies of a gateway whose own issuer this is.
    fn policies(issuer: &str) -> Namespaces<Policy> {
        let rule = |room: &str| json!({ "rooms": [room], "actions": ["sub"], "issuers": ["*"] });
        let config = Config {
            issuer: issuer.to_owned(),
            rooms: serde_json::from_value(json!([rule("lobby")])).expect("rules"),
            namespaces: serde_json::from_value(json!([
                { "name": "/admin", "issuers": ["*"], "scope": "staff", "rooms": [rule("desk:*")] },
                { "name": "/open", "guests": true },
            ]))
            .expect("namespaces"),
            ..Config::default()
        };
        Policy::all(&config).expect("rules that work")
    }

    #[test]
    fn grants_are_about_the_rooms_of_their_namespace_alone() {
        let details =
            json!([{ "type": "realtime", "actions": ["sub"], "rooms": ["desk:7", "cellar"] }]);
        let claims = claims(json!({ "scope": "staff", "authorization_details": details }));
        let policies = policies(&claims.iss);
        let grants = |namespace: &str| {
            let policy = policies.get(namespace).expect("a namespace");
            policy.grants(&policy.bearer(&claims))
        };
        let (main, admin) = (grants("/"), grants("/admin"));
        let room = |namespace, name| RoomName::parse_in(namespace, name).expect("a room");
        for (grants, namespace, name, is_allowed) in [
            (&main, "/", "lobby", true),
            (&main, "/", "cellar", true),
            (&main, "/admin", "lobby", false),
            (&main, "/admin", "desk:7", false),
            (&admin, "/admin", "desk:7", true),
            (&admin, "/admin", "lobby", false),
            (&admin, "/admin", "cellar", false),
            (&admin, "/", "desk:7", false),
        ] {
            let room = room(namespace, name);
            let allowed = grants.allow(Action::Subscribe, &room);
            assert_eq!(allowed, is_allowed, "{namespace} {name}");
        }
    }

    #[test]
    fn who_may_not_enter_a_namespace_is_granted_nothing_there() {
        let policies = policies("http://localhost:8080");
        let admin = policies.get("/admin").expect("a namespace");
        let room = RoomName::parse_in("/admin", "desk:7").expect("a room");
        for (scope, is_admitted) in [("staff", true), ("clerk", false)] {
            let claims = claims(json!({ "scope": scope }));
            let holder = admin.bearer(&claims);
            assert_eq!(admin.admits(&holder), is_admitted, "{scope}");
            let explained = admin.explain(&holder, Action::Subscribe, &room);
            assert_eq!(explained.allowed, is_admitted, "{explained}");
            assert_eq!(explained.barred, !is_admitted);
            let text = explained.to_string();
            assert!(text.contains("in desk:7 of /admin"), "{text}");
        }
        for (namespace, is_open) in [("/", true), ("/admin", false), ("/open", true)] {
            let policy = policies.get(namespace).expect("a namespace");
            assert_eq!(policy.admits_guests(), is_open, "{namespace}");
            assert_eq!(policy.admits(&Holder::Guest), is_open, "{namespace}");
        }
    }
}
