//! Faults for tests: the next calls of an operation fail in a chosen way, then all is well again.

pub(crate) mod admin;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// Faults that can be waiting at once.
const FAULTS_WAITING_MAX: usize = 1000;

/// What happens to a call instead of, or after, its effect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FaultKind {
    /// Nothing happens, and the call is answered with this error.
    Error {
        /// The error's type, e.g. `ProvisionedThroughputExceededException`; `InternalFailure` has status 500.
        code: String,
        /// The message for people.
        #[serde(default)]
        message: String,
    },
    /// The call has its effect, and the connection breaks before its reply's body.
    Cut,
    /// The call has its effect, and the connection breaks in the middle of its reply's body.
    Truncate,
    /// The call waits that many milliseconds, then goes on.
    DelayMs(u64),
}

/// A fault and the calls that it is meant for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// The operation's name, e.g. `GetRecords`; every operation if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    operation: Option<String>,
    /// How many calls are left.
    #[serde(default = "once")]
    times: u32,
    kind: FaultKind,
}

fn once() -> u32 {
    1
}

impl Fault {
    /// The next call of the operation fails like this.
    pub fn on(operation: impl Into<String>, kind: FaultKind) -> Self {
        Self { operation: Some(operation.into()), times: 1, kind }
    }

    /// The next call, of whatever operation, fails like this.
    pub fn on_any(kind: FaultKind) -> Self {
        Self { operation: None, times: 1, kind }
    }

    /// The next so many calls fail.
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.times = times;
        self
    }
}

/// The faults that wait for their calls. A cheap handle: clones share them.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    waiting: Arc<Mutex<VecDeque<Fault>>>,
    /// How far the emulator's clock is ahead of the one that it was given.
    ahead_ms: watch::Sender<i64>,
}

impl Faults {
    /// Adds a fault behind those that wait. Each call takes the first that fits it. Beyond 1,000 waiting faults a new
    /// one is refused: the answer is false.
    pub fn push(&self, fault: Fault) -> bool {
        let mut waiting = self.waiting();
        let room = waiting.len() < FAULTS_WAITING_MAX;
        if room {
            waiting.push_back(fault);
        }
        room
    }

    /// Forgets all faults.
    pub fn clear(&self) {
        self.waiting().clear();
    }

    /// The faults that still wait.
    pub fn list(&self) -> Vec<Fault> {
        self.waiting().iter().cloned().collect()
    }

    /// What the emulator's clock follows.
    pub(crate) fn ahead_ms(&self) -> watch::Sender<i64> {
        self.ahead_ms.clone()
    }

    /// The fault for this call, if one waits for it.
    pub(crate) fn take(&self, operation: &str) -> Option<FaultKind> {
        let mut waiting = self.waiting();
        waiting.retain(|fault| fault.times > 0);
        let fits = |fault: &Fault| fault.operation.as_deref().is_none_or(|named| named == operation);
        let position = waiting.iter().position(fits)?;
        let fault = waiting.get_mut(position)?;
        fault.times -= 1;
        let kind = fault.kind.clone();
        if fault.times == 0 {
            waiting.remove(position);
        }
        Some(kind)
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Fault>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
