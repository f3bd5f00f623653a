//! The table as the service describes it, and making one.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kinesink_aws::code;
use kinesink_aws::dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, ProvisionedThroughput,
    ScalarAttributeType, TableDescription, TableStatus, TimeToLiveSpecification, TimeToLiveStatus,
};
use kinesink_core::{Class, Failure, Reject};
use md5::{Digest as _, Md5};
use tokio::time::{sleep, timeout};

use super::attributes::{Attributes, type_of};
use super::config::{DynamoDbConfig, KeySource, Provisioned};
use super::error::{self, Action};
use super::number::Decimal;

/// DynamoDB's limits of keys.
pub(super) const HASH_BYTES_MAX: usize = 2048;
pub(super) const RANGE_BYTES_MAX: usize = 1024;

/// Of an MD5.
const HASH_SHOWN_BYTES: usize = 8;

const ACTIVE_POLL: Duration = Duration::from_millis(500);
const ACTIVE_WITHIN: Duration = Duration::from_secs(300);

/// What an item has to be, to be in the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Table {
    name: String,
    /// The hash key, then the range key.
    key: Vec<(String, ScalarAttributeType)>,
    /// Attributes that keys of its indexes are made of: an item may be without them.
    indexed: BTreeMap<String, ScalarAttributeType>,
    pub(super) capacity: Capacity,
}

/// Write units that a table has in a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Capacity {
    /// As many as were bought ahead.
    Provisioned(u64),
    /// Each is paid; up to a maximum, if its owner has set one.
    PerRequest(Option<u64>),
}

/// By which attribute a table expires items.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Expiry {
    Off,
    On(String),
}

impl Capacity {
    fn of(table: &TableDescription) -> Self {
        let whole = |units: i64| u64::try_from(units).ok().filter(|units| *units > 0);
        let mode = table.billing_mode_summary().and_then(|summary| summary.billing_mode());
        let provisioned = table.provisioned_throughput().and_then(|throughput| whole(throughput.write_capacity_units?));
        match provisioned {
            // A table that was never paid by the request has no mode.
            Some(units) if mode != Some(&BillingMode::PayPerRequest) => Self::Provisioned(units),
            _ => {
                let most = table.on_demand_throughput().and_then(|throughput| throughput.max_write_request_units);
                // -1 takes a maximum away.
                Self::PerRequest(most.and_then(whole))
            }
        }
    }

    pub(super) fn units(self) -> Option<u64> {
        match self {
            Self::Provisioned(units) | Self::PerRequest(Some(units)) => Some(units),
            Self::PerRequest(None) => None,
        }
    }
}

/// The primary key of an item. Equal values have equal text.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct ItemKey(Vec<Scalar>);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Scalar {
    Text(String),
    Number(String),
    Bytes(Vec<u8>),
}

impl Table {
    /// Asks the service, and compares the key with the one that it had, as people read it, and with that of the sink.
    pub(super) async fn describe(config: &DynamoDbConfig, had: Option<&str>) -> Result<Self, Failure> {
        let name = &config.table;
        let reply = config.client.describe_table().table_name(name).send().await;
        let reply = reply.map_err(|error| error::other(Action::DescribeTable, name, &error))?;
        let Some(table) = reply.table() else {
            return Err(Failure::transient(format!("cannot describe table {name}: the answer is empty")));
        };
        match table.table_status() {
            Some(TableStatus::Creating) => {
                return Err(Failure::transient(format!("cannot write to table {name} yet: it is being created")));
            }
            Some(TableStatus::Deleting) => {
                return Err(Failure::configuration(format!(
                    "cannot write to table {name}: it is being deleted: create it again, or mend `table`"
                )));
            }
            _ => {}
        }
        let definitions = table.attribute_definitions().iter();
        let mut types: BTreeMap<String, ScalarAttributeType> = definitions
            .map(|definition| (definition.attribute_name().to_owned(), definition.attribute_type().clone()))
            .collect();
        let mut schema: Vec<_> = table.key_schema().iter().collect();
        schema.sort_by_key(|element| *element.key_type() != KeyType::Hash);
        let mut key = Vec::new();
        for element in schema {
            let attribute = element.attribute_name().to_owned();
            let attribute_type = types.remove(&attribute).unwrap_or(ScalarAttributeType::S);
            key.push((attribute, attribute_type));
        }
        let described = Self { name: name.clone(), key, indexed: types, capacity: Capacity::of(table) };
        let key = described.shown_key();
        if let Some(had) = had.filter(|had| *had != key) {
            return Err(Failure::configuration(format!(
                "cannot write to table {name}: it was made again: its key is {key}, and was {had} when this worker began: make it as it \
                 was, or restart the worker, with another `key` if need be"
            )));
        }
        described.fits(config)?;
        Ok(described)
    }

