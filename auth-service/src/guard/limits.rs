//! Limits of attempts: one counter for each address, name, device or client, in memory that
//! does not grow beyond a bound.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use shared_claims::address::{AddressKey, SiteKey};

use crate::config::LimitSettings;

/// The counters beyond the bound of one limit: whoever comes when it is reached shares one of these
/// with others, so that filling the memory resets nobody's counter, least of all one's own.
const SHARED_COUNTERS: u64 = 4096;

/// Limited kinds of attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Logins that fail, by address.
    LoginsOfAddress,
    /// Logins that fail, by the name that was typed, whether or not there is such an account.
    LoginsOfName,
    /// Logins that fail, by a device that has signed in to the account before.
    LoginsOfDevice,
    /// Codes of a second factor that are wrong, by account.
    CodesOfAccount,
    /// Registrations, by address.
    RegistrationsOfAddress,
    /// New passwords that are refused, by account.
    NewPasswordsOfAccount,
    /// Clients that do not prove who they are, by address.
    ClientsOfAddress,
    /// Refresh tokens, tokens to be revoked, and links of mails that nobody has, by address.
    TokensOfAddress,
    /// Right passwords and passkeys, by account.
    RightLoginsOfAccount,
    /// Refreshes, by account.
    RefreshesOfAccount,
    /// Requests for a mail, by address.
    MailsOfAddress,
    /// Requests for a mail, by the mailbox, whether or not an account has it.
    MailsOfMailbox,
}

impl Limit {
    /// The name in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::LoginsOfAddress => "logins_of_address",
            Self::LoginsOfName => "logins_of_name",
            Self::LoginsOfDevice => "logins_of_device",
            Self::CodesOfAccount => "codes_of_account",
            Self::RegistrationsOfAddress => "registrations_of_address",
            Self::NewPasswordsOfAccount => "new_passwords_of_account",
            Self::ClientsOfAddress => "clients_of_address",
            Self::TokensOfAddress => "tokens_of_address",
            Self::RightLoginsOfAccount => "right_logins_of_account",
            Self::RefreshesOfAccount => "refreshes_of_account",
            Self::MailsOfAddress => "mails_of_address",
            Self::MailsOfMailbox => "mails_of_mailbox",
        }
    }
}

const LIMITS: usize = 12;

/// A limit that was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitReached {
    /// The limit.
    pub limit: Limit,
    /// When the next attempt is taken, in seconds from now.
    pub secs: u64,
}

/// Key of a counter. Only a keyed hash is kept: memory shows no name and no address, and nobody
/// outside can choose texts that collide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    own: u64,
    /// The site of an IPv6 address, which is counted too.
    site: Option<u64>,
}

/// All counters of the process.
pub struct Limits {
    tables: [Mutex<Table>; LIMITS],
    hasher: RandomState,
    started: Instant,
    settings: LimitSettings,
}

/// The counters of one limit. Each is the time at which it will be empty again, in milliseconds
/// since the start: every attempt moves it on by the window divided by the number of attempts.
#[derive(Default)]
struct Table {
    empty_at: HashMap<u64, u64>,
    shared_empty_at: HashMap<u64, u64>,
    purged_at: u64,
}

/// Cost of an attempt to its counters, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Costs {
    /// Added to the counter of a key.
    pub(crate) own_ms: u64,
    /// Added to the counter of its site.
    pub(crate) site_ms: u64,
    /// The window of both.
    pub(crate) window_ms: u64,
}

/// So many attempts in a window.
#[derive(Clone, Copy, Debug)]
struct Rate {
    attempts: u64,
    window_ms: u64,
}

impl Limits {
    /// No attempts yet.
    #[must_use]
    pub fn new(settings: LimitSettings) -> Self {
        Self {
            tables: Default::default(),
            hasher: RandomState::new(),
            started: Instant::now(),
            settings,
        }
    }

    /// Returns the key of an address: of IPv6 its /64, and at a multiple its /48.
    #[must_use]
    pub fn address_key(&self, address: IpAddr) -> Key {
        let site = SiteKey::of(address);
        Key {
            own: self.hasher.hash_one(AddressKey::from(address)),
            site: site.map(|site| self.hasher.hash_one(("site", site))),
        }
    }

    /// The key of a name, a device or an id.
    #[must_use]
    pub fn text_key(&self, text: &str) -> Key {
        Key {
            own: self.hasher.hash_one(text),
            site: None,
        }
    }

    /// Counts an attempt.
    ///
    /// # Errors
    ///
    /// [`LimitReached`] with the time to wait, and without counting it, when there were too many.
    pub fn take(&self, limit: Limit, key: Key) -> Result<(), LimitReached> {
        let (now, rate) = (self.now_ms(), self.rate(limit));
        let most = self.settings.entries;
        let take = |table: &mut Table| {
            table.take(key.own, rate, now, most)?;
            let Some(site) = key.site else {
                return Ok(());
            };
            let taken = table.take(site, self.site_rate(rate), now, most);
            taken.inspect_err(|_| table.give_back(key.own, rate, now))
        };
        self.table(limit, take).map_err(|wait_ms| LimitReached {
            limit,
            secs: wait_ms.div_ceil(1000),
        })
    }

    /// Takes back an attempt that turned out well, or did not take place. It undoes no other.
    pub fn give_back(&self, limit: Limit, key: Key) {
        let (now, rate) = (self.now_ms(), self.rate(limit));
        self.table(limit, |table| {
            table.give_back(key.own, rate, now);
            if let Some(site) = key.site {
                table.give_back(site, self.site_rate(rate), now);
            }
        });
    }

