//! The users of a room on other gateways, as those have written to Redis.
//!
//! Each gateway writes rows of its own: a user, and the number of the user's connections. A row is a
//! state and no change, so that the newest row of a gateway is the truth however often it is applied.
//! Versions of one gateway grow, and tell whether a row was missed.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use tokio::time::Instant;

use super::{
    User,
    shared::record::{Notice, Page, Row, UserRow, Written},
};
use crate::cluster::name_of;

/// The users on other gateways.
#[derive(Default)]
pub(in crate::rooms) struct Elsewhere {
    gateways: HashMap<Arc<str>, Gateway>,
    users: HashMap<User, Vec<(Arc<str>, Row)>>,
    /// The gateways whose rows are all known, as something was heard of them since a read began; `None` while
    /// nothing is read.
    heard: Option<HashSet<Arc<str>>>,
}

/// Another gateway, by the id of its lease.
struct Gateway {
    written: Written,
    /// The users that something was heard of while the rows of the gateway are read, page by page.
    touched: Option<HashSet<User>>,
    /// Time at which Redis had nothing of the gateway.
    missing_since: Option<Instant>,
}

/// A user who was on no other gateway before, or is on none any more.
pub(in crate::rooms) enum Flip {
    Appeared(User),
    Vanished(User),
}

/// Remainder of a read after its first pages.
pub(in crate::rooms) struct Further {
    /// The gateways that have further pages, each with the cursor.
    pub(in crate::rooms) places: Vec<(Arc<str>, u64)>,
    /// Whether Redis had nothing of a gateway that is known.
    pub(in crate::rooms) has_missing: bool,
}

impl Elsewhere {
    /// Number of users, each counted once.
    pub(in crate::rooms) fn count(&self) -> usize {
        self.users.len()
    }

    /// Number of connections, those of guests included.
    pub(in crate::rooms) fn connections(&self) -> usize {
        let gateways = self.gateways.values();
        gateways.map(|gateway| gateway.written.connections).sum()
    }

    pub(in crate::rooms) fn contains(&self, user: &User) -> bool {
        self.users.contains_key(user)
    }

    /// Returns the rows of a user.
    pub(in crate::rooms) fn rows(&self, user: &User) -> impl Iterator<Item = &Row> {
        let rows = self.users.get(user);
        rows.into_iter().flatten().map(|(_, row)| row)
    }

    pub(in crate::rooms) fn users(&self) -> impl Iterator<Item = &User> {
        self.users.keys()
    }

    /// Applies a message of the room's channel. Returns `false` when an earlier one was missed, so that
    /// the rows have to be read.
    pub(in crate::rooms) fn hear(&mut self, notice: Notice, flips: &mut Vec<Flip>) -> bool {
        match notice {
            Notice::Gone(id) => {
                if let Some(heard) = &mut self.heard {
                    heard.insert(id.clone());
                }
                self.remove_gateway(&id, flips);
                true
            }
            Notice::Rows {
                id,
                previous,
                written,
                rows,
            } => {
                let known = self.gateways.get(&id).map(|it| it.written.version);
                if known.is_some_and(|known| known >= written.version) {
                    return true;
                }
                if previous.is_some() && previous != known {
                    return false;
                }
                let is_all = previous.is_none() || !self.is_in_part(&id);
                if let Some(heard) = self.heard.as_mut().filter(|_| is_all) {
                    heard.insert(id.clone());
                }
                self.write(&id, written);
                match previous {
                    None => self.replace_rows(&id, rows, flips),
                    Some(_) => self.change_rows(&id, rows, flips),
                }
                self.drop_former(&id, flips);
                true
            }
        }
    }

    /// Begins a read: what is heard from now on is newer than its answer.
    pub(in crate::rooms) fn begin_read(&mut self) {
        self.heard = Some(HashSet::new());
        for gateway in self.gateways.values_mut() {
            // A read before ended early. The users that it named are read again.
            gateway.touched = gateway.touched.as_ref().map(|_| HashSet::new());
        }
    }

    /// Applies the first pages of all gateways.
    pub(in crate::rooms) fn finish_read(
        &mut self,
        pages: Vec<Page>,
        now: Instant,
        flips: &mut Vec<Flip>,
    ) -> Further {
        let heard = self.heard.take().unwrap_or_default();
        let mut places = Vec::new();
        let listed: HashSet<Arc<str>> = pages.iter().map(|page| page.id.clone()).collect();
        for page in pages.into_iter().filter(|page| !heard.contains(&page.id)) {
            let Page {
                id,
                written,
                cursor,
                rows,
            } = page;
            let known = self.gateways.get(&id).map(|it| it.written.version);
            if known.is_some_and(|known| known > written.version) && self.is_in_part(&id) {
                // News since then is newer than the page, and is not all.
                if self.read_on(&id, rows, cursor == 0, flips) && cursor != 0 {
                    places.push((id, cursor));
                }
                continue;
            }
            self.write(&id, written);
            if cursor == 0 {
                self.replace_rows(&id, rows, flips);
            } else {
                if let Some(gateway) = self.gateways.get_mut(&id) {
                    gateway.touched = Some(HashSet::new());
                }
                self.change_rows(&id, rows, flips);
                places.push((id.clone(), cursor));
            }
            self.drop_former(&id, flips);
        }
        for (id, gateway) in &mut self.gateways {
            let is_missing = !listed.contains(id) && !heard.contains(id);
            let since = gateway.missing_since.unwrap_or(now);
            gateway.missing_since = is_missing.then_some(since);
        }
        let has_missing = self.gateways.values().any(|it| it.missing_since.is_some());
        Further {
            places,
            has_missing,
        }
    }

