//! The shard that has a key or a channel, and slots that move from one shard to another.
//!
//! A slot that moves begins a generation of its own on the shard that it moves to, so that messages of the
//! shard before are known to be late. The logs in the slot are trusted there if both shards were connected:
//! then the cluster has handed them over whole.

use std::{
    collections::HashMap,
    ops::RangeInclusive,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard},
};

use super::{
    Link,
    shard::Shard,
    slots::{SLOTS, slot_of},
    terms::Terms,
};

/// Maximum number of shards that a slot has come from without a new connection.
const MOST_FORMER: usize = 8;

/// The slots of one shard by the address of its primary, `HOST:PORT`.
pub(super) type SlotMap = Vec<(String, Vec<RangeInclusive<u16>>)>;

/// The shard of each slot. One server has all of them, and moves none.
pub(super) struct Routes {
    terms: Arc<Terms>,
    table: RwLock<Table>,
}

struct Table {
    /// The first one is the only server, or, in a Redis Cluster, has the slots that no shard has, and is
    /// never connected.
    shards: Vec<Arc<Shard>>,
    /// The index of each slot's shard, and the first generation of the slot there. Empty for one server.
    slots: Vec<(usize, u64)>,
    handovers: HashMap<u16, Handover>,
}

/// A slot whose logs are trusted on its new shard.
struct Handover {
    /// The generation of the connection in which the slot came to the shard.
    generation: u64,
    /// The tenures of the shards that had the slot before.
    tenures: Vec<Arc<str>>,
}

/// The shard of a key or a channel.
pub(super) struct Route {
    pub(super) shard: Arc<Shard>,
    /// The first generation of the slot on this shard.
    pub(super) floor: u64,
    slot: u16,
}

impl Routes {
    pub(super) fn new(terms: &Arc<Terms>) -> Self {
        let slots = match terms.is_sharded() {
            true => vec![(0, 0); usize::from(SLOTS)],
            false => Vec::new(),
        };
        Self {
            terms: terms.clone(),
            table: RwLock::new(Table {
                shards: vec![Shard::of_settings(terms)],
                slots,
                handovers: HashMap::new(),
            }),
        }
    }

    /// Returns all shards that the map names, or the only server.
    pub(super) fn shards(&self) -> Vec<Arc<Shard>> {
        let table = self.read();
        table.shards[usize::from(!table.slots.is_empty())..].to_vec()
    }

    /// Returns the shard of a key or a channel.
    pub(super) fn find(&self, name: &str) -> Route {
        self.read().find(name)
    }

    /// Applies `work` to the shard of a channel. The channel does not move meanwhile.
    pub(super) fn with<T>(&self, channel: &str, work: impl FnOnce(&Route) -> T) -> T {
        let table = self.read();
        work(&table.find(channel))
    }

    /// Returns the connection to a shard as those see it that use the slot of `route`.
    pub(super) fn link_of(&self, route: &Route, link: Arc<Link>) -> Arc<Link> {
        if route.floor <= link.generation {
            return link;
        }
        let table = self.read();
        let handover = table.handovers.get(&route.slot);
        let handover = handover.filter(|handover| handover.generation == link.generation);
        let tenures = handover.map_or(String::new(), |it| it.tenures.join("\n"));
        Arc::new(Link {
            generation: route.floor,
            former_tenures: tenures.into(),
            ..(*link).clone()
        })
    }

    /// Gives the slots to the shards of `map`, and takes their channels there. Returns the shards that are
    /// new, and those that have gone.
    pub(super) fn apply(&self, map: &SlotMap) -> (Vec<Arc<Shard>>, Vec<Arc<Shard>>) {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        let mut shards = vec![table.shards[0].clone()];
        let (mut slots, mut new) = (vec![0; usize::from(SLOTS)], Vec::new());
        for (address, ranges) in map {
            let known = table.shards.iter();
            let mut known = known.filter(|it| it.address.as_ref() == Some(address));
            let shard = known.next().cloned().unwrap_or_else(|| {
                let shard = Shard::of_cluster(&self.terms, address);
                new.push(shard.clone());
                shard
            });
            if let Some(highest) = ranges.iter().map(|range| *range.end()).max() {
                shard.set_anchor(highest);
            }
            for slot in ranges.iter().cloned().flatten() {
                slots[usize::from(slot)] = shards.len();
            }
            shards.push(shard);
        }
        let gone = table.shards[1..].iter();
        let gone: Vec<_> = gone
            .filter(|old| !shards.iter().any(|shard| Arc::ptr_eq(shard, old)))
            .cloned()
            .collect();
        table.replace(shards, &slots, self.terms.generations.next_shared());
        (new, gone)
    }

