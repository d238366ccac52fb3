//! The place of one subscriber in its room, and the promises that each packet is held to.

use std::sync::Arc;

use serde_json::Value;

/// A place in a room's stream of messages.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    /// The life of the room.
    pub(crate) epoch: Arc<str>,
    /// The number of the message in that life; 0 is before the first.
    pub(crate) offset: u64,
}

/// A message, and its place.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Heard {
    /// The place.
    pub(crate) place: Place,
    /// The content, which no other message has.
    pub(crate) data: String,
}

/// Meaning of the answer to a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Return {
    /// The subscriber was not there before.
    First,
    /// Nothing is missing.
    Recovered,
    /// Messages may be missing, and the subscriber was told.
    Unrecovered,
}

/// A broken promise.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// A message is missing before this one, and nobody said so.
    SilentGap(String),
    /// A message arrived again, or after a later one.
    Reordered(String),
    /// A user joined who was there, or left who was not.
    Repeated(String),
    /// A packet cannot be understood.
    Malformed(String),
}

/// Follows the packets of one subscriber.
#[derive(Debug, Default)]
pub(crate) struct Follower {
    place: Option<Place>,
}

impl Follower {
    /// Returns the place of the last message that the subscriber has or was told about.
    pub(crate) fn place(&self) -> Option<&Place> {
        self.place.as_ref()
    }

    /// Takes the answer to a subscription that named the current place as `since`.
    ///
    /// # Errors
    ///
    /// See [`Broken`].
    pub(crate) fn answer(&mut self, answer: &Value) -> Result<(Return, Vec<Heard>), Broken> {
        let end = place_of(answer)?;
        let Some(before) = self.place.replace(end.clone()) else {
            return Ok((Return::First, Vec::new()));
        };
        if answer["recovered"] != true {
            return Ok((Return::Unrecovered, Vec::new()));
        }
        self.place = Some(before);
        let mut heard = Vec::new();
        for message in answer["messages"].as_array().into_iter().flatten() {
            heard.push(self.message(&message["data"], &message["meta"])?);
        }
        match self.place == Some(end) {
            true => Ok((Return::Recovered, heard)),
            false => Err(Broken::SilentGap(format!(
                "the answer ends early: {answer}"
            ))),
        }
    }

    /// Takes a message with its place.
    ///
    /// # Errors
    ///
    /// See [`Broken`].
    pub(crate) fn message(&mut self, data: &Value, meta: &Value) -> Result<Heard, Broken> {
        let place = place_of(meta)?;
        let data = data.as_str().ok_or_else(|| malformed(data))?.to_owned();
        let before = self.place.replace(place.clone());
        match before {
            Some(before) if before.epoch == place.epoch && place.offset <= before.offset => {
                Err(Broken::Reordered(format!("{place:?} after {before:?}")))
            }
            Some(before) if before.epoch == place.epoch && place.offset == before.offset + 1 => {
                Ok(Heard { place, data })
            }
            before => Err(Broken::SilentGap(format!("{place:?} after {before:?}"))),
        }
    }

    /// Takes a notice of lost messages.
    ///
    /// # Errors
    ///
    /// See [`Broken`].
    pub(crate) fn gap(&mut self, gap: &Value) -> Result<(), Broken> {
        let number = |name: &str| gap[name].as_u64().ok_or_else(|| malformed(gap));
        let (from, to) = (number("from")?, number("to")?);
        let epoch: Arc<str> = gap["epoch"].as_str().ok_or_else(|| malformed(gap))?.into();
        let before = self.place.replace(Place {
            epoch: epoch.clone(),
            offset: to,
        });
        // An epoch that a subscriber left may go on behind the messages that it has.
        let is_known = before.as_ref().is_some_and(|before| before.epoch == epoch);
        let follows = before.is_some_and(|before| from == before.offset + 1 && to >= from);
        match to + 1 >= from && (follows || !is_known) {
            true => Ok(()),
            false => Err(Broken::SilentGap(format!("the gap does not follow: {gap}"))),
        }
    }
}

