//! The emulator as a value: built, served, called.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::{Clock, JumpingClock, SystemClock};
use crate::error::Error;
use crate::faults::Faults;
use crate::limits::{Calls, Limits};
use crate::log::Log;
use crate::stream::Streams;
use crate::stream::event::Event;
use crate::stream::transition::Change;
use crate::wire::service_error::ServiceError;

const LOG_FILE: &str = "kinesis.log";
/// The account in ARNs and messages.
pub(crate) const ACCOUNT: &str = "000000000000";

/// A local Kinesis. Clones are handles on the same streams.
#[derive(Debug, Clone)]
pub struct Emulator(pub(crate) Arc<Shared>);

/// Settings of an [`Emulator`].
#[derive(Debug)]
#[must_use]
pub struct Builder {
    clock: Arc<dyn Clock>,
    faults: Faults,
    limits: Limits,
    transitions: Duration,
    directory: Option<PathBuf>,
    region: String,
}

/// What all requests share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) faults: Faults,
    pub(crate) limits: Limits,
    pub(crate) region: String,
    /// How long a stream or a consumer is being created, updated or deleted.
    pub(crate) transitions_ms: i64,
    /// Calls of the account in the last second.
    pub(crate) calls: Mutex<Calls>,
    store: Mutex<Store>,
}

/// The streams, and the log that outlives them.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) streams: Streams,
    log: Option<Log>,
}

impl Store {
    /// Makes the event durable, then true. After an error it is neither.
    pub(crate) fn commit(&mut self, event: Event) -> Result<(), ServiceError> {
        if let Some(log) = &mut self.log {
            log.append(&event).map_err(|error| {
                tracing::error!(%error, "cannot write the log of the local Kinesis");
                ServiceError::internal_failure(format!("kinesink local cannot write its log: {error}"))
            })?;
        }
        self.streams.apply(event).map_err(|error| {
            ServiceError::internal_failure(format!("kinesink local has an error: a change named {error}"))
        })
    }

    /// Does what was begun and is due. A log that cannot be written leaves it for the next access.
    fn settle(&mut self, now_ms: i64) {
        while let Some(event) = self.streams.due(now_ms) {
            if let Err(error) = self.commit(event) {
                tracing::warn!(error = error.message, "a change that is due waits");
                return;
            }
        }
    }
}

impl Shared {
    /// Exclusive use of the streams, in which all is done that is due. Nothing waits while it holds this, except for the
    /// log's file.
    pub(crate) fn store(&self) -> MutexGuard<'_, Store> {
        let mut store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        store.settle(self.now_ms());
        store
    }

    /// Begins the change of a stream; does it at once if changes take no time.
    pub(crate) fn begin(&self, store: &mut Store, stream: String, change: Change) -> Result<(), ServiceError> {
        let now_ms = self.now_ms();
        match self.transitions_ms {
            0 => store.commit(Event::done(change, stream, now_ms)),
            ms => store.commit(Event::Begin { stream, change, done_at_ms: now_ms.saturating_add(ms) }),
        }
    }

    pub(crate) fn now_ms(&self) -> i64 {
        self.clock.now().as_millisecond()
    }
}

impl Builder {
    /// The clock that everything reads: arrival, retention, expiry, lag. Without it, the machine's.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Faults that the caller keeps a handle on. See also [`Emulator::faults`].
    pub fn faults(mut self, faults: Faults) -> Self {
        self.faults = faults;
        self
    }

    /// The limits that hold; all of the service's if not given.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// How long a stream or a consumer is `CREATING`, `UPDATING` or `DELETING`, by the clock. If not given, no time: a change is done
    /// before its request is answered.
    pub fn transitions(mut self, time: Duration) -> Self {
        self.transitions = time;
        self
    }

    /// Keeps the state in this directory, which is made if absent. Without it the state ends with the emulator.
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// The region in the streams' ARNs; `us-east-1` if not given.
    pub fn region(mut self, region: impl Into<String>) -> Self {
        self.region = region.into();
        self
    }

    /// Builds the emulator and restores its state. Reads and writes files, so it may take a while for a large state.
    ///
    /// # Errors
    /// The directory cannot be used, is used by another process, is damaged, or was written by a later version.
    pub fn build(self) -> Result<Emulator, Error> {
        let mut streams = Streams::default();
        let log = match self.directory {
            Some(directory) => Some(Log::open(&directory, LOG_FILE, &mut streams)?),
            None => None,
        };
        let clock = JumpingClock::new(self.clock, self.faults.ahead_ms());
        streams.trim(clock.now().as_millisecond());
        Ok(Emulator(Arc::new(Shared {
            clock: Arc::new(clock),
            faults: self.faults,
            limits: self.limits,
            region: self.region,
            transitions_ms: i64::try_from(self.transitions.as_millis()).unwrap_or(i64::MAX),
            calls: Mutex::default(),
            store: Mutex::new(Store { streams, log }),
        })))
    }
}

impl Emulator {
    /// Starts with the machine's clock, all limits, changes that take no time, no faults, nothing kept.
    pub fn builder() -> Builder {
        Builder {
            clock: Arc::new(SystemClock),
            faults: Faults::default(),
            limits: Limits::default(),
            transitions: Duration::ZERO,
            directory: None,
            region: "us-east-1".to_owned(),
        }
    }

    /// The faults that wait for their calls.
    pub fn faults(&self) -> &Faults {
        &self.0.faults
    }
}
