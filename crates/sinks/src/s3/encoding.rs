//! What objects take while they are made.

use std::path::PathBuf;

use kinesink_core::{Budget, Reservation};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::blocks::Overflow;
use crate::rows::Rows;

const BYTES_MAX: usize = 16 * 1024 * 1024;
const ENCODERS_MAX: usize = 4;

/// What objects may take while they are made. Sinks that share it, such as those of a window's earlier settings and of today's, take
/// together no more than each may alone.
#[derive(Debug)]
pub struct Encoding {
    memory: Budget,
    /// For the objects of spilled windows: an encoder waits on a thread for what other threads have to read.
    encoders: Semaphore,
    /// Where those of spilled windows go on, and the room there.
    disk: Option<(PathBuf, Budget)>,
}

/// The share of one object, until it is durable.
#[derive(Debug)]
pub(super) struct Share<'a> {
    /// Where it goes on that memory may not take.
    pub(super) overflow: Option<Overflow>,
    encoder: Option<SemaphorePermit<'a>>,
    _memory: Reservation,
    _room: Reservation,
}

impl Default for Encoding {
    /// 16 MiB and four encoders, without a disk.
    fn default() -> Self {
        Self::new(BYTES_MAX, ENCODERS_MAX, None)
    }
}

impl Encoding {
    /// Encoded copies of windows take at most `bytes_max` of memory at a time; a larger object is encoded alone. What is
    /// encoded of windows that memory does not hold goes on, beyond that memory, in that directory, where it may take so many
    /// bytes; without one, memory takes it.
    ///
    /// Of their objects `encoders_max` are encoded at a time, one at least. Each waits on a thread that may block for what other such
    /// threads read: a runtime has to have more of them than all its sinks together.
    #[must_use]
    pub fn new(bytes_max: usize, encoders_max: usize, disk: Option<(PathBuf, usize)>) -> Self {
        let disk = disk.map(|(directory, bytes_max)| (directory, Budget::new(bytes_max)));
        Self { memory: Budget::new(bytes_max), encoders: Semaphore::new(encoders_max.max(1)), disk }
    }

    /// Waits until an object of these rows may be made. One that is larger than all of the room on disk is made alone.
    pub(super) async fn share(&self, rows: &Rows<'_>) -> Share<'_> {
        let bytes = rows.bytes();
        let memory = self.memory.reserve(bytes).await;
        let (overflow, room) = match (&self.disk, rows) {
            (Some((directory, room)), Rows::Spilled(_)) => {
                let held_bytes_max = self.memory.total_bytes();
                let overflow = Overflow { directory: directory.clone(), held_bytes_max, object_bytes: bytes as u64 };
                (Some(overflow), room.reserve(bytes).await)
            }
            _ => (None, Reservation::none()),
        };
        let encoder = match rows {
            // Never closed.
            Rows::Spilled(_) => self.encoders.acquire().await.ok(),
            Rows::Held(_) => None,
        };
        Share { overflow, encoder, _memory: memory, _room: room }
    }
}

impl Share<'_> {
    /// Its bytes are made: others may be.
    pub(super) fn encoded(&mut self) {
        self.encoder = None;
    }
}
