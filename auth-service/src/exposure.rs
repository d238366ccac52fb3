//! Settings that are accepted and leave something open, each told in one line at the start.

use std::net::{IpAddr, SocketAddr};

use url::{Host, Url};

use crate::config::{Settings, StartTls};

/// Returns what the settings of a service that listens at `address` leave open.
pub(crate) fn find(settings: &Settings, address: Option<SocketAddr>) -> Vec<&'static str> {
    let is_reachable = |address: SocketAddr| !is_loopback(address.ip());
    let has_tls = settings.tls.is_on() || settings.public_url.starts_with("https://");
    let all_addresses = settings
        .trusted_proxies
        .iter()
        .any(|network| network.prefix_len() == 0);
    let is_clear_mail = settings.mail.url.get().is_some_and(|server| {
        let has_tls = server.is_tls || settings.mail.starttls != StartTls::Off;
        !has_tls && !is_this_machine(&server.host)
    });
    let findings = [
        (
            address.is_none_or(is_reachable) && !has_tls,
            "listening beyond loopback while public_url is not https: passwords and tokens can be read on the way",
        ),
        (
            settings.admin.listen.0.is_some_and(is_reachable),
            "the operator's listener has no TLS and listens beyond loopback: its tokens can be read on the way",
        ),
        (
            all_addresses,
            "trusted_proxies has all addresses: each client writes its own, and no limit of an address holds",
        ),
        (
            is_clear_mail,
            "mails leave this machine without TLS: the links in them can be read on the way",
        ),
        (
            is_clear(settings.mail.webhook.expose()),
            "mail.webhook is http beyond this machine: the links in its mails can be read on the way",
        ),
        (
            is_clear(settings.token.claims_webhook.url.expose()),
            "token.claims_webhook.url is http beyond this machine: its answers, which add roles, can be changed on the way",
        ),
    ];
    let open = findings.into_iter().filter(|(is_open, _)| *is_open);
    open.map(|(_, line)| line).collect()
}

/// Returns whether a URL leads beyond this machine without TLS.
fn is_clear(url: &str) -> bool {
    let Ok(url) = Url::parse(url) else {
        return false;
    };
    url.scheme() == "http" && !url.host_str().is_some_and(is_this_machine)
}

fn is_this_machine(host: &str) -> bool {
    match Host::parse(host) {
        Ok(Host::Ipv4(address)) => is_loopback(address.into()),
        Ok(Host::Ipv6(address)) => is_loopback(address.into()),
        Ok(Host::Domain(name)) => name == "localhost",
        Err(_) => false,
    }
}

/// Returns whether nobody but this machine reaches an address, which may be of IPv4 in the form of IPv6.
fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loopback_address_is_one_in_each_form() {
        for (text, expected) in [
            ("127.0.0.1", true),
            ("127.1.2.3", true),
            ("::1", true),
            ("::ffff:127.0.0.1", true),
            ("::ffff:192.0.2.1", false),
            ("0.0.0.0", false),
            ("::", false),
        ] {
            let address = text.parse().expect("an address");
            assert_eq!(is_loopback(address), expected, "{text}");
        }
    }

    /// Each setting that leaves something open, beside the one that does not.
    #[test]
    fn what_is_left_open_is_told_and_nothing_else() {
        let loopback = "127.0.0.1:8080".parse().ok();
        for (key, open, closed) in [
            ("listen", "192.0.2.1:8080", "[::ffff:127.0.0.1]:8080"),
            ("admin.listen", "0.0.0.0:8081", "127.0.0.1:8081"),
            ("trusted_proxies", "::/0", "::/1"),
            ("mail.url", "smtp://mail.example.org", "smtp://localhost"),
            ("mail.webhook", "http://mail:8000/", "http://[::1]:8000/"),
            ("claims", "http://192.0.2.1/", "https://192.0.2.1/"),
        ] {
            for (value, expected) in [(open, 1), (closed, 0)] {
                let mut settings = Settings::default();
                let mut address = loopback;
                match key {
                    "listen" => address = value.parse().ok(),
                    "admin.listen" => settings.admin.listen.0 = value.parse().ok(),
                    "trusted_proxies" => {
                        settings.trusted_proxies = vec![value.parse().expect("a network")]
                    }
                    "mail.url" => {
                        settings.mail.url = value.parse().expect("a URL");
                        settings.mail.starttls = StartTls::Off;
                    }
                    "mail.webhook" => settings.mail.webhook = value.parse().expect("a URL"),
                    _ => settings.token.claims_webhook.url = value.parse().expect("a URL"),
                }
                assert_eq!(find(&settings, address).len(), expected, "{key} {value}");
            }
        }
    }
}
