//! UpdateMaxRecordSize: how large a record of the stream may be.

use std::ops::RangeInclusive;

use serde::Deserialize;

use super::{ServiceError, target};
use crate::emulator::Shared;
use crate::stream::RECORD_KIB_DEFAULT;
use crate::stream::event::{Event, Setting};
use crate::wire::validation::Validation;

/// What can be set, in KiB.
pub(super) const RECORD_KIB: RangeInclusive<i64> = RECORD_KIB_DEFAULT as i64..=10_240;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Request {
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    #[serde(rename = "MaxRecordSizeInKiB")]
    max_record_size_in_kib: Option<i64>,
}

pub(super) fn call(shared: &Shared, request: &Request) -> Result<(), ServiceError> {
    let kib = request.max_record_size_in_kib;
    Validation::default()
        .stream_arn("streamARN", request.stream_arn.as_deref())
        .required("maxRecordSizeInKiB", kib.as_ref())
        .number("maxRecordSizeInKiB", kib, RECORD_KIB)
        .finish()?;
    let kib = kib.and_then(|kib| u32::try_from(kib).ok()).unwrap_or(RECORD_KIB_DEFAULT);
    let stream = target::stream_name(shared, None, request.stream_arn.as_deref())?;
    let mut store = shared.store();
    target::active(&store.streams, &stream)?;
    store.commit(Event::Set { stream, setting: Setting::MaxRecordSize { kib } })
}
