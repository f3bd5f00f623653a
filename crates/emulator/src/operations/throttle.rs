//! Calls that come too often.

use std::sync::PoisonError;

use super::ServiceError;
use crate::emulator::{ACCOUNT, Shared};
use crate::limits::Scope;
use crate::stream::Stream;

/// Counts a call of the account.
pub(super) fn account(shared: &Shared, operation: &str) -> Result<(), ServiceError> {
    let mut calls = shared.calls.lock().unwrap_or_else(PoisonError::into_inner);
    if calls.try_call(operation, Scope::Account, shared.limits, shared.now_ms()) {
        return Ok(());
    }
    Err(ServiceError::limit_exceeded(format!("Rate exceeded for operation {operation} under account {ACCOUNT}.")))
}

/// Counts a call about one stream.
pub(super) fn stream(shared: &Shared, stream: &mut Stream, name: &str, operation: &str) -> Result<(), ServiceError> {
    if stream.calls.try_call(operation, Scope::Stream, shared.limits, shared.now_ms()) {
        return Ok(());
    }
    Err(ServiceError::limit_exceeded(format!("Rate exceeded for stream {name} under account {ACCOUNT}.")))
}

/// What a dry run is answered that nothing else speaks against. Its calls are counted beside all others.
pub(super) fn dry_run(shared: &Shared, stream: &mut Stream, name: &str) -> ServiceError {
    if stream.calls.try_dry_run(shared.limits, shared.now_ms()) {
        return ServiceError::dry_run("The request would have succeeded, but the DryRun parameter is set.");
    }
    ServiceError::throttling(format!("Rate of dry runs exceeded for stream {name} under account {ACCOUNT}."))
}

/// What the service says when a shard has no throughput left.
pub(super) fn shard_exceeded(name: &str, shard_id: &str) -> String {
    format!("Rate exceeded for shard {shard_id} in stream {name} under account {ACCOUNT}.")
}
