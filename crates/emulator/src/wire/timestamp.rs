//! Moments. In JSON they are seconds since 1970, with a fraction; in CBOR, milliseconds with the tag of a time.

use ciborium::tag::Required;
use serde::de::{Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};

const CBOR_TAG_TIME: u64 = 1;

/// A moment, in milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Timestamp(pub(crate) i64);

impl Timestamp {
    /// As JSON writes it.
    #[expect(clippy::cast_precision_loss, reason = "milliseconds of this era need 41 of the 53 bits")]
    pub(crate) fn seconds(self) -> f64 {
        self.0 as f64 / 1000.0
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            self.seconds().serialize(serializer)
        } else {
            Required::<i64, CBOR_TAG_TIME>(self.0).serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    #[expect(clippy::cast_possible_truncation, reason = "the cast saturates, and no stream is that old")]
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            f64::deserialize(deserializer).map(|seconds| Self((seconds * 1000.0).round() as i64))
        } else {
            // The decoder steps over the tag.
            i64::deserialize(deserializer).map(Self)
        }
    }
}
