//! Faults over HTTP, for tests that run the emulator as a program of its own.
//!
//! `POST /_kinesink/faults` with a JSON array adds faults, `GET` lists those that wait, `DELETE` forgets them:
//! `[{"operation": "GetRecords", "times": 3, "kind": {"error": {"code": "ProvisionedThroughputExceededException"}}},
//!   {"kind": "cut"}, {"kind": "truncate"}, {"kind": {"delay_ms": 100}}]`.
//! Only JSON by content type is taken, which no page of a web browser can send here unasked.

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use http::StatusCode;

use super::{Fault, Faults};

pub(crate) fn router<S: Clone + Send + Sync + 'static>(faults: Faults) -> Router<S> {
    Router::new().route("/_kinesink/faults", get(list).post(add).delete(clear)).with_state(faults)
}

async fn list(State(faults): State<Faults>) -> Json<Vec<Fault>> {
    Json(faults.list())
}

async fn add(State(faults): State<Faults>, Json(new): Json<Vec<Fault>>) -> (StatusCode, Json<Vec<Fault>>) {
    let all_taken = new.into_iter().all(|fault| faults.push(fault));
    let status = if all_taken { StatusCode::OK } else { StatusCode::INSUFFICIENT_STORAGE };
    (status, Json(faults.list()))
}

async fn clear(State(faults): State<Faults>) -> Json<Vec<Fault>> {
    faults.clear();
    Json(Vec::new())
}
