//! The rules that the settings of issuers keep, each on its own and all together.

use serde_json::Value;
use shared_claims::{
    claims::MAXIMUM_LIFETIME_SECS,
    verify::{ANY_TENANT, AUDIENCE_CLAIM, TENANT_PLACEHOLDER},
};

use super::{Config, ConfigError, IssuerSettings, check};

/// Tenants of Microsoft that no token has in its `iss`: they stand for several tenants.
const SHARED_TENANTS: [&str; 3] = ["common", "organizations", "consumers"];

/// Reason to refuse [`SHARED_TENANTS`].
const SHARED_TENANT: &str = "issuer ends in a tenant that no token has in its iss (common, \
    organizations, consumers): write the id of your tenant, or {tenant} and list tenants";

impl Config {
    /// Checks the issuers, our own too.
    ///
    /// # Errors
    ///
    /// The first setting that cannot work.
    pub(super) fn check_issuers(&self) -> Result<(), ConfigError> {
        check(
            "issuer",
            is_url(&self.issuer),
            "must begin with http:// or https://",
        )?;
        check(
            "issuer",
            !self.issuer.ends_with('/'),
            "must not end with a slash: the iss of auth-service's tokens does not",
        )?;
        check(
            "keys.jwks_uri",
            is_url(&self.jwks_uri()),
            "must begin with http:// or https://",
        )?;
        for (index, issuer) in self.issuers.iter().enumerate() {
            let setting = format!("issuers[{index}]");
            let problem = issuer.problem();
            check(&setting, problem.is_none(), problem.unwrap_or_default())?;
            let name = issuer.name();
            let earlier = self.issuers[..index].iter();
            let mut earlier = earlier.map(|other| (other.name(), other.issuer.as_str()));
            let is_twice = name.covers(&self.issuer)
                || earlier.any(|(other, text)| {
                    other == name
                        || text == issuer.issuer
                        || other.covers(&issuer.issuer)
                        || name.covers(text)
                });
            check(&setting, !is_twice, "an issuer stands there twice")?;
        }
        Ok(())
    }
}

impl IssuerSettings {
    /// Returns the fault of the settings, if there is one.
    fn problem(&self) -> Option<&'static str> {
        if !is_url(&self.issuer) || (!self.jwks_uri.is_empty() && !is_url(&self.jwks_uri)) {
            return Some("issuer and jwks_uri must begin with http:// or https://");
        }
        if self.audience.is_empty() || self.audience.iter().any(String::is_empty) {
            return Some("audience must not be empty: tokens for anybody are for nobody");
        }
        if self.algorithms.is_empty() || self.types.is_empty() {
            return Some("algorithms and types must not be empty");
        }
        if self.audience_claim.is_empty() || self.claims.scope.iter().any(String::is_empty) {
            return Some("audience_claim and claims.scope must not be empty");
        }
        let is_lifetime = (1..=MAXIMUM_LIFETIME_SECS * 31).contains(&self.maximum_lifetime_secs);
        if !is_lifetime {
            return Some("maximum_lifetime_secs must be 1 to 2678400");
        }
        self.problem_of_tenants()
            .or_else(|| self.problem_of_kinds())
    }

    fn problem_of_tenants(&self) -> Option<&'static str> {
        let has_placeholder = self.issuer.contains(TENANT_PLACEHOLDER);
        if !has_placeholder {
            let tenant = self.issuer.split('/').nth(3);
            return if !self.tenants.is_empty() {
                Some("tenants want {tenant} in issuer")
            } else if self.issuer.contains(['{', '}']) {
                Some("issuer has braces that are not {tenant}")
            } else if tenant.is_some_and(|one| SHARED_TENANTS.contains(&one)) {
                Some(SHARED_TENANT)
            } else {
                None
            };
        }
        let mut segments = self.issuer.split('/').skip(3);
        let is_one_segment = segments.any(|one| one == TENANT_PLACEHOLDER)
            && self.issuer.matches(['{', '}']).count() == 2;
        if !is_one_segment {
            return Some("{tenant} must be one whole segment of the path of issuer");
        }
        if self.tenants.is_empty() {
            return Some("{tenant} wants a list of tenants, or [\"*\"] for every tenant");
        }
        if self.tenants.len() > 1 && self.tenants.iter().any(|one| one == ANY_TENANT) {
            return Some("tenants must be a list of tenants, or [\"*\"] alone");
        }
        let are_covered = self.tenants.iter().all(|one| {
            let iss = self.issuer.replace(TENANT_PLACEHOLDER, one);
            one == ANY_TENANT || self.name().tenant_of(&iss).is_some()
        });
        if !are_covered {
            return Some("a tenant is 1 to 64 letters, digits, dots, hyphens and underscores");
        }
        let has_keys = !self.jwks_uri.is_empty();
        (!has_keys).then_some("{tenant} wants jwks_uri, where the keys of all tenants are")
    }

    fn problem_of_kinds(&self) -> Option<&'static str> {
        let is_value = |value: &Value| value.is_string() || value.is_boolean() || value.is_number();
        let is_required = |value: &Value| match value {
            Value::Array(values) => !values.is_empty() && values.iter().all(is_value),
            one => is_value(one),
        };
        if !self.require_claims.values().all(is_required) {
            return Some("require_claims must be texts, numbers, true or false, or lists of them");
        }
        let is_for_client = !self.client_id.is_empty()
            && self.audience.iter().all(|one| *one == self.client_id)
            && self.audience_claim == AUDIENCE_CLAIM;
        (self.accept_id_tokens && !is_for_client).then_some(
            "accept_id_tokens wants client_id, and the same text as the only audience: an ID token \
             for another client is no proof",
        )
    }
}

