//! The checks after the last fault: everybody is back and has every message, nobody is there who is not,
//! no revoked session has a socket, and the back end has every event.

use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use serde_json::json;
use tokio::time::{Instant, sleep, timeout};

use crate::{
    cluster::DRAIN_WINDOW,
    figures::{Bar, Figures},
    ledger::{Second, Totals, Violation},
    link::Link,
    publishers::{Caller, publish},
    subscribers::Seat,
    world::{World, room_name},
};

/// Maximum time of the last message of all rooms.
const PUBLISH_LIMIT: Duration = Duration::from_secs(20);
/// Maximum time until every subscriber has it.
const DELIVERY_LIMIT: Duration = Duration::from_secs(10);
/// Maximum time until the presence of every gateway is right, after that: users who left are counted
/// for a while.
const PRESENCE_LIMIT: Duration = Duration::from_secs(5);
/// Maximum time until the back end has every event: a gateway sends an event again a second after a
/// failure, and then after twice as long each time.
const EVENTS_LIMIT: Duration = Duration::from_secs(20);
/// Maximum part of the planned reconnections of a second.
const MOST_OF_PLANNED: f64 = 1.5;
/// Minimum part of the planned messages of a second.
const LEAST_OF_RATE: f64 = 0.95;
/// Clients that a second may get from the one beside it, on top.
const NEIGHBOURS: f64 = 2.0;
/// Interval between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// Judges the cluster, some time after the last fault. Every violation goes into the ledger.
///
/// # Errors
///
/// Returns an error if a token cannot be signed.
pub(crate) async fn judge(
    world: &Arc<World>,
    seats: &[Arc<Seat>],
    rooms: usize,
) -> anyhow::Result<()> {
    for ended in world.cluster.ended().await {
        world.ledger.violated(Violation::Broken, ended);
    }
    for seat in seats.iter().filter(|seat| is_survivor(seat)) {
        let text = format!("{} is connected", seat.label());
        world.ledger.violated(Violation::Survivor, text);
    }
    check_deliveries(world, seats, rooms).await?;
    check_presence(world, seats, rooms).await?;
    check_rosters(world, seats, rooms).await;
    check_events(world).await;
    Ok(())
}

/// Events while clients used the cluster.
pub(crate) struct Played {
    /// The second in which each gateway began to hand its clients over, and their number.
    pub(crate) drains: Vec<(u64, usize)>,
    /// Messages that were acknowledged in a second.
    pub(crate) rate: f64,
}

/// Judges a rolling restart, in addition to [`judge`]. `rate` is the planned number of messages of a second.
pub(crate) fn judge_rolling(world: &World, played: &Played, rate: u32, figures: &mut Figures) {
    let Totals {
        gaps, unrecovered, ..
    } = world.ledger.totals();
    if gaps + unrecovered > 0 {
        let text = format!("{gaps} gaps, {unrecovered} returns that missed messages");
        world.ledger.violated(Violation::ToldLoss, text);
    }
    let crowds = crowds(&world.ledger.seconds(), &played.drains);
    for (second, count, part) in &crowds {
        if *part > MOST_OF_PLANNED {
            let text = format!("{count} clients came back in second {second}");
            world.ledger.violated(Violation::Rush, text);
        }
    }
    let violations = world.ledger.violations();
    let number = |kinds: &[Violation]| {
        let counts = kinds.iter().filter_map(|kind| violations.get(kind));
        counts.map(|(count, _)| *count).sum::<u64>() as f64
    };
    let least = f64::from(rate) * LEAST_OF_RATE;
    figures.note(
        "messages acknowledged in a second",
        "",
        played.rate,
        Bar::AtLeast(least),
    );
    let title = "subscribers that missed a message, got one again, or were told of a loss";
    let kinds = [
        Violation::SilentGap,
        Violation::Reordered,
        Violation::TwoPlaces,
    ];
    let missed = number(&kinds) + (gaps + unrecovered) as f64;
    figures.note(title, "", missed, Bar::AtMost(0.0));
    let refused = number(&[Violation::Absent]);
    figures.note(
        "clients that were refused, or did not come back",
        "",
        refused,
        Bar::AtMost(0.0),
    );
    let most = crowds.iter().map(|(.., part)| *part).fold(0.0, f64::max);
    let title = "most clients that came back in one second, to the planned number";
    figures.note(title, "", most, Bar::AtMost(MOST_OF_PLANNED));
}

/// Returns the seconds in which clients came back, their number, and its ratio to the planned one.
fn crowds(seconds: &[Second], drains: &[(u64, usize)]) -> Vec<(u64, u64, f64)> {
    let mut crowds = Vec::new();
    for (start, clients) in drains {
        let planned = *clients as f64 / DRAIN_WINDOW.as_secs_f64();
        let end = start + DRAIN_WINDOW.as_secs() + 2;
        for (second, counted) in (0..end).zip(seconds).skip(*start as usize) {
            let came = (counted.admitted as f64 - NEIGHBOURS).max(0.0);
            crowds.push((second, counted.admitted, came / planned.max(1.0)));
        }
    }
    crowds
}

fn is_survivor(seat: &Seat) -> bool {
    seat.is_revoked.load(Ordering::Relaxed) && seat.state().gateway.is_some()
}

