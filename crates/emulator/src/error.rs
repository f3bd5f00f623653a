//! Why an emulator could not be built or served.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::faults::Fault;

/// What went wrong outside of any request. Requests are answered with the service's own errors.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The state was written by a later version: use that version, or another directory.
    #[error(
        "cannot open the local Kinesis state in {}: it has format {format}, written by kinesink {written_by}, and this \
         version reads up to format {readable}; use that version or another directory",
        path.display()
    )]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// Its format.
        format: u16,
        /// The newest format that this version reads.
        readable: u16,
        /// The kinesink version that wrote it.
        written_by: String,
    },
    /// The state is damaged in a way that no crash explains: restore it, or use another directory.
    #[error("cannot restore the local state from {}: {reason}; use another directory", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        reason: String,
    },
    /// A part of the state was changed after it was written, and what follows it is not to be lost silently.
    #[error(
        "cannot restore the local Kinesis state from {path}: its entry at byte {at_byte} was changed after it was written; \
         restore the file from a copy, use another directory, or give up that entry and all later ones with: \
         truncate --size {at_byte} {path}",
        path = path.display()
    )]
    DamagedEntry {
        /// The file.
        path: PathBuf,
        /// Where the entry begins; everything before it is whole.
        at_byte: u64,
    },
    /// Another process has the directory open.
    #[error("cannot open the local state in {}: another process uses it", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The file system refused.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// No call can ever have the fault, so that a test would wait for it in vain.
    #[error("cannot add the fault {fault:?}: {reason}")]
    ImpossibleFault {
        /// The fault.
        fault: Box<Fault>,
        /// What does not fit, and what would.
        reason: String,
    },
    /// So many faults wait that one more would only be a leak: clear them, or add fewer at a time.
    #[error("cannot add a fault: {max} wait for their calls already; forget those, or add it later")]
    TooManyFaults {
        /// How many can wait.
        max: usize,
    },
    /// The listener can be reached from other machines, and the emulator checks no signature.
    #[error("cannot serve on {address}: no credentials are checked, so it is done on loopback only")]
    NotLoopback {
        /// Where the listener is bound.
        address: SocketAddr,
    },
    /// No certificate could be made for TLS.
    #[error("cannot make a certificate for the local services")]
    Certificate(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A bucket cannot be had.
    #[cfg(feature = "s3")]
    #[error("cannot make the bucket {name:?} of the local S3: {reason}")]
    Bucket {
        /// Its name.
        name: String,
        /// What does not fit, or what the file system said.
        reason: String,
    },
    /// The listener failed.
    #[error("cannot serve")]
    Serve(#[source] io::Error),
}