fn is_url(text: &str) -> bool {
    let rest = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"));
    let host = rest.and_then(|rest| rest.split('/').next());
    host.is_some_and(|host| host.parse::<http::uri::Authority>().is_ok())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const TEMPLATE: &str = "https://login.microsoftonline.com/{tenant}/v2.0";

    fn error_of(issuers: &[Value]) -> Option<String> {
        let issuers = serde_json::from_value(json!(issuers)).expect("settings");
        let config = Config {
            issuers,
            ..Config::default()
        };
        config.check().err().map(|error| error.to_string())
    }

    /// Returns the settings `changes` on top of ones that work.
    fn with(changes: &Value) -> Value {
        let mut settings = json!({"issuer": "https://a.example", "audience": "api"});
        for (name, value) in changes.as_object().expect("an object") {
            settings[name] = value.clone();
        }
        settings
    }

    /// Refuses the first of each row for a reason that names the second, and accepts the third.
    #[track_caller]
    fn refuse(rows: impl IntoIterator<Item = (Value, &'static str, Value)>) {
        for (bad, expected, good) in rows {
            let error = error_of(&[with(&bad)]).unwrap_or_default();
            assert!(error.starts_with("issuers[0]: "), "{bad}: {error}");
            assert!(error.contains(expected), "{bad}: {error}");
            assert_eq!(error_of(&[with(&good)]), None, "{good}");
        }
    }

    #[test]
    fn a_template_that_cannot_work_is_refused_and_its_twin_is_not() {
        let keys = "https://login.microsoftonline.com/common/discovery/v2.0/keys";
        let tenants = json!({"issuer": TEMPLATE, "tenants": ["a"], "jwks_uri": keys});
        let changed = |name: &str, value: Value| {
            let mut changed = tenants.clone();
            changed[name] = value;
            changed
        };
        refuse([
            (json!({"tenants": ["a"]}), "{tenant}", tenants.clone()),
            (
                changed("tenants", json!([])),
                "list of tenants",
                tenants.clone(),
            ),
            (
                changed("tenants", json!(["a/b"])),
                "a tenant is",
                changed("tenants", json!(["a", "b"])),
            ),
            (
                changed("tenants", json!(["*", "a"])),
                "alone",
                changed("tenants", json!(["*"])),
            ),
            (changed("jwks_uri", json!("")), "jwks_uri", tenants.clone()),
            (
                changed("issuer", json!("https://x.example/a{tenant}/v2.0")),
                "whole segment",
                changed("issuer", json!("https://x.example/{tenant}/v2.0")),
            ),
            (
                changed("issuer", json!("https://x.example/v{tenant}")),
                "whole segment",
                changed("issuer", json!("https://x.example/{tenant}")),
            ),
            (
                json!({"issuer": "https://x.example/{tenantid}/v2.0"}),
                "braces",
                json!({"issuer": "https://x.example/tenantid/v2.0"}),
            ),
        ]);
    }

    #[test]
    fn an_issuer_that_cannot_work_is_refused_and_its_twin_is_not() {
        let id = json!({"accept_id_tokens": true, "client_id": "api"});
        refuse([
            (
                json!({"audience": []}),
                "audience",
                json!({"audience": ["a", "b"]}),
            ),
            (
                json!({"audience": ["a", ""]}),
                "audience",
                json!({"audience": "a"}),
            ),
            (
                json!({"audience_claim": ""}),
                "audience_claim",
                json!({"audience_claim": "client_id"}),
            ),
            (
                json!({"require_claims": {"a": {}}}),
                "require_claims",
                json!({"require_claims": {"a": 1}}),
            ),
            (
                json!({"require_claims": {"a": []}}),
                "require_claims",
                json!({"require_claims": {"a": ["b"]}}),
            ),
            (json!({"accept_id_tokens": true}), "accept_id_tokens", id),
            (
                json!({"accept_id_tokens": true, "client_id": "app"}),
                "accept_id_tokens",
                json!({"accept_id_tokens": true, "client_id": "app", "audience": "app"}),
            ),
        ]);
    }

    #[test]
    fn a_tenant_that_stands_for_several_is_refused() {
        for tenant in SHARED_TENANTS {
            let issuer = TEMPLATE.replace(TENANT_PLACEHOLDER, tenant);
            let error = error_of(&[with(&json!({"issuer": issuer}))]);
            assert!(
                error.is_some_and(|error| error.contains("common")),
                "{tenant}"
            );
        }
        let issuer = TEMPLATE.replace(TENANT_PLACEHOLDER, "a");
        assert_eq!(error_of(&[with(&json!({"issuer": issuer}))]), None);
    }

    #[test]
    fn an_issuer_and_a_template_that_covers_it_are_the_same_issuer_twice() {
        let keys = "https://login.microsoftonline.com/common/discovery/v2.0/keys";
        let of = |tenants: &[&str]| {
            with(&json!({"issuer": TEMPLATE, "tenants": tenants, "jwks_uri": keys}))
        };
        let one =
            |tenant: &str| with(&json!({"issuer": TEMPLATE.replace(TENANT_PLACEHOLDER, tenant)}));
        for (twice, once) in [
            ([of(&["a"]), one("a")], [of(&["a"]), one("b")]),
            ([one("a"), of(&["*"])], [one("b"), of(&["a"])]),
            ([of(&["a"]), of(&["b"])], [of(&["a"]), with(&json!({}))]),
            ([one("a"), one("a")], [one("a"), one("b")]),
        ] {
            let error = error_of(&twice).unwrap_or_default();
            assert_eq!(error, "issuers[1]: an issuer stands there twice");
            assert_eq!(error_of(&once), None);
        }
        let ours = with(&json!({"issuer": Config::default().issuer}));
        assert!(error_of(&[ours]).is_some());
    }

    #[test]
    fn our_own_issuer_ends_without_a_slash() {
        let error_of = |issuer: &str| {
            let config = Config {
                issuer: issuer.to_owned(),
                ..Config::default()
            };
            config.check().err().map(|error| error.to_string())
        };
        for issuer in ["https://x.example", "https://x.example/auth"] {
            assert_eq!(error_of(issuer), None);
            let error = error_of(&format!("{issuer}/")).unwrap_or_default();
            assert!(
                error.starts_with("issuer: must not end with a slash"),
                "{error}"
            );
        }
    }
}
