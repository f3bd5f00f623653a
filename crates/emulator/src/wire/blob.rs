//! Binary members. In JSON they are base64, which is checked, and kept as it came: that is how it will be sent again.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Deserialize, Deserializer, Error as _};

/// Bytes of a request, still in base64.
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
        let base64 = String::deserialize(deserializer)?;
        let len_bytes = STANDARD.decode(&base64).map_err(|_| D::Error::custom("a blob is not base64"))?.len();
        Ok(Self { base64, len_bytes })
    }
}
