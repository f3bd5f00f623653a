//! What the writes of an item are ordered by, of a sink of type `dynamodb`.

use std::str::FromStr as _;

use kinesink_sinks::FieldPath;
use kinesink_sinks::dynamodb::{KeyAttribute, KeySource, Order};

use super::Checks;
use crate::config::raw::{self, RawTable};

impl Checks {
    pub(super) fn order(&mut self, raw: &RawTable, key: &[KeyAttribute]) -> Option<Order> {
        let Some(given) = raw.ordered_by.as_ref().filter(|given| given.get_ref() != raw::ORDERED_BY) else {
            let is_told_apart = key.iter().any(|part| !matches!(part.source, KeySource::Shard));
            if raw.aggregate.is_none() && !key.is_empty() && !is_told_apart {
                let hint = "give the key the field that is the records' partition key, or `{partition_key}`; or name a field with a \
                            version in `ordered_by`";
                self.refuse("`sink.key` has nothing of a record", raw.key.span(), "orders no writes", hint);
            }
            return Some(Order::PartitionKey);
        };
        let path = FieldPath::from_str(given.get_ref());
        match path.as_ref().map(FieldPath::as_name) {
            Ok(Some(name)) => Some(Order::Version(name.to_owned())),
            _ => {
                let what = format!("`sink.ordered_by` cannot be {:?}", given.get_ref());
                let hint = "write \"partition-key\", or a field at the top of the record that holds a number, as in \".version\"";
                self.refuse(what, given.span(), "orders nothing", hint);
                None
            }
        }
    }

    /// The key attribute that is the records' partition key, if it is named.
    pub(super) fn partition_key(
        &mut self,
        raw: &RawTable,
        order: Option<&Order>,
        key: &[KeyAttribute],
    ) -> Option<String> {
        // Beside `aggregate`, it is refused with the others.
        let given = raw.partition_key.as_ref().filter(|_| raw.aggregate.is_none())?;
        let name = given.get_ref();
        let mut refuse = |what: &str, label: &'static str, hint: String| {
            self.refuse(format!("`sink.partition_key` {what}"), given.span(), label, hint);
        };
        let of = |source: &KeySource| key.iter().find(|part| part.source == *source);
        let named = key.iter().find(|part| part.name == *name);
        if matches!(order, Some(Order::Version(_))) {
            let what = "means nothing where a version orders the writes";
            refuse(what, "contradicts `ordered_by`", "leave it out, or leave `ordered_by` out".into());
        } else if of(&KeySource::Position).is_some() {
            let what = "means nothing where the key has `{position}`";
            refuse(what, "orders nothing", "leave it out: each record has an item of its own".into());
        } else if !raw.key.get_ref().keys().any(|key| key.get_ref() == name) {
            let names: Vec<_> = key.iter().map(|part| format!("`{}`", part.name)).collect();
            let hint = format!("write an attribute of `key`, as it is named there: {}", names.join(" or "));
            refuse(&format!("cannot be {name:?}"), "no part of the key", hint);
        } else if named.is_some_and(|part| part.source == KeySource::Shard) {
            let hint = "name the part of the key that is a field, or leave it out".into();
            refuse(&format!("cannot be {name:?}"), "is the shard", hint);
        } else if let Some(other) = of(&KeySource::PartitionKey)
            && named.is_some_and(|part| part.source != KeySource::PartitionKey)
        {
            let hint = format!("`{}` is `{{partition_key}}`: leave `partition_key` out", other.name);
            refuse(&format!("cannot be {name:?}"), "contradicts `key`", hint);
        }
        Some(name.clone())
    }
}
