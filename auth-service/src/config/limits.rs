//! Limits of attempts.

use serde::{Deserialize, Serialize};

use super::{ConfigError, check};

/// Limits of attempts in a window of time. Successes are not counted, registrations
/// and mails aside.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitSettings {
    /// The window of all of these, in seconds, up to a day. `AUTH__LIMITS__WINDOW_SECS`, default
    /// 900.
    pub window_secs: u64,
    /// Logins that fail from one address, of IPv6 from one /64; more are answered 429.
    /// `AUTH__LIMITS__LOGINS_PER_ADDRESS`, default 100.
    pub logins_per_address: u32,
    /// Logins that fail for one name; more are answered like a wrong password.
    /// `AUTH__LIMITS__LOGINS_PER_NAME`, default 10.
    pub logins_per_name: u32,
    /// Logins that fail on a device that has signed in to the account before; more count for the
    /// name. `AUTH__LIMITS__LOGINS_PER_DEVICE`, default 10.
    pub logins_per_device: u32,
    /// Wrong codes of a second factor for one account; more are answered 429. The devices that have signed
    /// in to the account before share a count of their own.
    /// `AUTH__LIMITS__CODES_PER_ACCOUNT`, default 10.
    pub codes_per_account: u32,
    /// Registrations from one address; more are answered 429.
    /// `AUTH__LIMITS__REGISTRATIONS_PER_ADDRESS`, default 20.
    pub registrations_per_address: u32,
    /// New passwords of one account that are refused; more are answered 429.
    /// `AUTH__LIMITS__NEW_PASSWORDS_PER_ACCOUNT`, default 20.
    pub new_passwords_per_account: u32,
    /// Wrong secrets of clients from one address; more are answered 429. A right secret is always
    /// accepted. `AUTH__LIMITS__CLIENTS_PER_ADDRESS`, default 100.
    pub clients_per_address: u32,
    /// Refresh tokens, tokens to be revoked, and links of mails that nobody has, from one address; more
    /// are answered 429. A right token is always accepted. `AUTH__LIMITS__TOKENS_PER_ADDRESS`, default 1000.
    pub tokens_per_address: u32,
    /// Requests for a mail from one address; more are answered 429.
    /// `AUTH__LIMITS__MAILS_PER_ADDRESS`, default 20.
    pub mails_per_address: u32,
    /// Requests for a mail to one mailbox, whether or not an account has it; more are answered 429.
    /// `AUTH__LIMITS__MAILS_PER_MAILBOX`, default 5.
    pub mails_per_mailbox: u32,
    /// Right passwords and passkeys that the owner of one account gives to one issuer; more are answered 429
    /// without being verified. `AUTH__LIMITS__RIGHT_LOGINS_PER_ACCOUNT`, default 300.
    pub right_logins_per_account: u32,
    /// Refreshes of the sessions of one account at one issuer; more are answered 429, and the token that was
    /// presented stays good. `AUTH__LIMITS__REFRESHES_PER_ACCOUNT`, default 1000.
    pub refreshes_per_account: u32,
    /// Live sessions of one account; a login beyond it ends the session that was used longest ago.
    /// `AUTH__LIMITS__SESSIONS_PER_ACCOUNT`, default 100.
    pub sessions_per_account: u32,
    /// Factor by which one /48 of IPv6 may have more than one /64, which is what one
    /// customer is given at most. `AUTH__LIMITS__SITE_FACTOR`, default 16.
    pub site_factor: u32,
    /// The counters that are kept for each of these, of about 40 bytes each; beyond it strangers
    /// share counters. `AUTH__LIMITS__ENTRIES`, default 100000.
    pub entries: usize,
    /// Logins of one address that may wait for a password thread at once; the next is answered 503.
    /// `AUTH__LIMITS__WAITING_PER_ADDRESS`, default 8.
    pub waiting_per_address: u32,
    /// Open connections of one address to the public listener, of IPv6 of one /64; a further one is closed.
    /// Connections of `trusted_proxies` do not count. `AUTH__LIMITS__CONNECTIONS_PER_ADDRESS`, default 256.
    pub connections_per_address: usize,
}

impl Default for LimitSettings {
    fn default() -> Self {
        Self {
            window_secs: 900,
            logins_per_address: 100,
            logins_per_name: 10,
            logins_per_device: 10,
            codes_per_account: 10,
            registrations_per_address: 20,
            new_passwords_per_account: 20,
            clients_per_address: 100,
            tokens_per_address: 1000,
            mails_per_address: 20,
            mails_per_mailbox: 5,
            right_logins_per_account: 300,
            refreshes_per_account: 1000,
            sessions_per_account: 100,
            site_factor: 16,
            entries: 100_000,
            waiting_per_address: 8,
            connections_per_address: 256,
        }
    }
}

impl LimitSettings {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let window = (1..=86_400).contains(&self.window_secs);
        check("limits.window_secs", window, "must be 1 to 86400")?;
        for (key, count) in [
            ("limits.logins_per_address", self.logins_per_address),
            ("limits.logins_per_name", self.logins_per_name),
            ("limits.logins_per_device", self.logins_per_device),
            ("limits.codes_per_account", self.codes_per_account),
            (
                "limits.registrations_per_address",
                self.registrations_per_address,
            ),
            (
                "limits.new_passwords_per_account",
                self.new_passwords_per_account,
            ),
            ("limits.clients_per_address", self.clients_per_address),
            ("limits.tokens_per_address", self.tokens_per_address),
            ("limits.mails_per_address", self.mails_per_address),
            ("limits.mails_per_mailbox", self.mails_per_mailbox),
            (
                "limits.right_logins_per_account",
                self.right_logins_per_account,
            ),
            ("limits.refreshes_per_account", self.refreshes_per_account),
            ("limits.sessions_per_account", self.sessions_per_account),
            ("limits.waiting_per_address", self.waiting_per_address),
        ] {
            check(
                key,
                (1..=1_000_000).contains(&count),
                "must be 1 to 1000000",
            )?;
        }
        let connections = (1..=1_000_000).contains(&self.connections_per_address);
        let rule = "must be 1 to 1000000";
        check("limits.connections_per_address", connections, rule)?;
        let factor = (1..=65_536).contains(&self.site_factor);
        check("limits.site_factor", factor, "must be 1 to 65536")?;
        let entries = (1_000..=10_000_000).contains(&self.entries);
        check("limits.entries", entries, "must be 1000 to 10000000")
    }
}
