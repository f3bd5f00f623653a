//! Stored records in a reply. They are stored as JSON, so that in JSON a reply is a few slices of what is stored; in CBOR
//! each record is written anew, which spares the memory of a second form and takes little time.

use base64_simd::STANDARD;
use bytes::Bytes;
use serde::Serialize;

use super::encoding::Encoding;
use super::payload::{CHUNK_BYTES, Payload};
use super::service_error::ServiceError;
use super::stored_record::StoredRecord;
use crate::stream::shard::Record;

/// An object of the records and the members of the tail, which has at least one and less than 24.
pub(crate) fn encode(encoding: Encoding, records: &[Record], tail: &impl Serialize) -> Result<Payload, ServiceError> {
    // The tail is an object, which goes on here: its first byte, a brace or a count of members, is left out.
    let tail = Bytes::from(encoding.encode(tail)?).slice(1..);
    match encoding {
        Encoding::Json => Ok(json(records, tail)),
        Encoding::Cbor => cbor(records, &tail).ok_or_else(|| {
            ServiceError::internal_failure("a stored record is not in the form in which records are stored")
        }),
    }
}

fn json(records: &[Record], tail: Bytes) -> Payload {
    let mut body = Payload::default();
    body.push(Bytes::from_static(br#"{"Records":["#));
    let mut left = records.iter().peekable();
    while let Some(first) = left.next() {
        // One piece of all that lie side by side.
        let mut bytes = first.json_bytes as usize;
        while let Some(next) = left.next_if(|next| next.lies_behind(first, bytes)) {
            bytes += next.json_bytes as usize;
        }
        let is_last = left.peek().is_none();
        body.push(first.json_and_rest.slice(..bytes.saturating_sub(usize::from(is_last))));
    }
    body.push(Bytes::from_static(b"],"));
    body.push(tail);
    body
}

const MAP_OPEN: u8 = 0xbf;
const BREAK: u8 = 0xff;
const TAG_TIME: u8 = 0xc1;

/// The major types of CBOR that a record needs, in the upper three bits.
#[derive(Clone, Copy)]
enum Major {
    Unsigned = 0x00,
    Bytes = 0x40,
    Text = 0x60,
    Array = 0x80,
    Map = 0xa0,
}

fn cbor(records: &[Record], tail: &[u8]) -> Option<Payload> {
    let mut body = Payload::default();
    let mut chunk = vec![MAP_OPEN];
    text(&mut chunk, b"Records");
    head(&mut chunk, Major::Array, records.len());
    for record in records {
        if chunk.len() + record.json_bytes as usize > CHUNK_BYTES {
            body.push(Bytes::from(std::mem::replace(&mut chunk, Vec::with_capacity(CHUNK_BYTES))));
        }
        cbor_record(&mut chunk, record)?;
    }
    chunk.extend_from_slice(tail);
    chunk.push(BREAK);
    body.push(Bytes::from(chunk));
    Some(body)
}

fn cbor_record(out: &mut Vec<u8>, record: &Record) -> Option<()> {
    let stored = StoredRecord::read(record.json_and_comma())?;
    head(out, Major::Map, if stored.partition_key.is_some() { 4 } else { 3 });
    text(out, b"SequenceNumber");
    text(out, stored.sequence_number);
    text(out, b"ApproximateArrivalTimestamp");
    out.push(TAG_TIME);
    head(out, Major::Unsigned, usize::try_from(record.arrival_ms).unwrap_or(0));
    text(out, b"Data");
    head(out, Major::Bytes, STANDARD.decoded_length(stored.base64).ok()?);
    STANDARD.decode_append(stored.base64, out).ok()?;
    if let Some(partition_key) = &stored.partition_key {
        text(out, b"PartitionKey");
        text(out, partition_key.as_bytes());
    }
    Some(())
}

fn text(out: &mut Vec<u8>, text: &[u8]) {
    head(out, Major::Text, text.len());
    out.extend_from_slice(text);
}

/// What stands before a value: its type, and its number or length.
fn head(out: &mut Vec<u8>, major: Major, number: usize) {
    let major = major as u8;
    if let Ok(number) = u8::try_from(number) {
        if number < 24 {
            out.push(major | number);
        } else {
            out.extend([major | 24, number]);
        }
    } else if let Ok(number) = u16::try_from(number) {
        out.push(major | 25);
        out.extend(number.to_be_bytes());
    } else if let Ok(number) = u32::try_from(number) {
        out.push(major | 26);
        out.extend(number.to_be_bytes());
    } else {
        out.push(major | 27);
        out.extend((number as u64).to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::event::Placement;

    #[derive(Serialize)]
    struct Tail {
        end: bool,
    }

    /// Records of one put, each of that many bytes with the comma behind it.
    fn put(bytes: &[u32]) -> Vec<Record> {
        let json = bytes.iter().map(|bytes| format!("\"{}\",", "x".repeat(*bytes as usize - 3))).collect::<String>();
        let mut left = Bytes::from(json);
        let place = |json_bytes| Placement { shard: 0, index: 1, arrival_ms: 0, size_bytes: 0, json_bytes };
        bytes.iter().map(|bytes| place(*bytes).record(&mut left).unwrap()).collect()
    }

    fn chunks(records: &[Record]) -> Vec<Bytes> {
        let chunks: Vec<_> = encode(Encoding::Json, records, &Tail { end: true }).unwrap().into_chunks().collect();
        let reply: serde_json::Value = serde_json::from_slice(&chunks.concat()).unwrap();
        assert_eq!((reply["Records"].as_array().unwrap().len(), &reply["end"]), (records.len(), &true.into()));
        chunks
    }

    #[test]
    fn records_that_lie_side_by_side_are_sent_as_they_lie() {
        let records = put(&[40_000, 50_000, 60_000]);
        let sent = chunks(&records);
        assert_eq!(sent.iter().map(Bytes::len).collect::<Vec<_>>(), [12, 149_999, 13]);
        assert_eq!(sent[1].as_ptr(), records[0].json_and_rest.as_ptr(), "not copied");
        // From the middle of a put, and on into the next.
        let both = [&records[1..], &put(&[70_000])].concat();
        assert_eq!(chunks(&both).iter().map(Bytes::len).collect::<Vec<_>>(), [12, 110_000, 69_999, 13]);
    }

    #[test]
    fn a_record_that_is_left_out_is_not_sent() {
        let records = put(&[40_000, 50_000, 60_000]);
        let ends = [records[0].clone(), records[2].clone()];
        assert_eq!(chunks(&ends).concat().len(), 12 + 99_999 + 13);
        // Nor is one of a put that only looks like the other.
        let (one, other) = (put(&[70_000, 80_000]), put(&[70_000, 80_000]));
        let both = chunks(&[one[0].clone(), other[1].clone()]);
        assert_eq!(both.iter().map(Bytes::len).collect::<Vec<_>>(), [12, 70_000, 79_999, 13]);
        assert_eq!(chunks(&[]).concat().len(), 12 + 13);
    }
}
