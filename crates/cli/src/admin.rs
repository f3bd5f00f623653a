//! `/metrics`, `/healthz` and `/readyz` on a loopback port.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use kinesink::{Health, ShardStatus};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::exit::{Exit, Problem};

#[derive(Clone)]
struct Pages {
    registry: Arc<Registry>,
    health: Health,
}

/// Binds the port; the returned future serves for as long as it is polled.
pub(crate) async fn serve(
    address: SocketAddr,
    registry: Arc<Registry>,
    health: Health,
) -> Result<(SocketAddr, impl Future<Output = ()>), Problem> {
    let cannot = |error| {
        Problem::new(Exit::Start, format!("cannot listen on {address} for metrics: {error}; change [metrics] listen"))
    };
    let listener = TcpListener::bind(address).await.map_err(cannot)?;
    let bound = listener.local_addr().map_err(cannot)?;
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .with_state(Pages { registry, health });
    Ok((bound, async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "the metrics page ended");
        }
    }))
}

async fn metrics(State(pages): State<Pages>) -> Response {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &pages.registry) {
        Ok(()) => ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text)
            .into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// 200 while every held shard moves or has nothing to do; 503 with one line a shard that is halted or stuck.
async fn healthz(State(pages): State<Pages>) -> Response {
    let report = pages.health.report(Instant::now());
    if report.is_healthy() {
        return (StatusCode::OK, "ok\n".to_owned()).into_response();
    }
    let lines = report.shards.iter().filter_map(|(shard, status)| match status {
        ShardStatus::Halted { reason } => Some(format!("{shard} is halted: {reason}\n")),
        ShardStatus::Stuck { since, why } => {
            let (seconds, why) = (since.elapsed().as_secs(), why.as_deref().unwrap_or("nothing answered"));
            Some(format!("{shard} is stuck for {seconds} s: {why}\n"))
        }
        _ => None,
    });
    (StatusCode::SERVICE_UNAVAILABLE, lines.collect::<String>()).into_response()
}

/// 200 once at least one shard is held.
async fn readyz(State(pages): State<Pages>) -> Response {
    if pages.health.report(Instant::now()).shards.is_empty() {
        (StatusCode::SERVICE_UNAVAILABLE, "no shard is held yet\n").into_response()
    } else {
        (StatusCode::OK, "ready\n").into_response()
    }
}
