//! Back ends that the gateway calls, and the networks in which it calls none.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
};

use http::Uri;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use reqwest::Url;
use serde::{Deserialize, Serialize};

use super::{Config, ConfigError, check};

/// The longest name of a back end, in bytes. It is a label of metrics.
const MAXIMUM_NAME_BYTES: usize = 64;

/// The longest time that a call may take, in milliseconds: the events of its socket wait so long.
const MAXIMUM_TIMEOUT_MS: u64 = 30_000;

/// A back end that answers events of clients over HTTP.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackendSettings {
    /// The name by which `[[events]]` refer to it, and its label in metrics and log lines.
    pub name: String,
    /// The URL that every request is posted to. No redirect is followed.
    pub url: String,
    /// File with one or two secrets of Standard Webhooks, `whsec_…`, one a line. Each request has a
    /// signature of each secret, so that a receiver can change from one to the other.
    pub secret_file: PathBuf,
    /// Time that a call may take in all, its wait for a free place included, in milliseconds.
    #[serde(default = "usual_timeout_ms")]
    pub timeout_ms: u64,
    /// Maximum number of calls at the same time.
    #[serde(default = "usual_concurrency")]
    pub concurrency: usize,
    /// Maximum number of calls that wait for a place.
    #[serde(default = "usual_queue")]
    pub queue: usize,
    /// Maximum size of the events and answers of all calls under way and waiting, in bytes.
    #[serde(default = "usual_bytes")]
    pub bytes: usize,
    /// Maximum number of queued events in one request. Above 1, each request with queued events has a list
    /// of them.
    #[serde(default = "usual_batch")]
    pub batch: usize,
    /// PEM file with the authorities that may sign the back end's certificate, in place of those of
    /// the system.
    #[serde(default)]
    pub ca_file: PathBuf,
    /// PEM file with the gateway's own certificate, for back ends that ask for one.
    #[serde(default)]
    pub client_cert_file: PathBuf,
    /// PEM file with the private key of that certificate.
    #[serde(default)]
    pub client_key_file: PathBuf,
}

const fn usual_timeout_ms() -> u64 {
    5000
}

const fn usual_concurrency() -> usize {
    64
}

const fn usual_queue() -> usize {
    256
}

const fn usual_bytes() -> usize {
    16 * 1024 * 1024
}

const fn usual_batch() -> usize {
    1
}

/// Link-local addresses, at which clouds also serve the credentials of a machine, and the further
/// addresses of such metadata services: AWS and Google over IPv6, Azure's host, Alibaba's, Oracle's.
#[must_use]
pub fn usual_denied_networks() -> Vec<IpNet> {
    let v4 = |address: [u8; 4], bits| IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::from(address), bits));
    let v6 =
        |address: [u16; 8], bits| IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::from(address), bits));
    vec![
        v4([169, 254, 0, 0], 16),
        v4([100, 100, 100, 200], 32),
        v4([168, 63, 129, 16], 32),
        v4([192, 0, 0, 192], 32),
        v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10),
        v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254], 128),
        v6([0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254], 128),
        // The same through NAT64 (RFC 6052).
        v6([0x64, 0xff9b, 0, 0, 0, 0, 0xa9fe, 0], 112),
    ]
}

/// Whether `networks` hold an address, or the IPv4 address inside of an IPv4-mapped one or of one of NAT64
/// (RFC 6052, section 2.1).
#[must_use]
pub fn is_denied(networks: &[IpNet], address: IpAddr) -> bool {
    let address = address.to_canonical();
    let translated = translated(address);
    let holds = |address: &IpAddr| networks.iter().any(|network| network.contains(address));
    holds(&address) || translated.is_some_and(|address| holds(&address))
}

/// Returns the IPv4 address that a NAT64 gateway connects to, for an address with the well-known prefix
/// 64:ff9b::/96.
fn translated(address: IpAddr) -> Option<IpAddr> {
    let IpAddr::V6(address) = address else {
        return None;
    };
    let [0x64, 0xff9b, 0, 0, 0, 0, ..] = address.segments() else {
        return None;
    };
    let [.., a, b, c, d] = address.octets();
    Some(IpAddr::from([a, b, c, d]))
}

/// Returns the address in a URL, unless there is a name. The URL is parsed as the HTTP client does, which
/// takes `0x7f000001`, `2130706433` and `127.0.0.1.` for addresses too.
fn literal_address(url: &str) -> Option<IpAddr> {
    let url = Url::parse(url).ok()?;
    let host = url.host_str()?;
    let host = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    host.parse().ok()
}

