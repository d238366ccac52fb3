//! The checks after the last fault: everybody is back and has every message, nobody is there who is not,
//! no revoked session has a socket, and the back end has every event.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use serde_json::json;
use tokio::time::{Instant, sleep, timeout};

use crate::{
    cluster::DRAIN_WINDOW,
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
    check_events(world).await;
    Ok(())
}

/// Judges a rolling restart, in addition to [`judge`]. `drains` has the second in which each gateway began
/// to hand its clients over, and their number.
pub(crate) fn judge_rolling(world: &World, drains: &[(u64, usize)]) {
    let Totals {
        gaps, unrecovered, ..
    } = world.ledger.totals();
    if gaps + unrecovered > 0 {
        let text = format!("{gaps} gaps, {unrecovered} returns that missed messages");
        world.ledger.violated(Violation::ToldLoss, text);
    }
    for (second, count) in rushes(&world.ledger.seconds(), drains) {
        let text = format!("{count} clients came back in second {second}");
        world.ledger.violated(Violation::Rush, text);
    }
}

/// Returns the seconds in which more clients came back than [`MOST_OF_PLANNED`] says, and their number.
fn rushes(seconds: &[Second], drains: &[(u64, usize)]) -> Vec<(u64, u64)> {
    let mut rushes = Vec::new();
    for (start, clients) in drains {
        let planned = *clients as f64 / DRAIN_WINDOW.as_secs_f64();
        let end = start + DRAIN_WINDOW.as_secs() + 2;
        for (second, counted) in (0..end).zip(seconds).skip(*start as usize) {
            if counted.admitted as f64 > planned * MOST_OF_PLANNED + NEIGHBOURS {
                rushes.push((second, counted.admitted));
            }
        }
    }
    rushes
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
        for room in 0..rooms {
            publish(world, &mut caller, room, &format!("last-{room}")).await;
        }
    };
    if timeout(PUBLISH_LIMIT, publishing).await.is_err() {
        let text = "the last messages were not acknowledged".to_owned();
        world.ledger.violated(Violation::Absent, text);
        return Ok(());
    }
    let lasts: Vec<_> = (0..rooms)
        .map(|room| world.ledger.place_of(room, &format!("last-{room}")))
        .collect();
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
        assert_eq!(rushes(&seconds, &[(1, 100)]), []);
        seconds[4] = admitted(18);
        assert_eq!(rushes(&seconds, &[(1, 100)]), [(4, 18)]);
        assert_eq!(rushes(&seconds, &[]), []);
    }
}
