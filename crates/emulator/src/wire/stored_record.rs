//! The form in which a record is stored for as long as it is: as GetRecords sends it in JSON, with a comma behind it.
//!
//! It is read back by its fixed parts, since nothing but [`write`] makes it: a parser of JSON would look at each byte of the
//! data, which costs more than all the rest of a reply in CBOR.

use std::borrow::Cow;
use std::io::{self, Write as _};

use memchr::memchr;

use super::timestamp::Timestamp;

const SEQUENCE_NUMBER: &str = r#"{"SequenceNumber":""#;
const ARRIVAL: &str = r#"","ApproximateArrivalTimestamp":"#;
const DATA: &str = r#","Data":""#;
const PARTITION_KEY: &str = r#","PartitionKey":"#;
const END: &str = "},";

/// What a stored record says, but for its time, which is kept beside it too.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct StoredRecord<'a> {
    pub(crate) sequence_number: &'a [u8],
    pub(crate) base64: &'a [u8],
    pub(crate) partition_key: Option<Cow<'a, str>>,
}

/// Adds a record to what is stored.
pub(crate) fn write(
    out: &mut Vec<u8>,
    sequence_number: &str,
    arrival_ms: i64,
    base64: &str,
    partition_key: Option<&str>,
) -> io::Result<()> {
    let arrival = Timestamp(arrival_ms).seconds();
    write!(out, "{SEQUENCE_NUMBER}{sequence_number}{ARRIVAL}{arrival}{DATA}")?;
    out.extend_from_slice(base64.as_bytes());
    out.push(b'"');
    if let Some(partition_key) = partition_key {
        out.extend_from_slice(PARTITION_KEY.as_bytes());
        serde_json::to_writer(&mut *out, partition_key)?;
    }
    out.extend_from_slice(END.as_bytes());
    Ok(())
}

impl<'a> StoredRecord<'a> {
    /// None if it is not what [`write`] makes.
    pub(crate) fn read(stored: &'a [u8]) -> Option<Self> {
        let rest = stored.strip_prefix(SEQUENCE_NUMBER.as_bytes())?;
        let (sequence_number, rest) = rest.split_at_checked(memchr(b'"', rest)?)?;
        let rest = rest.strip_prefix(ARRIVAL.as_bytes())?;
        let (_arrival, rest) = rest.split_at_checked(memchr(b',', rest)?)?;
        let rest = rest.strip_prefix(DATA.as_bytes())?;
        let (base64, rest) = rest.split_at_checked(memchr(b'"', rest)?)?;
        let rest = rest.strip_prefix(b"\"")?.strip_suffix(END.as_bytes())?;
        let partition_key = match rest.strip_prefix(PARTITION_KEY.as_bytes()) {
            Some(json) => Some(text(json)?),
            None if rest.is_empty() => None,
            None => return None,
        };
        Some(Self { sequence_number, base64, partition_key })
    }
}

/// A text in JSON, without a copy where nothing in it is escaped.
fn text(json: &[u8]) -> Option<Cow<'_, str>> {
    serde_json::from_slice(json).map(Cow::Borrowed).or_else(|_| serde_json::from_slice(json).map(Cow::Owned)).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(sequence_number: &str, arrival_ms: i64, base64: &str, partition_key: Option<&str>) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut out, sequence_number, arrival_ms, base64, partition_key).unwrap();
        out
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back_and_is_json(
            sequence_number in "[0-9]{1,57}",
            arrival_ms in 0..4_000_000_000_000_i64,
            base64 in "[A-Za-z0-9+/]{0,40}={0,2}",
            partition_key in prop::option::of(any::<String>()),
        ) {
            let stored = written(&sequence_number, arrival_ms, &base64, partition_key.as_deref());
            let read = StoredRecord::read(&stored).unwrap();
            prop_assert_eq!(read.sequence_number, sequence_number.as_bytes());
            prop_assert_eq!(read.base64, base64.as_bytes());
            prop_assert_eq!(read.partition_key.as_deref(), partition_key.as_deref());

            let json: serde_json::Value = serde_json::from_slice(stored.strip_suffix(b",").unwrap()).unwrap();
            prop_assert_eq!(&json["SequenceNumber"], &serde_json::Value::from(sequence_number));
            prop_assert_eq!(&json["Data"], &serde_json::Value::from(base64));
            let partition_key = partition_key.map(serde_json::Value::from);
            prop_assert_eq!(json.get("PartitionKey"), partition_key.as_ref());
        }

        /// A log can hold anything, with a checksum that is right.
        #[test]
        fn what_is_cut_off_is_no_record(cut in 0..120_usize) {
            let stored = written("49", 1_700_000_000_123, "AAAA", Some("key"));
            prop_assume!(cut < stored.len());
            prop_assert_eq!(StoredRecord::read(&stored[..cut]), None);
        }
    }
}
