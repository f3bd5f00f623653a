//! Faults for tests: calls go wrong in a chosen way, then all is well again; or by chance, from a seed.

pub(crate) mod admin;
mod seeded;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use self::seeded::Plan;
use crate::error::Error;
use crate::operations;

/// Faults that can be waiting at once.
const FAULTS_WAITING_MAX: usize = 1000;
const SUBSCRIBE: &str = "SubscribeToShard";
/// The name by which a fault is meant for an event instead of a call.
const EVENT: &str = "SubscribeToShardEvent";

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
    /// The call has its effect, and is answered with this error all the same.
    ErrorAfter {
        /// The error's type, e.g. `InternalFailure`.
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
    /// The emulator's clock jumps by that many milliseconds, which may be negative; then the call goes on.
    ClockJumpMs(i64),
    /// What the call brings is expired: the iterator of `GetRecords`, the token of a list. A call that brings neither
    /// does not take the fault. Meant for `SubscribeToShard` by name, a subscription ends as if its 5 minutes were over.
    Expire,
    /// `ListShards` or `DescribeStream` answers with the shards of that many milliseconds ago.
    StaleShardsMs(u64),
    /// The connection of a subscription to a shard breaks, of one that is open or else of the next.
    CutSubscription,
}

impl FaultKind {
    /// The only ones that can be named together with the fault, if it is not for all.
    fn only_for(&self) -> Option<&'static [&'static str]> {
        match self {
            Self::Expire => Some(&["GetRecords", "ListShards", "ListStreamConsumers", "ListStreams", SUBSCRIBE]),
            Self::StaleShardsMs(_) => Some(&["DescribeStream", "ListShards"]),
            Self::CutSubscription => Some(&[SUBSCRIBE]),
            _ => None,
        }
    }

    /// Whether the operation itself asks for the fault, where it has something to apply it to.
    fn is_asked_for(&self) -> bool {
        matches!(self, Self::Expire | Self::StaleShardsMs(_) | Self::CutSubscription)
    }
}

/// How a subscription ends before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SubscriptionFault {
    /// As after 5 minutes.
    Expired,
    /// With a broken connection.
    Cut,
}

/// A fault and the calls that it is meant for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// The operation's name, e.g. `GetRecords`; every operation if absent. `SubscribeToShardEvent` is an event of a
    /// subscription.
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

    /// Refuses a fault that no call can have.
    fn check(&self) -> Result<(), Error> {
        let impossible = |reason| Err(Error::ImpossibleFault { fault: Box::new(self.clone()), reason });
        if self.times == 0 {
            return impossible("it is for 0 calls, and can be for 1 or more".to_owned());
        }
        let Some(named) = self.operation.as_deref() else { return Ok(()) };
        if named != EVENT && !operations::NAMES.contains(&named) {
            let names = operations::NAMES.join(", ");
            return impossible(format!("no operation is named {named:?}; it can name {EVENT}, {names}"));
        }
        match self.kind.only_for() {
            Some(only) if !only.contains(&named) => {
                let names = only.join(", ");
                impossible(format!("{named} cannot have one of its kind; it can name {names}, or no operation"))
            }
            _ => Ok(()),
        }
    }

    /// Whether it is meant for calls of this operation, perhaps among others.
    fn is_for(&self, operation: &str) -> bool {
        self.operation.is_none() || self.names(operation)
    }

    fn names(&self, operation: &str) -> bool {
        self.operation.as_deref() == Some(operation)
    }
}

/// The faults that wait for their calls, and those that come by chance. A cheap handle: clones share them.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    state: Arc<Mutex<State>>,
    /// Counts the faults that were added, so that who waits for one looks again.
    added: watch::Sender<u64>,
    /// How far the emulator's clock is ahead of the one that it was given.
    ahead_ms: watch::Sender<i64>,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Fault>,
    plan: Option<Plan>,
}

impl Faults {
    /// Faults by chance: so many of all calls, from 0 to 1, have one. The same seed gives the same calls the same
    /// faults. All kinds occur but jumps of the clock and the end of a subscription that is open.
    #[must_use]
    pub fn seeded(seed: u64, rate: f64) -> Self {
        let faults = Self::default();
        faults.seed(seed, rate);
        faults
    }

