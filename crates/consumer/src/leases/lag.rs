//! What the stream says at a place.

use std::time::Duration;

use kinesink_aws::kinesis::Client;
use kinesink_aws::kinesis::primitives::DateTime;
use kinesink_aws::{code, failure};
use kinesink_core::{Backoff, Checkpoint, Class, Clock, Failure, Position, SequenceNumber, ShardId, StreamName};
use tokio::time::sleep;

use super::Place;
use crate::fetch::Cursor;

/// The shard's other readers may use up its five calls a second.
const ATTEMPTS_MAX: u32 = 5;
const PAUSE_BASE: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// What one read at a place shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// How far the place is behind the shard's newest record. Zero: nothing is left to deliver.
    pub lag: Duration,
    /// The first record that was met at the place.
    pub first: Option<SequenceNumber>,
}

/// Reads one record of a shard at `place`: the record that is done, or else the first that is to come. Its
/// `MillisBehindLatest` is the lag; where it says nothing of a record that is still to come, that record's age is.
///
/// # Errors
/// The stream or the shard is not there, the position is not one of the shard, or nothing came within five attempts.
pub async fn look(
    client: &Client,
    stream: &StreamName,
    shard: &ShardId,
    place: Place,
    clock: &dyn Clock,
) -> Result<Look, Failure> {
    let nothing = Look { lag: Duration::ZERO, first: None };
    if matches!(
        place,
        Place { checkpoint: Checkpoint::ShardEnd, .. } | Place { checkpoint: Checkpoint::Latest, start: None }
    ) {
        return Ok(nothing);
    }
    let mut backoff = Backoff::new(PAUSE_BASE, PAUSE_MAX, 0);
    loop {
        match once(client, stream, shard, place, clock).await {
            Err(failure) if failure.class == Class::Transient && backoff.attempts() + 1 < ATTEMPTS_MAX => {
                sleep(backoff.next_wait(failure.retry_after)).await;
            }
            looked => return Ok(looked?.unwrap_or(nothing)),
        }
    }
}

/// None for a time that the service's clock has not reached.
async fn once(
    client: &Client,
    stream: &StreamName,
    shard: &ShardId,
    place: Place,
    clock: &dyn Clock,
) -> Result<Option<Look>, Failure> {
    let what = format!("shard {shard} of stream {stream}");
    let cursor = Cursor::new(place.checkpoint, place.start, None);
    let request = cursor.request();
    let call = client
        .get_shard_iterator()
        .stream_name(stream.as_str())
        .shard_id(shard.as_str())
        .shard_iterator_type(request.kind.clone())
        .set_starting_sequence_number(request.sequence.map(|sequence| sequence.to_string()))
        .set_timestamp(request.time.map(|time| DateTime::from_millis(time.as_millisecond())));
    let reply = match call.send().await {
        Err(error) if request.is_refused_until_later(code(&error)) => return Ok(None),
        reply => reply.map_err(|error| failure(&format!("look at {place} in"), &what, &error))?,
    };
    let reply = client.get_records().set_shard_iterator(reply.shard_iterator).limit(1).send().await;
    let reply = reply.map_err(|error| failure("read", &what, &error))?;
    let behind_ms = reply.millis_behind_latest().and_then(|ms| u64::try_from(ms).ok()).unwrap_or(0);
    let lag = Duration::from_millis(behind_ms);
    let Some(record) = reply.records().first() else { return Ok(Some(Look { lag, first: None })) };
    let sequence: SequenceNumber = record
        .sequence_number()
        .parse()
        .map_err(|error| Failure::transient(format!("cannot read a record of {what}: {error}")))?;
    let is_done = !cursor.wants(Position { sequence, sub_sequence: 0 });
    let age = record.approximate_arrival_timestamp().and_then(|arrival| {
        let arrived_ms = arrival.to_millis().ok()?;
        u64::try_from(clock.now().as_millisecond() - arrived_ms).ok().map(Duration::from_millis)
    });
    // The newest record is still to come.
    let lag = if lag.is_zero() && !is_done { age.unwrap_or(lag) } else { lag };
    Ok(Some(Look { lag, first: Some(sequence) }))
}
