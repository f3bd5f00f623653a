//! From HTTP to operations and back, and serving it on a port: HTTP/1.1 and HTTP/2 by what the client begins with, plain
//! or in TLS.

mod http;
#[cfg(test)]
mod tests;
#[cfg(feature = "tls")]
mod tls;

use std::future::Future;
use std::sync::Arc;

use axum::serve::{Listener, ListenerExt as _};
use axum::{Extension, Router};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use self::http::Stopping;
#[cfg(feature = "tls")]
pub use self::tls::Certificate;
use crate::emulator::Emulator;
use crate::error::Error;

impl Emulator {
    /// The service as a router, for a server or a test of the caller's own.
    pub fn router(&self) -> Router {
        http::router(Arc::clone(&self.0))
    }

    /// Serves on the listener until `shutdown` is ready, then ends the subscriptions and finishes the requests that have
    /// begun. A connection speaks HTTP/1.1 or, with prior knowledge, HTTP/2.
    ///
    /// # Errors
    /// The listener is not on loopback, or fails.
    ///
    /// # Cancel safety
    /// Dropping the future stops accepting; requests that have begun go on. A change that was acknowledged stays.
    pub async fn serve<F>(&self, listener: TcpListener, shutdown: F) -> Result<(), Error>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        assert_loopback(&listener)?;
        self.serve_on(listener.tap_io(|connection| send_at_once(connection)), shutdown).await
    }

    /// The same in TLS, with that certificate. HTTP/2 or HTTP/1.1 is agreed on by ALPN.
    ///
    /// # Errors
    /// The listener is not on loopback, or fails.
    ///
    /// # Cancel safety
    /// As of [`serve`](Self::serve); handshakes that have begun end.
    #[cfg(feature = "tls")]
    pub async fn serve_tls<F>(&self, listener: TcpListener, certificate: &Certificate, shutdown: F) -> Result<(), Error>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        assert_loopback(&listener)?;
        let listener = tls::TlsListener::new(listener, certificate);
        self.serve_on(listener.tap_io(|connection| send_at_once(connection.get_ref().0)), shutdown).await
    }

    async fn serve_on<L, F>(&self, listener: L, shutdown: F) -> Result<(), Error>
    where
        L: Listener,
        L::Addr: std::fmt::Debug,
        F: Future<Output = ()> + Send + 'static,
    {
        let stopping = CancellationToken::new();
        let router = self.router().layer(Extension(Stopping(stopping.clone())));
        let shutdown = async move {
            shutdown.await;
            stopping.cancel();
        };
        axum::serve(listener, router).with_graceful_shutdown(shutdown).await.map_err(Error::Serve)
    }
}

fn assert_loopback(listener: &TcpListener) -> Result<(), Error> {
    let address = listener.local_addr().map_err(Error::Serve)?;
    if address.ip().is_loopback() { Ok(()) } else { Err(Error::NotLoopback { address }) }
}

/// Without this each small reply can wait for the client's delayed acknowledgement.
fn send_at_once(connection: &TcpStream) {
    if let Err(error) = connection.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
}
