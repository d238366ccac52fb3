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
    /// Returns the outcome for `action` in `room`. No grant is about a room of another namespace.
    #[must_use]
    pub fn verdict(&self, action: Action, room: &RoomName) -> GrantVerdict {
        let mut verdict = GrantVerdict::Denied;
        if *room.namespace() != *self.namespace {
            return verdict;
        }
        for grant in self.all.iter().filter(|grant| grant.covers(action, room)) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        auth::policy::{Holder, Policy, RoomRule},
        config::{Authority, Config},
    };

    fn rule(room: &str, actions: &[Action], backend: Option<&str>) -> RoomRule {
        RoomRule {
            rooms: vec![room.to_owned()],
            actions: actions.to_vec(),
            guests: true,
            authorize: backend.map(|_| Authority::Backend),
            backend: backend.map(str::to_owned),
            ..RoomRule::default()
        }
    }

    #[test]
    fn a_grant_without_a_back_end_wins_and_else_the_first_rule_that_matches_asks() {
        use Action::{History, Presence, Publish, Subscribe};

        let config = Config {
            rooms: vec![
                rule("other", &[Subscribe], None),
                rule("desk:*", &[Subscribe, Publish], Some("shop")),
                rule("desk:**", &[Publish, History], Some("staff")),
                rule("desk:7", &[Subscribe], None),
            ],
            ..Config::default()
        };
        let policy = Policy::new(&config).expect("rules that work");
        let grants = policy.grants(&Holder::Guest);
        for (room, action, expected) in [
            ("desk:7", Subscribe, GrantVerdict::Allowed),
            ("desk:8", Subscribe, GrantVerdict::Asks(1)),
            ("desk:8", Publish, GrantVerdict::Asks(1)),
            ("desk:8", History, GrantVerdict::Asks(2)),
            ("desk:8", Presence, GrantVerdict::Denied),
            ("cellar", Subscribe, GrantVerdict::Denied),
        ] {
            let room = RoomName::parse(room).expect("a room name");
            assert_eq!(grants.verdict(action, &room), expected, "{action:?} {room}");
            let explanation = policy.explain(&Holder::Guest, action, &room);
            let asks = match expected {
                GrantVerdict::Asks(rule) => Some(rule),
                GrantVerdict::Allowed | GrantVerdict::Denied => None,
            };
            assert_eq!(explanation.asks(), asks, "{explanation}");
            assert_eq!(explanation.allowed, expected == GrantVerdict::Allowed);
        }
        let room = RoomName::parse("desk:7").expect("a room name");
        let actions = (vec![Subscribe], vec![Publish, History]);
        assert_eq!(grants.actions_in(&room), actions);
    }
}
