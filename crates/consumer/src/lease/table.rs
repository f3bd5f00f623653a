//! The lease table in DynamoDB: every read and write, each write conditional.

use std::collections::BTreeSet;
use std::sync::Arc;

use kinesink_aws::dynamodb::Client;
use kinesink_aws::dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use kinesink_aws::dynamodb::types::{AttributeValue, ReturnValue};
use kinesink_aws::{code, failure};
use kinesink_core::{Failure, ShardId};

use super::purpose::Purpose;
use super::row::{
    CHECKPOINT_OWNER, COUNTER, Item, KEY, LeaseRow, MARK, OWNER, Owners, RowError, TOKEN, WISH, Wish, number, text,
};
use crate::Error;
use crate::metrics::Metrics;
use crate::planted::{Fault, planted};

pub(super) const CONDITION_FAILED: &str = "ConditionalCheckFailedException";

/// Why a conditional write did not happen.
#[derive(Debug, Clone)]
pub(crate) enum WriteError {
    /// Somebody else has written since: the row as it is now, if it still is.
    Overtaken(Option<Box<LeaseRow>>),
    /// No answer or a refusal: it may or may not have happened.
    Failed(Failure),
}

/// The lease table of one application. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct LeaseTable {
    pub(super) client: Client,
    pub(super) name: Arc<str>,
    /// Whether a new application is one of KCL 3.x: its table has the index, and its rows say what they are.
    pub(super) of_kcl3: bool,
    metrics: Metrics,
    purpose: Purpose,
}

/// What one scan found.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    pub(crate) leases: Vec<LeaseRow>,
    /// Rows that are neither leases nor known to be something else. They stay as they are.
    pub(crate) unreadable: Vec<RowError>,
}

impl Scan {
    /// Whether the application is new.
    pub(crate) fn is_empty(&self) -> bool {
        self.leases.is_empty() && self.unreadable.is_empty()
    }

    /// Whether no row came or went between the two.
    pub(crate) fn has_same_rows(&self, other: &Self) -> bool {
        let rows = |scan: &Self| -> BTreeSet<String> {
            let leases = scan.leases.iter().map(|lease| lease.shard.to_string());
            leases.chain(scan.unreadable.iter().map(|row| row.row().to_owned())).collect()
        };
        rows(self) == rows(other)
    }
}

/// What one counter write changes besides counter, token and mark.
#[derive(Debug, Clone, Default)]
pub(crate) struct Change {
    pub(crate) set: Vec<(&'static str, AttributeValue)>,
    pub(crate) remove: Vec<&'static str>,
    /// What it is conditional on besides the counter, if on anything: a handoff of KCL 3.x leaves the counter alone.
    pub(crate) if_owners: Option<Owners>,
}

/// How a row is known as one write left it: others may keep the token and move the counter on.
#[derive(Debug, Clone)]
pub(crate) struct Mark {
    /// The counter that the write is conditional on, and moves by one.
    pub(crate) counter: u64,
    pub(crate) token: String,
    /// Who holds the lease after the write.
    pub(crate) owner: Option<String>,
}

impl Mark {
    pub(crate) fn is_on(&self, row: &LeaseRow) -> bool {
        let holder = row.holder() == self.owner.as_deref();
        let is_ours = row.token.as_ref() == Some(&self.token) || planted(Fault::ReadBackWithoutToken);
        row.counter == self.counter + 1 && is_ours && holder
    }
}

impl LeaseTable {
    pub(crate) fn new(client: Client, name: impl Into<Arc<str>>) -> Self {
        Self { client, name: name.into(), of_kcl3: false, metrics: Metrics::default(), purpose: Purpose::default() }
    }

    /// Counts its requests there.
    pub(crate) fn counted_by(mut self, metrics: &Metrics) -> Self {
        self.metrics = metrics.clone();
        self
    }

    /// The same table, asked for this purpose.
    pub(crate) fn by(&self, purpose: Purpose) -> Self {
        Self { purpose, ..self.clone() }
    }

    pub(crate) fn counted(&self, operation: &'static str) {
        self.metrics.asked_lease_table(operation, self.purpose.name());
    }