    /// Returns what an attempt adds to the counter of a key, and to that of its site, with the window, in
    /// milliseconds.
    pub(crate) fn costs(&self, limit: Limit) -> Costs {
        let rate = self.rate(limit);
        Costs {
            own_ms: rate.step(),
            site_ms: self.site_rate(rate).step(),
            window_ms: rate.window_ms,
        }
    }

    /// Raises the counter of a key, or that of its site, to a level that was found elsewhere: empty in so
    /// many milliseconds.
    pub(crate) fn learn(&self, limit: Limit, key: Key, of_site: bool, empty_in_ms: u64) {
        let (now, most) = (self.now_ms(), self.settings.entries);
        let key = key.site.filter(|_| of_site).unwrap_or(key.own);
        self.table(limit, |table| table.raise(key, now, empty_in_ms, most));
    }

    /// Whether the next attempt would be refused.
    #[must_use]
    pub fn is_used_up(&self, limit: Limit, key: Key) -> bool {
        let (now, rate) = (self.now_ms(), self.rate(limit));
        self.table(limit, |table| {
            let of_site = |site| table.is_used_up(site, self.site_rate(rate), now);
            table.is_used_up(key.own, rate, now) || key.site.is_some_and(of_site)
        })
    }

    fn table<T>(&self, limit: Limit, work: impl FnOnce(&mut Table) -> T) -> T {
        let table = &self.tables[limit as usize];
        work(&mut table.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn rate(&self, limit: Limit) -> Rate {
        let settings = &self.settings;
        let attempts = match limit {
            Limit::LoginsOfAddress => settings.logins_per_address,
            Limit::LoginsOfName => settings.logins_per_name,
            Limit::LoginsOfDevice => settings.logins_per_device,
            Limit::CodesOfAccount => settings.codes_per_account,
            Limit::RegistrationsOfAddress => settings.registrations_per_address,
            Limit::NewPasswordsOfAccount => settings.new_passwords_per_account,
            Limit::ClientsOfAddress => settings.clients_per_address,
            Limit::TokensOfAddress => settings.tokens_per_address,
            Limit::RightLoginsOfAccount => settings.right_logins_per_account,
            Limit::RefreshesOfAccount => settings.refreshes_per_account,
            Limit::MailsOfAddress => settings.mails_per_address,
            Limit::MailsOfMailbox => settings.mails_per_mailbox,
        };
        let window = Duration::from_secs(settings.window_secs);
        Rate {
            attempts: attempts.into(),
            window_ms: u64::try_from(window.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

impl Limits {
    fn site_rate(&self, rate: Rate) -> Rate {
        Rate {
            attempts: rate.attempts * u64::from(self.settings.site_factor),
            ..rate
        }
    }
}

impl Table {
    /// Counts one, or says how many milliseconds to wait.
    fn take(&mut self, key: u64, rate: Rate, now: u64, most: usize) -> Result<(), u64> {
        self.make_room(now, most);
        let is_full = self.empty_at.len() >= most && !self.empty_at.contains_key(&key);
        let empty_at = if is_full {
            self.shared_empty_at.entry(key % SHARED_COUNTERS)
        } else {
            self.empty_at.entry(key)
        };
        let empty_at = empty_at.or_insert(now);
        let next = (*empty_at).max(now) + rate.step();
        match next.checked_sub(now + rate.window_ms) {
            Some(wait @ 1..) => Err(wait),
            _ => {
                *empty_at = next;
                Ok(())
            }
        }
    }

    /// Raises a counter, unless it would be one more than there may be: then strangers share none for what
    /// one of them did elsewhere.
    fn raise(&mut self, key: u64, now: u64, empty_in_ms: u64, most: usize) {
        self.make_room(now, most);
        if self.empty_at.len() < most || self.empty_at.contains_key(&key) {
            let empty_at = self.empty_at.entry(key).or_insert(now);
            *empty_at = (*empty_at).max(now.saturating_add(empty_in_ms));
        }
    }

    fn is_used_up(&self, key: u64, rate: Rate, now: u64) -> bool {
        let shared = || self.shared_empty_at.get(&(key % SHARED_COUNTERS));
        let empty_at = self.empty_at.get(&key).or_else(shared).unwrap_or(&now);
        (*empty_at).max(now) + rate.step() > now + rate.window_ms
    }

    fn give_back(&mut self, key: u64, rate: Rate, now: u64) {
        let own = self.empty_at.get_mut(&key);
        let counter = match own {
            Some(counter) => Some(counter),
            None => self.shared_empty_at.get_mut(&(key % SHARED_COUNTERS)),
        };
        if let Some(counter) = counter {
            *counter = counter.saturating_sub(rate.step()).max(now);
        }
    }

    /// Drops the counters that are empty again, once a second at most: it looks at all of them.
    fn make_room(&mut self, now: u64, most: usize) {
        if self.empty_at.len() >= most && now >= self.purged_at + 1000 {
            self.empty_at.retain(|_, empty_at| *empty_at > now);
            self.shared_empty_at.retain(|_, empty_at| *empty_at > now);
            self.purged_at = now;
        }
    }
}

impl Rate {
    /// Returns the cost of one attempt, rounded down so that all of them fit into the window.
    fn step(self) -> u64 {
        (self.window_ms / self.attempts.max(1)).max(1)
    }
}

#[cfg(test)]
mod tests;
