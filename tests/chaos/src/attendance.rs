//! The users of a room as one subscriber knows them: from the answer to its subscription, and from the
//! `rt:join` and `rt:leave` after it.

use std::{collections::BTreeSet, sync::Arc};

use serde_json::Value;

use crate::follower::Broken;

/// Rooms with more connections announce in batches, and a subscriber hears of users whom its answer has
/// named.
const CROWD: u64 = 50;

/// Follows the users of one room for one subscriber.
#[derive(Debug, Default)]
pub(crate) struct Attendance {
    /// The users; `None` while they are not known.
    users: Option<BTreeSet<Arc<str>>>,
    /// Whether the room had more connections than [`CROWD`] when the subscriber last heard of it.
    is_crowded: bool,
}

impl Attendance {
    /// Returns the users; `None` while they are not known.
    pub(crate) fn users(&self) -> Option<&BTreeSet<Arc<str>>> {
        self.users.as_ref()
    }

    /// Forgets the users, until the next answer.
    pub(crate) fn forget(&mut self) {
        self.users = None;
    }

    /// Takes the users that an answer names.
    ///
    /// # Errors
    ///
    /// Returns an error if the answer names no users, or names one twice.
    pub(crate) fn answer(&mut self, presence: &Value) -> Result<(), Broken> {
        let malformed = || Broken::Malformed(presence.to_string());
        let named = names(&presence["users"]).ok_or_else(malformed)?;
        let users: BTreeSet<_> = named.iter().cloned().collect();
        self.is_crowded = presence["connections"].as_u64().ok_or_else(malformed)? > CROWD;
        let is_true = users.len() == named.len() && presence["count"] == named.len();
        self.users = Some(users);
        match is_true {
            true => Ok(()),
            false => Err(malformed()),
        }
    }

    /// Takes an `rt:join` or `rt:leave`. Returns whether the subscriber still knows the users: when it was
    /// told that it missed an announcement, it has to ask for them.
    ///
    /// # Errors
    ///
    /// Returns an error if a user joins who is there, or leaves who is not. The users are right again
    /// after it.
    pub(crate) fn change(&mut self, is_join: bool, payload: &Value) -> Result<bool, Broken> {
        let malformed = || Broken::Malformed(payload.to_string());
        let named = match payload["user"].is_object() {
            true => names(&Value::Array(vec![payload["user"].clone()])),
            false => names(&payload["users"]),
        };
        let named = named.ok_or_else(malformed)?;
        let connections = payload["connections"].as_u64().ok_or_else(malformed)?;
        let was_crowded = std::mem::replace(&mut self.is_crowded, connections > CROWD);
        if payload["missed"] == true {
            self.forget();
        }
        let Some(users) = &mut self.users else {
            return Ok(false);
        };
        let mut repeated = Vec::new();
        for user in named {
            let is_change = match is_join {
                true => users.insert(user.clone()),
                false => users.remove(&user),
            };
            if !is_change {
                repeated.push(user);
            }
        }
        match repeated.is_empty() || was_crowded || self.is_crowded {
            true => Ok(true),
            false => Err(Broken::Repeated(format!("{repeated:?} in {payload}"))),
        }
    }
}

/// Returns the subjects in a list of users.
fn names(users: &Value) -> Option<Vec<Arc<str>>> {
    let users = users.as_array()?.iter();
    users
        .map(|user| Some(user["sub"].as_str()?.into()))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn presence(subs: &[&str], connections: u64) -> Value {
        let users: Vec<_> = subs.iter().map(|sub| json!({ "sub": sub })).collect();
        json!({ "users": users, "count": subs.len(), "connections": connections })
    }

    fn one(sub: &str, connections: u64) -> Value {
        json!({ "user": { "sub": sub }, "count": 1, "connections": connections })
    }

    fn attendance(connections: u64) -> Attendance {
        let mut attendance = Attendance::default();
        let answered = attendance.answer(&presence(&["a", "b"], connections));
        assert_eq!(answered, Ok(()));
        attendance
    }

    #[test]
    fn joins_and_leaves_of_a_user_alternate() {
        let mut attendance = attendance(2);
        assert_eq!(attendance.change(true, &one("c", 3)), Ok(true));
        assert_eq!(attendance.change(false, &one("a", 2)), Ok(true));
        let several = presence(&["a", "d"], 4);
        assert_eq!(attendance.change(true, &several), Ok(true));
        let known: Vec<_> = attendance.users().into_iter().flatten().collect();
        assert_eq!(known.iter().map(|it| &***it).collect::<String>(), "abcd");
        for (is_join, user) in [(true, "b"), (false, "e")] {
            let broken = attendance.change(is_join, &one(user, 4));
            assert!(matches!(broken, Err(Broken::Repeated(_))), "{user}");
        }
    }

    #[test]
    fn in_a_crowd_a_user_of_the_answer_may_be_announced_too() {
        assert_eq!(attendance(51).change(true, &one("b", 2)), Ok(true));
        assert_eq!(attendance(2).change(true, &one("b", 51)), Ok(true));
    }

    #[test]
    fn a_subscriber_that_missed_an_announcement_knows_nobody_until_it_has_asked() {
        let mut attendance = attendance(2);
        let mut missed = one("c", 3);
        missed["missed"] = true.into();
        assert_eq!(attendance.change(true, &missed), Ok(false));
        assert_eq!(attendance.users(), None);
        assert_eq!(attendance.change(false, &one("a", 2)), Ok(false));
        assert_eq!(attendance.answer(&presence(&["b", "c"], 2)), Ok(()));
        assert_eq!(attendance.change(true, &one("a", 3)), Ok(true));
    }

    #[test]
    fn an_answer_names_everybody_once() {
        let mut twice = presence(&["a", "a"], 2);
        assert!(Attendance::default().answer(&twice).is_err());
        twice["count"] = 1.into();
        assert!(Attendance::default().answer(&twice).is_err());
        assert!(Attendance::default().answer(&json!({})).is_err());
    }
}
