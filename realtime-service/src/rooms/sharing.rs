//! The tasks by which the presence of all rooms is shared with other gateways: one writes, one reads.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream};
use tokio::time::{sleep, timeout};

use super::{
    RoomName, Rooms,
    presence::{Changes, SharedPresence},
};

/// Maximum number of rooms that are written at once. Their requests are pipelined.
const WRITES_AT_ONCE: usize = 64;

/// The same for rooms that are read.
const READS_AT_ONCE: usize = 16;

/// The wait between two writes, in which changes are collected.
const WRITE_PAUSE: Duration = Duration::from_millis(10);

/// The wait before a failed write or read is repeated.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// Interval at which it is checked whether Redis has been away for too long.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

impl Rooms {
    /// Writes who is in the rooms of this gateway to Redis, and reads who is in them on others; never
    /// returns if there are several gateways.
    pub async fn share_presence(&self) {
        if let Some(people) = &self.terms.people {
            tokio::join!(self.write_people(people), self.read_people(people));
        }
    }

    async fn write_people(&self, people: &SharedPresence) {
        let all = || self.all().into_iter().map(|(name, _)| name).collect();
        loop {
            let (id, rooms) = people.take(all).await;
            let writing = rooms.into_iter().map(|(name, changes)| {
                let id = &id;
                async move { self.write_room(people, id, name, &changes).await }
            });
            let written = stream::iter(writing).buffer_unordered(WRITES_AT_ONCE);
            let written: Vec<bool> = written.collect().await;
            sleep(match written.contains(&false) {
                true => RETRY_PAUSE,
                false => WRITE_PAUSE,
            })
            .await;
        }
    }

    async fn write_room(
        &self,
        people: &SharedPresence,
        id: &Arc<str>,
        name: RoomName,
        changes: &Changes,
    ) -> bool {
        let is_whole = changes.is_whole || !people.is_written(&name);
        let users = (!is_whole).then_some(&changes.users);
        let rows = self.get(&name).and_then(|room| room.own_rows(users));
        let written = people.write(&name, id, rows, is_whole).await;
        if written.is_err() {
            people.mark_whole(name);
        }
        written.is_ok()
    }

    async fn read_people(&self, people: &SharedPresence) {
        let cluster = people.cluster();
        loop {
            if timeout(cluster.lease(), cluster.connected()).await.is_err() {
                // The word of a gateway is worth as much as its lease.
                self.all().iter().for_each(|(_, room)| room.forget_peers());
                cluster.connected().await;
            }
            let outdated = people.outdated(CHECK_INTERVAL).await;
            let rooms: Vec<_> = outdated.iter().filter_map(|name| self.get(name)).collect();
            let reading = rooms
                .into_iter()
                .map(|room| async move { room.read_peers().await });
            let read = stream::iter(reading).buffer_unordered(READS_AT_ONCE);
            let read: Vec<bool> = read.collect().await;
            if read.contains(&false) {
                sleep(RETRY_PAUSE).await;
            }
        }
    }
}
