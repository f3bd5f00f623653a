//! Whether the fields of a key are those of the records: one that none has is told, once.

use super::key::KeyTemplate;
use crate::unmet::Unmet;
use crate::{FieldPath, Location};

/// For each field of the key, whether a record of the sink had a value there.
#[derive(Debug)]
pub(super) struct UnknownFields(Vec<Unmet>);

impl UnknownFields {
    pub(super) fn new(key: &KeyTemplate) -> Self {
        Self(key.fields().iter().map(|_| Unmet::default()).collect())
    }

    /// A record of which these fields, by number, count as unknown.
    pub(super) fn note(&self, unknown: &[usize], key: &KeyTemplate, sink: &Location) {
        for (index, (field, unmet)) in key.fields().iter().zip(&self.0).enumerate() {
            if let Some(records) = unmet.note(!unknown.contains(&index)) {
                tell(records, field, key, sink);
            }
        }
    }

    /// No more records come.
    pub(super) fn end(&self, key: &KeyTemplate, sink: &Location) {
        for (field, unmet) in key.fields().iter().zip(&self.0) {
            if let Some(records) = unmet.end() {
                tell(records, field, key, sink);
            }
        }
    }
}

fn tell(records: u64, field: &FieldPath, key: &KeyTemplate, sink: &Location) {
    tracing::warn!(
        %sink,
        records,
        %field,
        unknown = key.settings().unknown,
        "no record had a value for a key in this field, and all counted as unknown: name a field in `key` that the records \
         have behind the transform"
    );
}
