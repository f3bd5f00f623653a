//! Binary members: base64 in JSON, bytes in CBOR. They are kept as base64, which is how they are stored and mostly sent.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
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
        let len_bytes = STANDARD.decode(&base64).map_err(|_| D::Error::custom("a blob is not base64"))?.len();
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
        Ok(Blob { base64: STANDARD.encode(bytes), len_bytes: bytes.len() })
    }
}
