//! Where the rows of KCL 3.x are: all in the lease table since 3.5, in two tables of their own before, and in both
//! while an application moves. Missing tables are never created: one named `-CoordinatorState` would turn workers of
//! KCL 3.5 back.

use std::collections::HashMap;

use kinesink_aws::dynamodb::Client;
use kinesink_aws::dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use kinesink_aws::dynamodb::types::AttributeValue;
use kinesink_aws::{code, failure};
use kinesink_core::Failure;

use crate::lease::{Item, LeaseTable, Purpose, text};

pub(super) const TABLE_MIGRATION: &str = "TableMigration3.5";
pub(super) const ENTITY_TYPE: &str = "entityType";
pub(super) const CONDITION_FAILED: &str = "ConditionalCheckFailedException";

/// A table that has rows of KCL 3.x.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Home {
    /// The lease table, where each row says what it is.
    Leases,
    /// `<app>-CoordinatorState`.
    Coordinator,
    /// `<app>-WorkerMetricStats`.
    WorkerMetrics,
}

impl Home {
    pub(super) fn key(self) -> &'static str {
        match self {
            Self::Leases => "leaseKey",
            Self::Coordinator => "key",
            Self::WorkerMetrics => "wid",
        }
    }

    /// What makes a row what it is: its key, and in the lease table its type.
    pub(super) fn identity(self, key: &str, entity_type: &str) -> Vec<(String, AttributeValue)> {
        let mut identity = vec![(self.key().to_owned(), text(key))];
        if self == Self::Leases {
            identity.push((ENTITY_TYPE.to_owned(), text(entity_type)));
        }
        identity
    }
}

/// Which rows are where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Everything in the lease table.
    One,
    /// Leases, coordinator and metrics apart.
    Three,
    /// From three to one: metrics are written to the lease table and read from both, the lock has not moved.
    Moving,
}

impl Layout {
    /// By what is in the coordinator's table, if there is one.
    pub(super) fn of(migration: &Found) -> Self {
        match migration {
            Found::NoTable | Found::Denied => Self::One,
            Found::NoRow => Self::Three,
            Found::Row(row) => match row.get("tm").and_then(|status| status.as_s().ok()).map(String::as_str) {
                Some("TABLE_MIGRATION_STATUS_COMPLETE") => Self::One,
                Some("TABLE_MIGRATION_STATUS_PENDING") => Self::Moving,
                _ => Self::Three,
            },
        }
    }

    /// Where `Migration3.0` is: the first that has it.
    pub(super) fn versions(self) -> &'static [Home] {
        match self {
            Self::One => &[Home::Leases],
            Self::Three => &[Home::Coordinator],
            Self::Moving => &[Home::Leases, Home::Coordinator],
        }
    }

    pub(super) fn lock(self) -> Home {
        match self {
            Self::One => Home::Leases,
            Self::Three | Self::Moving => Home::Coordinator,
        }
    }

    /// Where a worker reports.
    pub(super) fn reports(self) -> Home {
        match self {
            Self::One | Self::Moving => Home::Leases,
            Self::Three => Home::WorkerMetrics,
        }
    }

    /// Whether reports stand beside the leases, and whether in a table of their own.
    pub(super) fn reported(self) -> (bool, bool) {
        (self != Self::Three, self != Self::One)
    }
}

/// What a read found.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Found {
    NoTable,
    /// A role that may not see a table of KCL 3.x's own has none: no worker of KCL 3.0 to 3.4 has run with it.
    Denied,
    NoRow,
    Row(Item),
}

/// The tables of one application. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Tables {
    client: Client,
    app: String,
    leases: LeaseTable,
}

impl Tables {
    pub(super) fn new(client: Client, app: String, leases: &LeaseTable) -> Self {
        Self { client, app, leases: leases.by(Purpose::Coordinate) }
    }

    pub(super) fn name(&self, home: Home) -> String {
        match home {
            Home::Leases => self.leases.name().to_owned(),
            Home::Coordinator => format!("{}-CoordinatorState", self.app),
            Home::WorkerMetrics => format!("{}-WorkerMetricStats", self.app),
        }
    }

    fn what(&self, home: Home, key: &str) -> String {
        format!("row {key} of table {}", self.name(home))
    }

    /// What the application's tables are laid out by.
    pub(super) async fn migration(&self) -> Result<Found, Failure> {
        self.get(Home::Coordinator, TABLE_MIGRATION).await
    }

    /// One row, read consistently.
    pub(super) async fn get(&self, home: Home, key: &str) -> Result<Found, Failure> {
        self.leases.counted("GetItem");
        let request = self.client.get_item().table_name(self.name(home)).key(home.key(), text(key));
        match request.consistent_read(true).send().await {
            Ok(reply) => Ok(reply.item.map_or(Found::NoRow, Found::Row)),
            Err(error) => match code(&error) {
                Some("ResourceNotFoundException") => Ok(Found::NoTable),
                Some("AccessDeniedException") if home != Home::Leases => Ok(Found::Denied),
                _ => Err(failure("read", &self.what(home, key), &error)),
            },
        }
    }

    /// Puts a row on a condition. Whether it holds.
    pub(super) async fn put(&self, home: Home, row: Item, condition: &Condition<'_>) -> Result<bool, Failure> {
        let key = row.get(home.key()).and_then(|key| key.as_s().ok()).cloned().unwrap_or_default();
        self.leases.counted("PutItem");
        let request = self.client.put_item().table_name(self.name(home)).set_item(Some(row));
        let request = request.condition_expression(condition.expression());
        let request = request.set_expression_attribute_names(Some(condition.names(home)));
        let values = condition.values();
        match request.set_expression_attribute_values((!values.is_empty()).then_some(values)).send().await {
            Ok(_) => Ok(true),
            Err(error) if code(&error) == Some(CONDITION_FAILED) => Ok(false),
            Err(error) => Err(failure("write", &self.what(home, &key), &error)),
        }
    }