    /// Makes what is created here of the kind that KCL 3.x makes.
    pub(crate) fn of_kcl3(self) -> Self {
        Self { of_kcl3: true, ..self }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn what(&self) -> String {
        format!("lease table {}", self.name)
    }

    /// Every lease. Rows of other kinds are skipped.
    ///
    /// # Errors
    /// [`Error::Row`] where the table has rows and not one of KCL's or ours.
    pub(crate) async fn scan(&self) -> Result<Scan, Error> {
        self.leases(&self.rows().await?)
    }

    /// The leases among all rows of the table.
    pub(crate) fn leases(&self, rows: &[Item]) -> Result<Scan, Error> {
        let (mut found, mut others) = (Scan::default(), 0_usize);
        for row in rows {
            match LeaseRow::from_item(row) {
                Ok(Some(lease)) => found.leases.push(lease),
                Ok(None) => others += 1,
                Err(row) => found.unreadable.push(row),
            }
        }
        match found.unreadable.first() {
            Some(row) if found.leases.is_empty() && others == 0 => Err(self.unreadable(row)),
            _ => Ok(found),
        }
    }

    /// Every row, of whatever kind.
    ///
    /// # Errors
    /// [`Error::NoTable`] where the table is gone.
    pub(crate) async fn rows(&self) -> Result<Vec<Item>, Error> {
        let mut rows = Vec::new();
        let mut from: Option<Item> = None;
        loop {
            self.counted("Scan");
            let request = self.client.scan().table_name(&*self.name).set_exclusive_start_key(from.take());
            let reply = request.consistent_read(true).send().await;
            let reply = reply.map_err(|error| match code(&error) {
                Some("ResourceNotFoundException") => Error::NoTable(self.name.to_string()),
                _ => Error::Start(failure("scan", &self.what(), &error)),
            })?;
            rows.extend(reply.items.unwrap_or_default());
            from = reply.last_evaluated_key;
            if from.is_none() || planted(Fault::ScansOnePage) {
                return Ok(rows);
            }
        }
    }

    fn unreadable(&self, row: &RowError) -> Error {
        Error::Row { table: self.name.to_string(), row: row.to_string() }
    }

    /// A row as a lease, if it is one.
    pub(super) fn read(&self, item: &Item) -> Result<Option<LeaseRow>, Error> {
        LeaseRow::from_item(item).map_err(|row| self.unreadable(&row))
    }

    /// One lease, read consistently.
    pub(crate) async fn get(&self, shard: &ShardId) -> Result<Option<LeaseRow>, Failure> {
        self.counted("GetItem");
        let request = self.client.get_item().table_name(&*self.name).key(KEY, text(shard.as_str()));
        let reply = request.consistent_read(true).send().await;
        let reply = reply.map_err(|error| failure("read", &format!("lease {shard} of {}", self.what()), &error))?;
        match reply.item() {
            Some(item) => self.read(item).map_err(|error| Failure::configuration(error.to_string())),
            None => Ok(None),
        }
    }

    /// Creates a lease. One that is there already is fine; whether it was not.
    pub(crate) async fn create(&self, lease: &LeaseRow) -> Result<bool, Failure> {
        self.counted("PutItem");
        let item = if self.of_kcl3 { lease.to_typed_item() } else { lease.to_item() };
        let request = self.client.put_item().table_name(&*self.name).set_item(Some(item));
        match request.condition_expression("attribute_not_exists(leaseKey)").send().await {
            Ok(_) => Ok(true),
            Err(error) if code(&error) == Some(CONDITION_FAILED) => Ok(false),
            Err(error) => Err(failure("create", &format!("lease {} in {}", lease.shard, self.what()), &error)),
        }
    }

    /// A write of the lease's holder, or of who takes it, conditional on the mark's counter. The mark recognizes it
    /// if its answer is lost.
    pub(crate) async fn write(&self, shard: &ShardId, mark: &Mark, change: &Change) -> Result<LeaseRow, WriteError> {
        let mut change = change.clone();
        let step = u64::from(!planted(Fault::CounterStands));
        change.set.push((COUNTER, number(mark.counter + step)));
        change.set.push((TOKEN, text(mark.token.as_str())));
        match &mark.owner {
            // Given to one who is not of ours.
            _ if change.remove.contains(&MARK) => {}
            Some(owner) => change.set.push((MARK, text(owner.as_str()))),
            None => change.remove.push(MARK),
        }
        let request = self.update(shard, &change);
        let (request, owned) = match &change.if_owners {
            Some(owners) => as_owned(request, owners),
            None => (request, String::new()),
        };
        let any = if planted(Fault::Unconditional) { " OR attribute_exists(#leaseCounter)" } else { "" };
        let request = request.condition_expression(format!("#leaseCounter = :counter{owned}{any}"));
        let request = request.expression_attribute_names("#leaseCounter", COUNTER);
        let request = request.expression_attribute_values(":counter", number(mark.counter));
        match request.return_values(ReturnValue::AllNew).send().await {
            Ok(reply) => match reply.attributes().map(|item| self.read(item)) {
                Some(Ok(Some(row))) => Ok(row),
                _ => Err(WriteError::Failed(Failure::transient(format!("{} sent no row back", self.what())))),
            },
            Err(error) if code(&error) == Some(CONDITION_FAILED) && planted(Fault::NoReadBack) => {
                Err(WriteError::Overtaken(None))
            }
            Err(error) if code(&error) == Some(CONDITION_FAILED) => self.read_back(shard, mark).await,
            Err(error) => {
                let what = format!("lease {shard} in {}", self.what());
                Err(WriteError::Failed(failure("write", &what, &error)))
            }
        }
    }

    /// A failed condition may be our own write, sent twice below us: its mark tells.
    async fn read_back(&self, shard: &ShardId, mark: &Mark) -> Result<LeaseRow, WriteError> {
        match self.get(shard).await {
            Ok(Some(row)) if mark.is_on(&row) => Ok(row),
            Ok(row) => Err(WriteError::Overtaken(row.map(Box::new))),
            Err(failure) => Err(WriteError::Failed(failure)),
        }
    }

    /// Sets attributes that do not concern ownership, whoever holds the lease. A deleted lease is left deleted.
    pub(crate) async fn annotate(&self, shard: &ShardId, change: &Change) -> Result<(), Failure> {
        match self.update(shard, change).condition_expression("attribute_exists(leaseKey)").send().await {
            Ok(_) => Ok(()),
            Err(error) if code(&error) == Some(CONDITION_FAILED) => Ok(()),
            Err(error) => Err(failure("write", &format!("lease {shard} in {}", self.what()), &error)),
        }
    }

    /// Asks the owner for its lease, unless it has changed or somebody else has asked since. Whether it could be asked.
    pub(crate) async fn wish(&self, observed: &LeaseRow, wish: &Wish) -> Result<bool, Failure> {
        let change = Change { set: vec![(WISH, text(wish.to_text()))], ..Change::default() };
        let owner = observed.owner.clone().unwrap_or_default();
        let request = self.update(&observed.shard, &change);
        let request = request.expression_attribute_names("#leaseOwner", OWNER);
        let request = request.expression_attribute_values(":leaseOwner", text(owner));
        let request = match &observed.wish {
            None => {
                request.condition_expression(format!("#leaseOwner = :leaseOwner AND attribute_not_exists(#{WISH})"))
            }
            Some(old) => request
                .condition_expression(format!("#leaseOwner = :leaseOwner AND #{WISH} = :old"))
                .expression_attribute_values(":old", text(old.to_text())),
        };
        match request.send().await {
            Ok(_) => Ok(true),
            Err(error) if code(&error) == Some(CONDITION_FAILED) => Ok(false),
            Err(error) => Err(failure("ask for", &format!("lease {} in {}", observed.shard, self.what()), &error)),
        }
    }

    /// Takes a wish off a lease, if it is still the one that was observed.
    pub(crate) async fn refuse(&self, observed: &LeaseRow) -> Result<(), Failure> {
        let Some(wish) = &observed.wish else { return Ok(()) };
        self.counted("UpdateItem");
        let request = self.client.update_item().table_name(&*self.name).key(KEY, text(observed.shard.as_str()));
        let request = request.update_expression("REMOVE #wish").condition_expression("#wish = :wish");
        let request = request.expression_attribute_names("#wish", WISH);
        match request.expression_attribute_values(":wish", text(wish.to_text())).send().await {
            Ok(_) => Ok(()),
            Err(error) if code(&error) == Some(CONDITION_FAILED) => Ok(()),
            Err(error) => Err(failure("write", &format!("lease {} in {}", observed.shard, self.what()), &error)),
        }
    }

    /// Deletes a lease whose counter is as given. Whether it was.
    pub(crate) async fn delete(&self, shard: &ShardId, counter: u64) -> Result<bool, Failure> {
        self.counted("DeleteItem");
        let request = self.client.delete_item().table_name(&*self.name).key(KEY, text(shard.as_str()));
        let request = request.condition_expression("#leaseCounter = :counter");
        let request = request.expression_attribute_names("#leaseCounter", COUNTER);
        match request.expression_attribute_values(":counter", number(counter)).send().await {
            Ok(_) => Ok(true),
            Err(error) if code(&error) == Some(CONDITION_FAILED) => Ok(false),
            Err(error) => Err(failure("delete", &format!("lease {shard} in {}", self.what()), &error)),
        }
    }

    pub(super) fn update(&self, shard: &ShardId, change: &Change) -> UpdateItemFluentBuilder {
        self.counted("UpdateItem");
        let mut request = self.client.update_item().table_name(&*self.name).key(KEY, text(shard.as_str()));
        let mut sets = Vec::new();
        for (name, value) in &change.set {
            sets.push(format!("#{name} = :{name}"));
            request = request.expression_attribute_names(format!("#{name}"), *name);
            request = request.expression_attribute_values(format!(":{name}"), value.clone());
        }
        let mut removes = Vec::new();
        for name in &change.remove {
            removes.push(format!("#{name}"));
            request = request.expression_attribute_names(format!("#{name}"), *name);
        }
        let mut expression = format!("SET {}", sets.join(", "));
        if !removes.is_empty() {
            expression = format!("{expression} REMOVE {}", removes.join(", "));
        }
        request.update_expression(expression)
    }
}

/// Adds to a request that owner and checkpoint owner are as they were observed: `AND …`.
pub(super) fn as_owned(request: UpdateItemFluentBuilder, owners: &Owners) -> (UpdateItemFluentBuilder, String) {
    let mut request = request;
    let mut condition = String::new();
    let pair = [("owner", OWNER, &owners.owner), ("holder", CHECKPOINT_OWNER, &owners.checkpoint_owner)];
    for (alias, attribute, value) in pair {
        request = request.expression_attribute_names(format!("#is_{alias}"), attribute);
        match value {
            Some(value) => {
                request = request.expression_attribute_values(format!(":is_{alias}"), text(value.as_str()));
                condition.push_str(&format!(" AND #is_{alias} = :is_{alias}"));
            }
            None => condition.push_str(&format!(" AND attribute_not_exists(#is_{alias})")),
        }
    }
    (request, condition)
}
