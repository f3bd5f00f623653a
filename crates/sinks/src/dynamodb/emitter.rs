//! Windows to items.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, StreamExt as _};
use kinesink_core::{Batch, Budget, Emitted, Emitter, Failure, Fingerprint, Item, Partition, Reject};
use tracing::{debug, warn};

use super::aggregate;
use super::attributes::{Attributes, Fields, ITEM_BYTES_MAX, canonical, fields};
use super::chain::{Chain, Outcome};
use super::config::{DynamoDbConfig, Guard, OWN_ATTRIBUTES, Order};
use super::error::Verdict;
use super::full::FullItems;
use super::handle::TableHandle;
use super::lanes::{Answer, Lane};
use super::proof::TableReport;
use super::sending::{Read, Sending};
use super::settling::Settling;
use super::takeover::Shards;
use super::traffic::Traffic;
use crate::Error;
use crate::event_times::EventTimes;

/// Writes the items that records say. With [`Guard::Always`] effectively once: what is sent again, or comes late, changes
/// nothing.
#[derive(Debug)]
pub struct DynamoDbEmitter {
    pub(super) config: Arc<DynamoDbConfig>,
    /// To the table of the items.
    pub(super) traffic: Arc<Traffic>,
    pub(super) items: TableHandle,
    /// Where records are counted.
    pub(super) guards: Option<TableHandle>,
    shards: Shards,
    /// Where records change items.
    pub(super) full: FullItems,
    /// Where records are counted by their own times.
    pub(super) times: EventTimes,
    /// The memory that items which are being made may take.
    pub(super) encoding: Budget,
}

impl DynamoDbEmitter {
    /// Prepares the sink. Sends nothing yet: [`check`](Emitter::check) does.
    ///
    /// # Errors
    /// [`Error::Setting`] where settings contradict each other.
    pub fn open(config: DynamoDbConfig) -> Result<Self, Error> {
        contradictions(&config)?;
        let guards = aggregate::guards(&config).map(|guards| TableHandle::new(Arc::new(guards)));
        let config = Arc::new(config);
        let items = TableHandle::new(Arc::clone(&config));
        let traffic = Arc::clone(&items.traffic);
        config.metrics.may_send(&config.table, traffic.lanes.requests());
        let encoding = Budget::new(config.encoded_bytes_max);
        let (shards, full, times) = (Shards::default(), FullItems::default(), EventTimes::default());
        Ok(Self { config, traffic, items, guards, shards, full, times, encoding })
    }

    /// Makes the table if it is missing, and that of its guards, paid by the request or with the units of
    /// [`provisioned`](DynamoDbConfig::provisioned), and waits until it can be used; says whether it made it. Where items expire, a new table is told so: call it again after a failure. Dropped, it may or may not have made it.
    ///
    /// # Errors
    /// A [`Failure`] that names the table and what to do.
    pub async fn create_table(&self) -> Result<bool, Failure> {
        let guards_are_new = match &self.guards {
            Some(guards) => guards.create().await?,
            None => false,
        };
        Ok(self.items.create().await? || guards_are_new)
    }

    /// Gives a permit back, and notes how what was sent with it went.
    pub(super) fn answered<T>(&self, lane: Lane<'_>, answer: Answer, result: &Result<T, Verdict>) {
        let DynamoDbConfig { table, metrics, .. } = &*self.config;
        if let Err(Verdict::Throttled { table, limit, .. }) = result {
            metrics.throttled(table, *limit, 1);
        }
        lane.answered(answer);
        metrics.may_send(table, self.traffic.lanes.requests());
    }

    fn end_of_counting(&self) {
        if let Some(event_time) = self.config.aggregate.as_ref().and_then(|aggregate| aggregate.event_time.as_ref()) {
            self.times.end(event_time, &self.config.table);
        }
    }

    /// One of the tables was found changed.
    pub(super) fn forget_tables(&self) {
        self.items.forget();
        self.guards.iter().for_each(TableHandle::forget);
    }

    async fn start(&self) -> Result<(), Failure> {
        let TableReport { facts, warnings } = self.prove().await?;
        debug!(table = self.config.table, found = facts.join("; "), "the table may be written to");
        for warning in warnings {
            warn!("{warning}");
        }
        Ok(())
    }

