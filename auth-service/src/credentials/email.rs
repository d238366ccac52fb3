//! Addresses for mail: which texts are some, and which of them are the same.

use email_address::{EmailAddress, Options};
use precis_core::profile::PrecisFastInvocation as _;
use precis_profiles::OpaqueString;
use shared_claims::ids::is_identifier;
use url::Host;

use super::CredentialError;

/// An address for mail (RFC 5321, section 4.1.2), as it is written and in its normal form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Email {
    written: String,
    normal: String,
}

impl Email {
    /// Parses an address `local@domain`. White space around it is removed. A display name, an address of
    /// IP and a quoted local part are refused.
    ///
    /// # Errors
    ///
    /// [`CredentialError::Email`] when it is none.
    pub fn parse(text: &str) -> Result<Self, CredentialError> {
        let text = text.trim();
        let options = Options::default()
            .with_required_tld()
            .without_display_text()
            .without_domain_literal();
        let refuse = || CredentialError::Email;
        let parsed = EmailAddress::parse_with_options(text, options).map_err(|_| refuse())?;
        let is_plain = is_identifier(text) && !parsed.local_part().contains('"');
        // As browsers and resolvers write the domain: in lower case and in ASCII.
        let domain = match Host::parse(parsed.domain()) {
            Ok(Host::Domain(domain)) if is_plain => domain,
            _ => return Err(refuse()),
        };
        // Providers ignore case, and characters are composed as in a password.
        let local = parsed.local_part().to_lowercase();
        let local = OpaqueString::enforce(local.as_str()).map_err(|_| refuse())?;
        Ok(Self {
            written: text.to_owned(),
            normal: format!("{local}@{domain}"),
        })
    }

    /// The address as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.written
    }

    /// The address as a mail server takes it: the local part as it was written, since its case belongs to
    /// the owner's server (RFC 5321, section 2.4), and the domain in ASCII.
    #[must_use]
    pub fn mailbox(&self) -> String {
        let local = self.written.rsplit_once('@').map_or("", |(local, _)| local);
        let domain = self
            .normal
            .rsplit_once('@')
            .map_or("", |(_, domain)| domain);
        format!("{local}@{domain}")
    }

    /// The form that all spellings of the address share.
    #[must_use]
    pub fn normal(&self) -> &str {
        &self.normal
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal(text: &str) -> Option<String> {
        Email::parse(text).ok().map(|email| email.normal)
    }

    #[test]
    fn spellings_of_one_address_have_one_normal_form() {
        for (text, expected) in [
            ("a@example.org", "a@example.org"),
            (" Alice.B+tag@Example.ORG\n", "alice.b+tag@example.org"),
            ("a@m\u{fc}nchen.example", "a@xn--mnchen-3ya.example"),
            ("a@XN--MNCHEN-3YA.example", "a@xn--mnchen-3ya.example"),
            ("o'neil!#$%&@example.org", "o'neil!#$%&@example.org"),
            ("caf\u{e9}@example.org", "caf\u{e9}@example.org"),
            ("cafe\u{301}@example.org", "caf\u{e9}@example.org"),
        ] {
            assert_eq!(normal(text).as_deref(), Some(expected), "{text:?}");
        }
        let email = Email::parse(" Alice@Example.org ").expect("an address");
        assert_eq!(email.as_str(), "Alice@Example.org");
        assert_eq!(email.mailbox(), "Alice@example.org");
        let email = Email::parse("Zo\u{eb}@B\u{fc}cher.example").expect("an address");
        assert_eq!(email.mailbox(), "Zo\u{eb}@xn--bcher-kva.example");
    }

    #[test]
    fn what_is_no_address_is_refused() {
        let long = format!("{}@example.org", "a".repeat(65));
        let longer = format!("a@{}org", "example.".repeat(40));
        for bad in [
            "",
            "a",
            "@example.org",
            "a@",
            "a@localhost",
            "a@b@example.org",
            "a b@example.org",
            "a@exa mple.org",
            "a@example..org",
            ".a@example.org",
            "a.@example.org",
            "a@-example-.org",
            "a@[192.0.2.1]",
            "a@192.0.2.1",
            "A <a@example.org>",
            "\"a b\"@example.org",
            "a@example.org\0",
            "a\n@example.org",
            "a@example.org, b@example.org",
            "a\u{202e}@example.org",
            &long,
            &longer,
        ] {
            assert_eq!(normal(bad), None, "{bad:?}");
        }
    }
}
