//! Buffers for the texts of replies, used again and again: fresh memory for each costs more than parsing it.

use std::sync::{Arc, Mutex, PoisonError};

/// Buffers that are kept; as many fetches as there are cores are busy at a time.
const TEXTS_KEPT_MAX: usize = 4;
/// A buffer that a large reply has grown is not kept.
const TEXT_BYTES_KEPT_MAX: usize = 4 * 1024 * 1024;

/// A few empty buffers, shared by the readers of a consumer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Texts(Arc<Mutex<Vec<Vec<u8>>>>);

impl Texts {
    pub(super) fn take(&self) -> Vec<u8> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    pub(super) fn give_back(&self, mut text: Vec<u8>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < TEXTS_KEPT_MAX && text.capacity() <= TEXT_BYTES_KEPT_MAX {
            text.clear();
            kept.push(text);
        }
    }
}
