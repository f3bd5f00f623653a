//! Names of objects.

use kinesink_core::{Batch, Position};
use object_store::path::Path;
use uuid::Uuid;

use super::config::{Compression, Format, Naming};

/// Kinesis numbers have 186 bits, so 56 digits are enough for listings to be in stream order.
const SEQUENCE_DIGITS: usize = 56;
/// A Kinesis record of 10 MiB cannot hold 10^8 user records.
const SUB_SEQUENCE_DIGITS: usize = 8;

/// The key of the object that holds the batch's window: it depends on the window alone, not on the items still to be
/// sent or on the attempt, unless names are to be unique.
pub(super) fn object_key<U>(
    prefix: &Path,
    batch: &Batch<'_, U>,
    naming: Naming,
    format: Format,
    compression: Compression,
) -> Path {
    let mut name = format!("{}-{}", padded(batch.first), padded(batch.last));
    if naming == Naming::Unique {
        name.push_str(&format!("-{}", Uuid::new_v4().simple()));
    }
    name.push_str(match format {
        Format::Ndjson => ".ndjson",
        Format::Raw => ".raw",
    });
    name.push_str(match compression {
        Compression::None => "",
        Compression::Gzip => ".gz",
    });
    prefix.clone().join(batch.stream.as_str()).join(batch.shard.as_str()).join(name)
}

fn padded(position: Position) -> String {
    let sequence = position.sequence.zero_padded(SEQUENCE_DIGITS);
    format!("{sequence}.{:0SUB_SEQUENCE_DIGITS$}", position.sub_sequence)
}
