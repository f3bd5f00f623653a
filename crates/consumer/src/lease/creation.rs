//! How a lease table is made, and with what. Only its first worker's options count: a table that is there stays as it
//! is.

use std::collections::BTreeMap;
use std::time::Duration;

use kinesink_aws::dynamodb::error::BuildError;
use kinesink_aws::dynamodb::operation::create_table::builders::CreateTableFluentBuilder;
use kinesink_aws::dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, PointInTimeRecoverySpecification,
    ProvisionedThroughput, ScalarAttributeType, TableStatus, Tag,
};
use kinesink_aws::{code, failure};
use kinesink_core::Failure;
use tokio::time::sleep;
use tracing::warn;

use super::assigned::owner_index;
use super::row::{KEY, OWNER};
use super::table::LeaseTable;

/// Ten minutes, as KCL waits for a new table.
const ACTIVE_POLLS_MAX: u32 = 2_400;
const ACTIVE_POLL: Duration = Duration::from_millis(250);

/// How a lease table is paid for: KCL's `billingMode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Billing {
    /// By the request: KCL's `PAY_PER_REQUEST`, its default.
    #[default]
    PerRequest,
    /// By the capacity that is set aside: KCL's `PROVISIONED`, with its `initialLeaseTableReadCapacity` and
    /// `initialLeaseTableWriteCapacity`.
    Provisioned {
        /// Read capacity units, a second.
        read: u32,
        /// Write capacity units, a second.
        write: u32,
    },
}

/// What a new lease table is made with.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TableOptions {
    /// How it is paid for.
    pub billing: Billing,
    /// Whether DynamoDB refuses to delete it: KCL's `leaseTableDeletionProtectionEnabled`.
    pub deletion_protection: bool,
    /// Whether DynamoDB keeps backups of it, of every second: KCL's `leaseTablePitrEnabled`.
    pub point_in_time_recovery: bool,
    /// Its tags: KCL's `tags`.
    pub tags: BTreeMap<String, String>,
}

impl TableOptions {
    fn apply(&self, mut request: CreateTableFluentBuilder) -> Result<CreateTableFluentBuilder, BuildError> {
        request = match self.billing {
            Billing::PerRequest => request.billing_mode(BillingMode::PayPerRequest),
            Billing::Provisioned { .. } => request.billing_mode(BillingMode::Provisioned),
        };
        request = request.set_provisioned_throughput(self.capacity()?);
        if self.deletion_protection {
            request = request.deletion_protection_enabled(true);
        }
        for (key, value) in &self.tags {
            request = request.tags(Tag::builder().key(key).value(value).build()?);
        }
        Ok(request)
    }

    /// What is set aside for the table, and as much again for each index.
    fn capacity(&self) -> Result<Option<ProvisionedThroughput>, BuildError> {
        let Billing::Provisioned { read, write } = self.billing else { return Ok(None) };
        let capacity = ProvisionedThroughput::builder().read_capacity_units(read.into());
        capacity.write_capacity_units(write.into()).build().map(Some)
    }
}

impl LeaseTable {
    /// Creates the table if it is missing, and waits until it can be used.
    ///
    /// # Errors
    /// It cannot be used, or is keyed by something else than leases are.
    pub(crate) async fn ensure(&self, options: &TableOptions) -> Result<(), Failure> {
        let mut is_ours = false;
        for _ in 0..ACTIVE_POLLS_MAX {
            self.counted("DescribeTable");
            match self.client.describe_table().table_name(&*self.name).send().await {
                Ok(reply) => {
                    let keys = reply.table().map(|table| table.key_schema()).unwrap_or_default();
                    if let Some(other) = keys.iter().find(|key| key.attribute_name() != KEY) {
                        let (what, other) = (self.what(), other.attribute_name());
                        let message = format!(
                            "{what} is no lease table: its key is {other}, not {KEY}; use another table or application"
                        );
                        return Err(Failure::configuration(message));
                    }
                    let status = reply.table().and_then(|table| table.table_status());
                    if matches!(status, Some(TableStatus::Active | TableStatus::Updating)) {
                        if is_ours && options.point_in_time_recovery {
                            self.keep_backups().await?;
                        }
                        return Ok(());
                    }
                }
                Err(error) if code(&error) == Some("ResourceNotFoundException") => {
                    is_ours = self.create_table(options).await?;
                }
                Err(error) => return Err(failure("describe", &self.what(), &error)),
            }
            sleep(ACTIVE_POLL).await;
        }
        Err(Failure::configuration(format!("{} did not become active; look at it in DynamoDB", self.what())))
    }

    /// Whether it was created by this call.
    async fn create_table(&self, options: &TableOptions) -> Result<bool, Failure> {
        let broken = |error: BuildError| Failure::fatal(error.to_string());
        let key = KeySchemaElement::builder().attribute_name(KEY).key_type(KeyType::Hash).build().map_err(broken)?;
        let attribute =
            |name| AttributeDefinition::builder().attribute_name(name).attribute_type(ScalarAttributeType::S).build();
        self.counted("CreateTable");
        let mut request = self
            .client
            .create_table()
            .table_name(&*self.name)
            .key_schema(key)
            .attribute_definitions(attribute(KEY).map_err(broken)?);
        if self.of_kcl3 {
            request = request.attribute_definitions(attribute(OWNER).map_err(broken)?);
            let capacity = options.capacity().map_err(broken)?;
            request = request.global_secondary_indexes(owner_index(capacity).map_err(broken)?);
        }
        match options.apply(request).map_err(broken)?.send().await {
            Ok(_) => Ok(true),
            // Another worker was faster.
            Err(error) if code(&error) == Some("ResourceInUseException") => Ok(false),
            Err(error) => Err(failure("create", &self.what(), &error)),
        }
    }

    /// Of a table that exists: DynamoDB cannot be asked for it at the creation. Nobody asks a second time, so where it
    /// is refused the worker goes on and says so.
    async fn keep_backups(&self) -> Result<(), Failure> {
        let recovery = PointInTimeRecoverySpecification::builder().point_in_time_recovery_enabled(true).build();
        let recovery = recovery.map_err(|error| Failure::fatal(error.to_string()))?;
        self.counted("UpdateContinuousBackups");
        let request = self.client.update_continuous_backups().table_name(&*self.name);
        let sent = request.point_in_time_recovery_specification(recovery).send().await;
        if let Err(error) = sent {
            let failure = failure("keep backups of", &self.what(), &error);
            warn!(%failure, "the new lease table has no point-in-time recovery");
        }
        Ok(())
    }
}
