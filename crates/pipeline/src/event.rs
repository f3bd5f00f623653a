//! The model of pipelines that are made from a file: a record's data, as it came or as a program made it.

use std::fmt;

use bytes::Bytes;
use kinesink_core::{Record, Reject, Transformer};
use serde::de::IgnoredAny;

/// Data on its way to a sink, with what a filter may ask of its record.
#[derive(Clone, PartialEq, Eq)]
pub struct Event {
    /// What will be sent.
    pub data: Bytes,
    /// The record's partition key, where the pipeline's filter asks for it.
    pub partition_key: Option<Box<str>>,
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event").field("data_bytes", &self.data.len()).finish_non_exhaustive()
    }
}

/// What a filter needs of the transformer before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Needs {
    /// Data that is JSON: other data is rejected.
    pub json: bool,
    /// Data that can stand as a line of text: what is encoded for the Glue Schema Registry is rejected.
    pub lines: bool,
    /// The partition key.
    pub partition_key: bool,
}

/// Sends records as they are. Parses nothing, unless its filter needs JSON.
#[derive(Debug, Clone, Copy, Default)]
pub struct Raw {
    needs: Needs,
}

impl Raw {
    /// For a pipeline whose filter needs this.
    #[must_use]
    pub fn new(needs: Needs) -> Self {
        Self { needs }
    }
}

impl Transformer for Raw {
    type Model = Event;
    type Output = Bytes;

    fn to_model(&self, record: &Record, models: &mut Vec<Event>) -> Result<(), Reject> {
        if self.needs.json {
            check_json(&record.data)?;
        } else if self.needs.lines {
            refuse_schema(&record.data)?;
        }
        models.push(Event { data: record.data.clone(), partition_key: partition_key(record, self.needs) });
        Ok(())
    }

    fn to_output(&self, event: Event) -> Result<Bytes, Reject> {
        Ok(event.data)
    }
}

pub(crate) fn partition_key(record: &Record, needs: Needs) -> Option<Box<str>> {
    let key = record.partition_key.as_deref().filter(|_| needs.partition_key);
    key.map(Box::from)
}

/// A record of the Glue Schema Registry begins with 3, how it is compressed, and the id of its schema's version. The rest
/// is Avro or Protobuf mostly, and JSON at best behind bytes that are none.
///
/// Source: `awslabs/aws-glue-schema-registry`, its serializers.
fn refuse_schema(data: &[u8]) -> Result<(), Reject> {
    let (3, Some(compression), Some(id)) = (data.first().copied().unwrap_or(0), data.get(1), data.get(2..18)) else {
        return Ok(());
    };
    let compression = match compression {
        0 => "not compressed",
        5 => "zlib",
        _ => return Ok(()),
    };
    let mut schema = String::with_capacity(36);
    for (index, byte) in id.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            schema.push('-');
        }
        schema.push_str(&format!("{byte:02x}"));
    }
    Err(Reject::new(format!(
        "encoded for the Glue Schema Registry by schema version {schema} ({compression}), not JSON; \
         only a sink of format \"raw\" without filter and transform takes it as it is"
    )))
}

/// How deep JSON may be nested. What parses it later recurses: deeper data would overflow the stack of a jq program,
/// and is beyond what `serde_json` reads.
pub(crate) const JSON_DEPTH_MAX: usize = 127;

/// Strict JSON, in UTF-8, of bounded depth. The reason names the place and never the data.
pub(crate) fn check_json(data: &[u8]) -> Result<(), Reject> {
    refuse_schema(data)?;
    let text = std::str::from_utf8(data).map_err(|error| Reject::new(format!("not JSON: {error}")))?;
    match serde_json::from_str::<IgnoredAny>(text) {
        Ok(_) if depth(data) > JSON_DEPTH_MAX => {
            Err(Reject::new(format!("JSON nested deeper than {JSON_DEPTH_MAX} levels")))
        }
        Ok(_) => Ok(()),
        Err(error) => Err(Reject::new(format!("not JSON: line {}, column {}", error.line(), error.column()))),
    }
}

/// How deep valid JSON is nested, without recursion.
fn depth(json: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let (mut in_string, mut escaped) = (false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use kinesink_core::{Item, Position, SequenceNumber};

    use super::*;

    fn record(data: Vec<u8>) -> Record {
        Record {
            shard: "shardId-000000000000".parse().unwrap(),
            position: Position { sequence: SequenceNumber::ZERO, sub_sequence: 0 },
            arrival: jiff::Timestamp::UNIX_EPOCH,
            partition_key: None,
            data: data.into(),
        }
    }

    /// What a budget counts for each record beside its data is what it takes.
    #[test]
    fn a_record_is_counted_with_its_places_in_a_reply_a_window_and_a_batch() {
        let places = size_of::<Record>() + size_of::<Item<Event>>() + size_of::<&Item<Bytes>>();
        assert_eq!(record(Vec::new()).memory_bytes(), places);
    }

    #[test]
    fn json_is_strict_and_the_reason_never_quotes_the_data() {
        for good in ["{}", " [1, 2.5e3] ", "\"text\"", "null", "12345678901234567890123"] {
            assert_eq!(check_json(good.as_bytes()), Ok(()), "{good}");
        }
        for bad in [&b""[..], b"secret", b"{\"secret\"", b"{} {}", b"NaN", b"{a:1}", b"\"\xff\"", b"// secret\n{}"] {
            let reason = check_json(bad).unwrap_err().to_string();
            assert!(reason.starts_with("not JSON: ") && !reason.contains("secret"), "{reason}");
        }
    }

    #[test]
    fn what_is_encoded_for_the_glue_schema_registry_is_named_and_passes_only_as_it_is() {
        let id = [0xb7, 0xb4, 0xa7, 0xf0, 0x9c, 0x96, 0x4e, 0x4a, 0xa6, 0x87, 0xfb, 0x5d, 0xe9, 0xef, 0x0c, 0x63];
        let encoded = |compression: u8| [&[3, compression][..], &id, br#"{"secret": 1}"#].concat();
        for (compression, said) in [(0, "(not compressed)"), (5, "(zlib)")] {
            let reason = check_json(&encoded(compression)).unwrap_err().to_string();
            let version = "schema version b7b4a7f0-9c96-4e4a-a687-fb5de9ef0c63";
            assert!(reason.contains(version) && reason.contains(said) && !reason.contains("secret"), "{reason}");
        }
        for other in [&encoded(1)[..], &encoded(0)[..17], b"", b"\x03"] {
            assert_eq!(refuse_schema(other), Ok(()), "{other:?}");
        }
        let mut models = Vec::new();
        let lines = Raw::new(Needs { lines: true, ..Needs::default() });
        assert!(lines.to_model(&record(encoded(5)), &mut models).unwrap_err().to_string().contains("b7b4a7f0"));
        lines.to_model(&record(b"any text".to_vec()), &mut models).unwrap();
        Raw::default().to_model(&record(encoded(5)), &mut models).unwrap();
        assert_eq!(models.iter().map(|event| event.data.len()).collect::<Vec<_>>(), [8, encoded(5).len()]);
    }

    #[test]
    fn nesting_is_bounded_outside_strings() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(check_json(nested(127).as_bytes()), Ok(()));
        for depth in [128, 500_000] {
            let reason = check_json(nested(depth).as_bytes()).unwrap_err().to_string();
            assert!(reason.contains("deeper than 127"), "{reason}");
        }
        let text = format!(r#"{{"a\\":"\"{}","b":[]}}"#, "[".repeat(500));
        assert_eq!(check_json(text.as_bytes()), Ok(()));
    }
}
