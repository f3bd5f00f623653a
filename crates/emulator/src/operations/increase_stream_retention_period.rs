//! IncreaseStreamRetentionPeriod, and the check that it shares with its opposite.

use serde::Deserialize;

use super::{ServiceError, target};
use crate::emulator::Shared;
use crate::stream::event::Event;
use crate::wire::validation::Validation;

const RETENTION_HOURS_MIN: i64 = 24;
const RETENTION_HOURS_MAX: i64 = 8760;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Request {
    stream_name: Option<String>,
    #[serde(rename = "StreamARN")]
    stream_arn: Option<String>,
    retention_period_hours: Option<i64>,
}

pub(super) fn call(shared: &Shared, request: &Request) -> Result<(), ServiceError> {
    set_retention(shared, request, |now, new| new >= now, "less")
}

/// Sets the retention, if it goes in the right direction from what it is now.
pub(super) fn set_retention(
    shared: &Shared,
    request: &Request,
    is_right_direction: fn(u32, u32) -> bool,
    wrong_direction: &str,
) -> Result<(), ServiceError> {
    let hours = request.retention_period_hours;
    Validation::default()
        .name("streamName", request.stream_name.as_deref())
        .stream_arn("streamARN", request.stream_arn.as_deref())
        .required("retentionPeriodHours", hours.as_ref())
        .finish()?;
    let valid = hours.filter(|hours| (RETENTION_HOURS_MIN..=RETENTION_HOURS_MAX).contains(hours));
    let hours = valid.and_then(|hours| u32::try_from(hours).ok()).ok_or_else(|| {
        let message = format!("Retention period must be from {RETENTION_HOURS_MIN} to {RETENTION_HOURS_MAX} hours");
        ServiceError::invalid_argument(message)
    })?;
    let stream = target::stream_name(shared, request.stream_name.as_deref(), request.stream_arn.as_deref())?;
    let mut store = shared.store();
    let now = target::active(&store.streams, &stream)?.retention_hours;
    if !is_right_direction(now, hours) {
        return Err(ServiceError::invalid_argument(format!(
            "Requested retention period ({hours} hours) for stream {stream} can not be {wrong_direction} than existing \
             retention period ({now} hours)."
        )));
    }
    store.commit(Event::SetRetention { stream, hours, at_ms: shared.now_ms() })?;
    Ok(())
}
