//! DecreaseStreamRetentionPeriod. What is then too old is gone at once.

use super::Reply;
use super::increase_stream_retention_period::{Request, set_retention};
use crate::emulator::Shared;

pub(super) fn call(shared: &Shared, request: &Request) -> Reply {
    set_retention(shared, request, |now, new| new <= now, "greater")
}
