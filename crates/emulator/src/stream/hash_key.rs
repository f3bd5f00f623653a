//! Hash keys: where in 0 ..= 2^128 - 1 a partition key falls, and the ranges that shards own.

use md5::{Digest, Md5};
use serde::{Deserialize, Serialize};

/// The hash keys of one shard, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HashKeyRange {
    pub(crate) start: u128,
    pub(crate) end: u128,
}

/// A hash key range as requests and replies write it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct HashKeyRangeText {
    starting_hash_key: String,
    ending_hash_key: String,
}

impl HashKeyRange {
    /// Splits the whole space evenly. The last range also takes what does not divide.
    pub(crate) fn even(count: u32) -> Vec<Self> {
        let count = u128::from(count.max(1));
        // floor(2^128 / count), which for a count of 1 would not fit; then there is no second start to compute.
        let width = (u128::MAX / count).wrapping_add(u128::from(u128::MAX % count == count - 1));
        let start = |i: u128| width.wrapping_mul(i);
        let end = |i: u128| if i + 1 == count { u128::MAX } else { start(i + 1) - 1 };
        (0..count).map(|i| Self { start: start(i), end: end(i) }).collect()
    }

    pub(crate) fn text(self) -> HashKeyRangeText {
        HashKeyRangeText { starting_hash_key: self.start.to_string(), ending_hash_key: self.end.to_string() }
    }
}

/// The hash key of a partition key: its MD5 as a big-endian number.
pub(crate) fn of_partition_key(partition_key: &str) -> u128 {
    u128::from_be_bytes(Md5::digest(partition_key.as_bytes()).into())
}

/// Digits that the text of a hash key has at most.
pub(crate) const DIGITS_MAX: usize = 39;

/// The hash key that the text is: decimal, without sign or leading zeros.
pub(crate) fn parse(text: &str) -> Option<u128> {
    let plain = text == "0" || (!text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit()));
    if plain { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn even_ranges_tile_the_space() {
        for count in [1, 2, 3, 4, 7, 1000, 10_000] {
            let ranges = HashKeyRange::even(count);
            assert_eq!(ranges.len(), count as usize);
            assert_eq!(ranges[0].start, 0);
            assert_eq!(ranges.last().unwrap().end, u128::MAX);
            for pair in ranges.windows(2) {
                assert_eq!(pair[1].start, pair[0].end + 1);
            }
        }
    }

    /// The bounds that the service gives a stream of four shards.
    #[test]
    fn four_shards_have_the_services_bounds() {
        let ranges = HashKeyRange::even(4);
        assert_eq!(ranges[1].start.to_string(), "85070591730234615865843651857942052864");
        assert_eq!(ranges[2].start.to_string(), "170141183460469231731687303715884105728");
        assert_eq!(ranges[2].end.to_string(), "255211775190703847597530955573826158591");
    }

    /// MD5("partitionKey-1") from another implementation (`printf partitionKey-1 | md5sum`).
    #[test]
    fn a_partition_key_hashes_to_its_md5() {
        assert_eq!(format!("{:032x}", of_partition_key("partitionKey-1")), "77fe6d8289696ba8510480fbe3887256");
    }
}
