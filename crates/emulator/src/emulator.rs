//! The emulator as a value: built, served, called.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinError;

use crate::clock::{Clock, JumpingClock, SystemClock};
use crate::error::Error;
use crate::faults::Faults;
use crate::limits::{Calls, Limits};
use crate::log::Log;
use crate::stream::Streams;
use crate::stream::event::Event;
use crate::stream::transition::Change;
use crate::wire::service_error::ServiceError;

/// How long things may stay, by the clock, that retention no longer keeps and nobody asks for.
const SWEEP_MS: i64 = 60_000;
/// By how much the log may grow before it is looked at.
const SWEEP_BYTES: u64 = 16 * 1024 * 1024;
/// How long it goes without saying that the log still cannot be written.
const SAY_AGAIN_MS: i64 = 60_000;
/// Calls that wait for the log's file at once; others wait for their turn.
const FILE_CALLS_MAX: u32 = 8;
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
    /// Turns of those who wait for the log's file; none without one.
    file_calls: Option<Arc<Semaphore>>,
}

/// The streams, and the log that outlives them.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) streams: Streams,
    log: Option<Log>,
    /// When it was last locked.
    now_ms: i64,
    swept_at_ms: i64,
    swept_at_bytes: u64,
    /// When it was last said that the log cannot be written, if it cannot.
    said_unwritten_at_ms: Option<i64>,
    /// Where the log ended before the event that is being applied.
    applied_from_bytes: Option<u64>,
    /// The streams are no longer what the log says, so that nothing can be built on them.
    is_out_of_step: bool,
}

impl Store {
    fn new(streams: Streams, log: Option<Log>) -> Self {
        Self {
            streams,
            log,
            now_ms: 0,
            swept_at_ms: 0,
            swept_at_bytes: 0,
            said_unwritten_at_ms: None,
            applied_from_bytes: None,
            is_out_of_step: false,
        }
    }

    /// Makes the event durable, then true. After an error it is neither.
    pub(crate) fn commit(&mut self, event: Event) -> Result<(), ServiceError> {
        if self.is_out_of_step {
            return Err(ServiceError::internal_failure("kinesink local stopped at a change that failed; restart it"));
        }
        let before_bytes = self.log.as_ref().map_or(0, Log::len_bytes);
        if let Some(appended) = self.log.as_mut().map(|log| log.append(&event)) {
            self.say_whether_written(&appended);
            appended.map_err(|error| {
                ServiceError::internal_failure(format!("kinesink local cannot write its log: {error}"))
            })?;
        }
        self.applied_from_bytes = Some(before_bytes);
        let applied = self.streams.apply(event);
        if let Err(error) = &applied {
            self.stop_changes();
            tracing::error!(%error, "a change does not fit the state of the local Kinesis: restart it");
        }
        self.applied_from_bytes = None;
        applied.map_err(|error| {
            ServiceError::internal_failure(format!("kinesink local has an error: a change named {error}"))
        })
    }

    /// Takes no more changes: the last one was not done to its end. It is in no log, as no start could do it either, and
    /// nothing follows it, as that would build on what no start would have.
    fn stop_changes(&mut self) {
        self.is_out_of_step = true;
        if let (Some(log), Some(before_bytes)) = (&mut self.log, self.applied_from_bytes.take()) {
            log.end_at(before_bytes);
        }
    }

    /// Says that the log cannot be written, once and then now and then, and that it can be again.
    fn say_whether_written(&mut self, appended: &io::Result<()>) {
        let is_said = self
            .said_unwritten_at_ms
            .is_some_and(|at_ms| (0..SAY_AGAIN_MS).contains(&self.now_ms.saturating_sub(at_ms)));
        match appended {
            Err(error) if !is_said => {
                self.said_unwritten_at_ms = Some(self.now_ms);
                tracing::error!(%error, "cannot write the log of the local Kinesis: changes are refused until that works");
            }
            Err(_) => {}
            Ok(()) if self.said_unwritten_at_ms.take().is_some() => {
                tracing::info!("the log of the local Kinesis can be written again");
            }
            Ok(()) => {}
        }
    }

    /// Does what was begun and is due. A log that cannot be written leaves it for the next access.
    fn settle(&mut self, now_ms: i64) {
        self.now_ms = now_ms;
        while let Some(event) = self.streams.due(now_ms) {
            if self.commit(event).is_err() {
                break;
            }
        }
        let log_bytes = self.log.as_ref().map_or(0, Log::len_bytes);
        let is_swept = (0..SWEEP_MS).contains(&now_ms.saturating_sub(self.swept_at_ms));
        if self.is_out_of_step || is_swept && log_bytes < self.swept_at_bytes.saturating_add(SWEEP_BYTES) {
            return;
        }
        if let Err(error) = self.sweep(now_ms) {
            warn_not_shortened(&error);
        }
    }

