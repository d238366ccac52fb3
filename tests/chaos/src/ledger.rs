//! Everything that a run is judged by: acknowledged messages and events, deliveries, and violations.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::follower::{Broken, Heard, Place, Return};

/// Violations of one kind that are written out; further ones are counted.
const SHOWN: usize = 5;

/// A promise that was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Violation {
    /// A subscriber missed a message and was not told.
    SilentGap,
    /// A message arrived again, or after a later one.
    Reordered,
    /// Two messages have one place, or one message has two places in an epoch.
    TwoPlaces,
    /// A gateway counts a connection that there is none of, or does not count one.
    Ghost,
    /// A subscriber was told that a user joined who was there, or that one left who was not.
    Repeated,
    /// The announcements of users led a subscriber to another list than the true one.
    Roster,
    /// The socket of a revoked session is open.
    Survivor,
    /// A stored event never reached the back end.
    LostEvent,
    /// A client could not come back or was refused, or a room had no publisher.
    Absent,
    /// A message was lost in a rolling restart, although its subscribers were told.
    ToldLoss,
    /// More clients came back in one second of a rolling restart than planned.
    Rush,
    /// A process ended by itself, or a packet cannot be understood.
    Broken,
}

impl Violation {
    /// Every kind, in the order of the table.
    pub(crate) const ALL: [Self; 12] = [
        Self::SilentGap,
        Self::Reordered,
        Self::TwoPlaces,
        Self::Ghost,
        Self::Repeated,
        Self::Roster,
        Self::Survivor,
        Self::LostEvent,
        Self::Absent,
        Self::ToldLoss,
        Self::Rush,
        Self::Broken,
    ];

    /// Returns the name in the table.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::SilentGap => "silent gaps",
            Self::Reordered => "reordered or repeated messages",
            Self::TwoPlaces => "messages with another place",
            Self::Ghost => "ghosts in presence",
            Self::Repeated => "repeated joins and leaves",
            Self::Roster => "observers with a wrong list of users",
            Self::Survivor => "sockets of revoked sessions",
            Self::LostEvent => "acknowledged events that were lost",
            Self::Absent => "clients refused or not back",
            Self::ToldLoss => "losses in a rolling restart",
            Self::Rush => "rushes in a rolling restart",
            Self::Broken => "broken processes or packets",
        }
    }
}

/// What happened in one second.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Second {
    /// Messages that arrived at subscribers.
    pub(crate) deliveries: u64,
    /// Notices of lost messages, and answers with `recovered: false`.
    pub(crate) told: u64,
    /// Connections that were admitted.
    pub(crate) admitted: u64,
}

/// Numbers of a run.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Totals {
    /// Messages that were acknowledged.
    pub(crate) published: u64,
    /// Messages that arrived at subscribers.
    pub(crate) deliveries: u64,
    /// Announcements of users who joined or left.
    pub(crate) announced: u64,
    /// Notices of lost messages.
    pub(crate) gaps: u64,
    /// Returns that brought every missed message.
    pub(crate) recovered: u64,
    /// Returns that said that messages may be missing.
    pub(crate) unrecovered: u64,
    /// Connections that were admitted.
    pub(crate) admitted: u64,
    /// Sessions that were revoked.
    pub(crate) revoked: u64,
    /// Events for the back end that were acknowledged.
    pub(crate) stored: u64,
}

/// The ledger of a run, which every task writes.
pub(crate) struct Ledger {
    start: Instant,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    totals: Totals,
    seconds: Vec<Second>,
    /// The message at each place of each room.
    messages: HashMap<(usize, Place), Arc<str>>,
    /// The offset of each message in each epoch.
    places: HashMap<(Arc<str>, Arc<str>), u64>,
    stored: HashSet<String>,
    received: HashSet<String>,
    violations: BTreeMap<Violation, (u64, Vec<String>)>,
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            start: Instant::now(),
            state: Mutex::default(),
        }
    }
}

impl Ledger {
    /// Time since the run began.
    pub(crate) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Notes an acknowledged message.
    pub(crate) fn acknowledged(&self, room: usize, place: Place, data: &str) {
        let mut state = self.lock();
        state.totals.published += 1;
        state.see(room, place, data);
    }

    /// Notes a message that arrived at a subscriber.
    pub(crate) fn heard(&self, room: usize, heard: Heard) {
        let mut state = self.lock();
        state.totals.deliveries += 1;
        self.second(&mut state).deliveries += 1;
        state.see(room, heard.place, &heard.data);
    }

    /// Notes an `rt:join` or `rt:leave`.
    pub(crate) fn announced(&self) {
        self.lock().totals.announced += 1;
    }

    /// Notes an admitted connection.
    pub(crate) fn admitted(&self) {
        let mut state = self.lock();
        state.totals.admitted += 1;
        self.second(&mut state).admitted += 1;
    }

    /// Notes a notice of lost messages.
    pub(crate) fn gap(&self) {
        let mut state = self.lock();
        state.totals.gaps += 1;
        self.second(&mut state).told += 1;
    }

