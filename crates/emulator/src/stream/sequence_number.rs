//! Sequence numbers in the service's second format.
//!
//! A number has 186 significant bits, so always 56 decimal digits, and reads from the top:
//!
//! | bits    | content                                                    |
//! |---------|------------------------------------------------------------|
//! | 187–184 | version, 2                                                 |
//! | 183–148 | epoch of the shard: its creation in seconds, above its parents' and all of streams that are gone |
//! | 147–144 | zero                                                       |
//! | 143–80  | index in the shard, 0 is the shard's start                 |
//! | 79–72   | zero                                                       |
//! | 71–36   | arrival in seconds                                         |
//! | 35–4    | index of the shard in its stream                           |
//! | 3–0     | version, 2                                                 |
//!
//! Epoch before index makes every number of a child greater than every number of its parents, and those of a stream that
//! is made again greater than those it had before; the shard's index stands where client libraries look for it.

use std::fmt;
use std::str::FromStr;

const VERSION: u128 = 2;
const SECONDS_BITS_MASK: u64 = (1 << 36) - 1;
const CHUNK: u128 = 10_000_000_000_000_000_000; // 10^19, the largest power of ten in a u64
const CHUNK_DIGITS: usize = 19;
const DIGITS: usize = 56;

/// The coordinates that a sequence number carries. Ordered as the numbers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SequenceNumber {
    pub(crate) epoch_s: u64,
    pub(crate) index: u64,
    pub(crate) arrival_s: u64,
    pub(crate) shard: u32,
}

/// The text is not a sequence number that this service hands out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotASequenceNumber;

impl SequenceNumber {
    /// The number as 64-bit limbs, most significant first.
    fn limbs(self) -> [u64; 3] {
        let high =
            (VERSION << 56) | (u128::from(self.epoch_s & SECONDS_BITS_MASK) << 20) | (u128::from(self.index) >> 48);
        let middle = (u128::from(self.index) << 16) | (u128::from(self.arrival_s & SECONDS_BITS_MASK) >> 28);
        let low = (u128::from(self.arrival_s) << 36) | (u128::from(self.shard) << 4) | VERSION;
        [low_64(high), low_64(middle), low_64(low)]
    }

    fn from_limbs([high, middle, low]: [u64; 3]) -> Result<Self, NotASequenceNumber> {
        let number = Self {
            epoch_s: (high >> 20) & SECONDS_BITS_MASK,
            index: (high << 48) | (middle >> 16),
            arrival_s: ((middle & 0xff) << 28) | (low >> 36),
            shard: u32::try_from((low >> 4) & u64::from(u32::MAX)).map_err(|_| NotASequenceNumber)?,
        };
        // Whatever does not come back unchanged had bits where this format has none.
        if number.limbs() == [high, middle, low] { Ok(number) } else { Err(NotASequenceNumber) }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the lower half is what is asked for")]
const fn low_64(wide: u128) -> u64 {
    wide as u64
}

impl fmt::Display for SequenceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut limbs = self.limbs();
        let mut chunks = [0_u64; 3];
        for chunk in chunks.iter_mut().rev() {
            let mut remainder = 0_u128;
            for limb in &mut limbs {
                let dividend = (remainder << 64) | u128::from(*limb);
                *limb = low_64(dividend / CHUNK);
                remainder = dividend % CHUNK;
            }
            *chunk = low_64(remainder);
        }
        write!(f, "{:018}{:019}{:019}", chunks[0], chunks[1], chunks[2])
    }
}

impl FromStr for SequenceNumber {
    type Err = NotASequenceNumber;

    fn from_str(text: &str) -> Result<Self, NotASequenceNumber> {
        if text.len() != DIGITS || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(NotASequenceNumber);
        }
        let mut limbs = [0_u64; 3];
        for chunk in text.as_bytes().rchunks(CHUNK_DIGITS).rev() {
            let digits = std::str::from_utf8(chunk).map_err(|_| NotASequenceNumber)?;
            let mut carry = u128::from(digits.parse::<u64>().map_err(|_| NotASequenceNumber)?);
            for limb in limbs.iter_mut().rev() {
                let product = u128::from(*limb) * CHUNK + carry;
                *limb = low_64(product);
                carry = product >> 64;
            }
            if carry != 0 {
                return Err(NotASequenceNumber);
            }
        }
        Self::from_limbs(limbs)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_number() -> impl Strategy<Value = SequenceNumber> {
        (0..=SECONDS_BITS_MASK, any::<u64>(), 0..=SECONDS_BITS_MASK, any::<u32>())
            .prop_map(|(epoch_s, index, arrival_s, shard)| SequenceNumber { epoch_s, index, arrival_s, shard })
    }

    /// Long division on the decimal text: shares nothing with the limbs above.
    fn binary(decimal: &str) -> String {
        let mut digits: Vec<u32> = decimal.chars().filter_map(|c| c.to_digit(10)).collect();
        let mut bits = Vec::new();
        while digits.iter().any(|digit| *digit != 0) {
            let mut remainder = 0;
            for digit in &mut digits {
                let dividend = remainder * 10 + *digit;
                *digit = dividend / 2;
                remainder = dividend % 2;
            }
            bits.push(if remainder == 1 { '1' } else { '0' });
        }
        bits.iter().rev().collect()
    }

    fn field(bits: &str, offset: usize, width: usize) -> u64 {
        let end = bits.len() - offset;
        let start = end.saturating_sub(width);
        u64::from_str_radix(bits.get(start..end).unwrap(), 2).unwrap()
    }

    proptest! {
        #[test]
        fn decimal_text_comes_back(number in any_number()) {
            prop_assert_eq!(number.to_string().parse(), Ok(number));
        }

        #[test]
        fn text_orders_as_the_numbers_do(a in any_number(), b in any_number()) {
            prop_assert_eq!(a.to_string().cmp(&b.to_string()), a.cmp(&b));
        }

        #[test]
        fn each_field_is_where_clients_look(number in any_number()) {
            let text = number.to_string();
            let bits = binary(&text);
            prop_assert_eq!(text.len(), 56);
            prop_assert_eq!(bits.len(), 186);
            prop_assert_eq!(field(&bits, 184, 4), 2);
            prop_assert_eq!(field(&bits, 4, 32), u64::from(number.shard));
            prop_assert_eq!(field(&bits, 0, 4), 2);
            prop_assert_eq!(field(&bits, 36, 36), number.arrival_s);
            prop_assert_eq!(field(&bits, 80, 64), number.index);
            prop_assert_eq!(field(&bits, 148, 36), number.epoch_s);
        }

        #[test]
        fn foreign_text_is_refused_or_comes_back(text in "[0-9]{54,58}") {
            if let Ok(number) = text.parse::<SequenceNumber>() {
                prop_assert_eq!(number.to_string(), text);
            }
        }
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in ["", "0", "LATEST", "-4", &"9".repeat(56), &"1".repeat(129), &"é".repeat(28)] {
            assert_eq!(text.parse::<SequenceNumber>(), Err(NotASequenceNumber), "{text}");
        }
    }

    /// A number that the service itself handed out, from its documentation of PutRecord: another layout in between,
    /// but version and shard are where this format has them.
    #[test]
    fn the_services_own_number_has_version_and_shard_at_the_same_places() {
        let bits = binary("49543463076548007577105092703039560359975228518395019266");
        assert_eq!(bits.len(), 186);
        assert_eq!(field(&bits, 184, 4), 2);
        assert_eq!(field(&bits, 4, 32), 0);
        assert_eq!(field(&bits, 0, 4), 2);
    }
}
