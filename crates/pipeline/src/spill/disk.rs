//! The disk that windows are spilled to.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use kinesink_core::{Budget, Reservation};
use tokio::task::spawn_blocking;

use super::chunk::Shared;

/// The disk and what may be used of it.
#[derive(Debug, Clone)]
pub(super) struct Disk {
    pub(super) directory: Arc<PathBuf>,
    pub(super) room: Budget,
    pub(super) reading: Budget,
    /// Memory of what says where on disk which partition is.
    pub(super) catalog: Budget,
}

impl Disk {
    pub(super) async fn file(&self) -> Result<Shared, String> {
        let directory = Arc::clone(&self.directory);
        let made = spawn_blocking(move || {
            std::fs::create_dir_all(&*directory)?;
            tempfile::tempfile_in(&*directory)
        });
        let place = self.directory.display();
        match made.await {
            Ok(Ok(file)) => Ok(Arc::new(Mutex::new(file))),
            Ok(Err(error)) => Err(format!("cannot make a file in {place}: {error}")),
            Err(error) => Err(format!("cannot make a file in {place}: {error}")),
        }
    }

    /// Takes memory to say where so much is, if there is any.
    pub(super) fn note(&self, bytes: usize) -> Result<Reservation, String> {
        self.catalog.try_reserve(bytes).ok_or_else(|| {
            let (total, place) = (self.catalog.total_bytes(), self.directory.display());
            format!("it has too many partitions: to find them in {place} takes more than {total} bytes of memory")
        })
    }

    /// Takes room, if there is any.
    pub(super) fn take(&self, bytes: usize) -> Result<Reservation, String> {
        self.room.try_reserve(bytes).ok_or_else(|| {
            let (total, place) = (self.room.total_bytes(), self.directory.display());
            format!("{bytes} bytes more than the {total} that windows may take in {place}")
        })
    }
}
