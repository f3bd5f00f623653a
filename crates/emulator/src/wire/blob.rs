//! Binary members: base64 in JSON, bytes in CBOR. They are kept as base64, which is how they are stored and mostly sent.

use std::fmt;

use base64_simd::STANDARD;
use serde::de::{Deserialize, Deserializer, Error as _, Visitor};

/// Bytes of a request, in base64.
#[derive(Debug)]
pub(crate) struct Blob {
    base64: String,
    len_bytes: usize,
}

impl Blob {
    pub(crate) fn base64(&self) -> &str {
        &self.base64
    }

    /// Length of what the base64 stands for.
    pub(crate) fn len_bytes(&self) -> usize {
        self.len_bytes
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if !deserializer.is_human_readable() {
            return deserializer.deserialize_byte_buf(Bytes);
        }
        let base64 = String::deserialize(deserializer)?;
        let text = base64.as_bytes();
        let len_bytes = STANDARD.check(text).and_then(|()| STANDARD.decoded_length(text));
        let len_bytes = len_bytes.map_err(|_| D::Error::custom("a blob is not base64"))?;
        Ok(Self { base64, len_bytes })
    }
}

struct Bytes;

impl Visitor<'_> for Bytes {
    type Value = Blob;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("bytes")
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Blob, E> {
        Ok(Blob { base64: STANDARD.encode_to_string(bytes), len_bytes: bytes.len() })
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use proptest::prelude::*;

    use super::*;

    fn agrees(text: &str) -> Result<(), TestCaseError> {
        let other = base64::engine::general_purpose::STANDARD.decode(text).ok().map(|bytes| bytes.len());
        let ours = serde_json::from_value::<Blob>(text.into()).ok().map(|blob| blob.len_bytes());
        prop_assert_eq!(ours, other, "{:?}", text);
        Ok(())
    }

    proptest! {
        /// The same as another implementation: also of padding that is missing and of bits that nothing stands for.
        #[test]
        fn what_is_base64_and_how_long_is_agreed_on(text in "[A-Za-z0-9+/]{0,90}={0,3}", broken in "[ -~]{0,12}") {
            agrees(&text)?;
            agrees(&broken)?;
        }

        #[test]
        fn bytes_are_written_alike(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let other = base64::engine::general_purpose::STANDARD.encode(&bytes);
            agrees(&other)?;
            let blob = Bytes.visit_bytes::<serde_json::Error>(&bytes).unwrap();
            prop_assert_eq!(blob.base64(), other);
        }
    }
}
