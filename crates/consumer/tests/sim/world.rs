//! The services, and what happens to them.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use fastrand::Rng;
use kinesink_aws::kinesis::Client;
use kinesink_aws::kinesis::primitives::Blob;
use kinesink_aws::kinesis::types::{PutRecordsRequestEntry, ScalingType, Shard};
use kinesink_emulator::Emulator;
use tokio::runtime::Runtime;

use crate::clock::SimClock;
use crate::network::Network;
use crate::process::{STREAM, clients, runtime};
use crate::scenario::{SMALL_BYTES, Scenario};
use crate::store::Store;
use crate::witness::Witness;

/// All of them, in a runtime of their own.
pub(crate) struct World {
    pub(crate) runtime: Runtime,
    pub(crate) clock: SimClock,
    pub(crate) emulator: Emulator,
    pub(crate) client: Client,
    pub(crate) store: Arc<Mutex<Store>>,
    pub(crate) network: Network,
    pub(crate) witness: Arc<Mutex<Witness>>,
}

impl World {
    pub(crate) fn new(scenario: &Scenario, rng: &mut Rng, traced: bool) -> Self {
        let runtime = runtime();
        let entered = runtime.enter();
        let clock = SimClock::new(Duration::ZERO);
        let settings = &scenario.settings;
        let witness = Arc::new(Mutex::new(Witness::new(settings.failover, settings.budget_bytes, traced)));
        let store = Arc::new(Mutex::new(Store::default()));
        let emulator = Emulator::builder().clock(Arc::new(clock.clone())).limits(scenario.limits);
        let emulator = emulator.transitions(scenario.transitions).build().expect("an emulator in memory");
        let (network, carry) = Network::new(
            clock.clone(),
            Rng::with_seed(rng.u64(..)),
            scenario.weather,
            Arc::clone(&store),
            Arc::clone(&witness),
        );
        let client = clients(&clock, emulator.http_client(), emulator.http_client()).kinesis;
        drop(runtime.spawn(carry));
        drop(entered);
        Self { runtime, clock, emulator, client, store, network, witness }
    }

    pub(crate) fn witness(&self) -> MutexGuard<'_, Witness> {
        self.witness.lock().expect("no panic")
    }

    pub(crate) fn create_stream(&self, shards: i32) {
        self.runtime.block_on(async {
            self.client.create_stream().stream_name(STREAM).shard_count(shards).send().await.expect("a stream");
            self.clock.sleep_until(self.clock.elapsed() + Duration::from_secs(10)).await;
        });
    }

    /// The shards as they are. The faults that wait for a consumer's call are not for this one.
    pub(crate) fn shards(&self) -> Vec<Shard> {
        let waiting = self.emulator.faults().list();
        self.emulator.faults().clear();
        let listed = self.runtime.block_on(async {
            let mut page = self.client.list_shards().stream_name(STREAM).send().await.expect("a listing");
            let mut shards = page.shards.unwrap_or_default();
            while let Some(token) = page.next_token {
                page = self.client.list_shards().next_token(token).send().await.expect("a listing");
                shards.extend(page.shards.unwrap_or_default());
            }
            shards
        });
        for fault in waiting {
            self.emulator.faults().push(fault).unwrap();
        }
        listed
    }

    pub(crate) fn survey(&self, now: Duration) {
        for shard in &self.shards() {
            let parents = [shard.parent_shard_id(), shard.adjacent_parent_shard_id()];
            let parents = parents.into_iter().flatten().map(str::to_owned).collect();
            let range = shard.sequence_number_range().expect("a range");
            self.witness().listed(now, shard.shard_id(), parents, range.ending_sequence_number().is_some());
        }
    }

    /// Puts records until `until`.
    pub(crate) fn produce(&self, mut rng: Rng, until: Duration, pause_ms_max: u64, bytes_max: usize) {
        let (client, clock, witness) = (self.client.clone(), self.clock.clone(), Arc::clone(&self.witness));
        let produce = async move {
            while clock.elapsed() < until {
                let is_large = bytes_max > SMALL_BYTES && clock.elapsed().as_secs() % 16 > 8;
                let (count, bytes_max) = if is_large { (30, bytes_max) } else { (8, SMALL_BYTES) };
                let entries = (0..rng.usize(1..=count)).map(|_| {
                    let data = vec![b'x'; rng.usize(1..=bytes_max)];
                    let entry = PutRecordsRequestEntry::builder().partition_key(rng.u32(..).to_string());
                    entry.data(Blob::new(data)).build().expect("an entry")
                });
                let entries = Some(entries.collect());
                let put = client.put_records().stream_name(STREAM).set_records(entries).send().await;
                for put in put.expect("an answer").records() {
                    if let (Some(shard), Some(sequence)) = (put.shard_id(), put.sequence_number()) {
                        witness.lock().expect("no panic").put(clock.elapsed(), shard, sequence);
                    }
                }
                let pause = Duration::from_millis(rng.u64(20..pause_ms_max));
                clock.sleep_until(clock.elapsed() + pause).await;
            }
        };
        drop(self.runtime.spawn(produce));
    }

    pub(crate) fn step(&self, until: Duration) {
        self.runtime.block_on(self.clock.sleep_until(until));
    }

    /// Splits a shard, merges two, or scales the stream. What cannot be done now is not done.
    pub(crate) fn reshard(&self, rng: &mut Rng) -> String {
        let is_open =
            |shard: &Shard| shard.sequence_number_range().is_some_and(|range| range.ending_sequence_number().is_none());
        let key = |text: &str| text.parse::<u128>().expect("a hash key");
        let mut open = Vec::new();
        for shard in self.shards().iter().filter(|shard| is_open(shard)) {
            let range = shard.hash_key_range().expect("a range");
            open.push((key(range.starting_hash_key()), key(range.ending_hash_key()), shard.shard_id().to_owned()));
        }
        open.sort();
        let (start, end, id) = open[rng.usize(..open.len())].clone();
        self.runtime.block_on(async {
            match rng.u8(0..5) {
                0 | 1 if open.len() < 8 => {
                    let middle = start + (end - start) / 2;
                    let split = self.client.split_shard().stream_name(STREAM).shard_to_split(&id);
                    let done = split.new_starting_hash_key(middle.to_string()).send().await;
                    format!("split of {id}: {}", done.is_ok())
                }
                2 | 3 if open.len() > 1 => {
                    let at = rng.usize(..open.len() - 1);
                    let (first, second) = (&open[at].2, &open[at + 1].2);
                    let merge = self.client.merge_shards().stream_name(STREAM).shard_to_merge(first);
                    let done = merge.adjacent_shard_to_merge(second).send().await;
                    format!("merge of {first} and {second}: {}", done.is_ok())
                }
                _ => {
                    let target = rng.i32(1..=6);
                    let update = self.client.update_shard_count().stream_name(STREAM).target_shard_count(target);
                    let done = update.scaling_type(ScalingType::UniformScaling).send().await;
                    format!("update to {target} shards: {}", done.is_ok())
                }
            }
        })
    }
}
