//! A subscriber that comes and goes, and checks what it is sent.

use serde_json::Value;

use super::{
    seam::{Run, Tally},
    *,
};
use crate::outbox::Outbox;
use crate::{outbox, transport::testing};

/// A client of one room.
pub(super) struct Client {
    run: Arc<Run>,
    connection: Arc<str>,
    outbox: Arc<Outbox>,
    /// The last message that it has: epoch and offset.
    place: Option<(String, u64)>,
    /// The first message that it missed before its last answer, of which a gap has to tell.
    missed: Option<u64>,
    /// Whether it has an answer, and did not leave since.
    is_member: bool,
}

/// What it names when it subscribes.
#[derive(Clone, Copy, PartialEq)]
enum Naming {
    /// The last message that it has.
    Last,
    Nothing,
}

impl Client {
    pub(super) fn new(run: &Arc<Run>, number: u64) -> Self {
        Self {
            run: run.clone(),
            connection: format!("connection-{number}").into(),
            outbox: new_outbox(run),
            place: None,
            missed: None,
            is_member: false,
        }
    }

    pub(super) fn subscriber(&self) -> Subscriber {
        Subscriber {
            connection: self.connection.clone(),
            outbox: self.outbox.clone(),
            sender: Sender {
                iss: None,
                sub: Some(self.connection.clone()),
                name: None,
                connection: self.connection.clone(),
            },
            may_watch: false,
            presence: None,
        }
    }

    /// Stays, and reads all the time.
    pub(super) async fn witness(mut self) -> Self {
        while !self.run.is_over() {
            self.read();
            self.run.pause(20).await;
            self.come_back_if_closed().await;
        }
        self
    }

    /// Does one thing after another until the publishers are done.
    pub(super) async fn live(mut self) -> Self {
        while !self.run.is_over() {
            self.come_back_if_closed().await;
            match self.run.faults.below(12) {
                0 => self.leave(),
                1 => self.reconnect(),
                2 => self.subscribe(Naming::Nothing).await,
                3 => self.subscribe(Naming::Last).await,
                // It reads nothing meanwhile.
                4 => self.run.pause(1500).await,
                5 => self.run.pause(200).await,
                6 if !self.is_member => self.subscribe(Naming::Last).await,
                _ => {
                    self.read();
                    self.run.pause(20).await;
                }
            }
        }
        self
    }

    /// Subscribes for good, and reads to the end: nothing may be missing there either.
    pub(super) async fn finish(&mut self) {
        self.come_back_if_closed().await;
        self.read();
        if !self.is_member {
            self.subscribe_until_admitted().await;
            self.read();
        }
        self.come_back_if_closed().await;
        if !self.is_member {
            self.subscribe_until_admitted().await;
            self.read();
        }
        let (lobby, nothing) = (name("lobby"), Selection::default());
        let extract = self.run.rooms.read(&lobby, &nothing).await;
        let end = extract.expect("a log without faults").position;
        let end = (end.epoch.0.to_string(), end.offset);
        assert_eq!(self.place, Some(end), "the end is missing");
        assert_eq!(self.missed, None, "a silent gap before the answer");
    }

    pub(super) async fn subscribe_until_admitted(&mut self) {
        while !self.is_member {
            self.come_back_if_closed().await;
            self.subscribe(Naming::Last).await;
            self.read();
        }
    }

