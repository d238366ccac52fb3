//! Subscribers: clients that stay in one room, come back by themselves, and hold each packet to the
//! promises of the protocol.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tokio::time::sleep;

use crate::{
    attendance::Attendance,
    follower::{Broken, Follower, Place},
    ledger::Violation,
    link::{Link, OpenError, Packet},
    plan::GATEWAYS,
    world::{EVENT, World, room_name},
};

/// Shortest and longest wait before a client connects again, in milliseconds.
const RECONNECTION_MS: std::ops::Range<u64> = 100..1000;
/// Wait before a client whose session was revoked tries again.
const REFUSED_PAUSE: Duration = Duration::from_secs(2);
/// Wait before a subscription that failed is repeated.
const RETRY_PAUSE: Duration = Duration::from_millis(300);

/// One in so many subscribers of a room observes its users.
const OBSERVER_SHARE: usize = 3;

/// One subscriber, as the rest of the run sees it.
pub(crate) struct Seat {
    /// The number of its room.
    pub(crate) room: usize,
    /// The session of its token.
    pub(crate) sid: String,
    number: usize,
    token: String,
    /// Whether a logout of its session was posted, and whether it was acknowledged.
    pub(crate) is_leaving: AtomicBool,
    /// Whether a logout of its session was acknowledged.
    pub(crate) is_revoked: AtomicBool,
    state: Mutex<State>,
    /// The users of the room, if the subscriber observes them.
    attendance: Option<Mutex<Attendance>>,
}

/// Where a subscriber is.
#[derive(Clone, Default)]
pub(crate) struct State {
    /// The gateway that it is connected to.
    pub(crate) gateway: Option<usize>,
    /// Whether its subscription was answered on this connection.
    pub(crate) is_subscribed: bool,
    /// The last message that it has.
    pub(crate) place: Option<Place>,
}

impl Seat {
    /// Makes the subscriber `number` of a run with so many rooms. Every third one of a room observes its
    /// users.
    ///
    /// # Errors
    ///
    /// Returns an error if its token cannot be signed.
    pub(crate) fn new(world: &World, number: usize, rooms: usize) -> anyhow::Result<Arc<Self>> {
        let sid = format!("{}-session-{number}", world.run);
        let token = world.issuer.user(&user_name(number), &sid)?;
        let is_observer = (number / rooms).is_multiple_of(OBSERVER_SHARE);
        Ok(Arc::new(Self {
            room: number % rooms,
            attendance: is_observer.then(Mutex::default),
            sid,
            number,
            token,
            is_leaving: AtomicBool::new(false),
            is_revoked: AtomicBool::new(false),
            state: Mutex::default(),
        }))
    }

    /// Returns the name in violations.
    pub(crate) fn label(&self) -> String {
        format!("subscriber {} of {}", self.number, room_name(self.room))
    }

    /// Returns where the subscriber is.
    pub(crate) fn state(&self) -> State {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.clone()
    }

    /// Returns the name of the user.
    pub(crate) fn user(&self) -> String {
        user_name(self.number)
    }

    /// Returns whether the subscriber observes the users of its room, and if so those that it knows.
    pub(crate) fn observed(&self) -> Option<BTreeSet<Arc<str>>> {
        let attendance = self.attendance.as_ref()?;
        let attendance = attendance.lock().unwrap_or_else(PoisonError::into_inner);
        Some(attendance.users().cloned().unwrap_or_default())
    }

