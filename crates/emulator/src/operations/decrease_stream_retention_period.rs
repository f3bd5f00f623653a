//! DecreaseStreamRetentionPeriod. What is then too old is gone at once.

use super::ServiceError;
use super::increase_stream_retention_period::{Request, set_retention};
use crate::emulator::Shared;

pub(super) fn call(shared: &Shared, request: &Request) -> Result<(), ServiceError> {
    set_retention(shared, request, |now, new| new <= now, "greater")
}
