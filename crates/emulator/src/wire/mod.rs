//! How requests and replies are written: encodings, errors, tokens, and the two types whose form depends on the encoding,
//! bytes and moments. Operations build on it; it knows none of them.

pub(crate) mod blob;
pub(crate) mod encoding;
pub(crate) mod event_stream;
pub(crate) mod payload;
pub(crate) mod records;
pub(crate) mod service_error;
pub(crate) mod signature;
pub(crate) mod stored_record;
pub(crate) mod timestamp;
pub(crate) mod token;
pub(crate) mod validation;
