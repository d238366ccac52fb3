//! Passkeys: the domain and the pages that they belong to.

use serde::{Deserialize, Serialize};
use shared_claims::origin::OriginPattern;
use url::{Host, Url};
use webauthn_rp::request::{AsciiDomain, RpId};

use super::{ConfigError, Settings, check, parse};

/// Prefix of the origin that Android reports for an app, followed by the hash of its certificate.
const ANDROID_APP: &str = "android:apk-key-hash:";

/// Sign-in with passkeys (Web Authentication Level 3).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PasskeySettings {
    /// Whether people can enrol passkeys and sign in with them. `AUTH__PASSKEYS__ENABLED`, default `true`.
    pub enabled: bool,
    /// The domain that passkeys belong to (the relying party identifier), such as `example.org`: the
    /// pages of `origins` at this domain or below it can use them. Changing it makes every passkey
    /// useless. Empty: the host of `public_url`, if a page of `origins` is at it or below it, and else
    /// passkeys are off. `AUTH__PASSKEYS__RP_ID`, default ``.
    pub rp_id: String,
    /// Further origins, of native apps, separated by commas: `android:apk-key-hash:HASH`, or the
    /// `https` origin that an app for iOS is associated with. `AUTH__PASSKEYS__APP_ORIGINS`, default ``.
    #[serde(deserialize_with = "parse::list")]
    pub app_origins: Vec<String>,
}

impl Default for PasskeySettings {
    fn default() -> Self {
        Self {
            enabled: true,
            rp_id: String::new(),
            app_origins: Vec::new(),
        }
    }
}

/// The relying party of passkeys: a domain, and the origins whose pages and apps may use them.
#[derive(Clone, Debug)]
pub(crate) struct RelyingParty {
    /// The domain.
    pub(crate) rp_id: RpId,
    pages: Vec<OriginPattern>,
    apps: Vec<String>,
}

impl RelyingParty {
    /// Returns whether a page or an app of this origin may use passkeys.
    pub(crate) fn is_allowed(&self, origin: &str) -> bool {
        self.pages.iter().any(|page| page.matches(origin))
            || self.apps.iter().any(|app| app == origin)
    }
}

impl Settings {
    /// Returns the relying party of passkeys; `None` when passkeys are off.
    ///
    /// # Errors
    ///
    /// When `passkeys.rp_id` is no domain, or no page or app of the settings can use it.
    pub(crate) fn relying_party(&self) -> Result<Option<RelyingParty>, ConfigError> {
        let settings = &self.passkeys;
        if !settings.enabled {
            return Ok(None);
        }
        let key = "passkeys.rp_id";
        let domain = match settings.rp_id.as_str() {
            "" => host_of(&self.public_url),
            domain => Some(domain.to_owned()),
        };
        // An address is no domain, and no browser takes it for one.
        let domain = domain.filter(|domain| is_domain(domain));
        let usable = |origin: &&String| {
            let domain = domain.as_deref();
            domain.is_some_and(|domain| can_use(origin, domain))
        };
        let pages = self.origins.iter().filter(usable);
        let pages: Vec<_> = pages
            .filter_map(|page| OriginPattern::parse(page).ok())
            .collect();
        let is_chosen = !settings.rp_id.is_empty();
        check(
            key,
            !is_chosen || domain.is_some(),
            "must be a domain in lower case, such as example.org, and no address",
        )?;
        let apps = settings.app_origins.clone();
        let has_any = !pages.is_empty() || !apps.is_empty();
        let rule = "must be the domain of a page in origins, or a domain above it, unless \
                    passkeys.app_origins names an app";
        check(key, !is_chosen || has_any, rule)?;
        let app = |app: &String| app.starts_with(ANDROID_APP) || usable(&app);
        let rule =
            "must be android:apk-key-hash:HASH, or https origins at passkeys.rp_id or below it";
        let has_domain = domain.is_some();
        check(
            "passkeys.app_origins",
            apps.is_empty() || has_domain && apps.iter().all(app),
            rule,
        )?;
        let rp_id = domain.and_then(|domain| AsciiDomain::try_from(domain).ok());
        let rp_id = rp_id.filter(|_| has_any).map(RpId::Domain);
        Ok(rp_id.map(|rp_id| RelyingParty { rp_id, pages, apps }))
    }
}

