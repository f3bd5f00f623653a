//! What building a sink can run into.

/// Why a sink could not be built. What goes wrong later is a [`Failure`](kinesink_core::Failure).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A URL that names no place for objects: mend the URL.
    #[error("{url:?} is not a place for objects: {why}")]
    Url {
        /// The text that was given.
        url: String,
        /// What is wrong with it and how it should be.
        why: String,
    },
    /// A setting is missing or not accepted: mend the configuration.
    #[error("cannot set up the sink for {place}: {why}")]
    Setting {
        /// The place, as a URL.
        place: String,
        /// What is wrong and what to do.
        why: String,
    },
    /// A setting of the objects' keys is not accepted: mend it.
    #[error("`{setting}` cannot be used: {why}")]
    Key {
        /// Its name, such as `key`.
        setting: &'static str,
        /// What is wrong and what to do.
        why: String,
    },
}
