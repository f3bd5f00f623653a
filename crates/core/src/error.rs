//! Errors as decisions: what the caller can do, not where it happened.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// What a caller of this crate can run into.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Text that is not what it should be: mend the text.
    #[error("{text:?} is not a {what}")]
    Malformed {
        /// What was expected, such as "sequence number".
        what: &'static str,
        /// The text that was given.
        text: String,
    },
    /// An outcome about an item that was not in the batch: mend the emitter, whose other answers cannot be believed.
    #[error("an outcome names item {index} of a batch of {items}, counted from 0")]
    BeyondBatch {
        /// The index that was given.
        index: usize,
        /// How many items the batch held.
        items: usize,
    },
}

/// What to do about a failed request. The one vocabulary of retries, pauses and exits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// It may succeed if sent again: throttled, timed out, cut, no space. Retry with back-off.
    Transient,
    /// Someone has to mend the configuration or a permission. Pause, say so, try again slowly.
    Configuration,
    /// Sending it again cannot help and nothing outside can be mended: stop.
    Fatal,
}

/// A request that failed as a whole: its class, and a message that says what was attempted, on what, why, and what to
/// do. Used wherever a destination, a reader or a checkpoint store answers the pipeline.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What to do about it.
    pub class: Class,
    /// Attempt, object, cause and remedy, in lower case. Never a payload or a secret.
    pub message: String,
    /// How long the other side asked us to wait.
    pub retry_after: Option<Duration>,
}

impl Failure {
    /// A failure that a retry may cure.
    pub fn transient(message: impl Into<String>) -> Self {
        Self { class: Class::Transient, message: message.into(), retry_after: None }
    }

    /// A failure that someone has to mend outside.
    pub fn configuration(message: impl Into<String>) -> Self {
        Self { class: Class::Configuration, message: message.into(), retry_after: None }
    }

    /// A failure that nothing cures.
    pub fn fatal(message: impl Into<String>) -> Self {
        Self { class: Class::Fatal, message: message.into(), retry_after: None }
    }
}

/// Why one record cannot go on: it belongs in the dead letters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reject {
    reason: Arc<str>,
}

impl Reject {
    /// A refusal with its reason, which must not quote the record's data.
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into().into() }
    }

    /// Why, in a few words.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

impl fmt::Display for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}
