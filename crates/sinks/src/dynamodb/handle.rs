//! One of the tables that a sink writes to.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use kinesink_core::{Class, Failure};
use tokio::time::Instant;
use tracing::debug;

use super::config::DynamoDbConfig;
use super::pace::share;
use super::table::{self, Table};
use super::traffic::Traffic;

/// How long the capacity of a table is taken for what it was.
const CAPACITY_KNOWN_FOR: Duration = Duration::from_secs(300);

/// A table as it is known, and what is on its way there.
#[derive(Debug)]
pub(super) struct TableHandle {
    pub(super) config: Arc<DynamoDbConfig>,
    pub(super) traffic: Arc<Traffic>,
    /// Described when it is first needed, and again after it was found changed.
    known: Mutex<Option<(Arc<Table>, Instant)>>,
    /// Its key, as it was first described. By another, all records would be refused that are to come.
    key: OnceLock<String>,
    /// It was made here, and is not ready yet.
    is_made: AtomicBool,
}

impl TableHandle {
    pub(super) fn new(config: Arc<DynamoDbConfig>) -> Self {
        let traffic = config.traffic.to(&config.table, config.requests_max);
        Self { config, traffic, known: Mutex::new(None), key: OnceLock::new(), is_made: AtomicBool::new(false) }
    }

    /// Makes it if it is missing, and says whether it did.
    pub(super) async fn create(&self) -> Result<bool, Failure> {
        if table::request(&self.config).await? {
            self.is_made.store(true, Ordering::Relaxed);
        }
        table::active(&self.config).await?;
        if let Some(ttl) = self.config.ttl.as_ref().filter(|_| self.is_made.load(Ordering::Relaxed)) {
            table::expire(&self.config, ttl).await?;
        }
        Ok(self.is_made.swap(false, Ordering::Relaxed))
    }

    /// The table, as it is described. Its capacity is looked up again now and then.
    pub(super) async fn table(&self) -> Result<Arc<Table>, Failure> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // Its capacity may have been changed since.
        let is_fresh = |at: &Instant| self.config.max_write_fraction.is_none() || at.elapsed() < CAPACITY_KNOWN_FOR;
        let described = match known {
            Some((table, at)) if is_fresh(&at) => return Ok(table),
            Some((table, _)) => match self.describe().await {
                Ok(table) => Arc::new(table),
                Err(failure) if failure.class == Class::Transient => {
                    debug!(%failure, "the table's capacity is taken for what it was");
                    table
                }
                Err(failure) => return Err(failure),
            },
            None => Arc::new(self.describe().await?),
        };
        self.traffic.pace.set(share(&self.config, described.capacity.units()));
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some((Arc::clone(&described), Instant::now()));
        Ok(described)
    }

    async fn describe(&self) -> Result<Table, Failure> {
        let table = Table::describe(&self.config, self.key.get().map(String::as_str)).await?;
        self.key.get_or_init(|| table.shown_key());
        Ok(table)
    }

    /// It was found changed.
    pub(super) fn forget(&self) {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