    async fn subscribe(&mut self, naming: Naming) {
        // What was sent to it before decides what it names.
        self.read();
        let named = self.place.clone().filter(|_| naming == Naming::Last);
        let since = named.clone().map(|(epoch, offset)| Since { epoch, offset });
        let options = SubscribeOptions {
            since,
            history: None,
            presence: PresenceMode::Off,
        };
        let is_continued = self.is_member && naming == Naming::Nothing;
        let answer = |subscription: &Subscription<'_>| {
            let answer = json!({
                "position": subscription.position, "recovered": subscription.recovered,
                "messages": subscription.messages.map(|messages| &messages.json),
                "is_continued": is_continued, "named": named,
            });
            outbox::event("/", "answer", &answer).ok()
        };
        let subscriber = self.subscriber();
        let subscribed = self
            .run
            .rooms
            .subscribe(&name("lobby"), &subscriber, &options, answer)
            .await;
        match subscribed {
            Ok(()) => self.is_member = true,
            // As the handler of the event does.
            Err(_) => self.leave(),
        }
    }

    fn leave(&mut self) {
        self.run.rooms.leave(&name("lobby"), &self.connection);
        self.is_member = false;
    }

    fn reconnect(&mut self) {
        // It counts the messages before the answer as missing, and has no place to come back to.
        if self.missed.take().is_some() {
            self.place = None;
        }
        self.outbox.close();
        self.leave();
        self.outbox = new_outbox(&self.run);
    }

    /// A client that was too slow connects again.
    async fn come_back_if_closed(&mut self) {
        if !self.outbox.is_open_now() {
            self.run.count(|tally| tally.closed += 1);
            self.reconnect();
            self.subscribe(Naming::Last).await;
        }
    }

    fn read(&mut self) {
        for queued in self.outbox.engine().queue().take(usize::MAX) {
            let text = queued.packet().text().strip_prefix("42");
            let event: Value = serde_json::from_str(text.expect("an event")).expect("JSON");
            match event[0].as_str() {
                Some("message") => self.take_message(&event[1], &event[2]),
                Some("rt:gap") => self.take_gap(&event[1]),
                Some("answer") => self.take_answer(&event[1]),
                _ => panic!("{event}"),
            }
        }
    }

    fn take_message(&mut self, data: &Value, meta: &Value) {
        let epoch = meta["epoch"].as_str().expect("an epoch");
        let offset = meta["offset"].as_u64().expect("an offset");
        let place = self.place.as_mut().expect("an answer before the message");
        assert_eq!(self.missed, None, "a silent gap before the answer");
        assert_eq!(place.0, epoch, "another epoch without an answer");
        assert_eq!(offset, place.1 + 1, "a silent gap, or a repetition");
        place.1 = offset;
        self.run.see(epoch, offset, data.as_str().expect("a text"));
        self.run.count(|tally| tally.heard += 1);
    }

    fn take_gap(&mut self, gap: &Value) {
        let [from, to] = ["from", "to"].map(|name| gap[name].as_u64().expect("an offset"));
        let place = self.place.as_mut().expect("an answer before the gap");
        assert!(!self.run.keeps_all, "nothing is lost: {gap}");
        let next = self.missed.take().unwrap_or(place.1 + 1);
        assert!(from <= next && to > place.1, "{gap} at {place:?}");
        place.1 = to;
        self.run.count(|tally| tally.gaps += 1);
    }

    fn take_answer(&mut self, answer: &Value) {
        let position = &answer["position"];
        let epoch = position["epoch"].as_str().expect("an epoch");
        let end = (
            epoch.to_owned(),
            position["offset"].as_u64().expect("an offset"),
        );
        if answer["is_continued"] == true {
            // A gap that reaches beyond the answer follows it.
            let place = self.place.replace(end.clone()).expect("a place");
            assert!(place.0 == end.0 && place.1 <= end.1, "{place:?}");
            self.missed = (place.1 < end.1).then_some(place.1 + 1);
            return self.run.count(|tally| tally.continued += 1);
        }
        if answer["named"].is_null() {
            self.place = Some(end);
        } else if answer["recovered"] == true {
            for message in answer["messages"].as_array().expect("messages") {
                // A member may have got some before it had this answer.
                let offset = message["meta"]["offset"].as_u64();
                if offset > self.place.as_ref().map(|place| place.1) {
                    self.take_message(&message["data"], &message["meta"]);
                }
            }
            assert_eq!(self.place, Some(end), "the answer falls short");
            self.run.count(|tally: &mut Tally| tally.recovered += 1);
        } else {
            assert!(!self.run.keeps_all, "nothing is lost: {answer}");
            self.place = Some(end);
            self.run.count(|tally| tally.unrecovered += 1);
        }
    }
}

fn new_outbox(run: &Run) -> Arc<Outbox> {
    let outbox = Outbox::new(&run.outboxes, testing::session(&run.transport), "/");
    outbox.set_deadline(None);
    outbox
}
