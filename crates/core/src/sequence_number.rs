//! Kinesis sequence numbers, ordered as the big integers they are.

use std::fmt;
use std::str::FromStr;

use crate::Error;

/// Most decimal digits a sequence number has in the Kinesis API (`0|([1-9]\d{0,128})`).
const DIGITS_MAX: usize = 129;
/// 10^129 < 2^448.
pub(crate) const LIMBS: usize = 7;
/// Decimal digits that fit one limb.
const CHUNK_DIGITS: usize = 19;
const CHUNK: u64 = 10_000_000_000_000_000_000;
/// Of the format of the service's numbers.
const VERSION: u64 = 2;

/// A record's sequence number within its shard.
///
/// The service's numbers have 186 bits today and the API allows 129 digits: neither fits a `u128`, and their text does
/// not order as they do. This is a fixed-width unsigned integer, most significant limb first, so that the derived
/// order is the numeric one and no comparison allocates.
///
/// ```
/// use kinesink_core::SequenceNumber;
/// let nine: SequenceNumber = "9".parse()?;
/// let ten: SequenceNumber = "10".parse()?;
/// assert!(nine < ten);
/// assert_eq!(ten.to_string(), "10");
/// # Ok::<(), kinesink_core::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SequenceNumber([u64; LIMBS]);

impl SequenceNumber {
    /// The smallest sequence number.
    pub const ZERO: Self = Self([0; LIMBS]);

    /// The number in decimal, padded with zeros to `width` digits: then text order is numeric order for every number of
    /// at most that many digits. The service's have 56.
    #[must_use]
    pub fn zero_padded(&self, width: usize) -> String {
        format!("{self:0>width$}")
    }

    /// Without the leading zeros, most significant first.
    pub(crate) fn significant_limbs(&self) -> &[u64] {
        let zeros = self.0.iter().take_while(|limb| **limb == 0).count();
        self.0.get(zeros..).unwrap_or_default()
    }

    /// The number in bytes, the highest first, without leading zeros.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|limb| limb.to_be_bytes()).skip_while(|byte| *byte == 0).collect()
    }

    /// The number of such bytes: none if they are too many for one.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut all = [0; 8 * LIMBS];
        let from = all.len().checked_sub(bytes.len())?;
        all.get_mut(from..)?.copy_from_slice(bytes);
        let (limbs, _) = all.as_chunks();
        let mut number = Self::ZERO;
        for (limb, bytes) in number.0.iter_mut().zip(limbs) {
            *limb = u64::from_be_bytes(*bytes);
        }
        Some(number)
    }

    /// The index in its stream of the shard that gave the number out: bits 4 to 35. `None` for numbers of another make.
    #[must_use]
    pub fn shard_index(&self) -> Option<u32> {
        let (_, low) = self.second_format()?;
        u32::try_from((low >> 4) & u64::from(u32::MAX)).ok()
    }

    /// When the record came, in seconds since 1970, as the service writes it into its numbers: bits 36 to 71. It promises
    /// nothing about them: for people to read. `None` for numbers of another make.
    #[must_use]
    pub fn arrival_s(&self) -> Option<u64> {
        let (middle, low) = self.second_format()?;
        let seconds = (middle & 0xff) << 28 | low >> 36;
        (low & 0xf == VERSION && seconds > 0).then_some(seconds)
    }

    /// The lower limbs of a number in the service's second format: 186 bits with version 2 at bit 184, and mostly in the
    /// lowest four again.
    ///
    /// Source: `awslabs/amazon-kinesis-client`, its check of sequence numbers.
    fn second_format(&self) -> Option<(u64, u64)> {
        let [0, 0, 0, 0, high, middle, low] = self.0 else { return None };
        (high >> (184 - 128) == VERSION).then_some((middle, low))
    }

    /// On the `limbs` least significant limbs, which must hold the result.
    fn multiply_add(&mut self, factor: u64, addend: u64, limbs: usize) {
        let mut carry = u128::from(addend);
        for limb in self.0.iter_mut().rev().take(limbs) {
            let wide = u128::from(*limb) * u128::from(factor) + carry;
            *limb = low(wide);
            carry = wide >> 64;
        }
    }

    fn divide(&mut self, divisor: u64) -> u64 {
        let mut remainder = 0_u128;
        for limb in &mut self.0 {
            let wide = (remainder << 64) | u128::from(*limb);
            *limb = low(wide / u128::from(divisor));
            remainder = wide % u128::from(divisor);
        }
        low(remainder)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the low half of a 128-bit product is what is asked for")]
fn low(wide: u128) -> u64 {
    wide as u64
}

/// The value of eight decimal digits: neighbours are added up in pairs, then in fours, then in eights, each time all at
/// once. A record costs seven of these, and digit by digit would be a good part of what reading it costs.
fn eight_digits(text: [u8; 8]) -> u64 {
    let digits = u64::from_le_bytes(text) & 0x0f0f_0f0f_0f0f_0f0f;
    let pairs = (digits * 10 + (digits >> 8)) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs * 100 + (pairs >> 16)) & 0x0000_ffff_0000_ffff;
    (fours * 10_000 + (fours >> 32)) & 0xffff_ffff
}

impl FromStr for SequenceNumber {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let canonical = text == "0" || !text.starts_with('0');
        if text.is_empty() || text.len() > DIGITS_MAX || !canonical || !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(Error::Malformed { what: "sequence number", text: text.into() });
        }
        let mut number = Self::ZERO;
        // A chunk's digits need one limb at most, so the n-th chunk makes a number of n limbs.
        for (limbs, chunk) in (1..).zip(text.as_bytes().chunks(CHUNK_DIGITS)) {
            let (mut value, mut scale) = (0_u64, 1_u64);
            let (eights, rest) = chunk.as_chunks();
            for digits in eights {
                value = value * 100_000_000 + eight_digits(*digits);
                scale = scale.wrapping_mul(100_000_000);
            }
            for digit in rest {
                value = value * 10 + u64::from(digit - b'0');
                scale = scale.wrapping_mul(10);
            }
            number.multiply_add(scale, value, limbs);
        }
        Ok(number)
    }
}

impl fmt::Display for SequenceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = *self;
        let mut chunks = Vec::with_capacity(LIMBS);
        while rest != Self::ZERO {
            chunks.push(rest.divide(CHUNK));
        }
        let mut text = chunks.pop().unwrap_or(0).to_string();
        for chunk in chunks.iter().rev() {
            text.push_str(&format!("{chunk:019}"));
        }
        f.pad(&text)
    }
}

impl fmt::Debug for SequenceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