/// Reads the place in an answer or in what goes with a message.
///
/// # Errors
///
/// Returns an error if there is none.
pub(crate) fn place_of(value: &Value) -> Result<Place, Broken> {
    let epoch = value["epoch"].as_str().ok_or_else(|| malformed(value))?;
    let offset = value["offset"].as_u64().ok_or_else(|| malformed(value))?;
    Ok(Place {
        epoch: epoch.into(),
        offset,
    })
}

fn malformed(value: &Value) -> Broken {
    Broken::Malformed(value.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(epoch: &str, offset: u64) -> Value {
        json!({ "epoch": epoch, "offset": offset })
    }

    /// A follower that has message 3 of the epoch `a`.
    fn follower() -> Follower {
        let mut follower = Follower::default();
        let answer = follower.answer(&at("a", 3)).expect("an answer");
        assert_eq!(answer, (Return::First, Vec::new()));
        follower
    }

    fn hear(follower: &mut Follower, epoch: &str, offset: u64) -> Result<Heard, Broken> {
        follower.message(&json!("m"), &at(epoch, offset))
    }

    #[test]
    fn the_next_message_is_the_only_one_that_may_follow() {
        assert!(hear(&mut follower(), "a", 4).is_ok());
        for (epoch, offset) in [("a", 5), ("b", 1), ("b", 4)] {
            let broken = hear(&mut follower(), epoch, offset);
            assert!(
                matches!(broken, Err(Broken::SilentGap(_))),
                "{epoch} {offset}"
            );
        }
        for offset in [2, 3] {
            let broken = hear(&mut follower(), "a", offset);
            assert!(matches!(broken, Err(Broken::Reordered(_))), "{offset}");
        }
    }

    #[test]
    fn a_gap_that_is_told_is_none_and_has_to_follow_too() {
        let gap =
            |epoch: &str, from: u64, to: u64| json!({ "epoch": epoch, "from": from, "to": to });
        for (notice, next) in [
            (gap("a", 4, 6), ("a", 7)),
            (gap("b", 1, 0), ("b", 1)),
            (gap("b", 1, 2), ("b", 3)),
        ] {
            let mut follower = follower();
            assert_eq!(follower.gap(&notice), Ok(()), "{notice}");
            assert!(hear(&mut follower, next.0, next.1).is_ok(), "{notice}");
        }
        for notice in [
            gap("a", 5, 6),
            gap("a", 3, 6),
            gap("a", 4, 3),
            gap("b", 3, 1),
            json!({}),
        ] {
            assert!(follower().gap(&notice).is_err(), "{notice}");
        }
    }

    #[test]
    fn a_return_brings_every_message_or_says_that_it_does_not() {
        let message = |offset: u64| json!({ "meta": at("a", offset), "data": "m" });
        let answer = |offset: u64, messages: &[u64]| {
            let messages: Vec<_> = messages.iter().map(|it| message(*it)).collect();
            json!({ "epoch": "a", "offset": offset, "recovered": true, "messages": messages })
        };
        let (kind, heard) = follower().answer(&answer(5, &[4, 5])).expect("whole");
        assert_eq!((kind, heard.len()), (Return::Recovered, 2));
        for (offset, messages) in [(5, &[5][..]), (5, &[4]), (5, &[]), (4, &[4, 5])] {
            assert!(
                follower().answer(&answer(offset, messages)).is_err(),
                "{messages:?}"
            );
        }
        let told = json!({ "epoch": "b", "offset": 9, "recovered": false });
        let mut follower = follower();
        let answered = follower.answer(&told).expect("told");
        assert_eq!(answered, (Return::Unrecovered, Vec::new()));
        assert!(hear(&mut follower, "b", 10).is_ok());
    }
}
