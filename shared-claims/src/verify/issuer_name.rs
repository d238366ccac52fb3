//! The `iss` of an issuer's tokens: one text, or one for each tenant of a provider.

/// The part of an issuer's URL that stands for the tenant.
pub const TENANT_PLACEHOLDER: &str = "{tenant}";

/// The entry of a list of tenants that admits every tenant.
pub const ANY_TENANT: &str = "*";

/// The longest tenant that is accepted, in bytes.
const MAXIMUM_TENANT_BYTES: usize = 64;

/// The placeholder that Microsoft writes into the member `issuer` of keys that tenants share.
const KEY_PLACEHOLDER: &str = "{tenantid}";

/// The name of an issuer, compared byte for byte. With [`TENANT_PLACEHOLDER`] in it, the name covers
/// one `iss` for each of its tenants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerName {
    text: String,
    tenants: Vec<String>,
}

impl<T: Into<String>> From<T> for IssuerName {
    /// The name of an issuer without tenants.
    fn from(text: T) -> Self {
        Self {
            text: text.into(),
            tenants: Vec::new(),
        }
    }
}

impl IssuerName {
    /// Returns the name of an issuer whose `iss` is `text` with one of `tenants` in place of
    /// [`TENANT_PLACEHOLDER`]. A list with [`ANY_TENANT`] admits every tenant.
    #[must_use]
    pub fn of_tenants(text: impl Into<String>, tenants: Vec<String>) -> Self {
        Self {
            text: text.into(),
            tenants,
        }
    }

    /// Returns the name as it stands in the settings.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether `iss` is one of this issuer.
    #[must_use]
    pub fn covers(&self, iss: &str) -> bool {
        match self.tenants.is_empty() {
            true => self.text == iss,
            false => self.tenant_of(iss).is_some(),
        }
    }

    /// Returns the tenant that `iss` names, if the issuer has tenants and this is one of them.
    #[must_use]
    pub fn tenant_of<'a>(&self, iss: &'a str) -> Option<&'a str> {
        if self.tenants.is_empty() {
            return None;
        }
        let (before, after) = self.text.split_once(TENANT_PLACEHOLDER)?;
        let tenant = iss.strip_prefix(before)?.strip_suffix(after)?;
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        let is_tenant = (1..=MAXIMUM_TENANT_BYTES).contains(&tenant.len())
            && tenant.bytes().all(is_plain)
            && !tenant.bytes().all(|byte| byte == b'.');
        let is_listed = self
            .tenants
            .iter()
            .any(|one| one == ANY_TENANT || one == tenant);
        (is_tenant && is_listed).then_some(tenant)
    }

    /// Whether a key whose member `issuer` is `key_issuer` signs for `iss`.
    ///
    /// Keys that several tenants share say whom they sign for: each tenant, by a placeholder, or one
    /// issuer alone.
    pub(super) fn admits_key(&self, key_issuer: Option<&str>, iss: &str) -> bool {
        let Some(key_issuer) = key_issuer else {
            return true;
        };
        let Some((before, after)) = key_issuer.split_once(KEY_PLACEHOLDER) else {
            return key_issuer == iss;
        };
        let tenant = iss.strip_prefix(before);
        let tenant = tenant.and_then(|rest| rest.strip_suffix(after));
        tenant.is_some_and(|tenant| !tenant.is_empty() && !tenant.contains('/'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEMPLATE: &str = "https://login.example/{tenant}/v2.0";

    fn name(tenants: &[&str]) -> IssuerName {
        IssuerName::of_tenants(
            TEMPLATE,
            tenants.iter().map(|&one| one.to_owned()).collect(),
        )
    }

    #[test]
    fn a_name_without_tenants_covers_itself_alone() {
        let name = IssuerName::from("https://login.example/a/v2.0");
        assert!(name.covers("https://login.example/a/v2.0"));
        assert!(!name.covers("https://login.example/a/v2.0/"));
        // A placeholder is text unless tenants are listed.
        assert!(!IssuerName::from(TEMPLATE).covers("https://login.example/a/v2.0"));
    }

    #[test]
    fn a_template_covers_the_tenants_that_are_listed_or_all() {
        let (listed, open) = (name(&["acme", "b-1"]), name(&[ANY_TENANT]));
        for (tenant, is_listed, is_tenant) in [
            ("acme", true, true),
            ("b-1", true, true),
            ("other", false, true),
            ("ACME", false, true),
            ("", false, false),
            ("..", false, false),
            ("acme/evil", false, false),
            ("acme%2Fevil", false, false),
            ("{tenant}", false, false),
            ("acme?x", false, false),
        ] {
            let iss = TEMPLATE.replace(TENANT_PLACEHOLDER, tenant);
            assert_eq!(listed.covers(&iss), is_listed, "{tenant}");
            assert_eq!(open.covers(&iss), is_tenant, "{tenant}");
        }
        assert!(open.covers(&TEMPLATE.replace(TENANT_PLACEHOLDER, &"a".repeat(64))));
        assert!(!open.covers(&TEMPLATE.replace(TENANT_PLACEHOLDER, &"a".repeat(65))));
        assert_eq!(open.tenant_of("https://login.example/a/v2.0"), Some("a"));
        assert!(!open.covers("https://login.example/a/v1.0"));
        assert!(!open.covers("https://evil.example/a/v2.0"));
    }

    #[test]
    fn a_key_signs_for_the_tenants_that_its_issuer_covers() {
        let iss = "https://login.example/a/v2.0";
        for (key_issuer, is_admitted) in [
            (None, true),
            (Some("https://login.example/{tenantid}/v2.0"), true),
            (Some(iss), true),
            (Some("https://login.example/b/v2.0"), false),
            (Some("https://elsewhere.example/{tenantid}/v2.0"), false),
        ] {
            for issuer in [name(&[ANY_TENANT]), IssuerName::from(iss)] {
                let admitted = issuer.admits_key(key_issuer, iss);
                assert_eq!(admitted, is_admitted, "{issuer:?}: {key_issuer:?}");
            }
        }
    }
}