    async fn emit_all<U: Send + Sync>(&self, batch: &Batch<'_, U>, read: Read<U>) -> Result<Emitted, Failure> {
        if let Some(aggregate) = &self.config.aggregate {
            return self.count_batch(aggregate, batch, read).await;
        }
        let table = self.items.table().await?;
        let sending = Sending { emitter: self, table: &table, batch, read };
        let mut settling = Settling::new(self);
        let chains = sending.chains(&mut settling).await?;
        let (guarded, free) = self.divided(batch, chains);
        let at_once = self.config.requests_max.max(1);
        let sent: Vec<(Chain, Outcome)> = match self.config.changes {
            None => {
                stream::iter(guarded.into_iter().map(|chain| sending.put(chain)))
                    .buffer_unordered(at_once)
                    .collect()
                    .await
            }
            Some(_) => {
                stream::iter(guarded.into_iter().map(|chain| sending.update(chain)))
                    .buffer_unordered(at_once)
                    .collect()
                    .await
            }
        };
        sent.into_iter().for_each(|(chain, outcome)| settling.add(chain.key, outcome));
        let batches = sending.batches(free).into_iter().map(|chains| sending.put_batch(chains));
        let mut batches = stream::iter(batches).buffer_unordered(at_once);
        while let Some(chains) = batches.next().await {
            chains.into_iter().for_each(|(chain, outcome)| settling.add(chain.key, outcome));
        }
        settling.finish()
    }

    /// Chains that are written on a condition, and those that are not.
    fn divided<U>(&self, batch: &Batch<'_, U>, chains: Vec<Chain>) -> (Vec<Chain>, Vec<Chain>) {
        match self.config.guard {
            Guard::Always => (chains, Vec::new()),
            Guard::Never => (Vec::new(), chains),
            Guard::Takeover => {
                let until = self.shards.guarded_until(batch, self.config.clock.now());
                let is_guarded =
                    |chain: &Chain| batch.items.get(chain.last()).is_none_or(|item| item.record.arrival <= until);
                chains.into_iter().partition(is_guarded)
            }
        }
    }

    /// Why a record is not written that is sent again.
    pub(super) fn overtaken(&self) -> Reject {
        let why = format!("overtaken: the item in table {} has a later write", self.config.table);
        if !self.config.counts() {
            return Reject::new(why);
        }
        Reject::new(format!(
            "{why}, and does not say that this one was refused: an earlier replay has counted it, or a later delete took it along, or the \
             item lacks it and no replay will count it: look, then add it by hand with an update expression, or count the stream again \
             into a new table, by a file with another `app` and `table`"
        ))
    }

    /// Why a record is not written that the item notes as refused, and that no longer counts.
    pub(super) fn overtaken_for_good(&self) -> Reject {
        Reject::new(format!(
            "overtaken: the item in table {} has a later write, and this record adds and appends nothing: leave it out, or mend the item by hand",
            self.config.table
        ))
    }
}

fn of_json(config: &DynamoDbConfig, json: &Bytes) -> Result<Fields, Reject> {
    // Of other records it is some attributes, or the key alone, that the table gets.
    let is_item = config.changes.is_none() && config.aggregate.is_none() && config.delete.is_none();
    fields(json, &config.types, if is_item { ITEM_BYTES_MAX } else { usize::MAX })
}

fn of_attributes(_: &DynamoDbConfig, attributes: &Attributes) -> Result<Fields, Reject> {
    Ok(Fields { attributes: attributes.clone(), refused: None })
}

/// Of records that are JSON objects.
#[async_trait]
impl Emitter<Bytes> for DynamoDbEmitter {
    async fn emit(&self, batch: &Batch<'_, Bytes>) -> Result<Emitted, Failure> {
        self.emit_all(batch, of_json).await
    }

    fn plan(&self, content: &mut Fingerprint) -> bool {
        self.plan_counting(content)
    }

    fn plan_item(&self, item: &Item<Bytes>, _: Option<&str>, content: &mut Fingerprint) {
        content.part(&item.value);
    }

    async fn emit_partition(&self, partition: &Partition<'_, Bytes>) -> Result<Emitted, Failure> {
        self.count_partition(partition, of_json).await
    }

    async fn check(&self) -> Result<(), Failure> {
        self.start().await
    }

    async fn close(&self) -> Result<(), Failure> {
        self.end_of_counting();
        Ok(())
    }
}