    /// From now on, faults by chance as [`seeded`](Self::seeded) makes them. Those that were added come first.
    pub fn seed(&self, seed: u64, rate: f64) {
        self.state().plan = Some(Plan::new(seed, rate));
    }

    /// Adds a fault behind those that wait. Each call takes the first that fits it.
    ///
    /// # Errors
    /// No call can have the fault, or 1,000 wait already. Then it is not added.
    pub fn push(&self, fault: Fault) -> Result<(), Error> {
        fault.check()?;
        let mut state = self.state();
        if state.waiting.len() >= FAULTS_WAITING_MAX {
            return Err(Error::TooManyFaults { max: FAULTS_WAITING_MAX });
        }
        state.waiting.push_back(fault);
        self.added.send_modify(|added| *added = added.wrapping_add(1));
        Ok(())
    }

    /// Forgets all faults, also those by chance. The clock stays where it is.
    pub fn clear(&self) {
        *self.state() = State::default();
    }

    /// The faults that still wait.
    pub fn list(&self) -> Vec<Fault> {
        self.state().waiting.iter().cloned().collect()
    }

    /// Makes the emulator's clock jump, from where it is, by so many milliseconds. They may be negative.
    pub fn jump_clock(&self, by_ms: i64) {
        self.ahead_ms.send_modify(|ahead_ms| *ahead_ms = ahead_ms.saturating_add(by_ms));
    }

    /// What the emulator's clock follows.
    pub(crate) fn ahead_ms(&self) -> watch::Sender<i64> {
        self.ahead_ms.clone()
    }

    /// The fault for this call, if there is one. Not one that the operation has to ask for.
    pub(crate) fn take(&self, operation: &str) -> Option<FaultKind> {
        let mut state = self.state();
        let scripted = state.scripted(|fault| fault.is_for(operation) && !fault.kind.is_asked_for());
        scripted.or_else(|| state.plan.as_mut()?.call(operation))
    }

    /// The fault for this event of a subscription, if there is one that names events. What is meant for the next call is
    /// not for an event, of which nobody knows when it comes.
    pub(crate) fn take_event(&self) -> Option<FaultKind> {
        self.state().scripted(|fault| fault.names(EVENT) && !fault.kind.is_asked_for())
    }

    /// Whether the iterator or token that a call brings is to be treated as expired.
    pub(crate) fn take_expiry(&self, operation: &str) -> bool {
        let mut state = self.state();
        state.scripted(|fault| fault.is_for(operation) && fault.kind == FaultKind::Expire).is_some()
            || state.plan.as_mut().is_some_and(Plan::expires)
    }

    /// How old, in milliseconds, the list of shards is that a call answers.
    pub(crate) fn take_stale_ms(&self, operation: &str) -> Option<u64> {
        let mut state = self.state();
        let is_stale = |fault: &Fault| matches!(fault.kind, FaultKind::StaleShardsMs(_));
        match state.scripted(|fault| fault.is_for(operation) && is_stale(fault)) {
            Some(FaultKind::StaleShardsMs(ms)) => Some(ms),
            _ => state.plan.as_mut()?.stale_ms(),
        }
    }

    /// Takes the fault that ends a subscription which is open, if there is one: a cut, or an expiry that names the
    /// operation, as any other is meant for an iterator or a token.
    pub(crate) fn take_end(&self) -> Option<SubscriptionFault> {
        let ends = |fault: &Fault| match fault.kind {
            FaultKind::Expire => fault.names(SUBSCRIBE),
            FaultKind::CutSubscription => fault.is_for(SUBSCRIBE),
            _ => false,
        };
        let is_expiry = self.state().scripted(ends)? == FaultKind::Expire;
        Some(if is_expiry { SubscriptionFault::Expired } else { SubscriptionFault::Cut })
    }

    /// Shows it when a fault was added. It ends with these faults.
    pub(crate) fn added(&self) -> watch::Receiver<u64> {
        self.added.subscribe()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Takes the first fault that fits.
    fn scripted(&mut self, fits: impl Fn(&Fault) -> bool) -> Option<FaultKind> {
        self.waiting.retain(|fault| fault.times > 0);
        let position = self.waiting.iter().position(fits)?;
        let fault = self.waiting.get_mut(position)?;
        fault.times -= 1;
        let kind = fault.kind.clone();
        if fault.times == 0 {
            self.waiting.remove(position);
        }
        Some(kind)
    }
}