impl BackendSettings {
    /// Returns the setting that cannot work and its fault, if there is one.
    fn problem(&self, denied: &[IpNet]) -> Option<(&'static str, &'static str)> {
        let is_letter =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
        let is_name =
            (1..=MAXIMUM_NAME_BYTES).contains(&self.name.len()) && self.name.bytes().all(is_letter);
        if !is_name {
            return Some((
                "name",
                "must be 1 to 64 lower-case letters, digits, - and _",
            ));
        }
        if let Some(problem) = problem_of_url(&self.url, denied) {
            return Some(("url", problem));
        }
        let is_empty = |path: &PathBuf| path.as_os_str().is_empty();
        if is_empty(&self.secret_file) {
            return Some(("secret_file", "must name a file with a secret, whsec_…"));
        }
        if is_empty(&self.client_cert_file) != is_empty(&self.client_key_file) {
            return Some((
                "client_key_file",
                "must be set with client_cert_file, or neither of them",
            ));
        }
        let rules = [
            (
                (1..=MAXIMUM_TIMEOUT_MS).contains(&self.timeout_ms),
                "timeout_ms",
                "must be 1 to 30000",
            ),
            (
                (1..=4096).contains(&self.concurrency),
                "concurrency",
                "must be 1 to 4096",
            ),
            (self.queue <= 65_536, "queue", "must be at most 65536"),
            (
                (65_536..=1 << 30).contains(&self.bytes),
                "bytes",
                "must be 65536 to 1073741824",
            ),
            (
                (1..=1000).contains(&self.batch),
                "batch",
                "must be 1 to 1000",
            ),
        ];
        let broken = rules.into_iter().find(|(is_fine, ..)| !is_fine);
        broken.map(|(_, setting, problem)| (setting, problem))
    }
}

/// Returns the fault of the URL of a back end, if there is one.
fn problem_of_url(url: &str, denied: &[IpNet]) -> Option<&'static str> {
    let uri = url.parse::<Uri>().ok().filter(|_| !url.contains('#'));
    let Some((scheme, authority)) = uri
        .as_ref()
        .and_then(|uri| Some((uri.scheme_str()?, uri.authority()?)))
    else {
        return Some("must be a URL such as https://shop.internal/latchkey");
    };
    if !["http", "https"].contains(&scheme) {
        return Some("must begin with http:// or https://");
    }
    if authority.as_str().contains('@') {
        return Some("has no user and no password: requests are signed");
    }
    let address = literal_address(url);
    address
        .is_some_and(|address| is_denied(denied, address))
        .then_some("its address is in backend_deny_networks")
}

impl Config {
    /// Checks that a `[[backends]]` entry is called `name`.
    ///
    /// # Errors
    ///
    /// When there is none, with the `setting` that names it.
    pub(super) fn check_backend_exists(
        &self,
        setting: &str,
        name: &str,
    ) -> Result<(), ConfigError> {
        let is_known = self.backends.iter().any(|backend| backend.name == name);
        check(setting, is_known, "no [[backends]] entry has this name")
    }

    /// Checks the back ends.
    ///
    /// # Errors
    ///
    /// The first setting that cannot work.
    pub(super) fn check_backends(&self) -> Result<(), ConfigError> {
        for (index, backend) in self.backends.iter().enumerate() {
            if let Some((setting, problem)) = backend.problem(&self.backend_deny_networks) {
                check(&format!("backends[{index}].{setting}"), false, problem)?;
            }
            let mut earlier = self.backends[..index].iter();
            let is_twice = earlier.any(|other| other.name == backend.name);
            let setting = format!("backends[{index}].name");
            check(&setting, !is_twice, "another back end has this name")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHOP: &str =
        "[[backends]]\nname = 'shop'\nurl = 'https://shop.internal/events'\nsecret_file = 's'\n";
    const ROUTE: &str = "[[events]]\nevents = ['order:*']\nbackend = 'shop'\nmode = 'call'\n";

    fn load(toml: &str) -> Result<Config, ConfigError> {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), toml).expect("written");
        Config::load(Some(file.path()))
    }

