//! Connections and their requests: each is a task that ends with the server.
//!
//! ```text
//! until told to stop:
//!     accept a connection, shake hands, serve its requests
//! accept no more
//! subscriptions and injected delays end, idle connections close, requests that have begun are answered
//! after a while, cut what is left
//! ```

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::{Extension, Router};
use hyper::rt::Executor;
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::http::Stopping;

/// Connections that are open at once. Further ones wait to be accepted.
const CONNECTIONS_MAX: usize = 10_000;
/// How long a server that stops waits for clients that take their replies slowly.
const STOP_TIME_MAX: Duration = Duration::from_secs(5);
/// Before accepting again when the process has no room for one more connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

/// The requests of HTTP/2 connections, which are tasks beside their connection's.
#[derive(Debug, Clone, Default)]
struct Requests {
    tasks: TaskTracker,
    cut: CancellationToken,
}

impl<F> Executor<F> for Requests
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, request: F) {
        let cut = self.cut.clone();
        self.tasks.spawn(async move { cut.run_until_cancelled(request).await.map(drop) });
    }
}

/// Serves what is accepted and shakes hands, until `shutdown` is ready and everything has ended.
///
/// # Cancel safety
/// Dropping the future cuts all connections.
pub(super) async fn serve<H, C, I>(listener: TcpListener, hands: H, router: &Router, shutdown: impl Future<Output = ()>)
where
    H: Fn(TcpStream, SocketAddr) -> C,
    C: Future<Output = Option<I>> + Send + 'static,
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (stopping, requests) = (CancellationToken::new(), Requests::default());
    let _cut_when_dropped = requests.cut.clone().drop_guard();
    let service = TowerToHyperService::new(router.clone().layer(Extension(Stopping(stopping.clone()))));
    let mut connections = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            (connection, address) = accept(&listener), if connections.len() < CONNECTIONS_MAX => {
                let (shaken, service) = (hands(connection, address), service.clone());
                let (requests, stopping) = (requests.clone(), stopping.clone());
                connections.spawn(async move {
                    let Some(Some(connection)) = stopping.run_until_cancelled(shaken).await else { return };
                    if let Err(error) = serve_one(connection, service, requests, &stopping).await {
                        tracing::debug!(%address, error, "a connection ended early");
                    }
                });
            }
            Some(ended) = connections.join_next() => {
                if let Err(error) = ended {
                    tracing::error!(%error, "a connection's task failed");
                }
            }
        }
    }
    drop(listener);
    stopping.cancel();
    requests.tasks.close();
    let ended = async {
        while connections.join_next().await.is_some() {}
        requests.tasks.wait().await;
    };
    if tokio::time::timeout(STOP_TIME_MAX, ended).await.is_err() {
        tracing::warn!(connections = connections.len(), "cut connections whose clients take too long");
        requests.cut.cancel();
        connections.shutdown().await;
        requests.tasks.wait().await;
    }
}

async fn serve_one<I>(
    connection: I,
    service: TowerToHyperService<Router>,
    requests: Requests,
    stopping: &CancellationToken,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let builder = auto::Builder::new(requests);
    let serving = builder.serve_connection(TokioIo::new(connection), service);
    tokio::pin!(serving);
    tokio::select! {
        ended = serving.as_mut() => return ended,
        () = stopping.cancelled() => serving.as_mut().graceful_shutdown(),
    }
    serving.await
}

/// The next connection. A process that has too many files open waits for room.
async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok((connection, address)) => {
                // Without this each small reply can wait for the client's delayed acknowledgement.
                if let Err(error) = connection.set_nodelay(true) {
                    tracing::debug!(%error, "cannot set TCP_NODELAY");
                }
                return (connection, address);
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection; trying again");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}