    /// Whether the sink gives the key that the table has.
    fn fits(&self, config: &DynamoDbConfig) -> Result<(), Failure> {
        let refuse = |what: &str| {
            let (name, has) = (&self.name, self.shown_key());
            Failure::configuration(format!(
                "cannot write to table {name}: its key is {has}, and {what}: mend `key`, or name another table"
            ))
        };
        if self.key.len() != config.key.len() {
            return Err(refuse(&format!("`key` gives {} attributes", config.key.len())));
        }
        for ((name, key_type), ours) in self.key.iter().zip(&config.key) {
            if *name != ours.name {
                return Err(refuse(&format!("`key` gives `{}` in the place of `{name}`", ours.name)));
            }
            if ours.key_type.as_ref().is_some_and(|ours| ours != key_type) {
                return Err(refuse(&format!("`key` gives `{name}` another type")));
            }
            let is_text = matches!(ours.source, KeySource::Shard | KeySource::Position);
            if is_text && *key_type != ScalarAttributeType::S {
                return Err(refuse(&format!("`key` gives `{name}` a shard or a position, which are text")));
            }
            if ours.source == KeySource::Window && *key_type == ScalarAttributeType::B {
                return Err(refuse(&format!("`key` gives `{name}` a time window, which is text or a number")));
            }
        }
        Ok(())
    }

    /// As people read it.
    pub(super) fn shown_key(&self) -> String {
        let shown = self.key.iter().map(|(name, key_type)| format!("`{name}` ({})", of_type(key_type)));
        shown.collect::<Vec<_>>().join(" and ")
    }

    /// Names of the key's attributes.
    pub(super) fn key_names(&self) -> impl Iterator<Item = &str> {
        self.key.iter().map(|(name, _)| name.as_str())
    }

    /// Of a key of an index.
    pub(super) fn indexed_type(&self, name: &str) -> Option<&ScalarAttributeType> {
        self.indexed.get(name)
    }

    pub(super) fn key_type(&self, name: &str) -> Option<&ScalarAttributeType> {
        self.key.iter().find(|(key, _)| key == name).map(|(_, key_type)| key_type)
    }

    /// The key of an item that has all its attributes.
    pub(super) fn key_of(&self, item: &Attributes) -> Result<ItemKey, Reject> {
        let limits = [("hash", HASH_BYTES_MAX), ("range", RANGE_BYTES_MAX)];
        let parts = self.key.iter().zip(limits).map(|((name, key_type), (place, bytes_max))| {
            let value = item.get(name).ok_or_else(|| self.refuse(name, "is missing: each item needs its key"))?;
            let scalar = self.scalar(name, key_type, value)?;
            if scalar.bytes() > bytes_max {
                return Err(self.refuse(name, &format!("is longer than the {bytes_max} bytes of a {place} key")));
            }
            Ok(scalar)
        });
        parts.collect::<Result<_, _>>().map(ItemKey)
    }

    /// The attributes that a key is made of.
    pub(super) fn attributes_of(&self, key: &ItemKey) -> Attributes {
        let values = key.0.iter().map(|part| match part {
            Scalar::Text(text) => AttributeValue::S(text.clone()),
            Scalar::Number(number) => AttributeValue::N(number.clone()),
            Scalar::Bytes(bytes) => AttributeValue::B(bytes.clone().into()),
        });
        self.key_names().map(str::to_owned).zip(values).collect()
    }