    /// Sets attributes of a row, if the condition holds. Whether it does.
    pub(super) async fn set(
        &self,
        home: Home,
        key: &str,
        attributes: Vec<(String, AttributeValue)>,
        condition: Option<&Condition<'_>>,
    ) -> Result<bool, Failure> {
        self.leases.counted("UpdateItem");
        let mut request: UpdateItemFluentBuilder =
            self.client.update_item().table_name(self.name(home)).key(home.key(), text(key));
        let mut sets = Vec::new();
        for (name, value) in attributes {
            sets.push(format!("#{name} = :{name}"));
            request = request.expression_attribute_values(format!(":{name}"), value);
            request = request.expression_attribute_names(format!("#{name}"), name);
        }
        request = request.update_expression(format!("SET {}", sets.join(", ")));
        if let Some(condition) = condition {
            request = request.condition_expression(condition.expression());
            for (alias, name) in condition.names(home) {
                request = request.expression_attribute_names(alias, name);
            }
            for (name, value) in condition.values() {
                request = request.expression_attribute_values(name, value);
            }
        }
        match request.send().await {
            Ok(_) => Ok(true),
            Err(error) if code(&error) == Some(CONDITION_FAILED) => Ok(false),
            Err(error) => Err(failure("write", &self.what(home, key), &error)),
        }
    }

    /// Deletes a row, if the condition holds.
    pub(super) async fn delete(&self, home: Home, key: &str, condition: &Condition<'_>) -> Result<(), Failure> {
        self.leases.counted("DeleteItem");
        let request = self.client.delete_item().table_name(self.name(home)).key(home.key(), text(key));
        let request = request.condition_expression(condition.expression());
        let request = request.set_expression_attribute_names(Some(condition.names(home)));
        let values = condition.values();
        match request.set_expression_attribute_values((!values.is_empty()).then_some(values)).send().await {
            Ok(_) => Ok(()),
            Err(error) if code(&error) == Some(CONDITION_FAILED) => Ok(()),
            Err(error) => Err(failure("delete", &self.what(home, key), &error)),
        }
    }

    /// Every row of a table of KCL 3.x's own. None if there is no such table.
    pub(super) async fn scan(&self, home: Home) -> Result<Vec<Item>, Failure> {
        let mut rows = Vec::new();
        let mut from = None;
        loop {
            self.leases.counted("Scan");
            let request = self.client.scan().table_name(self.name(home)).set_exclusive_start_key(from.take());
            match request.consistent_read(true).send().await {
                Ok(reply) => {
                    rows.extend(reply.items.unwrap_or_default());
                    from = reply.last_evaluated_key;
                }
                Err(error) if code(&error) == Some("ResourceNotFoundException") => return Ok(rows),
                Err(error) => return Err(failure("scan", &format!("table {}", self.name(home)), &error)),
            }
            if from.is_none() {
                return Ok(rows);
            }
        }
    }
}

/// What a row has to be like for a write to happen.
#[derive(Debug, Clone)]
pub(super) enum Condition<'a> {
    Absent,
    /// It has these attributes.
    Has(&'a [(&'static str, AttributeValue)]),
}

impl Condition<'_> {
    fn expression(&self) -> String {
        match self {
            Self::Absent => "attribute_not_exists(#key)".to_owned(),
            Self::Has(attributes) => {
                let equal = attributes.iter().map(|(name, _)| format!(" AND #is_{name} = :is_{name}"));
                format!("attribute_exists(#key){}", equal.collect::<String>())
            }
        }
    }

    /// DynamoDB reserves some of these names, so that each has an alias.
    fn names(&self, home: Home) -> HashMap<String, String> {
        let key = ("#key".to_owned(), home.key().to_owned());
        let has = match self {
            Self::Absent => &[][..],
            Self::Has(attributes) => attributes,
        };
        has.iter().map(|(name, _)| (format!("#is_{name}"), (*name).to_owned())).chain([key]).collect()
    }

    fn values(&self) -> Item {
        match self {
            Self::Absent => Item::new(),
            Self::Has(attributes) => {
                attributes.iter().map(|(name, value)| (format!(":is_{name}"), value.clone())).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_where_the_coordinators_table_says() {
        let row = |status: &str| Found::Row(Item::from([("tm".into(), text(status))]));
        let places = |migration: Found| {
            let layout = Layout::of(&migration);
            (layout.versions().to_vec(), layout.lock(), layout.reports(), layout.reported())
        };
        let (leases, coordinator, metrics) = (Home::Leases, Home::Coordinator, Home::WorkerMetrics);
        let one = (vec![leases], leases, leases, (true, false));
        let three = (vec![coordinator], coordinator, metrics, (false, true));
        assert_eq!(places(Found::NoTable), one);
        assert_eq!(places(Found::NoRow), three);
        assert_eq!(places(row("TABLE_MIGRATION_STATUS_INIT")), three);
        assert_eq!(places(row("TABLE_MIGRATION_STATUS_DEPLOYED")), three);
        let moving = (vec![leases, coordinator], coordinator, leases, (true, true));
        assert_eq!(places(row("TABLE_MIGRATION_STATUS_PENDING")), moving);
        assert_eq!(places(row("TABLE_MIGRATION_STATUS_COMPLETE")), one);
    }
}