    fn update(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Connects, subscribes and listens, again and again, until the task is dropped.
    pub(crate) async fn live(self: Arc<Self>, world: Arc<World>) {
        let mut follower = Follower::default();
        let mut gateway = self.number % GATEWAYS;
        loop {
            match Link::open(world.cluster.gateways[gateway].public, &self.token).await {
                Ok(mut link) => {
                    world.ledger.admitted();
                    self.update(|state| state.gateway = Some(gateway));
                    // Whatever ends the connection, the client comes back.
                    let _ = self.stay(&world, &mut link, &mut follower).await;
                    self.update(|state| (state.gateway, state.is_subscribed) = (None, false));
                }
                Err(OpenError::Refused(_)) if self.is_leaving.load(Ordering::Relaxed) => {
                    sleep(REFUSED_PAUSE).await;
                }
                Err(OpenError::Refused(message)) => {
                    let text = format!("{} was refused: {message}", self.label());
                    world.ledger.violated(Violation::Absent, text);
                }
                Err(OpenError::Failed) => {}
            }
            sleep(Duration::from_millis(fastrand::u64(RECONNECTION_MS))).await;
            // To any of the others, so that each gets its share.
            gateway = (gateway + fastrand::usize(1..GATEWAYS)) % GATEWAYS;
        }
    }

    /// Subscribes and listens until the connection ends.
    async fn stay(
        &self,
        world: &World,
        link: &mut Link,
        follower: &mut Follower,
    ) -> anyhow::Result<()> {
        self.attend(world, |attendance| {
            attendance.forget();
            Ok(true)
        });
        let mut subscription = self.subscribe(link, follower).await?;
        let mut question = None;
        loop {
            match link.next().await? {
                Packet::Ack(id, answer) if id == subscription && answer["ok"] == true => {
                    self.take_answer(world, follower, &answer);
                    self.update(|state| state.is_subscribed = true);
                }
                Packet::Ack(id, _) if id == subscription => {
                    sleep(RETRY_PAUSE).await;
                    subscription = self.subscribe(link, follower).await?;
                }
                Packet::Ack(id, answer) if Some(id) == question && answer["ok"] == true => {
                    self.attend(world, |attendance| {
                        attendance.answer(&answer).map(|()| true)
                    });
                }
                Packet::Ack(id, _) if Some(id) == question => {
                    sleep(RETRY_PAUSE).await;
                    question = Some(self.ask_for_users(link).await?);
                }
                Packet::Ack(..) => {}
                Packet::Event(event) => {
                    if !self.take(world, follower, &event) && question.is_none() {
                        question = Some(self.ask_for_users(link).await?);
                    }
                }
            }
            self.update(|state| state.place = follower.place().cloned());
        }
    }

    async fn subscribe(&self, link: &mut Link, follower: &Follower) -> anyhow::Result<u64> {
        let mut payload = json!({ "room": room_name(self.room) });
        if let Some(place) = follower.place() {
            payload["since"] = json!({ "epoch": &*place.epoch, "offset": place.offset });
        }
        if self.attendance.is_some() {
            payload["presence"] = "full".into();
        }
        link.emit("rt:subscribe", &payload).await
    }

    async fn ask_for_users(&self, link: &mut Link) -> anyhow::Result<u64> {
        let payload = json!({ "room": room_name(self.room), "mode": "full" });
        link.emit("rt:presence", &payload).await
    }

    /// Takes the answer to a subscription.
    fn take_answer(&self, world: &World, follower: &mut Follower, answer: &Value) {
        match follower.answer(answer) {
            Ok((kind, heard)) => {
                world.ledger.returned(kind);
                for message in heard {
                    world.ledger.heard(self.room, message);
                }
            }
            Err(broken) => world.ledger.broken(&self.label(), &broken),
        }
        self.attend(world, |attendance| {
            attendance.answer(&answer["presence"]).map(|()| true)
        });
    }

    /// Takes an event. Returns whether the users of the room are known after it, if they are observed.
    fn take(&self, world: &World, follower: &mut Follower, event: &Value) -> bool {
        let taken = match event[0].as_str() {
            Some(EVENT) => follower
                .message(&event[1], &event[2])
                .map(|heard| world.ledger.heard(self.room, heard)),
            Some("rt:gap") => follower.gap(&event[1]).map(|()| world.ledger.gap()),
            Some(name @ ("rt:join" | "rt:leave")) => {
                world.ledger.announced();
                return self.attend(world, |attendance| {
                    attendance.change(name == "rt:join", &event[1])
                });
            }
            _ => Ok(()),
        };
        if let Err(broken) = taken {
            world.ledger.broken(&self.label(), &broken);
        }
        true
    }

    /// Changes what an observer knows of the users. Returns whether they are known after it.
    fn attend(
        &self,
        world: &World,
        change: impl FnOnce(&mut Attendance) -> Result<bool, Broken>,
    ) -> bool {
        let Some(attendance) = &self.attendance else {
            return true;
        };
        let changed = change(&mut attendance.lock().unwrap_or_else(PoisonError::into_inner));
        changed.unwrap_or_else(|broken| {
            world.ledger.broken(&self.label(), &broken);
            true
        })
    }
}

fn user_name(number: usize) -> String {
    format!("user-{number}")
}
