//! The outcome of all grants of a session for one action in one room.

use shared_claims::authorization::Action;

use super::{Grant, Grants, RoomName};

/// The index of a rule in `[[rooms]]`, from 0.
pub type RuleIndex = u16;

/// The outcome of all grants for an action in a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrantVerdict {
    /// A grant allows it.
    Allowed,
    /// No grant allows it by itself. The back end of this rule decides, the first rule that matches.
    Asks(RuleIndex),
    /// No grant is about it.
    Denied,
}

impl Grants {
    /// Returns the outcome for `action` in `room`.
    #[must_use]
    pub fn verdict(&self, action: Action, room: &RoomName) -> GrantVerdict {
        let mut verdict = GrantVerdict::Denied;
        for grant in self.0.iter().filter(|grant| grant.covers(action, room)) {
            match (grant.asks, verdict) {
                (None, _) => return GrantVerdict::Allowed,
                (Some(rule), GrantVerdict::Denied) => verdict = GrantVerdict::Asks(rule),
                (Some(_), _) => {}
            }
        }
        verdict
    }

    /// Whether some grant allows `action` in `room`, without a back end that is asked.
    #[must_use]
    pub fn allow(&self, action: Action, room: &RoomName) -> bool {
        self.verdict(action, room) == GrantVerdict::Allowed
    }

    /// Returns the actions that are allowed in `room`, and those on which a back end decides.
    #[must_use]
    pub fn actions_in(&self, room: &RoomName) -> (Vec<Action>, Vec<Action>) {
        let with = |is_meant: fn(GrantVerdict) -> bool| {
            let all = Action::ALL.into_iter();
            all.filter(|action| is_meant(self.verdict(*action, room)))
                .collect()
        };
        (
            with(|verdict| verdict == GrantVerdict::Allowed),
            with(|verdict| matches!(verdict, GrantVerdict::Asks(_))),
        )
    }
}

impl Grant {
    pub(super) fn covers(&self, action: Action, room: &RoomName) -> bool {
        self.actions.contains(action) && self.pattern.matches(room)
    }
}
