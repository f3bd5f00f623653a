//! One item on disk.
//!
//! ```text
//! place in its chunk u32 | ordinal u32 | outputs u32 | sub-sequence u64 | arrival: seconds i64, nanoseconds i32
//! sequence number: length u8, bytes | partition key, data, output: length u32, bytes
//! ```
//! A key that is none and an output that is the record's data have a length of all ones and no bytes.

use bytes::{Buf as _, BufMut as _, Bytes};
use jiff::Timestamp;
use kinesink_core::{Item, PartitionKey, Position, Record, SequenceNumber, ShardId};

/// How outputs of one type stand on disk.
pub(crate) struct Codec<U> {
    pub(crate) write: fn(&U) -> Bytes,
    /// None: it is not what was written.
    pub(crate) read: fn(Bytes) -> Option<U>,
}

impl<U> Clone for Codec<U> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<U> Copy for Codec<U> {}

/// Stands for a length.
const NONE: u32 = u32::MAX;
const FIXED_BYTES: usize = 4 + 4 + 4 + 8 + 8 + 4 + 1 + 3 * 4;
const SEQUENCE_BYTES_MAX: usize = 56;

/// At most so many bytes are what [`write`] writes.
pub(super) fn bytes_max<U>(item: &Item<U>, codec: Codec<U>) -> usize {
    let key = item.record.partition_key.as_deref().map_or(0, str::len);
    let output = (codec.write)(&item.value);
    let output = if is_same(&output, &item.record.data) { 0 } else { output.len() };
    FIXED_BYTES + SEQUENCE_BYTES_MAX + key + item.record.data.len() + output
}

/// None: a part of it is too long to be written.
pub(super) fn write<U>(place: u32, item: &Item<U>, codec: Codec<U>, out: &mut Vec<u8>) -> Option<()> {
    let record = &item.record;
    out.put_u32(place);
    out.put_u32(item.ordinal);
    out.put_u32(item.outputs);
    out.put_u64(record.position.sub_sequence);
    out.put_i64(record.arrival.as_second());
    out.put_i32(record.arrival.subsec_nanosecond());
    let sequence = record.position.sequence.to_bytes();
    out.put_u8(u8::try_from(sequence.len()).ok()?);
    out.put_slice(&sequence);
    let output = (codec.write)(&item.value);
    let output = (!is_same(&output, &record.data)).then_some(&*output);
    for part in [record.partition_key.as_deref().map(str::as_bytes), Some(&*record.data), output] {
        let Some(part) = part else {
            out.put_u32(NONE);
            continue;
        };
        let length = u32::try_from(part.len()).ok().filter(|length| *length != NONE)?;
        out.put_u32(length);
        out.put_slice(part);
    }
    Some(())
}

/// Takes one item from the front: its place and itself. None: that is not what stands there.
pub(super) fn read<U>(shard: &ShardId, codec: Codec<U>, from: &mut Bytes) -> Option<(u32, Item<U>)> {
    let (place, ordinal, outputs) = (from.try_get_u32().ok()?, from.try_get_u32().ok()?, from.try_get_u32().ok()?);
    let sub_sequence = from.try_get_u64().ok()?;
    let arrival = Timestamp::new(from.try_get_i64().ok()?, from.try_get_i32().ok()?).ok()?;
    let length = from.try_get_u8().ok()?;
    let sequence = SequenceNumber::from_bytes(&take(from, length.into())?)?;
    let mut part = || match from.try_get_u32().ok()? {
        NONE => Some(None),
        length => Some(Some(take(from, length as usize)?)),
    };
    let (key, data, output) = (part()?, part()??, part()?);
    let partition_key = match key {
        Some(key) => Some(PartitionKey::from(std::str::from_utf8(&key).ok()?)),
        None => None,
    };
    let value = (codec.read)(output.unwrap_or_else(|| data.clone()))?;
    let position = Position { sequence, sub_sequence };
    let record = Record { shard: shard.clone(), position, arrival, partition_key, data };
    Some((place, Item { record, ordinal, outputs, value }))
}

fn take(from: &mut Bytes, length: usize) -> Option<Bytes> {
    (length <= from.len()).then(|| from.split_to(length))
}

/// Whether they are the same memory, so that one of them is enough.
fn is_same(a: &Bytes, b: &Bytes) -> bool {
    a.as_ptr() == b.as_ptr() && a.len() == b.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CODEC: Codec<Bytes> = Codec { write: Bytes::clone, read: Some };

    fn item(
        digits: &str,
        numbers: (u32, u64, i64),
        key: Option<&str>,
        data: Vec<u8>,
        output: Option<Vec<u8>>,
    ) -> Item<Bytes> {
        let (ordinal, sub_sequence, ms) = numbers;
        let data = Bytes::from(data);
        let record = Record {
            shard: "shardId-000000000000".parse().unwrap(),
            position: Position { sequence: digits.parse().unwrap(), sub_sequence },
            arrival: Timestamp::from_millisecond(ms).unwrap(),
            partition_key: key.map(PartitionKey::from),
            data: data.clone(),
        };
        Item { record, ordinal, outputs: 7, value: output.map_or(data, Bytes::from) }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_and_no_part_of_it_is(
            digits in "0|[1-9][0-9]{0,128}",
            numbers in (any::<u32>(), any::<u64>(), -1_000_000_000_000_i64..1_000_000_000_000),
            key in prop::option::of("[a-zé]{0,5}"),
            data: Vec<u8>,
            output: Option<Vec<u8>>,
            place: u32,
        ) {
            let item = item(&digits, numbers, key.as_deref(), data, output);
            let mut written = Vec::new();
            write(place, &item, CODEC, &mut written).unwrap();
            prop_assert!(written.len() <= bytes_max(&item, CODEC));
            for cut in 0..written.len() {
                let mut part = Bytes::copy_from_slice(&written[..cut]);
                prop_assert!(read(&item.record.shard, CODEC, &mut part).is_none());
            }
            written.extend(b"the next");
            let mut rest = Bytes::from(written);
            let (place_again, again) = read(&item.record.shard, CODEC, &mut rest).unwrap();
            prop_assert_eq!(&*rest, b"the next");
            prop_assert_eq!((place_again, again.ordinal, again.outputs, again.value), (place, item.ordinal, 7, item.value));
            prop_assert_eq!(again.record.position, item.record.position);
            prop_assert_eq!(again.record.arrival, item.record.arrival);
            prop_assert_eq!(again.record.partition_key, item.record.partition_key);
            prop_assert_eq!(again.record.data, item.record.data);
        }
    }
}
