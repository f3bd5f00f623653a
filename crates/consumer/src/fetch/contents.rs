//! The data and the keys of a reply's records, in few pieces of memory: an allocation for each would cost more than
//! reading it.

use std::sync::Arc;

use base64_simd::{Error, STANDARD};
use bytes::Bytes;
use kinesink_core::{PartitionKey, Record};

/// The allocator finds pieces of one size again, whatever the sizes of replies and records.
const BLOCK_BYTES: usize = 256 * 1024;

/// Filled record by record while a reply is read.
#[derive(Debug)]
pub(super) struct Contents {
    /// What is still to come has at most so many bytes.
    rest_bytes: usize,
    /// Full, and each with the data of whole records.
    blocks: Vec<Bytes>,
    block: Vec<u8>,
    keys: String,
    lengths: Vec<Lengths>,
}

/// How much of the contents is a record's.
#[derive(Debug)]
struct Lengths {
    data_bytes: usize,
    key_bytes: Option<usize>,
}

impl Contents {
    /// For a reply of `text_bytes`, with room for `records` of them before it has to grow.
    pub(super) fn new(text_bytes: usize, records: usize) -> Self {
        let rest_bytes = STANDARD.estimated_decoded_length(text_bytes);
        let lengths = Vec::with_capacity(records);
        Self { rest_bytes, blocks: Vec::new(), block: Vec::new(), keys: String::new(), lengths }
    }

    /// Takes the next record's data, in base64, and its key.
    ///
    /// # Errors
    /// The data are not base64.
    pub(super) fn push(&mut self, data: &[u8], key: Option<&str>) -> Result<(), Error> {
        let data_bytes = STANDARD.decoded_length(data)?;
        if self.block.capacity() - self.block.len() < data_bytes {
            self.close_block();
            self.block = Vec::with_capacity(BLOCK_BYTES.min(self.rest_bytes).max(data_bytes));
        }
        STANDARD.decode_append(data, &mut self.block)?;
        self.rest_bytes = self.rest_bytes.saturating_sub(data_bytes);
        self.keys.push_str(key.unwrap_or_default());
        self.lengths.push(Lengths { data_bytes, key_bytes: key.map(str::len) });
        Ok(())
    }

    /// Gives each record its own, in the order in which they were taken.
    pub(super) fn hand_out(mut self, records: &mut [Record]) {
        self.close_block();
        let keys: Arc<str> = self.keys.into();
        let (mut blocks, mut block, mut keys_handed_out) = (self.blocks.into_iter(), Bytes::new(), 0);
        for (record, lengths) in records.iter_mut().zip(self.lengths) {
            if block.len() < lengths.data_bytes {
                block = blocks.next().unwrap_or_default();
            }
            record.data = block.split_to(lengths.data_bytes);
            record.partition_key = lengths.key_bytes.and_then(|bytes| {
                let start = keys_handed_out;
                keys_handed_out += bytes;
                PartitionKey::part(&keys, start..keys_handed_out)
            });
        }
    }

    fn close_block(&mut self) {
        let mut block = std::mem::take(&mut self.block);
        if block.len() < block.capacity() / 2 {
            block.shrink_to_fit();
        }
        if !block.is_empty() {
            self.blocks.push(block.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use kinesink_core::{Position, SequenceNumber};
    use proptest::prelude::*;

    use super::*;

    fn record() -> Record {
        Record {
            shard: "shardId-000000000000".parse().unwrap(),
            position: Position { sequence: SequenceNumber::ZERO, sub_sequence: 0 },
            arrival: Timestamp::UNIX_EPOCH,
            partition_key: None,
            data: Bytes::new(),
        }
    }

    /// What comes back of records of these sizes and keys, and in how many pieces of memory.
    fn check(all: &[(usize, Option<String>)]) -> usize {
        let data = |number: usize, bytes: usize| vec![u8::try_from(number % 251).unwrap(); bytes];
        let mut contents = Contents::new(all.iter().map(|(bytes, _)| bytes * 4 / 3 + 4).sum(), all.len());
        for (number, (bytes, key)) in all.iter().enumerate() {
            let text = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, data(number, *bytes));
            contents.push(text.as_bytes(), key.as_deref()).unwrap();
        }
        let mut records = vec![record(); all.len()];
        contents.hand_out(&mut records);
        let (mut pieces, mut end) = (0, std::ptr::null());
        for (number, (record, (bytes, key))) in records.iter().zip(all).enumerate() {
            assert!(record.data == data(number, *bytes), "record {number}");
            assert_eq!(record.partition_key.as_deref(), key.as_deref(), "record {number}");
            if !record.data.is_empty() {
                pieces += usize::from(record.data.as_ptr() != end);
                end = record.data.as_ptr_range().end;
            }
        }
        pieces
    }

    proptest! {
        #[test]
        fn each_record_gets_its_own(
            all in prop::collection::vec(
                (prop_oneof![Just(0), 0..300_usize, 50_000..400_000_usize], prop::option::of(".{0,5}")), 0..12,
            ),
        ) {
            check(&all);
        }
    }

    #[test]
    fn many_records_are_few_pieces() {
        let all = vec![(100, Some("key".to_owned())); 10_000];
        assert!(check(&all) <= 1 + 100 * 10_000 / (BLOCK_BYTES - 100));
    }
}
