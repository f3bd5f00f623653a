//! What a leader of KCL 3.x writes into the leases, and how a worker finds those that were assigned to it.

use kinesink_aws::dynamodb::error::BuildError;
use kinesink_aws::dynamodb::types::{
    GlobalSecondaryIndex, IndexStatus, KeySchemaElement, KeyType, Projection, ProjectionType, ProvisionedThroughput,
};
use kinesink_aws::{code, failure};
use kinesink_core::{Failure, ShardId};
use tracing::debug;

use super::row::{CHECKPOINT_OWNER, COUNTER, KEY, LeaseRow, OWNER, SWITCHES, number, text};
use super::table::{CONDITION_FAILED, Change, LeaseTable, as_owned};

const INDEX: &str = "LeaseOwnerToLeaseKeyIndex";

/// The index by owner that KCL 3.x makes. A lease without an owner is not in it.
pub(super) fn owner_index(capacity: Option<ProvisionedThroughput>) -> Result<GlobalSecondaryIndex, BuildError> {
    let element = |name, role| KeySchemaElement::builder().attribute_name(name).key_type(role).build();
    GlobalSecondaryIndex::builder()
        .index_name(INDEX)
        .key_schema(element(OWNER, KeyType::Hash)?)
        .key_schema(element(KEY, KeyType::Range)?)
        .projection(Projection::builder().projection_type(ProjectionType::KeysOnly).build())
        .set_provisioned_throughput(capacity)
        .build()
}

impl LeaseTable {
    /// Whether the table has the index by owner, and it is complete.
    pub(crate) async fn has_index(&self) -> Result<bool, Failure> {
        self.counted("DescribeTable");
        let reply = self.client.describe_table().table_name(&*self.name).send().await;
        let reply = reply.map_err(|error| failure("describe", &self.what(), &error))?;
        let indexes = reply.table().map(|table| table.global_secondary_indexes()).unwrap_or_default();
        let complete = |status: Option<&IndexStatus>| matches!(status, Some(IndexStatus::Active));
        Ok(indexes.iter().any(|index| index.index_name() == Some(INDEX) && complete(index.index_status())))
    }

    /// The shards whose leases have this owner, by the index, which may be a little behind.
    pub(crate) async fn owned_by(&self, owner: &str) -> Result<Vec<ShardId>, Failure> {
        let mut shards = Vec::new();
        let mut from = None;
        loop {
            self.counted("Query");
            let request = self.client.query().table_name(&*self.name).index_name(INDEX);
            let request = request.key_condition_expression("#owner = :owner");
            let request = request.expression_attribute_names("#owner", OWNER);
            let request = request.expression_attribute_values(":owner", text(owner));
            let reply = request.set_exclusive_start_key(from.take()).send().await;
            let reply = reply.map_err(|error| failure("query the index of", &self.what(), &error))?;
            for key in reply.items().iter().filter_map(|item| item.get(KEY)?.as_s().ok()) {
                match key.parse() {
                    Ok(shard) => shards.push(shard),
                    Err(error) => debug!(key, %error, "a lease that is not a shard's"),
                }
            }
            from = reply.last_evaluated_key;
            if from.is_none() {
                return Ok(shards);
            }
        }
    }

    /// Gives a lease to a worker, whoever has it, if it is as it was observed. `if_still`: its counter too; nobody may
    /// have renewed it. Whether it was given.
    pub(crate) async fn assign(&self, observed: &LeaseRow, to: &str, if_still: bool) -> Result<bool, Failure> {
        let moved = observed.owner.as_deref().is_some_and(|owner| owner != to);
        let switched = moved || observed.checkpoint_owner.as_deref() == Some(to);
        self.counted("UpdateItem");
        let request = self.client.update_item().table_name(&*self.name).key(KEY, text(observed.shard.as_str()));
        let request = request.update_expression(format!(
            "SET #owner = :to REMOVE #holder ADD #counter :one, #switches :{}",
            if switched { "one" } else { "none" }
        ));
        let request = request.expression_attribute_names("#owner", OWNER);
        let request = request.expression_attribute_names("#holder", CHECKPOINT_OWNER);
        let request = request.expression_attribute_names("#counter", COUNTER);
        let request = request.expression_attribute_names("#switches", SWITCHES);
        let request = request.expression_attribute_values(":to", text(to));
        let mut request = request.expression_attribute_values(":one", number(1));
        if !switched {
            request = request.expression_attribute_values(":none", number(0));
        }
        let (mut request, owned) = as_owned(request, &observed.owners());
        let mut condition = format!("attribute_exists({KEY}){owned}");
        if if_still {
            condition.push_str(" AND #counter = :counter");
            request = request.expression_attribute_values(":counter", number(observed.counter));
        }
        match request.condition_expression(condition).send().await {
            Ok(_) => Ok(true),
            Err(error) if code(&error) == Some(CONDITION_FAILED) => Ok(false),
            Err(error) => Err(failure("assign", &format!("lease {} in {}", observed.shard, self.what()), &error)),
        }
    }

    /// Asks the holder to hand its lease over: it finds this when it renews. The counter stays, so that it can. Whether
    /// it was asked.
    pub(crate) async fn hand_over(&self, observed: &LeaseRow, to: &str) -> Result<bool, Failure> {
        let Some(owner) = &observed.owner else { return Ok(false) };
        let set = vec![(OWNER, text(to)), (CHECKPOINT_OWNER, text(owner.as_str()))];
        let request = self.update(&observed.shard, &Change { set, ..Change::default() });
        let (request, owned) = as_owned(request, &observed.owners());
        match request.condition_expression(format!("attribute_exists({KEY}){owned}")).send().await {
            Ok(_) => Ok(true),
            Err(error) if code(&error) == Some(CONDITION_FAILED) => Ok(false),
            Err(error) => Err(failure("hand over", &format!("lease {} in {}", observed.shard, self.what()), &error)),
        }
    }
}
