//! A member of a room that believes what it is told.

use std::{collections::BTreeSet, sync::Arc};

use serde_json::Value;

use crate::outbox::Outbox;

/// A member that keeps a list of the users by what it is told.
pub(super) struct Client {
    pub(super) connection: Arc<str>,
    pub(super) outbox: Arc<Outbox>,
    pub(super) users: BTreeSet<String>,
    pub(super) count: u64,
    /// The announcements, such as `rt:join alice`.
    pub(super) told: Vec<String>,
}

impl Client {
    pub(super) fn read(&mut self) -> &BTreeSet<String> {
        for queued in self.outbox.engine().queue().take(usize::MAX) {
            let text = queued.packet().text().strip_prefix("42");
            let event: Value = serde_json::from_str(text.expect("an event")).expect("JSON");
            let sub = |user: &Value| user["sub"].as_str().expect("a sub").to_owned();
            let several = event[1]["users"].as_array();
            let one = event[1].get("user");
            let users: Vec<_> = several.into_iter().flatten().chain(one).map(sub).collect();
            self.count = event[1]["count"].as_u64().unwrap_or(self.count);
            match event[0].as_str() {
                Some("answer") => self.users = users.into_iter().collect(),
                Some("rt:gap") => {}
                Some(kind) => {
                    for user in users {
                        self.told.push(format!("{kind} {user}"));
                        match kind {
                            "rt:join" => self.users.insert(user),
                            _ => self.users.remove(&user),
                        };
                    }
                }
                None => panic!("{event}"),
            }
        }
        &self.users
    }
}
