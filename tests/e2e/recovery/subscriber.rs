use std::sync::Arc;

use harness::{Opening, WebSocket, websocket::parse};
use serde_json::{Value, json};

use super::{Chance, Meta, RECEIVE_BUFFER_BYTES, ROOMS, Run, Tally, room};

/// One who listens to a room, comes and goes, and checks what it is told.
pub(super) struct Subscriber {
    run: Arc<Run>,
    room: String,
    opening: Opening,
    chance: Chance,
    /// The connection, while there is one.
    socket: Option<WebSocket>,
    /// The last message that it has: epoch and offset.
    place: Option<(String, u64)>,
}

impl Subscriber {
    pub(super) fn new(run: &Arc<Run>, number: u64, chance: Chance) -> Self {
        Self {
            run: run.clone(),
            room: room(number as usize % ROOMS),
            opening: Opening::of(&run.stack).receive_buffer_bytes(RECEIVE_BUFFER_BYTES),
            chance,
            socket: None,
            place: None,
        }
    }

    /// Does one thing after another until the publishers are done, and then has everything.
    pub(super) async fn live(mut self) {
        while !self.run.progress.borrow().is_over {
            Tally::count(&self.run.tally.steps);
            if self.socket.is_none() {
                self.enter().await;
                continue;
            }
            match self.chance.below(20) {
                0 => self.socket = None,
                1 => {
                    self.socket = None;
                    self.be_away(250).await;
                }
                // It begins anew, as one that has lost its memory.
                2 => (self.socket, self.place) = (None, None),
                // It is there already, and asks once more.
                3 => self.enter().await,
                4 => self.leave().await,
                // It reads nothing meanwhile.
                5 => self.be_away(2000).await,
                count => self.read(5 * count).await,
            }
        }
        self.finish().await;
    }

    async fn be_away(&mut self, most: u64) {
        let count = self.chance.below(most);
        self.run.await_messages(count).await;
    }

    /// Enters the room with what it has, on a new connection if there is none.
    async fn enter(&mut self) {
        if self.socket.is_none() {
            self.socket = Some(self.run.client(&self.opening).await);
        }
        let mut payload = json!({ "room": self.room });
        if let Some((epoch, offset)) = &self.place {
            payload["since"] = json!({"epoch": epoch, "offset": offset});
        }
        let packet = format!("421{}", json!(["rt:subscribe", payload]));
        let socket = self.socket.as_mut().expect("a connection");
        socket.try_send(packet).await;
        while let Some(packet) = self.next().await {
            match packet.strip_prefix("431") {
                Some(answer) => return self.take_answer(&parse(answer)[0]),
                None => self.take_event(&packet),
            }
        }
    }

    /// Leaves the room; what comes before the answer is still its own.
    async fn leave(&mut self) {
        let packet = format!("421{}", json!(["rt:unsubscribe", {"room": self.room}]));
        let socket = self.socket.as_mut().expect("a connection");
        socket.try_send(packet).await;
        while let Some(packet) = self.next().await {
            if packet.starts_with("431") {
                self.be_away(100).await;
                return self.enter().await;
            }
            self.take_event(&packet);
        }
    }

    /// Reads so many events, or as many as there are.
    async fn read(&mut self, count: u64) {
        let mut progress = self.run.progress.subscribe();
        for _ in 0..count {
            let over = async { progress.wait_for(|now| now.is_over).await.is_ok() };
            let packet = tokio::select! {
                biased;
                packet = self.next() => packet,
                _ = over => return,
            };
            let Some(packet) = packet else { return };
            self.take_event(&packet);
        }
    }

    /// The next packet; none when the connection has ended, which is a word too.
    async fn next(&mut self) -> Option<String> {
        let packet = self.socket.as_mut().expect("a connection").next().await;
        if packet.is_none() {
            Tally::count(&self.run.tally.closed);
            self.socket = None;
        }
        packet
    }

    fn take_answer(&mut self, answer: &Value) {
        assert_eq!(answer["ok"], true, "{answer}");
        let epoch = answer["epoch"].as_str().expect("an epoch").to_owned();
        let offset = answer["offset"].as_u64().expect("an offset");
        if self.place.is_some() && answer["recovered"] == true {
            let messages = answer["messages"].as_array().expect("messages");
            for message in messages {
                let [data, meta] = ["data", "meta"].map(|name| message[name].clone());
                let data = serde_json::from_value(data).expect("two numbers");
                self.take(data, &serde_json::from_value(meta).expect("a place"));
            }
            // All that it has now is all that there is.
            assert_eq!(self.place, Some((epoch, offset)), "{}: short", self.room);
            if !messages.is_empty() {
                Tally::count(&self.run.tally.recovered);
            }
            return;
        }
        if self.place.is_some() {
            assert_eq!(answer["recovered"], false, "{answer}");
            Tally::count(&self.run.tally.told);
        }
        self.place = Some((epoch, offset));
    }

    fn take_event(&mut self, packet: &str) {
        let event = packet.strip_prefix("42").expect("an event");
        let (_, data, meta): (String, _, Meta) = serde_json::from_str(event).expect("a message");
        self.take(data, &meta);
    }

    /// The next message in order, or one that it has already.
    fn take(&mut self, said: (u64, u64), meta: &Meta) {
        let (epoch, last) = self.place.as_mut().expect("a place");
        let offset = meta.offset;
        assert_eq!(meta.epoch, *epoch, "another life without a word");
        if offset > *last {
            assert_eq!(offset, *last + 1, "{}: a silent gap", self.room);
            *last = offset;
        }
        let place = (self.room.clone(), epoch.clone(), offset);
        let mut seen = self.run.seen.lock().expect("no panic");
        let first = *seen.entry(place).or_insert(said);
        assert_eq!(first, said, "{}: two messages at {offset}", self.room);
        Tally::count(&self.run.tally.heard);
    }

    /// Reads on to where the room stands: nothing may be missing at the end either.
    async fn finish(&mut self) {
        loop {
            if self.socket.is_none() {
                self.enter().await;
                continue;
            }
            let end = self.run.client(&self.opening).await;
            let end = end_of(end, &self.room).await;
            let is_there = |this: &Self| {
                let place = this.place.as_ref();
                place.is_some_and(|(epoch, offset)| *epoch == end.0 && *offset >= end.1)
            };
            while self.socket.is_some() && !is_there(self) {
                if let Some(packet) = self.next().await {
                    self.take_event(&packet);
                }
            }
            if is_there(self) {
                return;
            }
        }
    }
}

/// Where a room stands.
async fn end_of(mut socket: WebSocket, room: &str) -> (String, u64) {
    let payload = json!({"room": room, "limit": 0});
    let answer = socket.call("rt:history", payload).await;
    let epoch = answer["epoch"].as_str().expect("an epoch");
    (
        epoch.to_owned(),
        answer["offset"].as_u64().expect("an offset"),
    )
}