fn host_of(url: &str) -> Option<String> {
    Url::parse(url).ok()?.host_str().map(str::to_owned)
}

fn is_domain(text: &str) -> bool {
    matches!(Host::parse(text), Ok(Host::Domain(domain)) if domain == text)
        && AsciiDomain::try_from(text.to_owned()).is_ok()
}

/// Returns whether browsers let a page of `origin` use the passkeys of `domain`: it is at the domain or
/// below it, and came by https or from the machine itself.
fn can_use(origin: &str, domain: &str) -> bool {
    // A star stands for one label: any label does for it.
    let Ok(url) = Url::parse(&origin.replacen("*.", "any.", 1)) else {
        return false;
    };
    let host = url.host_str().unwrap_or_default();
    let is_at = |domain: &str| {
        let rest = host.strip_suffix(domain);
        rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    let is_secure = url.scheme() == "https" || url.scheme() == "http" && is_at("localhost");
    is_secure && is_at(domain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(public_url: &str, origins: &[&str], rp_id: &str) -> Settings {
        Settings {
            public_url: public_url.to_owned(),
            origins: origins.iter().map(|&origin| origin.to_owned()).collect(),
            passkeys: PasskeySettings {
                rp_id: rp_id.to_owned(),
                ..PasskeySettings::default()
            },
            ..Settings::default()
        }
    }

    fn party(settings: &Settings) -> Option<String> {
        let party = settings.relying_party().expect("settings that fit");
        party.map(|party| party.rp_id.as_ref().to_owned())
    }

    #[test]
    fn without_a_domain_it_is_that_of_the_public_url_where_a_page_can_use_it() {
        let of = |url, origins: &[&str]| party(&settings(url, origins, ""));
        let own = "http://localhost:8080";
        assert_eq!(
            of(own, &["http://localhost:9000"]).as_deref(),
            Some("localhost")
        );
        assert_eq!(of(own, &["http://127.0.0.1:9000"]), None);
        let url = "https://example.org/auth";
        assert_eq!(
            of(url, &["https://example.org"]).as_deref(),
            Some("example.org")
        );
        assert_eq!(
            of(url, &["https://*.example.org"]).as_deref(),
            Some("example.org")
        );
        assert_eq!(
            of(url, &["http://example.org", "https://badexample.org"]),
            None
        );
        assert_eq!(
            of("https://auth.example.org", &["https://example.org"]),
            None
        );
        assert_eq!(of("https://192.0.2.1", &["https://192.0.2.1"]), None);
    }

    #[test]
    fn a_chosen_domain_must_be_that_of_a_page_or_above_it() {
        let page = ["https://app.example.org"];
        let of = |rp_id| settings("https://auth.example.org", &page, rp_id);
        assert_eq!(party(&of("example.org")).as_deref(), Some("example.org"));
        for bad in [
            "example.com",
            "auth.example.org",
            "Example.org",
            "192.0.2.1",
            "https://example.org",
        ] {
            assert!(of(bad).relying_party().is_err(), "{bad}");
        }
        let mut off = of("example.com");
        off.passkeys.enabled = false;
        assert_eq!(party(&off), None);
    }

    #[test]
    fn an_origin_is_allowed_if_it_is_listed_and_of_the_domain() {
        let page = ["https://*.example.org", "https://other.example"];
        let mut settings = settings("https://auth.example.org", &page, "example.org");
        let android = "android:apk-key-hash:47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU";
        settings.passkeys.app_origins = vec![android.to_owned(), "https://example.org".to_owned()];
        let party = settings.relying_party().expect("fine").expect("on");
        for good in ["https://app.example.org", android, "https://example.org"] {
            assert!(party.is_allowed(good), "{good}");
        }
        for bad in [
            "https://other.example",
            "http://app.example.org",
            "https://a.b.example.org",
            "https://app.example.org:8443",
            "android:apk-key-hash:another",
        ] {
            assert!(!party.is_allowed(bad), "{bad}");
        }
        settings.passkeys.app_origins = vec!["https://elsewhere.example".to_owned()];
        assert!(settings.relying_party().is_err());
    }
}
