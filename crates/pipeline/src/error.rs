//! What a caller of this crate can run into while it sets a pipeline up or reads what one left.

/// Errors as what the caller can do. What happens to a running shard is a [`Failure`](kinesink_core::Failure).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A jq program that does not compile, or calls what a pipeline does not offer: mend the program.
    #[error("cannot compile the jq program: {0}")]
    Program(String),
    /// An event pattern that is not one: mend the pattern.
    #[error("cannot read the event pattern: {0}")]
    Pattern(String),
    /// A dead letter of a newer format: read it with the program that wrote it, or a newer one.
    #[error(
        "cannot read a dead letter of version {found}: this program reads up to version {known}; use a newer kinesink"
    )]
    NewerDeadLetter {
        /// The version it was written in.
        found: u32,
        /// The newest version that this program reads.
        known: u32,
    },
    /// Text that is no dead letter.
    #[error("cannot read a dead letter: {0}")]
    MalformedDeadLetter(String),
}
