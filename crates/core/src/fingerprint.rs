//! A digest that tells one window's content from another's.

use std::fmt;

use twox_hash::XxHash3_128;

use crate::Item;

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
        let limbs = item.record.position.sequence.significant_limbs();
        self.number(limbs.len() as u64);
        for limb in limbs {
            self.number(*limb);
        }
        self.number(item.record.position.sub_sequence);
        self.number(item.ordinal.into());
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
    fn the_digest_is_that_of_the_stored_plans() {
        assert_eq!(format!("{:032x}", of(&["out-1", "out-2"])), "a50f26575f5eecf77a4489701d5aa18f");
    }
}
