//! What the facade can run into, by what the caller can do.

/// Why a connector could not be built, or ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting is missing or contradicts another: mend the call or the file.
    #[error("{0}")]
    Configuration(String),
    /// A service, a resource or a permission was missing before the first record was read.
    #[error("{0}")]
    Start(String),
    /// It failed while running; what is not checkpointed is read again at the next start.
    #[error("{0}")]
    Running(String),
}