    /// Applies a further page. Returns `false` when the gateway's rows are known by now.
    pub(in crate::rooms) fn read_on(
        &mut self,
        id: &Arc<str>,
        mut rows: Vec<UserRow>,
        is_last: bool,
        flips: &mut Vec<Flip>,
    ) -> bool {
        let gateway = self.gateways.get_mut(id);
        let Some(touched) = gateway.and_then(|gateway| gateway.touched.as_mut()) else {
            return false;
        };
        rows.retain(|(user, _)| touched.insert(user.clone()));
        let touched = is_last.then(|| std::mem::take(touched));
        for (user, row) in rows {
            self.set_row(id, user, row, flips);
        }
        if let Some(touched) = touched {
            if let Some(gateway) = self.gateways.get_mut(id) {
                gateway.touched = None;
            }
            self.retain_rows(id, &touched, flips);
            self.drop_former(id, flips);
        }
        true
    }

    /// Removes the gateways that Redis had nothing of at `before` and ever since. Returns the time since which
    /// Redis has had nothing of another one, if there is one.
    pub(in crate::rooms) fn remove_missing(
        &mut self,
        before: Instant,
        flips: &mut Vec<Flip>,
    ) -> Option<Instant> {
        let missing = self.gateways.iter();
        let missing: Vec<_> = missing
            .filter(|(_, gateway)| gateway.missing_since.is_some_and(|since| since <= before))
            .map(|(id, _)| id.clone())
            .collect();
        for id in missing {
            self.remove_gateway(&id, flips);
        }
        let left = self.gateways.values();
        left.filter_map(|gateway| gateway.missing_since).min()
    }

    /// Removes all gateways.
    pub(in crate::rooms) fn clear(&mut self, flips: &mut Vec<Flip>) {
        self.gateways.clear();
        flips.extend(self.users.drain().map(|(user, _)| Flip::Vanished(user)));
    }

    /// Whether the rows of a gateway were read in part.
    fn is_in_part(&self, id: &str) -> bool {
        let gateway = self.gateways.get(id);
        gateway.is_some_and(|gateway| gateway.touched.is_some())
    }

    fn write(&mut self, id: &Arc<str>, written: Written) {
        let gateway = self.gateways.entry(id.clone()).or_insert(Gateway {
            written,
            touched: None,
            missing_since: None,
        });
        gateway.written = written;
        gateway.missing_since = None;
    }

    /// Applies all rows of a gateway.
    fn replace_rows(&mut self, id: &Arc<str>, rows: Vec<UserRow>, flips: &mut Vec<Flip>) {
        if let Some(gateway) = self.gateways.get_mut(id) {
            gateway.touched = None;
        }
        let named: HashSet<User> = rows.iter().map(|(user, _)| user.clone()).collect();
        self.change_rows(id, rows, flips);
        self.retain_rows(id, &named, flips);
    }

    /// Removes the rows of a gateway about all other users.
    fn retain_rows(&mut self, id: &Arc<str>, named: &HashSet<User>, flips: &mut Vec<Flip>) {
        let of_gateway = |rows: &[(Arc<str>, Row)]| rows.iter().any(|(of, _)| of == id);
        let users = self.users.iter();
        let gone: Vec<User> = users
            .filter(|(user, rows)| !named.contains(user) && of_gateway(rows))
            .map(|(user, _)| user.clone())
            .collect();
        for user in gone {
            self.set_row(id, user, None, flips);
        }
    }

    /// Applies some rows of a gateway.
    fn change_rows(&mut self, id: &Arc<str>, rows: Vec<UserRow>, flips: &mut Vec<Flip>) {
        let gateway = self.gateways.get_mut(id);
        if let Some(touched) = gateway.and_then(|gateway| gateway.touched.as_mut()) {
            touched.extend(rows.iter().map(|(user, _)| user.clone()));
        }
        for (user, row) in rows {
            self.set_row(id, user, row, flips);
        }
    }

    fn set_row(&mut self, id: &Arc<str>, user: User, row: Option<Row>, flips: &mut Vec<Flip>) {
        let Some(row) = row else {
            let Some(rows) = self.users.get_mut(&user) else {
                return;
            };
            rows.retain(|(of, _)| of != id);
            if rows.is_empty() {
                self.users.remove(&user);
                flips.push(Flip::Vanished(user));
            }
            return;
        };
        if let Some(rows) = self.users.get_mut(&user) {
            match rows.iter_mut().find(|(of, _)| of == id) {
                Some((_, known)) => *known = row,
                None => rows.push((id.clone(), row)),
            }
            return;
        }
        self.users.insert(user.clone(), vec![(id.clone(), row)]);
        flips.push(Flip::Appeared(user));
    }

    /// Removes a gateway under the ids that it had before `id`, once it has written everything under
    /// that one.
    fn drop_former(&mut self, id: &Arc<str>, flips: &mut Vec<Flip>) {
        let gateway = self.gateways.get(id);
        if !gateway.is_some_and(|it| it.written.is_complete && it.touched.is_none()) {
            return;
        }
        let former: Vec<_> = self
            .gateways
            .keys()
            .filter(|other| {
                *other != id && name_of(other) == name_of(id) && lease_of(other) < lease_of(id)
            })
            .cloned()
            .collect();
        for id in former {
            self.remove_gateway(&id, flips);
        }
    }

    fn remove_gateway(&mut self, id: &Arc<str>, flips: &mut Vec<Flip>) {
        if self.gateways.remove(id).is_some() {
            self.replace_rows(id, Vec::new(), flips);
        }
    }
}

/// Returns the number of the lease in an id.
fn lease_of(id: &str) -> u64 {
    let number = id.rsplit_once('.').map(|(_, number)| number);
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests;
