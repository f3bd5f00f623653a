//! A digest that tells one window's content from another's.

use std::fmt;

use twox_hash::XxHash3_128;

use crate::Item;
use crate::sequence_number::LIMBS;

/// A sequence number's limbs and how many they are, sub-sequence and ordinal.
const PLACE_BYTES_MAX: usize = 8 * (LIMBS + 3);

/// What a window's sinks are about to make durable, as 128 bits of XXH3: it tells a window that was made again from one
/// that came out differently. It guards against accidents, not against someone who wants two windows to agree.
///
/// What is fed is told apart from its neighbours: each part goes in with its length.
pub struct Fingerprint(XxHash3_128);

impl Fingerprint {
    /// Of nothing.
    #[must_use]
    pub fn new() -> Self {
        Self(XxHash3_128::new())
    }

    /// Adds bytes, and how many they are.
    pub fn part(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.write(bytes);
    }

    /// Adds the place of an item: position and ordinal.
    pub fn place<T>(&mut self, item: &Item<T>) {
        let position = &item.record.position;
        let limbs = position.sequence.significant_limbs();
        let rest = [position.sub_sequence, item.ordinal.into()];
        let numbers = [limbs.len() as u64].into_iter().chain(limbs.iter().copied()).chain(rest);
        // In one piece: to feed a number costs as much as to feed them all.
        let (mut bytes, mut len) = ([0; PLACE_BYTES_MAX], 0);
        for (room, number) in bytes.chunks_exact_mut(8).zip(numbers) {
            room.copy_from_slice(&number.to_le_bytes());
            len += room.len();
        }
        self.0.write(bytes.get(..len).unwrap_or_default());
    }

    /// The digest of all that was added, in order.
    #[must_use]
    pub fn finish(&self) -> u128 {
        self.0.finish_128()
    }

    fn number(&mut self, number: u64) {
        self.0.write(&number.to_le_bytes());
    }
}

impl Default for Fingerprint {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fingerprint").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Position, Record};

    fn of(parts: &[&str]) -> u128 {
        let mut fingerprint = Fingerprint::new();
        for part in parts {
            fingerprint.part(part.as_bytes());
        }
        fingerprint.finish()
    }

    #[test]
    fn where_one_part_ends_and_the_next_begins_makes_a_difference() {
        assert_eq!(of(&["ab", "c"]), of(&["ab", "c"]));
        assert_ne!(of(&["ab", "c"]), of(&["a", "bc"]));
        assert_ne!(of(&["ab", ""]), of(&["ab"]));
    }

    #[test]
    fn a_place_is_fed_as_its_numbers_one_after_the_other() {
        let largest = "9".repeat(129);
        for (digits, limbs) in [("0", &[][..]), ("7", &[7]), ("18446744073709551617", &[1, 1]), (&largest, &[])] {
            let position = Position { sequence: digits.parse().unwrap(), sub_sequence: 3 };
            let record = Record {
                shard: "shardId-000000000000".parse().unwrap(),
                position,
                arrival: jiff::Timestamp::UNIX_EPOCH,
                partition_key: None,
                data: bytes::Bytes::new(),
            };
            let limbs = if digits == largest { position.sequence.significant_limbs() } else { limbs };
            let (mut whole, mut single) = (Fingerprint::new(), Fingerprint::new());
            whole.place(&Item { record, ordinal: 2, outputs: 3, value: () });
            single.number(limbs.len() as u64);
            limbs.iter().copied().chain([3, 2]).for_each(|number| single.number(number));
            assert_eq!(whole.finish(), single.finish(), "{digits}");
        }
    }

    #[test]
    fn the_digest_is_that_of_the_stored_plans() {
        assert_eq!(format!("{:032x}", of(&["out-1", "out-2"])), "a50f26575f5eecf77a4489701d5aa18f");
    }
}
