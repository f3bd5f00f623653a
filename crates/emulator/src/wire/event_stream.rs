//! Messages of `application/vnd.amazon.eventstream`: headers and a payload between lengths and checksums.
//!
//! ```text
//! length of the message, length of the headers, CRC of these two      4 bytes each, big-endian
//! per header: length of the name (1 byte), name, type 7 for a text, length of the text (2 bytes), text
//! payload
//! CRC of everything before
//! ```

use bytes::{BufMut as _, Bytes};
use serde::Serialize;

use super::encoding::Encoding;
use super::payload::Payload;
use super::service_error::ServiceError;

pub(crate) const CONTENT_TYPE: &str = "application/vnd.amazon.eventstream";
/// Lengths and their checksum before the headers, and the checksum behind the payload.
const FRAME_BYTES: usize = 16;
const TYPE_TEXT: u8 = 7;

#[derive(Serialize)]
struct NoMembers {}

/// What every stream begins with: the members of the reply itself, of which there are none.
pub(crate) fn initial_response(encoding: Encoding) -> Result<Payload, ServiceError> {
    event("initial-response", encoding, encoding.encode(&NoMembers {})?.into())
}

/// An event of that type, its payload in that encoding.
pub(crate) fn event(event_type: &str, encoding: Encoding, payload: Payload) -> Result<Payload, ServiceError> {
    let content_type = encoding.content_type();
    message(&[(":event-type", event_type), (":content-type", content_type), (":message-type", "event")], payload)
}

/// The error that ends a stream.
pub(crate) fn exception(error: &ServiceError, encoding: Encoding) -> Result<Payload, ServiceError> {
    let headers =
        [(":exception-type", &*error.code), (":content-type", encoding.content_type()), (":message-type", "exception")];
    message(&headers, encoding.encode(error)?.into())
}

fn message(headers: &[(&str, &str)], payload: Payload) -> Result<Payload, ServiceError> {
    let too_long = |_| ServiceError::internal_failure("a message of the event stream is too long");
    let mut text = Vec::new();
    for (name, value) in headers {
        text.put_u8(u8::try_from(name.len()).map_err(too_long)?);
        text.put_slice(name.as_bytes());
        text.put_u8(TYPE_TEXT);
        text.put_u16(u16::try_from(value.len()).map_err(too_long)?);
        text.put_slice(value.as_bytes());
    }
    let mut head = Vec::with_capacity(FRAME_BYTES + text.len());
    head.put_u32(u32::try_from(FRAME_BYTES + text.len() + payload.len_bytes()).map_err(too_long)?);
    head.put_u32(u32::try_from(text.len()).map_err(too_long)?);
    head.put_u32(crc32fast::hash(&head));
    head.append(&mut text);
    let mut message = Payload::default();
    let mut checksum = crc32fast::Hasher::new();
    for piece in std::iter::once(Bytes::from(head)).chain(payload.into_chunks()) {
        checksum.update(&piece);
        message.push(piece);
    }
    message.push(Bytes::copy_from_slice(&checksum.finalize().to_be_bytes()));
    Ok(message)
}
