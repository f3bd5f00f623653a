//! Faults over HTTP, for tests that run the emulator as a program of its own.
//!
//! `POST /_kinesink/faults` with a JSON array adds faults, `GET` lists those that wait, `DELETE` forgets all:
//! `[{"operation": "GetRecords", "times": 3, "kind": {"error": {"code": "ProvisionedThroughputExceededException"}}},
//!   {"operation": "PutRecords", "kind": {"error_after": {"code": "InternalFailure"}}},
//!   {"kind": "cut"}, {"kind": "truncate"}, {"kind": {"delay_ms": 100}}, {"kind": {"clock_jump_ms": 3600000}},
//!   {"operation": "GetRecords", "kind": "expire"}, {"operation": "ListShards", "kind": {"stale_shards_ms": 5000}},
//!   {"kind": "cut_subscription"}]`.
//! `POST /_kinesink/faults/seeded` with `{"seed": 7, "rate": 0.01}` lets faults come by chance until `DELETE`, and
//! `POST /_kinesink/clock` with `{"jump_ms": 3600000}` moves the clock at once.
//! A fault that no call can have, or a rate that is none, is refused, as a test would wait for it in vain.
//! Only JSON by content type is taken, which no page of a web browser can send here unasked.

use std::fmt::Display;

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use http::StatusCode;
use serde::Deserialize;

use super::{Fault, Faults};
use crate::error::Error;

/// What a request is refused with: 422 and why.
type Refused = (StatusCode, String);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Seeded {
    seed: u64,
    rate: f64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Jump {
    jump_ms: i64,
}

/// The routes, by which these faults can be set.
pub(crate) fn router<S: Clone + Send + Sync + 'static>(faults: Faults) -> Router<S> {
    Router::new()
        .route("/_kinesink/faults", get(list).post(add).delete(clear))
        .route("/_kinesink/faults/seeded", post(seed))
        .route("/_kinesink/clock", post(jump))
        .with_state(faults)
}

fn refused(why: &impl Display) -> Refused {
    (StatusCode::UNPROCESSABLE_ENTITY, why.to_string())
}

async fn list(State(faults): State<Faults>) -> Json<Vec<Fault>> {
    Json(faults.list())
}

/// All of them, or none if one is refused. Those that there is no room for are left out.
async fn add(
    State(faults): State<Faults>,
    Json(new): Json<Vec<Fault>>,
) -> Result<(StatusCode, Json<Vec<Fault>>), Refused> {
    new.iter().try_for_each(Fault::check).map_err(|error| refused(&error))?;
    let mut status = StatusCode::OK;
    for fault in new {
        match faults.push(fault) {
            Ok(()) => {}
            Err(Error::TooManyFaults { .. }) => status = StatusCode::INSUFFICIENT_STORAGE,
            Err(error) => return Err(refused(&error)),
        }
    }
    Ok((status, Json(faults.list())))
}

async fn clear(State(faults): State<Faults>) -> Json<Vec<Fault>> {
    faults.clear();
    Json(Vec::new())
}

async fn seed(State(faults): State<Faults>, Json(Seeded { seed, rate }): Json<Seeded>) -> Result<StatusCode, Refused> {
    if !(0.0..=1.0).contains(&rate) {
        return Err(refused(&format_args!("the rate is a share of the calls, from 0 to 1, and not {rate}")));
    }
    faults.seed(seed, rate);
    Ok(StatusCode::NO_CONTENT)
}

async fn jump(State(faults): State<Faults>, Json(Jump { jump_ms }): Json<Jump>) -> StatusCode {
    faults.jump_clock(jump_ms);
    StatusCode::NO_CONTENT
}
