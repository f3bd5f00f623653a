//! Positions as text of a fixed width, which orders as they do.

use kinesink_core::Position;

/// Kinesis numbers have 186 bits, so 56 digits are enough for text to be in stream order.
const SEQUENCE_DIGITS: usize = 56;
/// A Kinesis record of 10 MiB cannot hold 10^8 user records.
const SUB_SEQUENCE_DIGITS: usize = 8;
/// Of any position that the service gives.
pub(crate) const POSITION_BYTES: usize = SEQUENCE_DIGITS + 1 + SUB_SEQUENCE_DIGITS;

pub(crate) fn position_text(position: Position) -> String {
    let sequence = position.sequence.zero_padded(SEQUENCE_DIGITS);
    format!("{sequence}.{:0SUB_SEQUENCE_DIGITS$}", position.sub_sequence)
}
