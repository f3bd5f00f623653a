//! From HTTP to operations and back, and serving it on a port: HTTP/1.1 and HTTP/2 by what the client begins with, plain
//! or in TLS.

mod connections;
mod http;
mod identity;
#[cfg(test)]
mod tests;
#[cfg(feature = "tls")]
mod tls;

use std::future::Future;
use std::sync::Arc;

use axum::Router;
use tokio::net::TcpListener;

#[cfg(feature = "tls")]
pub use self::tls::Certificate;
use crate::emulator::Emulator;
use crate::error::Error;

impl Emulator {
    /// The service as a router, for a server or a test of the caller's own.
    pub fn router(&self) -> Router {
        http::router(Arc::clone(&self.0))
    }

    /// Serves on the listener until `shutdown` is ready. Then it ends subscriptions and injected delays, closes idle
    /// connections, answers the requests that have begun, and cuts what is left after 5 seconds; when it returns,
    /// nothing of it goes on. A connection speaks HTTP/1.1 or, with prior knowledge, HTTP/2.
    ///
    /// # Errors
    /// The listener is not on loopback.
    ///
    /// # Cancel safety
    /// Dropping the future cuts all connections. A change that was acknowledged stays.
    pub async fn serve<F>(&self, listener: TcpListener, shutdown: F) -> Result<(), Error>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        serve(listener, &self.router(), shutdown).await?;
        self.0.at_rest().await;
        Ok(())
    }

    /// The same in TLS, with that certificate. HTTP/2 or HTTP/1.1 is agreed on by ALPN.
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
        serve_tls(listener, certificate, &self.router(), shutdown).await?;
        self.0.at_rest().await;
        Ok(())
    }
}

/// Serves the router on loopback until `shutdown` is ready and every connection has ended.
pub(crate) async fn serve<F>(listener: TcpListener, router: &Router, shutdown: F) -> Result<(), Error>
where
    F: Future<Output = ()> + Send + 'static,
{
    assert_loopback(&listener)?;
    connections::serve(listener, |connection, _| async { Some(connection) }, router, shutdown).await;
    Ok(())
}

/// The same in TLS.
#[cfg(feature = "tls")]
pub(crate) async fn serve_tls<F>(
    listener: TcpListener,
    certificate: &Certificate,
    router: &Router,
    shutdown: F,
) -> Result<(), Error>
where
    F: Future<Output = ()> + Send + 'static,
{
    assert_loopback(&listener)?;
    let acceptor = certificate.acceptor();
    let hands = |connection, address| tls::shake_hands(acceptor.clone(), connection, address);
    connections::serve(listener, hands, router, shutdown).await;
    Ok(())
}

fn assert_loopback(listener: &TcpListener) -> Result<(), Error> {
    let address = listener.local_addr().map_err(Error::Serve)?;
    if address.ip().is_loopback() { Ok(()) } else { Err(Error::NotLoopback { address }) }
}
