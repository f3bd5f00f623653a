//! Stored records in a reply. They are stored as JSON, so that in JSON a reply joins slices; in CBOR each slice is
//! written anew, which spares the memory of a second form.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::encoding::Encoding;
use super::payload::{CHUNK_BYTES, Payload};
use super::service_error::ServiceError;
use crate::stream::shard::Record;

/// What is read from the stored JSON to write the CBOR.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Stored<'a> {
    sequence_number: &'a str,
    data: &'a str,
    #[serde(borrow)]
    partition_key: Option<Cow<'a, str>>,
}

/// An object of the records and the members of the tail, which has at least one and less than 24.
pub(crate) fn encode(encoding: Encoding, records: &[Record], tail: &impl Serialize) -> Result<Payload, ServiceError> {
    // The tail is an object, which goes on here: its first byte, a brace or a count of members, is left out.
    let tail = Bytes::from(encoding.encode(tail)?).slice(1..);
    match encoding {
        Encoding::Json => Ok(json(records, tail)),
        Encoding::Cbor => cbor(records, &tail)
            .map_err(|error| ServiceError::internal_failure(format!("a stored record cannot be read: {error}"))),
    }
}

fn json(records: &[Record], tail: Bytes) -> Payload {
    let mut body = Payload::with_capacity(2 * records.len() + 2);
    body.push(Bytes::from_static(br#"{"Records":["#));
    for (position, record) in records.iter().enumerate() {
        if position > 0 {
            body.push(Bytes::from_static(b","));
        }
        body.push(record.json.clone());
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

fn cbor(records: &[Record], tail: &[u8]) -> serde_json::Result<Payload> {
    let mut body = Payload::with_capacity(2);
    let mut chunk = vec![MAP_OPEN];
    text(&mut chunk, "Records");
    head(&mut chunk, Major::Array, records.len());
    for record in records {
        cbor_record(&mut chunk, record)?;
        if chunk.len() >= CHUNK_BYTES {
            body.push(Bytes::from(std::mem::take(&mut chunk)));
        }
    }
    chunk.extend_from_slice(tail);
    chunk.push(BREAK);
    body.push(Bytes::from(chunk));
    Ok(body)
}

fn cbor_record(out: &mut Vec<u8>, record: &Record) -> serde_json::Result<()> {
    let stored: Stored<'_> = serde_json::from_slice(&record.json)?;
    head(out, Major::Map, if stored.partition_key.is_some() { 4 } else { 3 });
    text(out, "SequenceNumber");
    text(out, stored.sequence_number);
    text(out, "ApproximateArrivalTimestamp");
    out.push(TAG_TIME);
    head(out, Major::Unsigned, usize::try_from(record.arrival_ms).unwrap_or(0));
    text(out, "Data");
    let data = STANDARD.decode(stored.data).map_err(serde::de::Error::custom)?;
    head(out, Major::Bytes, data.len());
    out.extend_from_slice(&data);
    if let Some(partition_key) = &stored.partition_key {
        text(out, "PartitionKey");
        text(out, partition_key);
    }
    Ok(())
}

fn text(out: &mut Vec<u8>, text: &str) {
    head(out, Major::Text, text.len());
    out.extend_from_slice(text.as_bytes());
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