    /// Whether the keys of indexes that an item is to stand in are what those can hold.
    pub(super) fn check_indexed(&self, item: &Attributes) -> Result<(), Reject> {
        let indexed = self.indexed.iter().filter_map(|(name, key_type)| Some((name, key_type, item.get(name)?)));
        for (name, key_type, value) in indexed {
            self.scalar(name, key_type, value)?;
        }
        Ok(())
    }

    fn scalar(&self, name: &str, key_type: &ScalarAttributeType, value: &AttributeValue) -> Result<Scalar, Reject> {
        match (key_type, value) {
            (ScalarAttributeType::S, AttributeValue::S(text)) if text.is_empty() => {
                Err(self.refuse(name, "is empty, which no key may be"))
            }
            (ScalarAttributeType::B, AttributeValue::B(bytes)) if bytes.as_ref().is_empty() => {
                Err(self.refuse(name, "is empty, which no key may be"))
            }
            (ScalarAttributeType::S, AttributeValue::S(text)) => Ok(Scalar::Text(text.clone())),
            (ScalarAttributeType::N, AttributeValue::N(number)) => {
                // The service has its own way to write one.
                let number = Decimal::parse(number).map_or_else(|_| number.clone(), |number| number.to_string());
                Ok(Scalar::Number(number))
            }
            (ScalarAttributeType::B, AttributeValue::B(bytes)) => Ok(Scalar::Bytes(bytes.as_ref().to_vec())),
            _ => {
                let (needed, given) = (of_type(key_type), type_of(value));
                let or_type = match value {
                    AttributeValue::S(_) | AttributeValue::N(_) | AttributeValue::B(_) => {
                        ", or name its type in `types` before the table is made"
                    }
                    _ => "",
                };
                Err(self
                    .refuse(name, &format!("is {needed} there and {given} here: convert it in the transform{or_type}")))
            }
        }
    }

    fn refuse(&self, attribute: &str, what: &str) -> Reject {
        Reject::new(format!("key attribute `{attribute}` of table {} {what}", self.name))
    }
}

impl ItemKey {
    /// What it is called where a key, which is data, may not stand: as `md5sum` makes it of its parts, each in a line of its own, bytes
    /// in base64.
    pub(super) fn hashed(&self) -> String {
        let line = |part: &Scalar| match part {
            Scalar::Text(text) | Scalar::Number(text) => format!("{text}\n"),
            Scalar::Bytes(bytes) => format!("{}\n", STANDARD.encode(bytes)),
        };
        let digest = Md5::digest(self.0.iter().map(line).collect::<String>());
        digest.iter().take(HASH_SHOWN_BYTES).map(|byte| format!("{byte:02x}")).collect()
    }

    /// Whether a part of it is this text; as a number, the one text that it has: 7 is not "07", which is another partition key.
    pub(super) fn is(&self, part: usize, text: &str) -> bool {
        self.0.get(part).is_some_and(|part| match part {
            Scalar::Text(part) | Scalar::Number(part) => part == text,
            Scalar::Bytes(part) => part == text.as_bytes(),
        })
    }
}

impl Scalar {
    fn bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            // No number is too long.
            Self::Number(_) => 0,
            Self::Bytes(bytes) => bytes.len(),
        }
    }
}

fn of_type(key_type: &ScalarAttributeType) -> &'static str {
    match key_type {
        ScalarAttributeType::N => "a number",
        ScalarAttributeType::B => "bytes",
        _ => "text",
    }
}

/// Waits until the table can be used.
pub(super) async fn active(config: &DynamoDbConfig) -> Result<(), Failure> {
    let active = async {
        loop {
            match Table::describe(config, None).await {
                Err(failure) if failure.class == Class::Transient => sleep(ACTIVE_POLL).await,
                described => return described.map(drop),
            }
        }
    };
    timeout(ACTIVE_WITHIN, active).await.unwrap_or_else(|_| {
        Err(Failure::transient(format!("table {} did not become active; look at it with describe-table", config.table)))
    })
}