    /// Forgets all that retention no longer keeps, in memory and in the log.
    fn sweep(&mut self, now_ms: i64) -> Result<(), Error> {
        self.streams.trim(now_ms);
        let shortened = self.log.as_mut().map_or(Ok(()), |log| log.shorten(&self.streams));
        self.swept_at_ms = now_ms;
        self.swept_at_bytes = self.log.as_ref().map_or(0, Log::len_bytes);
        shortened
    }
}

fn warn_not_shortened(error: &Error) {
    tracing::warn!(error = error as &dyn std::error::Error, "the log keeps what retention has removed");
}

impl Shared {
    /// Exclusive use of the streams, in which all is done that is due. Nothing waits while it holds this, except for the
    /// log's file.
    pub(crate) fn store(&self) -> MutexGuard<'_, Store> {
        let mut store = self.store.lock().unwrap_or_else(|poisoned| {
            self.store.clear_poison();
            let mut store = poisoned.into_inner();
            store.stop_changes();
            tracing::error!("a call to the local Kinesis panicked while it had the streams: restart it");
            store
        });
        store.settle(self.now_ms());
        store
    }

    /// Does the work. If it may wait for the log's file, it has a thread for that, and no worker of the runtime waits.
    ///
    /// # Cancel safety
    /// Work that has begun is done, although nobody hears of it.
    pub(crate) async fn run<T, W>(self: &Arc<Self>, work: W) -> T
    where
        T: Send + 'static,
        W: FnOnce(&Arc<Self>) -> T + Send + 'static,
    {
        let Some(turns) = &self.file_calls else { return work(self) };
        let turn = Arc::clone(turns).acquire_owned().await;
        let shared = Arc::clone(self);
        // The turn ends with the result, as that may hold what is shared: nobody may be there to take it.
        let done = tokio::task::spawn_blocking(move || {
            let done = work(&shared);
            drop(shared);
            (done, turn)
        });
        match done.await.map_err(JoinError::try_into_panic) {
            Ok((done, _turn)) => done,
            Err(Ok(panic)) => std::panic::resume_unwind(panic),
            // The runtime ends, and this with it.
            Err(Err(_cancelled)) => std::future::pending().await,
        }
    }

    /// Waits until nothing uses the log's file, also not for a request that nobody waits for any longer.
    pub(crate) async fn at_rest(&self) {
        if let Some(turns) = &self.file_calls {
            drop(turns.acquire_many(FILE_CALLS_MAX).await);
        }
    }

    /// Begins the change of a stream; does it at once if changes take no time.
    pub(crate) fn begin(&self, store: &mut Store, stream: String, change: Change) -> Result<(), ServiceError> {
        let now_ms = self.now_ms();
        match self.transitions_ms {
            0 => store.commit(Event::done(change, stream, now_ms)),
            ms => store.commit(Event::Begin { stream, change, done_at_ms: now_ms.saturating_add(ms) }),
        }
    }

    /// From now on nothing can be written to the log.
    #[cfg(test)]
    pub(crate) fn fill_the_disk(&self, directory: &std::path::Path) {
        self.store().log = Some(Log::unwritable(directory));
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
            Some(directory) => Some(Log::open(&directory, &mut streams)?),
            None => None,
        };
        let clock = JumpingClock::new(self.clock, self.faults.ahead_ms());
        let file_calls = log.is_some().then(|| Arc::new(Semaphore::new(FILE_CALLS_MAX as usize)));
        let mut store = Store::new(streams, log);
        if let Err(error) = store.sweep(clock.now().as_millisecond()) {
            // A log of this format is as good as before.
            if store.log.as_ref().is_some_and(Log::is_old) {
                return Err(error);
            }
            warn_not_shortened(&error);
        }
        Ok(Emulator(Arc::new(Shared {
            clock: Arc::new(clock),
            faults: self.faults,
            limits: self.limits,
            region: self.region,
            transitions_ms: i64::try_from(self.transitions.as_millis()).unwrap_or(i64::MAX),
            calls: Mutex::default(),
            store: Mutex::new(store),
            file_calls,
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

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn stored_in(directory: &std::path::Path) -> Emulator {
        Emulator::builder().directory(directory).build().unwrap()
    }

    #[test]
    fn a_change_that_does_not_fit_is_in_no_log_and_nothing_follows_it() {
        let directory = tempfile::tempdir().unwrap();
        let emulator = stored_in(directory.path());
        let bytes = || std::fs::read(directory.path().join("kinesis.log")).unwrap();
        let before = bytes();
        let commit = |event| emulator.0.store().commit(event).unwrap_err().message;
        assert!(commit(Event::Activate { stream: "none".to_owned() }).contains("a stream that does not exist"));
        assert_eq!(bytes(), before);
        // What the first has changed before it failed is in memory only, and so would be what the next builds on.
        assert!(commit(Event::RestoreCount { last_number: 7, epoch_s_min: 0 }).contains("restart"));
        drop(emulator);
        stored_in(directory.path());
    }

    #[test]
    fn a_panic_while_a_change_was_applied_left_a_log_that_no_start_could_read() {
        let directory = tempfile::tempdir().unwrap();
        let emulator = stored_in(directory.path());
        let bytes = || std::fs::read(directory.path().join("kinesis.log")).unwrap();
        let before = bytes();
        let shared = Arc::clone(&emulator.0);
        let panicked = std::thread::spawn(move || {
            let mut store = shared.store();
            let log = store.log.as_mut().unwrap();
            let before_bytes = log.len_bytes();
            log.append(&Event::Activate { stream: "none".to_owned() }).unwrap();
            store.applied_from_bytes = Some(before_bytes);
            panic!("as if it were applied");
        });
        assert!(panicked.join().is_err());
        let refused = || emulator.0.store().commit(Event::RestoreCount { last_number: 7, epoch_s_min: 0 });
        for _ in 0..2 {
            assert!(refused().unwrap_err().message.contains("restart"));
        }
        assert_eq!(bytes(), before);
        drop(emulator);
        stored_in(directory.path());
    }

    /// How often something was said, by level.
    #[derive(Debug, Clone, Default)]
    struct Said(Arc<Mutex<Vec<tracing::Level>>>);

    impl tracing::Subscriber for Said {
        fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
            metadata.is_event() && metadata.target().starts_with("kinesink_emulator")
        }

        fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
            tracing::span::Id::from_u64(1)
        }

        fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

        fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

        fn event(&self, event: &tracing::Event<'_>) {
            self.0.lock().unwrap().push(*event.metadata().level());
        }

        fn enter(&self, _: &tracing::span::Id) {}

        fn exit(&self, _: &tracing::span::Id) {}
    }

    #[test]
    fn a_full_disk_filled_the_programs_log_too() {
        use tracing::Level;
        let directory = tempfile::tempdir().unwrap();
        let clock = Arc::new(crate::clock::ManualClock::new(jiff::Timestamp::UNIX_EPOCH));
        let builder = Emulator::builder().clock(Arc::<crate::clock::ManualClock>::clone(&clock));
        let emulator = builder.directory(directory.path()).build().unwrap();
        let said = Said::default();
        let _until_the_end = tracing::subscriber::set_default(said.clone());
        let written = || {
            let commit = |number| {
                let (last_number, epoch_s_min) = (number, 0);
                emulator.0.store().commit(Event::RestoreCount { last_number, epoch_s_min }).is_ok()
            };
            (0..100).filter(|number| commit(*number)).count()
        };
        let log = emulator.0.store().log.take();
        emulator.0.fill_the_disk(tempfile::tempdir().unwrap().path());
        assert_eq!((written(), std::mem::take(&mut *said.0.lock().unwrap())), (0, vec![Level::ERROR]));
        clock.advance(Duration::from_millis(59_999));
        assert_eq!((written(), std::mem::take(&mut *said.0.lock().unwrap())), (0, vec![]));
        clock.advance(Duration::from_millis(1));
        assert_eq!((written(), std::mem::take(&mut *said.0.lock().unwrap())), (0, vec![Level::ERROR]));
        emulator.0.store().log = log;
        assert_eq!((written(), std::mem::take(&mut *said.0.lock().unwrap())), (100, vec![Level::INFO]));
    }

    /// Like a subscription that nobody reads any longer: what holds the streams, and is dropped as the last of a call.
    struct Unread {
        _shared: Arc<Shared>,
        is_rest: mpsc::Receiver<()>,
    }

    impl Drop for Unread {
        fn drop(&mut self) {
            // Whoever does not wait for this has time to say so.
            let _told = self.is_rest.recv_timeout(Duration::from_millis(100));
        }
    }

    #[tokio::test]
    async fn at_rest_nothing_is_left_of_a_call_that_nobody_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let emulator = stored_in(directory.path());
        let (go_on, told) = mpsc::channel::<()>();
        let (say_rest, is_rest) = mpsc::channel();
        let unread = Unread { _shared: Arc::clone(&emulator.0), is_rest };
        let mut call = Box::pin(emulator.0.run(move |_| {
            told.recv().unwrap();
            unread
        }));
        assert!(futures::poll!(call.as_mut()).is_pending());
        drop(call);
        go_on.send(()).unwrap();
        emulator.0.at_rest().await;
        assert!(say_rest.send(()).is_err(), "nobody is left to tell");
    }
}