    /// Notes the answer to a subscription.
    pub(crate) fn returned(&self, kind: Return) {
        let mut state = self.lock();
        match kind {
            Return::First => {}
            Return::Recovered => state.totals.recovered += 1,
            Return::Unrecovered => {
                state.totals.unrecovered += 1;
                self.second(&mut state).told += 1;
            }
        }
    }

    /// Notes a revoked session.
    pub(crate) fn revoked(&self) {
        self.lock().totals.revoked += 1;
    }

    /// Notes an event that a gateway has stored for the back end.
    pub(crate) fn stored(&self, id: &str) {
        let mut state = self.lock();
        state.totals.stored += 1;
        state.stored.insert(id.to_owned());
    }

    /// Notes an event that the back end got.
    pub(crate) fn received(&self, id: &str) {
        self.lock().received.insert(id.to_owned());
    }

    /// Returns the stored events that the back end did not get.
    pub(crate) fn missing_events(&self) -> Vec<String> {
        let state = self.lock();
        let missing = state.stored.difference(&state.received);
        missing.cloned().collect()
    }

    /// Notes a broken promise to a subscriber.
    pub(crate) fn broken(&self, client: &str, broken: &Broken) {
        let (kind, text) = match broken {
            Broken::SilentGap(text) => (Violation::SilentGap, text),
            Broken::Reordered(text) => (Violation::Reordered, text),
            Broken::Repeated(text) => (Violation::Repeated, text),
            Broken::Malformed(text) => (Violation::Broken, text),
        };
        self.violated(kind, format!("{client}: {text}"));
    }

    /// Notes a broken promise.
    pub(crate) fn violated(&self, kind: Violation, text: String) {
        let second = self.elapsed().as_secs_f64();
        let mut state = self.lock();
        state.violate(kind, format!("{second:.1} s: {text}"));
    }

    /// Returns the numbers until now.
    pub(crate) fn totals(&self) -> Totals {
        self.lock().totals
    }

    /// Returns what happened in each second.
    pub(crate) fn seconds(&self) -> Vec<Second> {
        self.lock().seconds.clone()
    }

    /// Returns each kind of violation with its number and its first texts.
    pub(crate) fn violations(&self) -> BTreeMap<Violation, (u64, Vec<String>)> {
        self.lock().violations.clone()
    }

    fn second<'a>(&self, state: &'a mut State) -> &'a mut Second {
        let second = usize::try_from(self.elapsed().as_secs()).unwrap_or_default();
        if state.seconds.len() <= second {
            state.seconds.resize(second + 1, Second::default());
        }
        &mut state.seconds[second]
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Notes that a message is at a place, where it has to be for everybody.
    fn see(&mut self, room: usize, place: Place, data: &str) {
        let data: Arc<str> = match self.messages.get(&(room, place.clone())) {
            Some(first) if **first == *data => return,
            Some(first) => {
                let text = format!("{first} and {data} are both at {place:?}");
                return self.violate(Violation::TwoPlaces, text);
            }
            None => data.into(),
        };
        let key = (place.epoch.clone(), data.clone());
        if let Some(offset) = self.places.insert(key, place.offset) {
            let text = format!("{data} is at {offset} and at {place:?}");
            self.violate(Violation::TwoPlaces, text);
        }
        self.messages.insert((room, place), data);
    }

    fn violate(&mut self, kind: Violation, text: String) {
        let (count, texts) = self.violations.entry(kind).or_default();
        *count += 1;
        if texts.len() < SHOWN {
            texts.push(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(offset: u64) -> Place {
        Place {
            epoch: "a".into(),
            offset,
        }
    }

    #[test]
    fn a_message_has_one_place_and_a_place_one_message() {
        let ledger = Ledger::default();
        ledger.acknowledged(0, place(1), "x");
        let heard = |data: &str, offset| Heard {
            place: place(offset),
            data: data.to_owned(),
        };
        ledger.heard(0, heard("x", 1));
        assert!(ledger.violations().is_empty());
        // Another room has messages of its own.
        ledger.heard(1, heard("y", 1));
        assert!(ledger.violations().is_empty());
        ledger.heard(0, heard("z", 1));
        assert_eq!(ledger.violations()[&Violation::TwoPlaces].0, 1);
        ledger.heard(0, heard("x", 2));
        assert_eq!(ledger.violations()[&Violation::TwoPlaces].0, 2);
    }

    #[test]
    fn an_event_is_missing_until_the_back_end_has_it() {
        let ledger = Ledger::default();
        ledger.stored("one");
        ledger.stored("two");
        ledger.received("two");
        ledger.received("three");
        assert_eq!(ledger.missing_events(), ["one"]);
    }

    #[test]
    fn further_violations_of_a_kind_are_counted() {
        let ledger = Ledger::default();
        for _ in 0..SHOWN + 2 {
            ledger.violated(Violation::Ghost, "a ghost".to_owned());
        }
        let (count, texts) = &ledger.violations()[&Violation::Ghost];
        assert_eq!((*count, texts.len()), (SHOWN as u64 + 2, SHOWN));
    }
}