/// Makes the table if it is missing; says whether it did.
pub(super) async fn request(config: &DynamoDbConfig) -> Result<bool, Failure> {
    let name = &config.table;
    let incomplete = |error: kinesink_aws::dynamodb::error::BuildError| Failure::fatal(error.to_string());
    let mut request = config.client.create_table().table_name(name);
    request = match config.provisioned {
        None => request.billing_mode(BillingMode::PayPerRequest),
        Some(Provisioned { read_units, write_units }) => {
            let units = ProvisionedThroughput::builder().read_capacity_units(read_units.into());
            let units = units.write_capacity_units(write_units.into()).build().map_err(incomplete)?;
            request.billing_mode(BillingMode::Provisioned).provisioned_throughput(units)
        }
    };
    for (attribute, key_type) in config.key.iter().zip([KeyType::Hash, KeyType::Range]) {
        let attribute_type = attribute.key_type.clone().unwrap_or(ScalarAttributeType::S);
        let schema = KeySchemaElement::builder().attribute_name(&attribute.name).key_type(key_type).build();
        let definition =
            AttributeDefinition::builder().attribute_name(&attribute.name).attribute_type(attribute_type).build();
        request =
            request.key_schema(schema.map_err(incomplete)?).attribute_definitions(definition.map_err(incomplete)?);
    }
    match request.send().await {
        Ok(_) => {
            tracing::info!(table = name, "table created");
            Ok(true)
        }
        // It is there already.
        Err(error) if code(&error) == Some("ResourceInUseException") => Ok(false),
        Err(error) => Err(error::other(Action::CreateTable, name, &error)),
    }
}

/// Has the table expire items by the attribute, unless it does so.
pub(super) async fn expire(config: &DynamoDbConfig, attribute: &str) -> Result<(), Failure> {
    if expiry(config).await.is_ok_and(|expiry| expiry == Expiry::On(attribute.to_owned())) {
        return Ok(());
    }
    let settings = TimeToLiveSpecification::builder().enabled(true).attribute_name(attribute).build();
    let settings = settings.map_err(|error| Failure::fatal(error.to_string()))?;
    let request = config.client.update_time_to_live().table_name(&config.table).time_to_live_specification(settings);
    request.send().await.map(drop).map_err(|error| error::other(Action::UpdateTimeToLive, &config.table, &error))
}

/// Asks by which attribute the table expires items.
pub(super) async fn expiry(config: &DynamoDbConfig) -> Result<Expiry, Failure> {
    let reply = config.client.describe_time_to_live().table_name(&config.table).send().await;
    let reply = reply.map_err(|error| error::other(Action::DescribeTimeToLive, &config.table, &error))?;
    let said = reply.time_to_live_description();
    let is_on = said
        .and_then(|said| said.time_to_live_status())
        .is_some_and(|status| matches!(status, TimeToLiveStatus::Enabled | TimeToLiveStatus::Enabling));
    let attribute = said.and_then(|said| said.attribute_name()).filter(|_| is_on);
    Ok(attribute.map_or(Expiry::Off, |attribute| Expiry::On(attribute.to_owned())))
}

/// The part of an item that is its key.
pub(super) fn key_part(table: &Table, item: &Attributes) -> HashMap<String, AttributeValue> {
    table.key_names().filter_map(|name| Some((name.to_owned(), item.get(name)?.clone()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `printf '%s\n' DE 2026-01-31T12:00:00Z | md5sum | cut -c1-16` prints it, which is what the page says.
    #[test]
    fn the_hash_of_a_key_is_the_one_that_an_operator_makes_of_it() {
        let text = |text: &str| Scalar::Text(text.into());
        for (key, hash) in [
            (vec![text("DE"), text("2026-01-31T12:00:00Z")], "221b51502d5608ce"),
            (vec![text("customer-7")], "2bb7fc166c1bbf67"),
            (vec![Scalar::Number("1.5".into())], "1d4d4e6130c517ba"),
            (vec![Scalar::Bytes(vec![0, 255])], "0fd56e598ef9bf00"),
        ] {
            assert_eq!(ItemKey(key).hashed(), hash);
        }
    }
}