/// Of a transformer of your own, which makes attributes.
#[async_trait]
impl Emitter<Attributes> for DynamoDbEmitter {
    async fn emit(&self, batch: &Batch<'_, Attributes>) -> Result<Emitted, Failure> {
        self.emit_all(batch, of_attributes).await
    }

    fn plan(&self, content: &mut Fingerprint) -> bool {
        self.plan_counting(content)
    }

    fn plan_item(&self, item: &Item<Attributes>, _: Option<&str>, content: &mut Fingerprint) {
        content.part(canonical(&item.value).as_bytes());
    }

    async fn emit_partition(&self, partition: &Partition<'_, Attributes>) -> Result<Emitted, Failure> {
        self.count_partition(partition, of_attributes).await
    }

    async fn check(&self) -> Result<(), Failure> {
        self.start().await
    }

    async fn close(&self) -> Result<(), Failure> {
        self.end_of_counting();
        Ok(())
    }
}

fn contradictions(config: &DynamoDbConfig) -> Result<(), Error> {
    let refuse = |why: &str| Error::Setting { place: format!("table {}", config.table), why: why.into() };
    if config.key.is_empty() || config.key.len() > 2 {
        return Err(refuse(
            "a table's key is a hash key, or a hash key and a range key: give `key` one or two attributes",
        ));
    }
    if let Some(part) = config.key.iter().find(|part| OWN_ATTRIBUTES.contains(&part.name.as_str())) {
        return Err(refuse(&format!(
            "`{}` has another meaning, and can be no part of the key: name another",
            part.name
        )));
    }
    let of_key = || config.contradiction_of_partition_key().filter(|_| config.aggregate.is_none());
    if let Some(why) = aggregate::contradiction(config).or_else(of_key) {
        return Err(refuse(&why));
    }
    if config.expire_after.is_some() && config.ttl.is_none() {
        return Err(refuse("`expire_after` needs the attribute by which the table expires items: set `ttl`"));
    }
    if config.guard != Guard::Never && config.delete.is_some() && config.ttl.is_none() {
        return Err(refuse("a guarded delete leaves a mark, which has to expire some day: set `ttl`"));
    }
    if let Some(ttl) = &config.ttl {
        let guard = config.guard_attribute();
        let of_changes = config.changes.iter().flat_map(|changes| changes.add.iter().chain(&changes.append));
        let key = config.key.iter().map(|key| &key.name);
        let is_own = ttl == guard || OWN_ATTRIBUTES.contains(&ttl.as_str());
        if is_own || of_changes.chain(key).any(|name| name == ttl) {
            return Err(refuse(&format!(
                "`ttl` cannot be `{ttl}`, which has another meaning there: name an attribute that is no key, no version, and not added up"
            )));
        }
    }
    if let Some(changes) = &config.changes {
        if config.guard != Guard::Always {
            return Err(refuse("changes of attributes are always guarded: leave `guard` out"));
        }
        let guard = config.guard_attribute();
        if config.key.iter().any(|part| part.name == guard) {
            return Err(refuse(&format!(
                "`{guard}` is a part of the key, and cannot say which change is the last: an item's key does not change: name another \
                 field in `ordered_by`, or leave `set` out"
            )));
        }
        if changes.counts() && config.order != Order::PartitionKey {
            return Err(refuse(
                "what is added up or appended counts each record, which a version does not tell apart: leave `ordered_by` out",
            ));
        }
        let mut own = OWN_ATTRIBUTES.into_iter().chain(config.key.iter().map(|key| key.name.as_str()));
        let all: Vec<_> = changes.set.iter().chain(&changes.add).chain(&changes.append).map(String::as_str).collect();
        if let Some(name) = own.find(|name| all.contains(name)) {
            return Err(refuse(&format!(
                "`{name}` is not changed by records: take it out of `set`, `add` and `append`"
            )));
        }
        if all.iter().enumerate().any(|(place, name)| all.iter().take(place).any(|other| other == name)) {
            return Err(refuse("an attribute stands once in `set`, `add` and `append` together"));
        }
        if !changes.fit_in_a_request() {
            return Err(refuse(
                "`set`, `add` and `append` name more attributes than the 4 KB and 300 operators of a request can: change fewer",
            ));
        }
    }
    Ok(())
}