/// Publishes one more message to each room, which every subscriber has to get.
async fn check_deliveries(
    world: &Arc<World>,
    seats: &[Arc<Seat>],
    rooms: usize,
) -> anyhow::Result<()> {
    let mut caller = Caller::new(world, "last", 0)?;
    let publishing = async {
        let mut lasts = Vec::new();
        for room in 0..rooms {
            lasts.push(publish(world, &mut caller, room, &format!("last-{room}")).await);
        }
        lasts
    };
    let Ok(lasts) = timeout(PUBLISH_LIMIT, publishing).await else {
        let text = "the last messages were not acknowledged".to_owned();
        world.ledger.violated(Violation::Absent, text);
        return Ok(());
    };
    let staying = seats
        .iter()
        .filter(|seat| !seat.is_leaving.load(Ordering::Relaxed));
    let mut behind: Vec<_> = staying.collect();
    let end = Instant::now() + DELIVERY_LIMIT;
    while !behind.is_empty() && Instant::now() < end {
        sleep(PAUSE).await;
        behind.retain(|seat| seat.state().place != lasts[seat.room]);
    }
    for seat in behind {
        let state = seat.state();
        let kind = match state.is_subscribed {
            true => Violation::SilentGap,
            false => Violation::Absent,
        };
        let (label, last) = (seat.label(), &lasts[seat.room]);
        let text = format!("{label} is at {:?} and its room at {last:?}", state.place);
        world.ledger.violated(kind, text);
    }
    Ok(())
}

/// Compares the presence of each room on each gateway with the subscribers that are connected.
async fn check_presence(world: &World, seats: &[Arc<Seat>], rooms: usize) -> anyhow::Result<()> {
    let token = world
        .issuer
        .user("observer", &format!("{}-observer", world.run))?;
    for (number, gateway) in world.cluster.gateways.iter().enumerate() {
        let Ok(mut link) = Link::open(gateway.direct, &token).await else {
            let text = format!("gateway {number} admits nobody");
            world.ledger.violated(Violation::Absent, text);
            continue;
        };
        for room in 0..rooms {
            let payload = json!({ "room": room_name(room), "mode": "count" });
            let end = Instant::now() + PRESENCE_LIMIT;
            let wrong = loop {
                let answer = link.call("rt:presence", &payload).await?;
                let counted = (answer["connections"].as_u64(), answer["count"].as_u64());
                let expected = Some(expected_presence(seats, room));
                if counted == (expected, expected) {
                    break None;
                }
                if Instant::now() > end {
                    break Some((counted, expected));
                }
                sleep(PAUSE).await;
            };
            if let Some((counted, expected)) = wrong {
                let room = room_name(room);
                let text =
                    format!("gateway {number} counts {counted:?} in {room}, not {expected:?}");
                world.ledger.violated(Violation::Ghost, text);
            }
        }
    }
    Ok(())
}

/// Number of connections, and of users since each has one, that every gateway should count in a room:
/// those of all gateways.
fn expected_presence(seats: &[Arc<Seat>], room: usize) -> u64 {
    let there = seats
        .iter()
        .filter(|seat| seat.room == room && seat.state().is_subscribed);
    there.count() as u64
}

/// Compares the users that each observer knows by `rt:join` and `rt:leave` with those that are connected.
async fn check_rosters(world: &World, seats: &[Arc<Seat>], rooms: usize) {
    let end = Instant::now() + PRESENCE_LIMIT;
    let mut wrong: Vec<_> = seats.iter().collect();
    let mut present: Vec<BTreeSet<Arc<str>>>;
    loop {
        present = vec![BTreeSet::new(); rooms];
        for seat in seats.iter().filter(|seat| seat.state().is_subscribed) {
            present[seat.room].insert(seat.user().into());
        }
        wrong.retain(|seat| {
            let observed = seat.observed().filter(|_| seat.state().is_subscribed);
            observed.is_some_and(|users| users != present[seat.room])
        });
        if wrong.is_empty() || Instant::now() > end {
            break;
        }
        sleep(PAUSE).await;
    }
    for seat in wrong {
        let (label, known) = (seat.label(), seat.observed().unwrap_or_default());
        let present = &present[seat.room];
        let ghosts: Vec<_> = known.difference(present).collect();
        let missing: Vec<_> = present.difference(&known).collect();
        let text = format!("{label} has the ghosts {ghosts:?} and misses {missing:?}");
        world.ledger.violated(Violation::Roster, text);
    }
}

async fn check_events(world: &World) {
    let end = Instant::now() + EVENTS_LIMIT;
    loop {
        let missing = world.ledger.missing_events();
        if missing.is_empty() {
            return;
        }
        if Instant::now() > end {
            for id in missing {
                world.ledger.violated(Violation::LostEvent, id);
            }
            return;
        }
        sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_with_more_than_one_and_a_half_of_the_planned_clients_is_a_rush() {
        let admitted = |admitted| Second {
            admitted,
            ..Second::default()
        };
        // All clients come before the first drain, of 100 clients in 10 s.
        let mut seconds = vec![admitted(300), admitted(0)];
        seconds.extend([admitted(17); 10]);
        let rushes = |seconds: &[Second], drains: &[_]| {
            let mut crowds = crowds(seconds, drains);
            crowds.retain(|(.., part)| *part > MOST_OF_PLANNED);
            crowds
        };
        assert_eq!(rushes(&seconds, &[(1, 100)]), []);
        seconds[4] = admitted(18);
        assert_eq!(rushes(&seconds, &[(1, 100)]), [(4, 18, 1.6)]);
        assert_eq!(rushes(&seconds, &[]), []);
    }
}