    fn assert_refused(faults: &[(String, &str)]) {
        for (toml, expected) in faults {
            let error = load(toml).expect_err(toml).to_string();
            assert!(error.contains(expected), "{toml}: {error}");
            assert!(!error.contains("hunter2"), "{toml}: {error}");
        }
    }

    #[test]
    fn each_fault_of_a_back_end_is_told_with_its_setting_and_without_its_value() {
        let backend = |more: &str| format!("{SHOP}{more}");
        let url = |url: &str| SHOP.replace("https://shop.internal/events", url);
        assert_refused(&[
            (
                SHOP.replace("shop'", "Hunter2!'"),
                "backends[0].name: must be",
            ),
            (format!("{SHOP}{SHOP}"), "backends[1].name: another"),
            (url("ftp://hunter2/"), "backends[0].url: must begin"),
            (url("hunter2"), "backends[0].url: must be a URL"),
            (
                url("https://user:hunter2@shop/"),
                "backends[0].url: has no user",
            ),
            (
                url("http://169.254.169.254/hunter2"),
                "backends[0].url: its address",
            ),
            (
                url("http://[::ffff:169.254.169.254]/hunter2"),
                "backends[0].url: its address",
            ),
            (url("http://2852039166/"), "backends[0].url: its address"),
            (url("http://0xa9fea9fe/"), "backends[0].url: its address"),
            (
                url("http://0251.0376.43518/"),
                "backends[0].url: its address",
            ),
            (
                url("http://169.254.169.254./"),
                "backends[0].url: its address",
            ),
            (
                url("http://[64:ff9b::a9fe:a9fe]/"),
                "backends[0].url: its address",
            ),
            (
                SHOP.replace("'s'", "''"),
                "backends[0].secret_file: must name",
            ),
            (
                backend("client_cert_file = 'hunter2'"),
                "backends[0].client_key_file: must be set",
            ),
            (
                backend("timeout_ms = 30001"),
                "backends[0].timeout_ms: must be 1",
            ),
            (
                backend("concurrency = 0"),
                "backends[0].concurrency: must be 1",
            ),
            (
                backend("queue = 70000"),
                "backends[0].queue: must be at most",
            ),
            (backend("bytes = 10"), "backends[0].bytes: must be 65536"),
            (backend("batch = 0"), "backends[0].batch: must be 1"),
            (backend("hunter = 2"), "unknown field `hunter`"),
        ]);
    }

    #[test]
    fn each_fault_of_an_event_is_told_with_its_setting_and_without_its_value() {
        let route = |more: &str| format!("{SHOP}{ROUTE}{more}");
        assert_refused(&[
            (route("hunter = 2"), "unknown field `hunter`"),
            (route("rate = 0"), "events[0].rate: must be 1"),
            (
                route("guests = true\nscope = 'hunter2'"),
                "events[0].guests: guests have",
            ),
            (
                route("claims = { a = { b = 'hunter2' } }"),
                "events[0].claims: must be texts",
            ),
            (
                route("").replace("'call'", "'hunter2'"),
                "mode: must be call or notify",
            ),
            (
                route("").replace("'order:*'", ""),
                "events[0].events: must name",
            ),
            (ROUTE.to_owned(), "events[0].backend: no [[backends]]"),
            (
                "backend_deny_networks = ['hunter2']".to_owned(),
                "backend_deny_networks: must be networks",
            ),
        ]);
    }

    #[test]
    fn settings_that_differ_in_that_one_thing_are_taken() {
        for toml in [
            SHOP.to_owned(),
            format!(
                "{SHOP}timeout_ms = 30000\nconcurrency = 1\nqueue = 0\nbytes = 65536\nbatch = 9\n{ROUTE}"
            ),
            format!("{SHOP}client_cert_file = 'c'\nclient_key_file = 'k'"),
            format!("{SHOP}{ROUTE}scope = 'x'\nrate = 1\nclaims = {{ a = ['b', 1, true] }}"),
            format!("{SHOP}{ROUTE}guests = true"),
            format!("{SHOP}{}", ROUTE.replace("call", "notify")),
            SHOP.replace("https://shop.internal", "http://127.0.0.1:8000"),
            SHOP.replace("https://shop.internal", "http://2130706433"),
            SHOP.replace("https://shop.internal", "http://[64:ff9b::a9ff:a9fe]"),
            format!(
                "backend_deny_networks = []\n{}",
                SHOP.replace("shop.internal", "169.254.1.1")
            ),
        ] {
            load(&toml).expect(&toml);
        }
    }
}
