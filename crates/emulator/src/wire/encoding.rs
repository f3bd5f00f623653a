//! The two encodings of requests, replies and errors: AWS JSON 1.1 and AWS CBOR 1.1.
//!
//! They say the same with two differences, which [`Blob`](super::blob::Blob) and
//! [`Timestamp`](super::timestamp::Timestamp) know: bytes and moments.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::service_error::ServiceError;

const JSON: &str = "application/x-amz-json-1.1";
const CBOR: &str = "application/x-amz-cbor-1.1";

/// How a request is written, and therefore its reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    Json,
    Cbor,
}

impl Encoding {
    /// The encoding that the value of a `Content-Type` header names.
    pub(crate) fn from_content_type(value: &str) -> Option<Self> {
        match value.split(';').next().unwrap_or_default().trim() {
            JSON | "application/json" => Some(Self::Json),
            CBOR | "application/cbor" => Some(Self::Cbor),
            _ => None,
        }
    }

    pub(crate) const fn content_type(self) -> &'static str {
        match self {
            Self::Json => JSON,
            Self::Cbor => CBOR,
        }
    }

    /// The request that the bytes are.
    pub(crate) fn decode<Q: DeserializeOwned>(self, body: &[u8]) -> Result<Q, ServiceError> {
        let invalid = |error: String| ServiceError::serialization(format!("the request is not valid: {error}"));
        match self {
            Self::Json => {
                // Serde also takes an array for a struct; the service does not.
                if body.trim_ascii_start().first() != Some(&b'{') {
                    return Err(ServiceError::serialization("the request is not a JSON object"));
                }
                serde_json::from_slice(body).map_err(|error| invalid(error.to_string()))
            }
            Self::Cbor => {
                let mut rest = body;
                let request = ciborium::from_reader(&mut rest).map_err(|error| invalid(error.to_string()))?;
                if rest.is_empty() { Ok(request) } else { Err(invalid("bytes follow its end".to_owned())) }
            }
        }
    }

    /// The value as bytes.
    pub(crate) fn encode(self, value: &impl Serialize) -> Result<Vec<u8>, ServiceError> {
        let failed = |error: String| ServiceError::internal_failure(format!("the reply cannot be written: {error}"));
        match self {
            Self::Json => serde_json::to_vec(value).map_err(|error| failed(error.to_string())),
            Self::Cbor => {
                let mut bytes = Vec::new();
                ciborium::into_writer(value, &mut bytes).map_err(|error| failed(error.to_string()))?;
                Ok(bytes)
            }
        }
    }
}