    fn read(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn find(&self, name: &str) -> Route {
        let slot = match self.slots.is_empty() {
            true => 0,
            false => slot_of(name),
        };
        let (index, floor) = self
            .slots
            .get(usize::from(slot))
            .copied()
            .unwrap_or_default();
        Route {
            shard: self.shards[index].clone(),
            floor,
            slot,
        }
    }

    /// Moves the slots that have another shard, in the generation `floor`.
    fn replace(&mut self, shards: Vec<Arc<Shard>>, slots: &[usize], floor: u64) {
        let mut moved = HashMap::new();
        for (slot, new) in (0..SLOTS).zip(slots) {
            let (old, _) = self.slots[usize::from(slot)];
            let (old, shard) = (&self.shards[old], &shards[*new]);
            if Arc::ptr_eq(old, shard) {
                self.slots[usize::from(slot)].0 = *new;
                continue;
            }
            let former = self.handovers.remove(&slot);
            if let Some(handover) = Handover::between(old, shard, former) {
                self.handovers.insert(slot, handover);
            }
            moved.insert(slot, *new);
            self.slots[usize::from(slot)] = (*new, floor);
        }
        let old = std::mem::replace(&mut self.shards, shards);
        if moved.is_empty() {
            return;
        }
        for shard in old {
            let channels = shard.channels.take_moved(|channel| {
                let target = moved.get(&slot_of(channel));
                target.is_some_and(|new| !Arc::ptr_eq(&self.shards[*new], &shard))
            });
            for (channel, entry) in channels {
                let target = &self.shards[moved[&slot_of(&channel)]];
                target.channels.insert_moved(channel, entry, floor);
            }
        }
    }
}

impl Handover {
    /// Returns the handover of a slot from a shard to another one, if both are connected. `former` is the
    /// one by which the slot came to the first shard.
    fn between(old: &Shard, new: &Shard, former: Option<Self>) -> Option<Self> {
        let (old, new) = (old.link().ok()?, new.link().ok()?);
        let former = former.filter(|former| former.generation == old.generation);
        let mut tenures = former.map_or_else(Vec::new, |former| former.tenures);
        tenures.truncate(MOST_FORMER - 1);
        tenures.insert(0, old.tenure.clone());
        Some(Self {
            generation: new.generation,
            tenures,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Weak;

    use super::*;
    use crate::{
        cluster::{Cluster, Listener},
        config::ClusterSettings,
        metrics::Metrics,
    };

    struct Deaf;

    impl Listener for Deaf {
        fn receive(self: Arc<Self>, _: &[u8], _: u64) {}
        fn resume(self: Arc<Self>, _: u64) {}
    }

    fn cluster() -> Arc<Cluster> {
        let settings = ClusterSettings {
            // Nothing listens on the port of discard.
            url: "redis+cluster://127.0.0.1:9".to_owned(),
            ..ClusterSettings::default()
        };
        let cluster = Cluster::new(&settings, &Arc::new(Metrics::new()));
        cluster.expect("settings").expect("a cluster")
    }

    fn map(shards: &[(&str, RangeInclusive<u16>)]) -> SlotMap {
        let shards = shards.iter();
        let shards = shards.map(|(address, range)| (address.to_string(), vec![range.clone()]));
        shards.collect()
    }

    fn address(cluster: &Cluster, name: &str) -> Option<String> {
        cluster.routes.find(name).shard.address.clone()
    }

    #[tokio::test]
    async fn a_slot_that_moves_takes_its_channels_along_into_a_later_generation() {
        let cluster = cluster();
        // Their slots are 10294 and 5161.
        let [lobby, news] = ["{lobby}:live", "{news}:live"].map(|name| cluster.name(name));
        let deaf: Arc<dyn Listener> = Arc::new(Deaf);
        let listener: Weak<dyn Listener> = Arc::downgrade(&deaf);
        for channel in [&lobby, &news] {
            assert!(cluster.listen(channel, listener.clone()).await.is_err());
        }
        assert!(!cluster.is_connected() && cluster.routes.shards().is_empty());

        let (new, gone) = cluster.routes.apply(&map(&[("a:1", 0..=16383)]));
        assert_eq!((new.len(), gone.len()), (1, 0));
        let alone = [&lobby, &news].map(|name| cluster.generation_alone(name));
        let (new, gone) = cluster
            .routes
            .apply(&map(&[("a:1", 0..=9999), ("b:2", 10000..=16383)]));
        assert_eq!((new.len(), gone.len()), (1, 0));
        assert_eq!(address(&cluster, &lobby).as_deref(), Some("b:2"));
        assert_eq!(address(&cluster, &news).as_deref(), Some("a:1"));
        assert!(cluster.generation_alone(&lobby) > alone[0]);
        assert_eq!(cluster.generation_alone(&news), alone[1]);
        let channels = cluster.routes.shards().into_iter();
        let channels = channels.map(|shard| shard.channels.take_moved(|_| true));
        let channels: Vec<_> = channels
            .map(|channels| channels.into_iter().map(|(name, _)| name.to_string()))
            .map(Iterator::collect::<Vec<_>>)
            .collect();
        assert_eq!(channels, [vec![news.clone()], vec![lobby.clone()]]);

        let (new, gone) = cluster.routes.apply(&map(&[("b:2", 0..=16383)]));
        assert_eq!((new.len(), gone.len()), (0, 1));
        assert_eq!(address(&cluster, &news).as_deref(), Some("b:2"));
    }

    #[tokio::test]
    async fn names_without_braces_have_one_server_which_is_no_rooms() {
        let cluster = cluster();
        let names = ["revocations", "revocations:live", ""].map(|name| cluster.name(name));
        let slots = names.each_ref().map(|name| cluster.routes.find(name).slot);
        assert_eq!(slots, [slots[0]; 3]);
        assert_eq!(cluster.name("{lobby}:log"), "latchkey:{lobby}:log");
        assert_eq!(names[0], "latchkey:{latchkey:}:revocations");
    }
}
