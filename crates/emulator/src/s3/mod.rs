//! A local S3 (feature `s3`), whose objects are files that any program can read as they are.
//!
//! ```text
//! on a request:
//!     is it signed?  take off the signature, and the frames of its body              (http, chunked)
//!     what does it ask for?                                                          s3s, by S3's own model
//!     is that emulated, and is the account the expected one?                         (access)
//!     writing:    the body into a file of its own, added up and compared             (incoming)
//!                 the file to its place, if the condition is true                    (store)
//!     reading:    find the object and open its file in one step, send the bytes      (operations/reading)
//!     listing:    walk the index, which is in memory and in order of keys            (listing)
//! on a start:
//!     read what is known of each object, match it with the files                     (store/recovery)
//! ```
//!
//! `If-None-Match: *` holds whoever races: the condition is looked at, and the file gets its name, while one lock is held.

mod access;
mod checksum;
mod chunked;
mod condition;
mod headers;
mod hex;
mod http;
mod incoming;
mod listing;
mod operations;
mod store;

use std::fmt;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;

use axum::Router;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use tokio::net::TcpListener;

use self::access::Emulated;
use self::operations::Operations;
use self::store::Store;
use crate::clock::{Clock, SystemClock};
use crate::error::Error;
#[cfg(feature = "tls")]
use crate::serving::Certificate;

/// Buckets are nowhere else.
const REGION: &str = "us-east-1";

/// A local S3. Clones are handles on the same buckets.
#[derive(Clone)]
pub struct S3 {
    store: Arc<Store>,
    router: Router,
}

impl fmt::Debug for S3 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3").field("store", &self.store).finish_non_exhaustive()
    }
}

impl S3 {
    /// Keeps its buckets as folders of this directory, which is made if absent; what is acknowledged is on the disk.
    /// Files that are there already are objects.
    ///
    /// # Errors
    /// The directory cannot be used, another process uses it, or what is known of an object was damaged.
    pub fn in_directory(directory: &Path) -> Result<Self, Error> {
        Self::open(Some(directory), Arc::new(SystemClock))
    }

    /// Keeps its buckets in a temporary directory, and removes that with the last handle.
    ///
    /// # Errors
    /// No temporary directory can be made.
    pub fn temporary() -> Result<Self, Error> {
        Self::open(None, Arc::new(SystemClock))
    }

    fn open(directory: Option<&Path>, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        let store = Arc::new(Store::open(directory, Arc::clone(&clock))?);
        let mut builder = S3ServiceBuilder::new(Operations(Arc::clone(&store)));
        // Nobody is asked for a key, as signatures are taken off before; s3s asks for access where there is one.
        builder.set_auth(SimpleAuth::new());
        builder.set_access(Emulated);
        Ok(Self { store, router: http::router(builder.build(), clock) })
    }

    /// Makes the bucket unless it is there. Waits for the file system.
    ///
    /// # Errors
    /// No bucket can be called so, or its folder cannot be made.
    pub fn create_bucket(&self, name: &str) -> Result<(), Error> {
        let refused = |reason: String| Error::Bucket { name: name.to_owned(), reason };
        if !s3s::path::check_bucket_name(name) {
            return Err(refused("no bucket can be called so".to_owned()));
        }
        self.store.create_bucket(name).map_err(|error| refused(error.message().unwrap_or_default().to_owned()))
    }

    /// The service as a router, for a server or a test of the caller's own.
    pub fn router(&self) -> Router {
        self.router.clone()
    }

    /// Serves on the listener until `shutdown` is ready; as [`Emulator::serve`](crate::Emulator::serve) does.
    ///
    /// # Errors
    /// The listener is not on loopback.
    ///
    /// # Cancel safety
    /// Dropping the future cuts all connections. What was acknowledged stays.
    pub async fn serve<F>(&self, listener: TcpListener, shutdown: F) -> Result<(), Error>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        crate::serving::serve(listener, &self.router, shutdown).await
    }

    /// The same in TLS, with that certificate.
    ///
    /// # Errors
    /// The listener is not on loopback.
    ///
    /// # Cancel safety
    /// As of [`serve`](Self::serve).
    #[cfg(feature = "tls")]
    pub async fn serve_tls<F>(&self, listener: TcpListener, certificate: &Certificate, shutdown: F) -> Result<(), Error>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        crate::serving::serve_tls(listener, certificate, &self.router, shutdown).await
    }
}
